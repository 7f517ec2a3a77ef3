"""Trainers that exist by their name alone, and those that a user names; tests/cli/test_commands.py trains with one."""

import os
import subprocess
import sys

import pytest
import torch
from nnunetv2.run.run_training import get_trainer_from_args
from nnunetv2.training.nnUNetTrainer.variants.data_augmentation.nnUNetTrainerNoMirroring import nnUNetTrainerNoMirroring

from nnunet_dycon import trainers
from nnunet_dycon.cli import main
from nnunet_dycon.startup.nnunet_dycon_startup import extend_ext_trainer


@pytest.mark.parametrize("base", trainers.__all__)
@pytest.mark.parametrize(
    "suffix", ["_50epochs", "_1epoch", "_NoMirroring", "_50epochs_NoMirroring", "_NoMirroring_7epochs"]
)
def test_every_trainer_has_variants(base, suffix):
    made = getattr(trainers, base + suffix)
    assert made.__name__ == base + suffix and issubclass(made, getattr(trainers, base))
    assert issubclass(made, nnUNetTrainerNoMirroring) == ("NoMirroring" in suffix)
    digits = "".join(i for i in suffix if i.isdigit())
    assert made.default_settings.num_epochs == (int(digits) if digits else None)
    assert made is getattr(trainers, base + suffix)


@pytest.mark.parametrize("name", ["_0epochs", "_epochs", "_5epochss", "_Mirroring", "X", "_50epochs_"])
def test_other_names_do_not_exist(name):
    assert not hasattr(trainers, f"nnUNetTrainerDyCON{name}")
    assert not hasattr(trainers, f"nnUNetTrainer{name}")


def test_no_variant_mirrors_in_training_or_prediction(dataset, monkeypatch):
    monkeypatch.setenv("nnUNet_dycon", "")
    trainer = get_trainer_from_args(
        "901", "3d_fullres", 0, "nnUNetTrainerDyCON_50epochs_NoMirroring", device=torch.device("cpu")
    )
    *_, axes = trainer.configure_rotation_dummyDA_mirroring_and_inital_patch_size()
    assert axes is None and trainer.inference_allowed_mirroring_axes is None and trainer.num_epochs == 50


# ------------------------------------------------------------------------------------------- named by the user


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("nnUNet_dycon_trainers", str(tmp_path / "mine"))
    return tmp_path / "mine"


def test_a_named_variant_is_found_by_a_fresh_process(folder, capsys):
    command = ["variant", "nnUNetTrainerDyCONGentle", "-tr", "nnUNetTrainerDyCON_50epochs"]
    assert main([*command, "weight_fecl=0.05", "save_every=none"]) == 0
    assert "nnUNetv2_train DATASET 3d_fullres 0 -tr nnUNetTrainerDyCONGentle" in capsys.readouterr().out
    find = (
        "import nnunet_dycon.startup.nnunet_dycon_startup;"
        "from nnunetv2.utilities.find_objects import recursive_find_trainer_class_by_name as find;"
        "i = find('nnUNetTrainerDyCONGentle'); print(i.default_settings.weight_fecl, i.default_settings.num_epochs)"
    )
    environment = {key: value for key, value in os.environ.items() if key != "nnUNet_extTrainer"}
    run = subprocess.run([sys.executable, "-c", find], env=environment, capture_output=True, text=True, check=True)
    assert run.stdout.splitlines()[-1] == "0.05 50"
    assert main([*command, "weight_fecl=0.05", "save_every=none"]) == 0  # the same again
    assert main([*command, "weight_fecl=0.06"]) == 2
    assert "exists with other settings; choose another name, or give --overwrite" in capsys.readouterr().err
    assert main([*command, "weight_fecl=0.06", "--overwrite"]) == 0
    assert "0.06" in (folder / "nnUNetTrainerDyCONGentle.py").read_text()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nnUNetTrainerDyCON", "weight_fecl=1"], "there is a trainer nnUNetTrainerDyCON already"),
        (["nnUNetTrainerDyCON_9epochs", "weight_fecl=1"], "there is a trainer nnUNetTrainerDyCON_9epochs already"),
        (["nnUNetTrainer__X", "weight_fecl=1"], "no name for a trainer"),
        (["../nnUNetTrainerX", "weight_fecl=1"], "no name for a trainer"),
        (["nnUNetTrainerX", "-tr", "nnUNetTrainer", "weight_fecl=1"], "-tr nnUNetTrainer: give one of"),
        (["nnUNetTrainerX", "weight_fcl=1"], "weight_fecl"),
        (["nnUNetTrainerX", "weight_fecl"], "write key=value"),
        (["nnUNetTrainerX", "weight_fecl=x"], "weight_fecl must be"),
    ],
)
def test_what_cannot_be_a_variant_is_refused(folder, capsys, arguments, message):
    assert main(["variant", *arguments]) == 2
    assert message in capsys.readouterr().err and not folder.exists()


def test_the_users_folder_comes_last(folder):
    environ = {"nnUNet_dycon_trainers": str(folder), "nnUNet_extTrainer": "/theirs"}
    package = os.path.dirname(os.path.dirname(trainers.__file__))
    extend_ext_trainer(environ, [os.path.dirname(package)])
    assert environ["nnUNet_extTrainer"].split(os.pathsep) == ["/theirs", os.path.join(package, "ext_trainer")]
    folder.mkdir()
    extend_ext_trainer(environ, [os.path.dirname(package)])
    assert environ["nnUNet_extTrainer"].split(os.pathsep)[2:] == [str(folder)]

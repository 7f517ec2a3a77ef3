"""nnU-Net's own commands in fresh processes: train, continue, predict, share; and the exported plain model."""

import os
import shlex
import shutil
import subprocess
import sys
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path

import blosc2
import numpy as np
import pytest
import SimpleITK as sitk
import torch

from nnunet_dycon.cli import main
from nnunet_dycon.errors import UserError
from nnunet_dycon.models.trained_model import export_model, open_model, plain_checkpoint
from nnunet_dycon.trainers import nnUNetTrainerSupervised
from tests.conftest import blob, write_image
from tests.helpers.trained_model import write_model

TRAINER = "nnUNetTrainerDyCON_2epochs_NoMirroring"  # made on demand, found by each of the commands
LENGTH = "num_iterations_per_epoch=1,num_val_iterations_per_epoch=1,max_patches=512"


def command(dataset, *arguments, **environment):
    """Run an installed command as a user's new shell would; only nnU-Net's folders and the length are set."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith("nnUNet")}
    kept |= dataset.environment() | {"nnUNet_n_proc_DA": "1", "nnUNet_def_n_proc": "1"} | environment
    program, *rest = map(str, arguments)
    program = str(Path(sys.executable).parent / program)
    run = subprocess.run([program, *rest], env=kept, capture_output=True, text=True, timeout=600)
    assert run.returncode == 0, run.stdout + run.stderr
    return run.stdout


def test_stock_commands_from_training_to_prediction(dataset, tmp_path):
    train = ("nnUNetv2_train", "901", "3d_fullres", "0", "-tr", TRAINER, "-device", "cpu")
    out = command(dataset, *train, "--npz", nnUNet_dycon=LENGTH)
    assert "Mean Validation Dice" in out
    model = dataset.results / f"{TRAINER}__nnUNetPlans__3d_fullres"
    fold = model / "fold_0"
    validated = {"teacher": probabilities(fold / "validation")}
    assert len(validated["teacher"]) == 2
    assert "Training done" not in command(dataset, *train, "--val", "--npz", nnUNet_dycon="predict_with=student")
    validated["student"] = probabilities(fold / "validation")
    for weights, expected in validated.items():
        check_export(dataset, model, weights, expected, tmp_path)
    assert any((validated["teacher"][i] != validated["student"][i]).any() for i in validated["teacher"])

    # continued from where it stopped, without the settings being given again
    checkpoint = torch.load(fold / "checkpoint_final.pth", weights_only=False)
    checkpoint["current_epoch"] = 1
    torch.save(checkpoint, fold / "checkpoint_latest.pth")
    (fold / "checkpoint_final.pth").unlink()
    out = command(dataset, *train, "--c")
    assert "Epoch 1" in out and "Epoch 0" not in out and "num_epochs: 2" in out

    predict = ("-i", dataset.raw / "imagesTs", "-device", "cpu", "--disable_tta", "-npp", "1", "-nps", "1")
    where = ("-d", "901", "-f", "0", "-c", "3d_fullres", "-tr", TRAINER)
    command(dataset, "nnUNetv2_predict", *predict, *where, "-o", tmp_path / "teacher")
    teacher = sitk.GetArrayFromImage(sitk.ReadImage(str(tmp_path / "teacher" / "test_00.nii.gz")))
    assert teacher.shape == (24, 24, 24)

    command(dataset, "nnUNetv2_export_model_to_zip", "-d", "901", "-o", tmp_path / "model.zip", "-f", "0",
            "-c", "3d_fullres", "-tr", TRAINER)  # fmt: skip
    assert (tmp_path / "model.zip").stat().st_size > 1000


def probabilities(folder):
    """Class probabilities that nnU-Net wrote, by case."""
    return {file.stem: np.load(file)["probabilities"] for file in sorted(folder.glob("*.npz"))}


NOT_INSTALLED = """
import sys
from contextlib import redirect_stdout
from io import StringIO

class NotInstalled:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "nnunet_dycon":
            raise ModuleNotFoundError("No module named 'nnunet_dycon'")

sys.meta_path.insert(0, NotInstalled())
"""


def check_export(dataset, model, weights, expected, tmp_path):
    """The exported network gives the trainer's own probabilities, to the last bit, where this package is not installed.

    Args:
        expected: the trainer's validation, by case.
    """
    plain, cases, output, hooks = (tmp_path / f"{weights}_{i}" for i in ("plain", "cases", "output", "hooks"))
    with redirect_stdout(StringIO()) as printed:
        assert main(["export", "-m", str(model), "--weights", weights, "-o", str(plain)]) == 0
    names = {"IN": cases, "OUT": output}
    predict = [names.get(i, i) for i in shlex.split(printed.getvalue().rpartition("Next: ")[2])]
    for folder in (cases, hooks):
        folder.mkdir()
    for case in expected:
        shutil.copy(dataset.raw / "imagesTr" / f"{case}_0000.nii.gz", cases)
    (hooks / "sitecustomize.py").write_text(NOT_INSTALLED)
    elsewhere = {"PYTHONPATH": str(hooks), "nnUNet_dycon_startup": "0"}
    with pytest.raises(AssertionError, match="No module named 'nnunet_dycon'"):
        command(dataset, "python", "-c", "import nnunet_dycon", **elsewhere)
    command(dataset, *predict, "--save_probabilities", "-npp", "1", "-nps", "1", **elsewhere)
    predicted = probabilities(output)
    assert predicted.keys() == expected.keys()
    for case, values in expected.items():
        np.testing.assert_array_equal(predicted[case], values)


def checkpoint_of(trainer_name):
    weights = {"a": torch.zeros(1)}
    return {
        "trainer_name": trainer_name,
        "init_args": {"configuration": "3d_fullres"},
        "network_weights": weights,
        "semi_supervised": {
            "teacher": {"module": {"network.a": torch.ones(1), "head.a": torch.full((1,), 9.0)}},
            "student_weights": weights,
        },
    }


@pytest.mark.parametrize(("weights", "value"), [("teacher", 1.0), ("student", 0.0)])
def test_exported_checkpoint_holds_the_chosen_network_alone(weights, value):
    plain = plain_checkpoint(checkpoint_of("nnUNetTrainerDyCON"), weights)
    assert plain["trainer_name"] == "nnUNetTrainer"
    assert plain["network_weights"] == {"a": torch.tensor([value])}
    assert "semi_supervised" not in plain


def test_the_control_is_exported_as_well(dataset, tmp_path, capsys):
    """nnU-Net alone does not find its trainer."""
    model = write_model(dataset, nnUNetTrainerSupervised)
    assert main(["export", "-m", str(model), "-o", str(tmp_path / "plain")]) == 0
    assert "checkpoint_final.pth holds the network\n" in capsys.readouterr().out
    before, after = (
        torch.load(i / "fold_0/checkpoint_final.pth", weights_only=False) for i in (model, tmp_path / "plain")
    )
    assert (before["trainer_name"], after["trainer_name"]) == ("nnUNetTrainerSupervised", "nnUNetTrainer")
    for name, weights in before["network_weights"].items():
        assert torch.equal(weights, after["network_weights"][name])


def test_export_refuses_what_it_cannot_write(tmp_path):
    with pytest.raises(UserError, match="no trained model folder"):
        open_model(tmp_path)
    model = tmp_path / "model"
    (model / "fold_0").mkdir(parents=True)
    for name in ("plans.json", "dataset.json"):
        (model / name).write_text("{}")
    torch.save({"trainer_name": "nnUNetTrainer"}, model / "fold_0" / "checkpoint_final.pth")
    with pytest.raises(UserError, match="written by nnUNetTrainer, which has neither"):
        export_model(open_model(model), tmp_path / "out", "teacher")
    assert sorted(i.name for i in tmp_path.iterdir()) == ["model"]
    (tmp_path / "out").mkdir()
    with pytest.raises(UserError, match="exists"):
        export_model(open_model(model), tmp_path / "out", "teacher")


def test_the_last_line_names_a_case_that_is_damaged_in_a_worker_process(dataset):
    (bad,) = sorted((dataset.raw / "imagesUn").iterdir())[:1]
    for file in sorted((dataset.raw / "imagesUn").iterdir())[1:]:
        file.unlink()
    case = bad.name.removesuffix("_0000.nii.gz")
    image = dataset.preprocessed / "nnUNetPlans_3d_fullres_unlabeled" / f"{case}.b2nd"
    blosc2.asarray(np.full_like(blosc2.open(str(image))[:], np.nan), urlpath=str(image), mode="w")
    train = ("nnUNetv2_train", "901", "3d_fullres", "0", "-tr", "nnUNetTrainerDyCON", "-device", "cpu")
    with pytest.raises(AssertionError) as caught:
        command(dataset, *train, nnUNet_dycon=f"num_epochs=1,{LENGTH}")
    last = str(caught.value).rpartition("\nassert ")[0].strip().splitlines()[-1].strip()
    assert last.startswith(f"nnUNetv2_train: error: crops of {case}") and "preprocess them again" in last


def test_errors_of_the_trainer_reach_the_user(dataset):
    write_image(blob(0)[0], dataset.raw / "imagesUn" / "case_00_0000.nii.gz")
    with pytest.raises(AssertionError, match="also labelled for training: case_00") as caught:
        command(dataset, "nnUNetv2_train", "901", "3d_fullres", "0", "-tr", "nnUNetTrainerDyCON", "-device", "cpu")
    assert "Traceback" not in str(caught.value) and not dataset.results.exists()

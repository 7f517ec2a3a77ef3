"""nnU-Net's own commands in fresh processes: train, continue, predict, share; and the exported plain model."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
import torch

from nnunet_dycon.cli import main
from nnunet_dycon.errors import UserError
from nnunet_dycon.export import export_model, plain_checkpoint
from tests.conftest import blob, write_image

LENGTH = "num_iterations_per_epoch=1,num_val_iterations_per_epoch=1,max_patches=512"


def command(dataset, *arguments, **environment):
    """Run an installed command as a user's new shell would; only nnU-Net's folders and the length are set."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith("nnUNet")}
    kept |= dataset.environment() | {"nnUNet_n_proc_DA": "1", "nnUNet_def_n_proc": "1"} | environment
    program, *rest = map(str, arguments)
    program = str(Path(sys.executable).parent / program)
    run = subprocess.run([program, *rest], env=kept, capture_output=True, text=True, timeout=300)
    assert run.returncode == 0, run.stdout + run.stderr
    return run.stdout


def test_stock_commands_from_training_to_prediction(dataset, tmp_path, capsys):
    train = ("nnUNetv2_train", "901", "3d_fullres", "0", "-tr", "nnUNetTrainerDyCON", "-device", "cpu")
    out = command(dataset, *train, "--npz", nnUNet_dycon=f"num_epochs=2,{LENGTH}")
    assert "Mean Validation Dice" in out
    model = dataset.results / "nnUNetTrainerDyCON__nnUNetPlans__3d_fullres"
    fold = model / "fold_0"
    assert list((fold / "validation").glob("case_*.npz"))
    assert "Training done" not in command(dataset, *train, "--val")

    # continued from where it stopped, without the settings being given again
    checkpoint = torch.load(fold / "checkpoint_final.pth", weights_only=False)
    checkpoint["current_epoch"] = 1
    torch.save(checkpoint, fold / "checkpoint_latest.pth")
    (fold / "checkpoint_final.pth").unlink()
    out = command(dataset, *train, "--c")
    assert "Epoch 1" in out and "Epoch 0" not in out and "num_epochs: 2" in out

    predict = ("-i", dataset.raw / "imagesTs", "-device", "cpu", "--disable_tta")
    where = ("-d", "901", "-f", "0", "-c", "3d_fullres", "-tr", "nnUNetTrainerDyCON")
    command(dataset, "nnUNetv2_predict", *predict, *where, "-o", tmp_path / "teacher")
    teacher = sitk.GetArrayFromImage(sitk.ReadImage(str(tmp_path / "teacher" / "test_00.nii.gz")))
    assert teacher.shape == (24, 24, 24)

    command(dataset, "nnUNetv2_export_model_to_zip", "-d", "901", "-o", tmp_path / "model.zip", "-f", "0",
            "-c", "3d_fullres", "-tr", "nnUNetTrainerDyCON")  # fmt: skip
    assert (tmp_path / "model.zip").stat().st_size > 1000

    # the exported teacher predicts the same without this package being found
    assert main(["export", str(model), "--weights", "teacher", "-o", str(tmp_path / "plain")]) == 0
    assert "nnUNetv2_predict_from_modelfolder" in capsys.readouterr().out
    command(dataset, "nnUNetv2_predict_from_modelfolder", *predict, "-m", tmp_path / "plain", "-f", "0",
            "-o", tmp_path / "plain_out", nnUNet_dycon_startup="0")  # fmt: skip
    plain = sitk.GetArrayFromImage(sitk.ReadImage(str(tmp_path / "plain_out" / "test_00.nii.gz")))
    np.testing.assert_array_equal(plain, teacher)


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


def test_export_refuses_what_it_cannot_write(tmp_path):
    with pytest.raises(UserError, match="no trained model folder"):
        export_model(tmp_path, tmp_path / "out", "teacher")
    model = tmp_path / "model"
    (model / "fold_0").mkdir(parents=True)
    for name in ("plans.json", "dataset.json"):
        (model / name).write_text("{}")
    torch.save({"trainer_name": "nnUNetTrainer"}, model / "fold_0" / "checkpoint_final.pth")
    with pytest.raises(UserError, match="written by nnUNetTrainer, which has neither"):
        export_model(model, tmp_path / "out", "teacher")
    assert sorted(i.name for i in tmp_path.iterdir()) == ["model"]
    (tmp_path / "out").mkdir()
    with pytest.raises(UserError, match="exists"):
        export_model(model, tmp_path / "out", "teacher")


def test_errors_of_the_trainer_reach_the_user(dataset):
    write_image(blob(0)[0], dataset.raw / "imagesUn" / "case_00_0000.nii.gz")
    with pytest.raises(AssertionError, match="also labelled for training: case_00"):
        command(dataset, "nnUNetv2_train", "901", "3d_fullres", "0", "-tr", "nnUNetTrainerDyCON", "-device", "cpu")

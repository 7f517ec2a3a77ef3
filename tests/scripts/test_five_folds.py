"""docs/five_folds.md at tiny size, with nnU-Net's own entry points; and the script for Slurm."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
import torch

from nnunet_dycon.cli import main
from tests.conftest import Nnunet, blob, write_image
from tests.helpers.tiny_dataset import Commands, shrink_plans, threads_for_processes
from tests.helpers.training import without_plots  # noqa: F401

SCRIPT = Path(__file__).resolve().parents[2] / "scripts/slurm/train_array.sh"
TRAINERS = ["nnUNetTrainerDyCON", "nnUNetTrainerSupervised"]
FOLDS = range(5)
LENGTH = "num_epochs=1,num_iterations_per_epoch=1,num_val_iterations_per_epoch=1"


@pytest.fixture
def commands(tmp_path, monkeypatch, in_process):
    nnunet = Nnunet(tmp_path)
    for key, value in nnunet.environment().items():
        monkeypatch.setenv(key, value)
    monkeypatch.setenv("nnUNet_dycon", LENGTH)
    monkeypatch.setattr("nnunet_dycon.pictures.training.write_picture", lambda folder, picture: None)
    monkeypatch.setattr("nnunetv2.training.logging.nnunet_logger.LocalLogger.plot_progress_png", lambda *args: None)
    threads_for_processes(monkeypatch)
    return Commands(nnunet, monkeypatch)


def write_labeled_dataset(folder: Path) -> None:
    """Seven cases with masks."""
    for seed in range(7):
        image, mask = blob(seed, 16)
        write_image(image, folder / "imagesTr" / f"case_{seed}_0000.nii.gz")
        write_image(mask, folder / "labelsTr" / f"case_{seed}.nii.gz")
    content = {"channel_names": {"0": "MRI"}, "labels": {"background": 0, "ball": 1}, "numTraining": 7}
    (folder / "dataset.json").write_text(json.dumps(content | {"file_ending": ".nii.gz"}))


def plan(commands: Commands) -> None:
    from nnunetv2.experiment_planning.plan_and_preprocess_entrypoints import plan_and_preprocess_entry

    commands.patch.setenv("nnUNet_n_proc_DA", "1")  # the planner does not take 0
    commands.call(plan_and_preprocess_entry, "-d", 901, "-c", "3d_fullres", "-np", 1, "-npfp", 1)
    commands.patch.setenv("nnUNet_n_proc_DA", "0")
    shrink_plans(commands.nnunet)


def test_five_folds_to_an_ensemble_and_a_zip(commands, tmp_path):
    from nnunetv2.ensembling.ensemble import entry_point_ensemble_folders
    from nnunetv2.evaluation.find_best_configuration import find_best_configuration_entry_point
    from nnunetv2.model_sharing.entry_points import export_pretrained_model_entry, install_from_zip_entry_point
    from nnunetv2.postprocessing.remove_connected_components import entry_point_apply_postprocessing

    nnunet = commands.nnunet
    write_labeled_dataset(tmp_path / "raw/Dataset900_Source")
    assert main(["split", "-d", "900", "-t", "901", "--name", "Balls", "--labeled", "5", "--test", "1",
                 "--folds", "5"]) == 0  # fmt: skip
    plan(commands)
    folds = json.loads((nnunet.preprocessed / "splits_final.json").read_text())
    assert len(folds) == 5 and sorted(case for fold in folds for case in fold["val"]) == [f"case_{i}" for i in FOLDS]
    for trainer in TRAINERS:
        for fold in FOLDS:
            commands.train("3d_fullres", fold, "-tr", trainer, "--npz")
    fold_0 = nnunet.results / "nnUNetTrainerDyCON__nnUNetPlans__3d_fullres/fold_0"
    assert "4 labelled and 1 unlabelled training cases" in next(fold_0.glob("training_log*")).read_text()
    validated = (fold_0 / "validation/summary.json").read_bytes()
    make_best_checkpoint_differ(fold_0)
    commands.train("3d_fullres", 0, "--val", "--val_best", "--npz")
    assert (fold_0 / "validation/summary.json").read_bytes() != validated

    commands.call(find_best_configuration_entry_point, 901, "-c", "3d_fullres", "-tr", *TRAINERS, "-np", 1)
    found = json.loads((nnunet.results / "inference_information.json").read_text())
    assert len(found["all_results"]) == 3  # two trainers and their ensemble
    (ensemble,) = (nnunet.results / "ensembles").iterdir()
    outputs = []
    for trainer in TRAINERS:
        commands.predict("3d_fullres", "0", "-tr", trainer, "--save_probabilities").rename(tmp_path / trainer)
        outputs.append(tmp_path / trainer)
    commands.call(entry_point_ensemble_folders, "-i", *outputs, "-o", tmp_path / "both", "-np", 1)
    best = Path(found["best_model_or_ensemble"]["postprocessing_file"])
    commands.call(
        entry_point_apply_postprocessing, "-i", tmp_path / "both", "-o", tmp_path / "final", "-np", 1,
        "-pp_pkl_file", best, "-plans_json", best.parent / "plans.json",
        "-dataset_json", best.parent / "dataset.json",
    )  # fmt: skip
    assert ensemble.is_dir() and (tmp_path / "final/case_6.nii.gz").exists()

    check_zip(commands, export_pretrained_model_entry, install_from_zip_entry_point)
    check_pretrained_weights(commands)


def make_best_checkpoint_differ(fold: Path) -> None:
    """After one epoch the best checkpoint is the last."""
    checkpoint = torch.load(fold / "checkpoint_final.pth", weights_only=False)
    for name, values in checkpoint["network_weights"].items():
        if "seg_layers" in name and name.endswith("bias"):
            values += torch.tensor([0.0, 100.0])
    teacher = checkpoint["semi_supervised"]["teacher"]["module"]
    for name in teacher:
        if "seg_layers" in name and name.endswith("bias"):
            teacher[name] += torch.tensor([0.0, 100.0])
    torch.save(checkpoint, fold / "checkpoint_best.pth")


def check_zip(commands: Commands, export, install) -> None:
    """The zip, installed into other folders, predicts what the model predicted."""
    nnunet = commands.nnunet
    for fold in nnunet.results.glob("nnUNetTrainerDyCON__*/fold_*"):
        (fold / "progress.png").touch()  # tests draw none, and nnU-Net's zip holds it
    file = nnunet.root / "dycon.zip"
    commands.call(export, "-d", 901, "-o", file, "-c", "3d_fullres", "-tr", "nnUNetTrainerDyCON")
    expected = sitk.GetArrayFromImage(sitk.ReadImage(str(nnunet.root / "nnUNetTrainerDyCON/case_6.nii.gz")))
    nnunet.results.rename(nnunet.root / "elsewhere")
    commands.call(install, file)
    output = commands.predict("3d_fullres", 0)
    np.testing.assert_array_equal(sitk.GetArrayFromImage(sitk.ReadImage(str(output / "case_6.nii.gz"))), expected)


def check_pretrained_weights(commands: Commands) -> None:
    """A public-like model: of another trainer and with other classes."""
    folds = [commands.nnunet.results / f"{i}__nnUNetPlans__3d_fullres/fold_0" for i in TRAINERS]
    public = torch.load(commands.nnunet.root / "elsewhere" / folds[1].relative_to(folds[1].parents[1]) /
                        "checkpoint_final.pth", weights_only=False)  # fmt: skip
    weights = public["network_weights"]
    for name in weights:
        if ".seg_layers." in name:
            weights[name] = torch.cat([weights[name]] * 3)
    file = commands.nnunet.root / "public.pth"
    torch.save({"network_weights": weights, "trainer_name": "nnUNetTrainer"}, file)
    commands.patch.setattr("torch.optim.SGD.step", lambda self, closure=None: None)
    commands.train("3d_fullres", 0, "-pretrained_weights", file)
    trained = torch.load(folds[0] / "checkpoint_final.pth", weights_only=False)
    student = trained["semi_supervised"]["student_weights"]
    for name in weights:
        if ".seg_layers." not in name:
            assert torch.equal(student[name], weights[name]), name
            assert torch.equal(trained["network_weights"][name], weights[name]), name


# ------------------------------------------------------------------------------------------------------- Slurm


@pytest.fixture
def cluster(tmp_path, monkeypatch):
    """Commands of a cluster that write down how they were called; training lasts as long as $LASTS."""
    (tmp_path / "bin").mkdir()
    for name, rest in {"nnUNetv2_train": 'sleep "${LASTS:-0}"', "scontrol": "true"}.items():
        (tmp_path / "bin" / name).write_text(f'#!/bin/sh\necho {name} "$@" >> {tmp_path}/calls\nexec {rest}\n')
        (tmp_path / "bin" / name).chmod(0o755)
    variables = {"SLURM_ARRAY_TASK_ID": "3", "SLURM_JOB_ID": "77", "SLURM_CPUS_PER_TASK": "6"}
    folders = {f"nnUNet_{i}": str(tmp_path) for i in ("raw", "preprocessed", "results")}
    for key, value in (variables | folders | {"PATH": f"{tmp_path}/bin:{os.environ['PATH']}"}).items():
        monkeypatch.setenv(key, value)
    return tmp_path / "calls"


def test_a_job_of_the_array_trains_its_fold(cluster, monkeypatch):
    subprocess.run(["bash", SCRIPT, "501", "3d_fullres", "-tr", "nnUNetTrainerDyCON"], check=True)
    assert cluster.read_text() == "nnUNetv2_train 501 3d_fullres 3 --npz --c -tr nnUNetTrainerDyCON\n"
    assert subprocess.run(["bash", SCRIPT, "501"], capture_output=True).returncode == 2
    monkeypatch.delenv("nnUNet_raw")
    failed = subprocess.run(["bash", SCRIPT, "501", "2d"], capture_output=True, text=True)
    assert failed.returncode == 2 and "nnUNet_raw is not set" in failed.stderr


def test_a_job_at_its_time_limit_is_queued_again(cluster, monkeypatch):
    monkeypatch.setenv("LASTS", "60")
    with subprocess.Popen(["bash", SCRIPT, "501", "3d_fullres"], stdout=subprocess.DEVNULL) as job:
        while not cluster.exists():
            time.sleep(0.02)
        time.sleep(0.1)
        job.send_signal(signal.SIGUSR1)
        assert job.wait(20) == 0
    assert cluster.read_text().splitlines()[-1] == "scontrol requeue 77"

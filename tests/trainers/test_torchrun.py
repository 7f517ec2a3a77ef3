"""A distributed training that torchrun really starts: two processes on the CPU, one is killed, and it is continued."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from tests.conftest import LABELED, UNLABELED

# found by nnU-Net like any user's trainer; it records what each process has seen and changes nothing
RECORDED = """
import json, os
from pathlib import Path
import numpy as np
from nnunet_dycon.trainers import nnUNetTrainerDyCON


class nnUNetTrainerRecorded(nnUNetTrainerDyCON):
    def get_unlabeled_dataset(self):
        data = super().get_unlabeled_dataset()
        self.record = {"process": os.getpid(), "cases": data.identifiers}
        self.write()
        return data

    def train_step(self, batch):
        output = super().train_step(batch)
        names = ("crops", "losses", "uncl")
        values = (batch["unlabeled"].double().sum(), output["loss"], self._step_log.values["uncl"][-1])
        for name, value in zip(names, values):
            self.record.setdefault(name, []).append(float(value))
        return output

    def on_train_end(self):
        super().on_train_end()
        self.record["weights"] = [float(i.double().sum()) for i in self.teacher.module.parameters()]
        self.write()

    def write(self):
        file = Path(self.output_folder) / f"rank_{self.local_rank}.json"
        file.with_suffix(".tmp").write_text(json.dumps(self.record))
        os.replace(file.with_suffix(".tmp"), file)
"""
STEPS = "num_iterations_per_epoch=2,num_val_iterations_per_epoch=1,ramp_start=0,picture_every_epochs=0,save_every=1"
LIMIT_S = 600


def start(dataset, settings, *arguments):
    """Two processes of nnU-Net's training on the CPU, by torchrun in a new shell; output in ``torchrun.log``."""
    folder = dataset.root / "trainers"
    folder.mkdir(exist_ok=True)
    (folder / "recorded.py").write_text(RECORDED)
    environment = {key: value for key, value in os.environ.items() if not key.startswith("nnUNet")}
    environment |= dataset.environment() | {"nnUNet_n_proc_DA": "0", "nnUNet_def_n_proc": "1"}
    environment |= {"nnUNet_dycon": settings, "nnUNet_extTrainer": str(folder), "CUDA_VISIBLE_DEVICES": ""}
    torchrun = [Path(sys.executable).with_name("torchrun"), "--standalone", "--nproc_per_node", "2"]
    train = ["-m", "nnunet_dycon.torchrun", "901", "3d_fullres", "0", "-tr", "nnUNetTrainerRecorded", "-device", "cpu"]
    log = (dataset.root / "torchrun.log").open("w")
    return subprocess.Popen([*torchrun, *train, *arguments], env=environment, stdout=log, stderr=subprocess.STDOUT)


def stop(job):
    """End torchrun where it still runs, and with it its processes."""
    job.terminate()
    job.wait(LIMIT_S)


def records(fold):
    return [json.loads((fold / f"rank_{rank}.json").read_text()) for rank in (0, 1)]


def wait_for(file, job, dataset):
    """Wait until a file is there; fail where the training ends before."""
    end = time.monotonic() + LIMIT_S
    while not file.is_file():
        assert job.poll() is None and time.monotonic() < end, (dataset.root / "torchrun.log").read_text()[-4000:]
        time.sleep(0.2)


@pytest.mark.skipif(os.name == "nt", reason="torchrun's processes are ended by signals here")
def test_torchrun_trains_ends_when_a_process_is_killed_and_continues(dataset):
    fold = dataset.results / "nnUNetTrainerRecorded__nnUNetPlans__3d_fullres" / "fold_0"
    shutil.rmtree(dataset.preprocessed / "nnUNetPlans_3d_fullres_unlabeled")  # one process makes it, the other waits

    job = start(dataset, f"num_epochs=1000,{STEPS}")
    try:
        wait_for(fold / "checkpoint_latest.pth", job, dataset)
        os.kill(records(fold)[1]["process"], signal.SIGKILL)
        assert job.wait(LIMIT_S) != 0
    finally:
        stop(job)
    log = (dataset.root / "torchrun.log").read_text()
    assert "Signal 9 (SIGKILL) received" in log and "ChildFailedError" in log
    assert not is_running(records(fold)[0]["process"])
    assert not (fold / "checkpoint_final.pth").exists()

    done = torch.load(fold / "checkpoint_latest.pth", weights_only=False)["current_epoch"]
    job = start(dataset, f"num_epochs={done + 1},change_on_resume=true,{STEPS}", "--c")
    try:
        code = job.wait(LIMIT_S)
    finally:
        stop(job)
    log = (dataset.root / "torchrun.log").read_text()
    assert code == 0, log[-4000:]
    assert f"Epoch {done}\n" in log and f"Epoch {done - 1}\n" not in log and "Mean Validation Dice" in log
    check_finished(fold, done)


def is_running(process):
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    return True


def check_finished(fold, done):
    """Checkpoint, validation and log of a training continued for one epoch, against what its processes recorded."""
    first, second = records(fold)
    assert first["cases"] == second["cases"] == UNLABELED
    assert len(first["crops"]) == 2 and not set(first["crops"]) & set(second["crops"])  # drawn independently
    assert first["weights"] == second["weights"]
    checkpoint = torch.load(fold / "checkpoint_final.pth", weights_only=False)
    assert checkpoint["current_epoch"] == done + 1 and checkpoint["semi_supervised"]["step"] == 2 * (done + 1)
    logging = checkpoint["logging"]
    assert logging["train_losses"][-1] == pytest.approx((sum(first["losses"]) + sum(second["losses"])) / 4)
    assert logging["uncl"][-1] == pytest.approx(sum(first["uncl"]) / 2) != pytest.approx(sum(second["uncl"]) / 2)
    summary = json.loads((fold / "validation" / "summary.json").read_text())
    validated = {Path(i["prediction_file"]).name for i in summary["metric_per_case"]}
    assert len(validated) == 2 and validated < {f"{case}.nii.gz" for case in LABELED}  # one case a process
    assert not list(fold.rglob("*.tmp")) and len(list(fold.glob("training_log*"))) == 2  # of process 0, a start each

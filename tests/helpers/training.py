"""What the tests of trainers share: making a trainer, and comparing what two of them have become."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer

from nnunet_dycon.trainers import nnUNetTrainerDyCON


@pytest.fixture(autouse=True)
def without_plots(monkeypatch, request):
    """Drawing takes longer than these trainings; one test draws."""
    if "progress_png" not in request.node.name:
        from nnunet_dycon.training.curves import SemiSupervisedLogger

        monkeypatch.setattr(SemiSupervisedLogger, "plot_progress_png", lambda self, folder: None)
    monkeypatch.setattr(nnUNetTrainer, "plot_network_architecture", lambda self: None)


def make_trainer(dataset, trainer=nnUNetTrainerDyCON, configuration="3d_fullres", fold=0, seed=0):
    plans = json.loads((dataset.preprocessed / "nnUNetPlans.json").read_text())
    plans["continue_training"] = False
    dataset_json = json.loads((dataset.preprocessed / "dataset.json").read_text())
    torch.manual_seed(seed)
    np.random.seed(seed)
    return trainer(plans, configuration, fold, dataset_json, torch.device("cpu"))


def state_of(trainer):
    return {
        "student": trainer.network.state_dict(),
        "teacher": trainer.teacher.module.state_dict(),
        "head": trainer.head.state_dict() if trainer.head is not None else {},
    }


def assert_same_state(a, b):
    for key in a:
        for name in a[key]:
            assert torch.equal(a[key][name], b[key][name]), f"{key} {name}"


def logged(trainer):
    """Everything the trainer has logged but the time."""
    log = trainer.logger.local_logger.my_fantastic_logging
    return {key: np.asarray(value, float) for key, value in log.items() if "timestamp" not in key}


def assert_same_log(a, b):
    assert a.keys() == b.keys()
    for key in a:
        np.testing.assert_array_equal(a[key], b[key], err_msg=key)

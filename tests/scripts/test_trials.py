"""The trials of docs/experiments train, and each of them changes the training as it says."""

from __future__ import annotations

import importlib.util
import itertools
from pathlib import Path

import numpy as np
import pytest
import torch
from nnunetv2.run.run_training import get_trainer_from_args

from tests.helpers.training import logged, make_trainer, without_plots  # noqa: F401

TRIALS = Path(__file__).resolve().parents[2] / "scripts" / "experiments" / "trials"


def user_class(file, name):
    """A class of a trial's file."""
    spec = importlib.util.spec_from_file_location(file, TRIALS / f"{file}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return getattr(module, name)


LENGTH = "num_epochs=1,num_iterations_per_epoch=2,num_val_iterations_per_epoch=1,ramp_start=0.5,ramp_length=0.1"


@pytest.fixture
def trained(dataset, monkeypatch):
    monkeypatch.setenv("nnUNet_n_proc_DA", "0")
    monkeypatch.setenv("nnUNet_extTrainer", str(TRIALS))
    monkeypatch.setenv("nnUNet_dycon", f"{LENGTH},ramp_min_dice=0,max_patches=512,picture_every_epochs=0")

    def train(name=None):
        torch.manual_seed(0)
        if name is None:
            trainer = make_trainer(dataset)
        else:
            trainer = get_trainer_from_args("901", "3d_fullres", 0, name, device=torch.device("cpu"))
        trainer.run_training()
        return trainer

    return train


def weights(trainer):
    return torch.cat([i.flatten() for i in trainer.network.state_dict().values()])


def test_each_trial_trains_in_its_own_way(trained):
    names = sorted(i.stem for i in TRIALS.glob("*.py"))
    trainers = [trained(), *(trained(name) for name in names)]
    for trainer in trainers:
        assert np.isfinite([logged(trainer)[key][-1] for key in ("uncl", "fecl", "train_losses")]).all()
    for a, b in itertools.combinations(map(weights, trainers), 2):
        assert not torch.equal(a, b)


def test_contrast_across_crops_pairs_patches_of_different_crops():
    loss = user_class("nnUNetTrainerDyCONBatchFeCL", "BatchFeCLoss")()
    embeddings = torch.nn.functional.normalize(torch.randn(2, 2, 4, generator=torch.Generator().manual_seed(0)), dim=-1)
    labels = torch.tensor([[0, -1], [0, 1]])
    alone, together = super(type(loss), loss).forward(embeddings, labels), loss(embeddings, labels)
    assert alone == 0 and together > 0  # no patch has a partner within its crop
    assert loss(embeddings[:1], labels[:1]) == 0

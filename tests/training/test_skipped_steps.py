"""Steps whose gradient is not finite are skipped, counted, and end the training when they persist."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from nnunet_dycon.errors import UserError
from nnunet_dycon.training.skipped_steps import CHECK_EVERY_STEPS, MAX_IN_A_ROW, SkippedSteps
from tests.helpers.training import make_trainer, state_of, without_plots  # noqa: F401


def test_a_finite_step_starts_the_count_anew():
    steps = SkippedSteps(torch.device("cpu"))
    for _ in range(MAX_IN_A_ROW):
        assert steps.add(torch.tensor(float("nan"))) == 1
    assert steps.add(torch.tensor(1.0)) == 0
    steps.check({"uncl": 0.0})
    for _ in range(MAX_IN_A_ROW - 1):
        steps.add(torch.tensor(float("inf")))
    steps.check({})
    steps.add(torch.tensor(float("inf")))
    with pytest.raises(UserError, match=r"last 20 steps.*uncl nan"):
        steps.check({"uncl": float("nan")})


def test_a_step_that_is_not_finite_is_not_taken_and_is_counted(dataset):
    trainer = make_trainer(dataset)
    trainer.on_train_start()
    trainer.on_epoch_start()
    trainer.on_train_epoch_start()
    batch = next(trainer.dataloader_train)
    good = trainer.train_step(batch)
    before = {name: tensor.clone() for name, tensor in state_of(trainer)["student"].items()}
    bad = trainer.train_step({**batch, "unlabeled": torch.full_like(batch["unlabeled"], torch.nan)})
    for name, tensor in state_of(trainer)["student"].items():
        assert torch.equal(tensor, before[name]), name
    assert all(tensor.isfinite().all() for tensor in state_of(trainer)["teacher"].values())
    broken_target = {**batch, "data": torch.full_like(batch["data"], torch.nan)}
    worse = trainer.train_step(broken_target)
    assert np.isnan(worse["loss"])
    trainer.on_train_epoch_end([good, bad, worse])
    assert trainer.logger.get_value("skipped", -1) == pytest.approx(2 / 3)
    assert np.isfinite(trainer.logger.get_value("train_losses", -1))


def test_a_training_that_never_gets_a_finite_gradient_ends_with_the_reason(dataset, monkeypatch):
    monkeypatch.setenv("nnUNet_dycon", f"max_patches=512,num_epochs=2,num_iterations_per_epoch={MAX_IN_A_ROW}")
    trainer = make_trainer(dataset)
    trainer.on_train_start()
    batch = next(trainer.dataloader_train)
    trainer.dataloader_train = iter([{**batch, "data": batch["data"] * torch.nan}] * 100)
    monkeypatch.setattr(trainer, "on_train_start", lambda: None)
    with pytest.raises(UserError, match=r"not finite in the last 20 steps.*supervised nan.*--c"):
        trainer.run_training()


def test_the_reason_is_said_long_before_the_end_of_a_long_epoch(dataset, monkeypatch):
    monkeypatch.setenv("nnUNet_dycon", "max_patches=512,num_epochs=2,num_iterations_per_epoch=1000")
    trainer = make_trainer(dataset)
    trainer.on_train_start()
    trainer.on_epoch_start()
    trainer.on_train_epoch_start()
    batch = next(trainer.dataloader_train)
    bad = {**batch, "data": batch["data"] * torch.nan}
    with pytest.raises(UserError, match=r"not finite in the last \d\d steps.*sum of all terms nan"):
        for _ in range(1000):
            trainer.train_step(bad)
    assert MAX_IN_A_ROW <= trainer.steps_done < CHECK_EVERY_STEPS + MAX_IN_A_ROW

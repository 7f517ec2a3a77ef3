"""Bidirectional copy-paste: what is pasted where, and which labels count how much."""

import json
import shutil

import numpy as np
import pytest
import torch

from nnunet_dycon.errors import UserError
from nnunet_dycon.trainers import nnUNetTrainerBCP
from nnunet_dycon.trainers.bcp import SIDE
from nnunet_dycon.training.step import Crops
from tests.helpers.training import make_trainer, without_plots  # noqa: F401


@pytest.fixture
def trainer(dataset, monkeypatch):
    monkeypatch.setenv("nnUNet_dycon", "ramp_start=0")
    trainer = make_trainer(dataset, nnUNetTrainerBCP)
    trainer.initialize()
    return trainer


def crops_of(trainer, unlabeled=3.0):
    """Two labelled crops, all 1 with label 0 and all 2 with label 1, and two unlabelled ones of one value."""
    shape = (2, 1, 16, 16, 16)
    labeled = torch.tensor([1.0, 2.0]).view(2, 1, 1, 1, 1).expand(shape)
    targets = [(labeled - 1)[:, :, ::step, ::step, ::step] for step in (1, 2)]
    other = torch.full(shape, unlabeled)
    return Crops(labeled, targets, other, other)


def recorded(trainer, monkeypatch):
    """Images that the student sees, and targets of each loss."""
    seen = {"images": [], "targets": []}
    trainer.network.register_forward_pre_hook(lambda module, args: seen["images"].append(args[0]))
    loss = trainer.loss
    monkeypatch.setattr(
        trainer, "loss", lambda outputs, targets: seen["targets"].append(targets) or loss(outputs, targets)
    )
    return seen


def test_both_directions_and_a_label_of_its_own_kind_for_each_part(trainer, monkeypatch):
    monkeypatch.setattr(trainer, "teach", lambda crops: type("T", (), {"logits": logits})())
    logits = torch.zeros(2, 2, 16, 16, 16)
    logits[:, 1] = 1  # the teacher sees class 1
    seen = recorded(trainer, monkeypatch)
    (losses,) = trainer.losses(crops_of(trainer))
    assert losses.supervised.isfinite() and losses.others["pseudo"].isfinite()
    (images,) = seen["images"]
    pasted = images == 3
    assert images.shape[0] == 4
    side = round(16 * SIDE)
    assert [int(i.sum()) for i in pasted] == [side**3] * 2 + [16**3 - side**3] * 2
    assert torch.equal(pasted[0], pasted[1]) and torch.equal(pasted[0], ~pasted[2])
    truth, pseudo = (targets[0] for targets in seen["targets"])
    assert torch.equal(truth == -100, pasted) and torch.equal(pseudo == -100, ~pasted)
    assert torch.equal(truth[~pasted], images[~pasted] - 1) and (pseudo[pasted] == 1).all()
    coarse = [targets[1] for targets in seen["targets"]]
    assert all(i.shape == (4, 1, 8, 8, 8) for i in coarse)
    assert torch.equal(coarse[0] == -100, coarse[1] != -100)


def test_before_the_ramp_labelled_crops_are_pasted_into_labelled_ones(trainer, monkeypatch):
    seen = recorded(trainer, monkeypatch)
    (losses,) = trainer.labeled_losses(crops_of(trainer))
    assert losses.supervised.isfinite() and not losses.others
    (images,), ((target, _),) = seen["images"], seen["targets"]
    assert torch.equal(target, images - 1)
    assert [set(i.unique().tolist()) for i in images] == [{1.0, 2.0}] * 2


def test_the_part_from_the_teacher_counts_half(dataset, monkeypatch):
    monkeypatch.setenv("nnUNet_dycon", "ramp_start=0,num_epochs=1,num_iterations_per_epoch=1")
    trainer = make_trainer(dataset, nnUNetTrainerBCP)
    trainer.on_train_start()
    total = []
    take_step = lambda loss, *_: total.append(loss.item()) or torch.zeros(())  # noqa: E731
    monkeypatch.setattr(trainer.skipped_steps, "take_step", take_step)
    supervised = float(trainer.train_step(next(trainer.dataloader_train))["loss"])
    assert total == [pytest.approx(supervised + 0.5 * trainer._step_log.means()["pseudo"], rel=1e-5)]


def test_two_dimensional_crops(dataset):
    trainer = make_trainer(dataset, nnUNetTrainerBCP, configuration="2d")
    shutil.copytree(dataset.images, dataset.preprocessed / "nnUNetPlans_2d")
    trainer.run_training()
    assert np.isfinite(trainer.logger.get_value("pseudo", -1))


def test_regions_are_refused(dataset):
    file = dataset.preprocessed / "dataset.json"
    regions = {"labels": {"background": 0, "whole": [1, 2], "core": 2}, "regions_class_order": [1, 2]}
    file.write_text(json.dumps(json.loads(file.read_text()) | regions))
    with pytest.raises(UserError, match="knows no regions; use nnUNetTrainerMeanTeacher"):
        make_trainer(dataset, nnUNetTrainerBCP).initialize()


def test_the_published_values_have_no_other_views():
    settings = nnUNetTrainerBCP.default_settings.override({"preset": "paper"})
    assert not (settings.weak_teacher_view or settings.strong_student_view or settings.strong_labeled_view)
    assert (settings.weight_pseudo, settings.teacher_noise, settings.ramp_length) == (0.5, 0, 0)

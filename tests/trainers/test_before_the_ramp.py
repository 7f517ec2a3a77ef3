"""Before the ramp-up begins the loader makes, and a step moves, the labelled crops alone."""

import os
from pathlib import Path

import pytest
from nnunetv2.run.run_training import maybe_load_checkpoint

from nnunet_dycon.training.step import Crops
from tests.helpers.training import make_trainer, without_plots  # noqa: F401
from tests.trainers.test_resume import train_epochs

LENGTH = "num_epochs=3,num_iterations_per_epoch=4,num_val_iterations_per_epoch=1,save_every=1"
# the ramp-up begins with step 6, in the middle of the second epoch; an epoch's first step is a whole one
WHOLE_STEPS = {0, 4, 6, 7, 8, 9, 10, 11}


def record(trainer, monkeypatch):
    """Steps whose batch has unlabelled crops, and steps that move them."""
    made, moved, step = set(), set(), trainer.train_step
    from_batch = Crops.from_batch.__func__

    def moving(cls, batch, device, **options):
        crops = from_batch(cls, batch, device, **options)
        if len(crops.unlabeled):
            moved.add(trainer.steps_done)
        return crops

    def train_step(batch):
        assert batch["step"] == trainer.steps_done
        if "unlabeled" in batch:
            made.add(trainer.steps_done)
        return step(batch)

    monkeypatch.setattr(Crops, "from_batch", classmethod(moving))
    monkeypatch.setattr(trainer, "train_step", train_step)
    return made, moved


@pytest.mark.parametrize("workers", ["0", "2"])
def test_unlabelled_crops_are_made_and_moved_for_the_steps_that_use_them(dataset, monkeypatch, workers):
    monkeypatch.setenv("nnUNet_n_proc_DA", workers)
    monkeypatch.setenv("nnUNet_dycon", f"{LENGTH},ramp_start=0.5,weight_fecl=0")
    trainer = make_trainer(dataset)
    made, moved = record(trainer, monkeypatch)
    train_epochs(trainer, 1)
    trainer.dataloader_train and getattr(trainer.dataloader_train, "_finish", lambda: None)()
    assert made == moved == {0}
    resumed = make_trainer(dataset)
    maybe_load_checkpoint(resumed, continue_training=True, validation_only=False)
    made, moved = record(resumed, monkeypatch)
    resumed.run_training()
    assert made == moved == WHOLE_STEPS - {0}
    assert os.path.isfile(f"{resumed.output_folder}/checkpoint_final.pth")


@pytest.mark.parametrize(("smallest", "used"), [(0, {0, 2, 4, 5, 6, 7, 8, 9}), (1, {0, 2, 4, 6, 7, 8, 9})])
def test_a_ramp_that_waits_uses_fewer_crops_than_are_made(dataset, monkeypatch, smallest, used):
    length = "num_epochs=5,num_iterations_per_epoch=2,num_val_iterations_per_epoch=1,save_every=1"
    monkeypatch.setenv("nnUNet_dycon", f"{length},ramp_start=0.4,ramp_min_dice={smallest},weight_fecl=0")
    trainer = make_trainer(dataset)
    made, moved = record(trainer, monkeypatch)
    train_epochs(trainer, 3)
    resumed = make_trainer(dataset)
    maybe_load_checkpoint(resumed, continue_training=True, validation_only=False)
    more = record(resumed, monkeypatch)
    resumed.run_training()
    assert made | more[0] == {0, 2, 4, 5, 6, 7, 8, 9}
    assert moved | more[1] == used
    log = "".join(file.read_text() for file in Path(trainer.output_folder).glob("training_log*"))
    assert ("wait (ramp_min_dice) for what is not learned yet (pseudo Dice below 1): ball" in log) == bool(smallest)

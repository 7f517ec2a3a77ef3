"""A training that is interrupted and continued ends where the uninterrupted one ends."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from nnunetv2.run.run_training import maybe_load_checkpoint
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer

from nnunet_dycon.errors import UserError
from nnunet_dycon.trainers import (
    nnUNetTrainerBCP,
    nnUNetTrainerDyCON,
    nnUNetTrainerDyCONCoTraining,
    nnUNetTrainerSupervised,
)
from tests.conftest import LABELED
from tests.helpers.training import assert_same_log, assert_same_state, logged, make_trainer, state_of, without_plots  # noqa: F401

LENGTH = "num_iterations_per_epoch=2,num_val_iterations_per_epoch=1"


class InterruptedTrainingError(Exception):
    """Stands for whatever ends a process."""


def train_epochs(trainer, number):
    """Run the training until ``number`` epochs are done, then interrupt it."""
    end_of_epoch = trainer.on_epoch_end

    def on_epoch_end():
        end_of_epoch()
        if trainer.current_epoch == number < trainer.num_epochs:
            raise InterruptedTrainingError

    trainer.on_epoch_end = on_epoch_end
    with contextlib.suppress(InterruptedTrainingError):
        trainer.run_training()
    return trainer


@pytest.mark.parametrize("trainer", [nnUNetTrainerDyCON, nnUNetTrainerDyCONCoTraining, nnUNetTrainerBCP])
def test_an_interrupted_training_ends_bit_identical(dataset, monkeypatch, trainer):
    monkeypatch.setenv("nnUNet_dycon", f"{LENGTH},num_epochs=4,save_every=2")
    whole = train_epochs(make_trainer(dataset, trainer), 4)
    train_epochs(make_trainer(dataset, trainer), 2)
    os.remove(f"{whole.output_folder}/checkpoint_final.pth")
    resumed = make_trainer(dataset, trainer, seed=77)
    maybe_load_checkpoint(resumed, continue_training=True, validation_only=False)
    assert resumed.current_epoch == 2
    resumed.run_training()
    assert_same_state(state_of(whole), state_of(resumed))
    for a, b in zip(whole.optimizer.state.values(), resumed.optimizer.state.values(), strict=True):
        assert torch.equal(a["momentum_buffer"], b["momentum_buffer"])
    assert whole.steps_done == resumed.steps_done == 8
    assert_same_log(logged(whole), logged(resumed))


def test_a_longer_training_may_be_asked_for(dataset, monkeypatch):
    monkeypatch.setenv("nnUNet_dycon", f"{LENGTH},num_epochs=1")
    make_trainer(dataset).run_training()
    monkeypatch.setenv("nnUNet_dycon", f"{LENGTH},num_epochs=2")
    with pytest.raises(UserError, match=r"num_epochs 1 -> 2.*change_on_resume=true"):
        maybe_load_checkpoint(make_trainer(dataset), continue_training=True, validation_only=False)
    monkeypatch.setenv("nnUNet_dycon", f"{LENGTH},num_epochs=2,change_on_resume=true")
    trainer = make_trainer(dataset)
    maybe_load_checkpoint(trainer, continue_training=True, validation_only=False)
    trainer.run_training()
    assert (trainer.current_epoch, trainer.steps_done) == (2, 4)


def test_the_control_continues_with_its_settings_and_is_not_overwritten_by_others(dataset, monkeypatch):
    monkeypatch.setenv("nnUNet_dycon", f"{LENGTH},num_epochs=7,strong_labeled_view=0.3")
    first = make_trainer(dataset, nnUNetTrainerSupervised)
    first.initialize()
    first.save_checkpoint(f"{first.output_folder}/checkpoint_latest.pth")
    monkeypatch.delenv("nnUNet_dycon")
    trainer = make_trainer(dataset, nnUNetTrainerSupervised)
    maybe_load_checkpoint(trainer, continue_training=True, validation_only=False)
    assert (trainer.settings, trainer.num_epochs, trainer.current_epoch) == (first.settings, 7, 1)
    monkeypatch.setenv("nnUNet_dycon", "num_epochs=8")
    other = make_trainer(dataset, nnUNetTrainerSupervised)
    with pytest.raises(UserError, match=r"num_epochs 7 -> 8.*change_on_resume=true"):
        maybe_load_checkpoint(other, continue_training=True, validation_only=False)
    with pytest.raises(UserError, match=r"holds a training with other settings .*num_epochs 7 -> 8"):
        make_trainer(dataset, nnUNetTrainerSupervised).on_train_start()
    monkeypatch.setenv("nnUNet_dycon", "num_epochs=8,change_on_resume=true")
    longer = make_trainer(dataset, nnUNetTrainerSupervised)
    maybe_load_checkpoint(longer, continue_training=True, validation_only=False)
    longer.save_checkpoint(f"{first.output_folder}/checkpoint_latest.pth")
    stored = torch.load(f"{first.output_folder}/checkpoint_latest.pth", weights_only=False)["init_args"]["settings"]
    assert longer.num_epochs == stored["num_epochs"] == 8


def test_cases_that_were_trained_on_before_a_change_of_the_split_are_named(dataset, monkeypatch):
    monkeypatch.setenv("nnUNet_dycon", f"{LENGTH},num_epochs=7")
    splits = dataset.preprocessed / "splits_final.json"
    told = []
    monkeypatch.setattr(nnUNetTrainerSupervised, "print_to_log_file", lambda self, *texts, **_: told.extend(texts))
    for cases in (LABELED[:4], LABELED[1:5], LABELED[1:4]):  # all are remembered, not the last ones only
        splits.write_text(json.dumps([{"train": cases, "val": LABELED[:1]}]))
        trainer = make_trainer(dataset, nnUNetTrainerSupervised)
        maybe_load_checkpoint(trainer, continue_training=True, validation_only=False)
        trainer.on_train_start()
        trainer.save_checkpoint(f"{trainer.output_folder}/checkpoint_latest.pth")
    first, second = (text for text in told if "no training cases now" in str(text))
    assert f"learned from {LABELED[0]} before" in first and f"learned from {LABELED[0]}, {LABELED[4]} before" in second
    stored = torch.load(f"{trainer.output_folder}/checkpoint_latest.pth", weights_only=False)["init_args"]
    assert len(stored["trained_on"]) == 5 and LABELED[0] not in str(stored["trained_on"])
    monkeypatch.setattr(nnUNetTrainer, "perform_actual_validation", lambda self, save_probabilities: None)
    told.clear()
    trainer.perform_actual_validation()
    assert f"learned from {LABELED[0]}, {LABELED[4]} before" in "".join(told)


@pytest.mark.parametrize("trainer", [nnUNetTrainerSupervised, nnUNetTrainerDyCON])
def test_a_validation_scores_no_predictions_of_another_split(dataset, monkeypatch, trainer):
    """nnU-Net opens the mask of each prediction that lies there; cases of the split that was are unlabelled now."""
    monkeypatch.setattr(nnUNetTrainer, "perform_actual_validation", lambda self, save_probabilities: None)
    splits = dataset.preprocessed / "splits_final.json"
    splits.write_text(json.dumps([{"train": LABELED[:2], "val": LABELED[2:3], "unlabeled": LABELED[3:]}]))
    trainer = make_trainer(dataset, trainer)
    trainer.initialize()
    folder, other = (Path(trainer.output_folder, i) for i in ("validation", "validation_other_cases"))
    trainer.perform_actual_validation()
    assert not other.exists()  # nothing has been there
    folder.mkdir()
    kept = {f"{LABELED[2]}{i}" for i in (".nii.gz", ".npz", ".pkl")} | {"summary.json"}
    moved = {f"{LABELED[4]}{i}" for i in (".nii.gz", ".npz", ".pkl")} | {f"{LABELED[0]}.nii.gz"}
    for _ in range(2):
        for name in kept | moved:
            (folder / name).touch()
        trainer.local_rank = 1
        trainer.perform_actual_validation()
        assert {i.name for i in folder.iterdir()} == kept | moved  # the first process does it
        trainer.local_rank = 0
        trainer.perform_actual_validation()
        assert ({i.name for i in folder.iterdir()}, {i.name for i in other.iterdir()}) == (kept, moved)


@pytest.mark.parametrize("trainer", [nnUNetTrainerDyCON, nnUNetTrainerSupervised])
def test_a_checkpoint_is_whole_whenever_its_writing_stops(dataset, monkeypatch, trainer):
    monkeypatch.setenv("nnUNet_dycon", f"{LENGTH},num_epochs=2,save_every=1")
    trainer = train_epochs(make_trainer(dataset, trainer), 1)
    file = f"{trainer.output_folder}/checkpoint_latest.pth"
    before = torch.load(file, weights_only=False)
    save = torch.save

    def fails_in_the_middle(checkpoint, target, *args, **kwargs):
        if not isinstance(target, str):
            return save(checkpoint, target, *args, **kwargs)
        with open(target, "wb") as half:
            half.write(b"half a checkpoint")
        raise InterruptedTrainingError

    monkeypatch.setattr(torch, "save", fails_in_the_middle)
    monkeypatch.setattr(Path, "write_bytes", lambda self, content: fails_in_the_middle(content, str(self)))
    with pytest.raises(InterruptedTrainingError):
        trainer.save_checkpoint(file)
    monkeypatch.undo()
    after = torch.load(file, weights_only=False)
    assert before["current_epoch"] == after["current_epoch"] == 1
    for name, weights in before["network_weights"].items():
        assert torch.equal(weights, after["network_weights"][name])
    other = Path(file).with_name("other.pth")
    trainer.local_rank = 1
    trainer.save_checkpoint(str(other))
    trainer.local_rank, trainer.disable_checkpointing = 0, True
    trainer.save_checkpoint(str(other))
    assert not other.exists() and not list(other.parent.glob(".*"))


def test_killed_processes_continue_to_the_same_end(dataset, monkeypatch):
    monkeypatch.setenv("nnUNet_dycon", f"{LENGTH},num_epochs=3,save_every=1")
    command = [sys.executable, "-c", KILLABLE, str(dataset.preprocessed)]
    subprocess.run([*command, "start"], check=True)
    folder = dataset.results / "nnUNetTrainerDyCON__nnUNetPlans__3d_fullres" / "fold_0"
    expected = torch.load(folder / "checkpoint_final.pth", weights_only=False)
    (folder / "checkpoint_final.pth").unlink()
    (folder / "checkpoint_best.pth").unlink()
    process = subprocess.Popen([*command, "start"])
    while not (folder / "checkpoint_latest.pth").exists():
        time.sleep(0.01)
        assert process.poll() is None
    process.send_signal(signal.SIGKILL)
    process.wait()
    subprocess.run([*command, "continue"], check=True)
    resumed = torch.load(folder / "checkpoint_final.pth", weights_only=False)
    for name, weights in expected["semi_supervised"]["student_weights"].items():
        assert torch.equal(weights, resumed["semi_supervised"]["student_weights"][name]), name
    for name, weights in expected["network_weights"].items():
        assert torch.equal(weights, resumed["network_weights"][name]), name


KILLABLE = """
import json, random, sys
from pathlib import Path
import numpy as np, torch
from nnunetv2.run.run_training import maybe_load_checkpoint
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer
from nnunet_dycon.training.curves import SemiSupervisedLogger
from nnunet_dycon.trainers import nnUNetTrainerDyCON
SemiSupervisedLogger.plot_progress_png = lambda self, folder: None
torch.set_num_threads(1)
folder = Path(sys.argv[1])
plans = json.loads((folder / "nnUNetPlans.json").read_text()) | {"continue_training": False}
dataset_json = json.loads((folder / "dataset.json").read_text())
torch.manual_seed(0); np.random.seed(0); random.seed(0)
trainer = nnUNetTrainerDyCON(plans, "3d_fullres", 0, dataset_json, torch.device("cpu"))
trainer.plot_network_architecture = lambda: None
maybe_load_checkpoint(trainer, sys.argv[2] == "continue", False)
trainer.run_training()
"""


def test_the_random_state_comes_back():
    from nnunet_dycon.training.resume import get_random_state, set_random_state

    state = get_random_state()
    first = np.random.rand(3), torch.rand(3)
    set_random_state(state)
    assert np.array_equal(first[0], np.random.rand(3)) and torch.equal(first[1], torch.rand(3))

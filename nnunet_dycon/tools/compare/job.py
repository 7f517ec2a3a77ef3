"""One job of an experiment: train, predict the test cases, evaluate. What a killed job has done is not done again.

A self-training's job writes and preprocesses the dataset with the first stage's predictions before, by the same plans.
"""

from __future__ import annotations

import errno
import math
import os
import pickle
import random
import shutil
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from nnunetv2.configuration import default_num_processes
from nnunetv2.preprocessing.preprocessors.default_preprocessor import DefaultPreprocessor
from nnunetv2.run.run_training import get_trainer_from_args
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer

from nnunet_dycon.dataset.pseudo_labels import predicted_masks
from nnunet_dycon.dataset.raw_dataset import environment_folder, open_raw_dataset
from nnunet_dycon.dataset.splits import (
    check_not_moved,
    held_out_in_place,
    raw_or_empty,
    read_splits,
    unlabeled_in_splits,
)
from nnunet_dycon.errors import UserError
from nnunet_dycon.files.json_files import write_json
from nnunet_dycon.models.prediction import segment_scans
from nnunet_dycon.settings import ENVIRONMENT_VARIABLE, Settings, overrides_from_environment
from nnunet_dycon.tools.compare.checks import check_unseen, unlabeled_cases
from nnunet_dycon.tools.compare.experiment import LENGTHS, RECORD, RESULT, Experiment, Job, environment
from nnunet_dycon.tools.compare.training import train
from nnunet_dycon.tools.evaluate.folder import evaluate_folder
from nnunet_dycon.tools.pseudo_label import folds_without_predictions, pseudo_label

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

SELF_TRAINING = "self_training"


def do_job(experiment: Experiment, job: Job) -> None:
    """Train one run with one seed, predict the test cases and write job.json, in this process.

    Raises:
        UserError: The folder holds the job with other settings, or what the trainer or the evaluation complain about.
    """
    folder = experiment.folder(job)
    record = experiment.check_record(job)
    if (folder / RESULT).is_file():
        return
    folder.mkdir(parents=True, exist_ok=True)
    with _alone(folder):
        write_json(record, folder / RECORD)
        _do_job(experiment, job, folder)


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """In the only process that works in a folder, where the system can tell; a UserError where another one does.

    The system takes the lock back from a process that ends in any way, and gives it to none of its children.
    """
    if fcntl is None:
        yield
        return
    with (folder / "lock").open("w") as file:
        try:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno in (errno.EACCES, errno.EAGAIN):
                raise UserError(f"another process is doing the job in {folder}; let it finish, or end it") from error
        yield  # other errors: a file system without locks


def _do_job(experiment: Experiment, job: Job, folder: Path) -> None:
    if experiment.device == "cuda":
        torch.set_num_threads(1)  # as nnUNetv2_train does
        torch.backends.cudnn.benchmark = True
    scans = experiment.test_scans(job)  # while nnUNet_raw is the user's
    settings = job.run.settings_json(experiment.settings)
    with environment(nnUNet_results=str(folder / "results"), **{ENVIRONMENT_VARIABLE: settings}):
        added = _add_predicted_masks(experiment, job) if job.run.teacher else []
        trainer = _make_trainer(experiment, job, added)
        write_json(experiment.check_record(job, **_check_cases(experiment, job, trainer, scans)), folder / RECORD)
        epochs = curve_epochs(trainer.num_epochs, experiment.curve)
        result: dict[str, object] = dict(train(trainer, folder, save_after=epochs, bfloat16=experiment.bfloat16))
        result |= _test(experiment, job, trainer, scans, epochs)
    write_json({**experiment.record(job), **result}, folder / RESULT)
    for file in Path(trainer.output_folder).glob("checkpoint_*.pth"):
        if file.name != "checkpoint_final.pth":
            file.unlink()
    shutil.rmtree(folder / SELF_TRAINING, ignore_errors=True)


def curve_epochs(num_epochs: int, points: int) -> list[int]:
    """Epochs after which the curve has a point before the last one; fewer where there are too few epochs."""
    return sorted({round(num_epochs * i / points) for i in range(1, points)} - {0, num_epochs})


def _add_predicted_masks(experiment: Experiment, job: Job) -> list[str]:
    """Write and preprocess what the second stage trains on, and return the cases whose mask is a prediction.

    It lies in the job's folder, in ``raw`` and ``preprocessed``, to which nnU-Net's variables lead from then on. What
    is there from an earlier call is kept.
    """
    teacher, folder = experiment.teacher_of(job), experiment.folder(job) / SELF_TRAINING
    if teacher is None or not (experiment.folder(teacher) / RESULT).is_file():
        raise UserError(f"{job} needs the predictions of {teacher}, which is not finished; do that job first")
    source = open_raw_dataset(job.run.dataset)
    of_source = environment_folder("nnUNet_preprocessed") / source.name
    raw, preprocessed = folder / "raw" / source.name, folder / "preprocessed" / source.name
    if not raw.is_dir():
        name = f"{teacher.run.trainer}__{experiment.plans}__{experiment.configuration}"
        model = experiment.open_model(experiment.folder(teacher) / "results" / source.name / name, job)
        pseudo_label(model, source, raw, min_confidence=experiment.min_confidence)
    os.environ.update(nnUNet_raw=str(raw.parent), nnUNet_preprocessed=str(preprocessed.parent))
    if not (is_done := (folder / "done.json").is_file()):
        shutil.rmtree(preprocessed, ignore_errors=True)
        preprocessed.mkdir(parents=True)
    for name in (f"{experiment.plans}.json", "dataset_fingerprint.json", "splits_final.json", "split.json"):
        if (of_source / name).is_file():
            shutil.copy(of_source / name, preprocessed / name)
    if not (preprocessed / "splits_final.json").is_file() and job.fold != "all":
        write_json(folds_without_predictions(source, None), preprocessed / "splits_final.json")
    shutil.copy(raw / "dataset.json", preprocessed)
    if not is_done:
        preprocessor, configuration = DefaultPreprocessor(verbose=False), experiment.configuration
        preprocessor.run(source.name, configuration, experiment.plans, default_num_processes)
        write_json({}, folder / "done.json")
    return sorted(predicted_masks(raw / "labelsTr") - predicted_masks(source.folder / "labelsTr"))


def _make_trainer(experiment: Experiment, job: Job, added: list[str]) -> nnUNetTrainer:
    """The trainer on its training cases and ``added`` ones; runs of a seed draw the same crops (nnUNet_n_proc_DA=0)."""
    for seed in (random.seed, np.random.seed, torch.manual_seed):
        seed(job.seed)
    fold, device = experiment.trained_fold(job), torch.device(experiment.device)
    trainer = get_trainer_from_args(
        str(job.run.dataset), experiment.configuration, fold, job.run.trainer, experiment.plans, device=device
    )
    closed = [] if hasattr(trainer, "settings") else _teach_stock_trainer(trainer, fold)
    _set_cases(experiment, job, trainer, closed, added)
    return trainer


def _set_cases(experiment: Experiment, job: Job, trainer: nnUNetTrainer, closed: list[str], added: list[str]) -> None:
    """Train and validate on the trainer's cases and ``added`` ones, without ``closed`` and held-out cases.

    In cross-validation the fold has the training cases, and nnU-Net's validation, which chooses a checkpoint, is on
    these.

    Raises:
        UserError: A case has no place among the labelled ones any more.
    """
    cases, validation = trainer.do_split()
    name = trainer.plans_manager.dataset_name
    if experiment.cross_validation:
        train, tests = experiment.held_out[job.fold]
        closed = [*closed, *tests]
        cases = [case for case in cases if case in train] if name == experiment.raw.name else cases
    cases = [case for case in dict.fromkeys([*cases, *added]) if case not in closed]
    validation = cases if experiment.cross_validation else [case for case in validation if case not in closed]
    check_not_moved(raw_or_empty(name, trainer.dataset_json), [*cases, *validation])
    trainer.do_split = lambda: (cases, validation)


def _teach_stock_trainer(trainer: nnUNetTrainer, fold: int | str) -> list[str]:
    """Set the lengths of one of nnU-Net's own, which reads no settings; returns the cases whose masks stay closed."""
    settings = Settings().override(overrides_from_environment())
    for name in LENGTHS:
        setattr(trainer, name, getattr(settings, name) or getattr(trainer, name))
    folder = Path(trainer.preprocessed_dataset_folder_base)
    splits = read_splits(folder)
    return [*unlabeled_in_splits(splits, fold), *held_out_in_place(folder, splits, fold)]


def _check_cases(
    experiment: Experiment, job: Job, trainer: nnUNetTrainer, scans: Mapping[str, object]
) -> dict[str, list[str]]:
    """The training and the unlabelled cases, for the job's record; a UserError where one is a test case."""
    train, validation = trainer.do_split()
    dataset = trainer.plans_manager.dataset_name, experiment.configuration, experiment.plans
    unlabeled = unlabeled_cases(type(trainer), *dataset, experiment.trained_fold(job))
    check_unseen(job, scans, labeled=[*train, *validation], unlabeled=unlabeled)
    return {"training_cases": sorted(train), "unlabeled_cases": sorted(unlabeled)}


def _test(
    experiment: Experiment, job: Job, trainer: nnUNetTrainer, scans: dict[str, list[Path]], epochs: list[int]
) -> dict[str, object]:
    """Predict and evaluate after each of the epochs and after the last one."""
    curve: dict[int, float | None] = {}
    references = experiment.raw.folder / ("labelsTr" if experiment.cross_validation else "labelsTs")
    names = {epoch: f"checkpoint_epoch{epoch}.pth" for epoch in epochs}  # not all with a larger --curve than before
    there = {epoch: name for epoch, name in names.items() if Path(trainer.output_folder, name).is_file()}
    for epoch, name in (there | {trainer.num_epochs: "checkpoint_final.pth"}).items():
        is_last = epoch == trainer.num_epochs
        predictions = experiment.folder(job) / ("predictions" if is_last else f"predictions_epoch{epoch}")
        segment_scans(experiment.open_model(Path(trainer.output_folder_base), job, name), scans, predictions)
        dataset_json = experiment.raw.folder / "dataset.json"
        evaluation = evaluate_folder(predictions, references, dataset_json=dataset_json, only_predicted=True)
        dice = float(evaluation.mean_of_classes["Dice"])
        curve[epoch * trainer.num_iterations_per_epoch] = None if math.isnan(dice) else dice
        if not is_last:
            shutil.rmtree(predictions)
    kept = evaluation.cases.drop(columns=["prediction_voxels", "reference_voxels"])
    rows = kept.astype(object).where(kept.notna(), None).to_dict("records")
    steps = trainer.num_epochs * trainer.num_iterations_per_epoch
    return {"steps": steps, "curve": curve, "cases": rows}


if __name__ == "__main__":  # a process of its own, which reads the experiment and the job from its input
    try:
        do_job(*pickle.load(sys.stdin.buffer))
    except UserError as error:
        sys.exit(f"error: {error}")

"""What would stop a job, or spoil its result, found before the first job trains."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer
from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

from nnunet_dycon.dataset.commands import preprocessing
from nnunet_dycon.dataset.preprocessed_files import labeled_cases_in
from nnunet_dycon.dataset.raw_dataset import RawDataset, dataset_name, environment_folder, read_dataset_json
from nnunet_dycon.dataset.splits import (
    check_before_training,
    check_not_moved,
    held_out_in_place,
    raw_or_empty,
    read_splits,
    unlabeled_in_splits,
)
from nnunet_dycon.dataset.unlabeled_scans import configuration_of, read_plans
from nnunet_dycon.errors import UserError
from nnunet_dycon.files.text import few
from nnunet_dycon.tools.compare.experiment import RESULT, Experiment, Job, Run, known_settings, parse_settings
from nnunet_dycon.tools.pseudo_label import folds_without_predictions
from nnunet_dycon.trainers import nnUNetTrainerDyCON, nnUNetTrainerSemiSupervised


def check_experiment(experiment: Experiment, *, trains: bool = True) -> None:
    """Find what would stop a job before the first one trains; what is done stays readable whatever its data are now.

    Args:
        trains: The jobs that are not done are to be done.

    Raises:
        UserError: A name twice, no such plans, configuration, trainer, setting or teaching run, no test case, no
            unlabelled scan where one is needed, test cases that a run sees, jobs of other settings.
    """
    if twice := [name for name, n in Counter(run.name for run in experiment.runs).items() if n > 1]:
        raise UserError(f"--runs names {', '.join(twice)} twice; give every run a name of its own")
    if not experiment.cross_validation and len(experiment.folds) > 1:
        raise UserError("several folds (-f) are for --cross-validation; the test scans are predicted by one")
    _check_runs(experiment)
    for job in experiment.jobs():
        experiment.check_record(job)
    if trains:
        _check_cases_of_jobs(experiment)


def _check_cases_of_jobs(experiment: Experiment) -> None:
    left = [job for job in experiment.jobs() if not (experiment.folder(job) / RESULT).is_file()]
    for job in {(job.run, job.fold): job for job in left}.values():  # whatever the seed
        _check_cases(experiment, job)


def _check_runs(experiment: Experiment) -> None:
    names: dict[str, str] = {}
    known = known_settings(nnUNetTrainerDyCON)
    for run in experiment.runs:
        _check_preprocessed(run.dataset, experiment.configuration, experiment.plans)
        if run.teacher and names.get(run.teacher) != run.dataset:
            what = f"@{run.teacher} must be a run of the same dataset that is named before it"
            raise UserError(f"--runs {run.name}: {what}")
        run.settings_json(experiment.settings)
        names[run.name] = run.dataset
        known |= known_settings(run.trainer_class)
    if unknown := [name for name in parse_settings(experiment.settings) if name not in known]:
        raise UserError(f"--settings {unknown[0]}: there is no such setting; nnunet-dycon settings lists them")


def _check_preprocessed(dataset: str, configuration: str, plans: str) -> None:
    """Raise a UserError where a dataset is not planned or not preprocessed for a configuration, or that is a stage."""
    folder = _preprocessed(dataset, configuration, plans)
    if not folder.is_dir():
        raise UserError(f"{folder} is missing; run {preprocessing(dataset, configuration, plans)} first")


def _preprocessed(dataset: str, configuration: str, plans: str) -> Path:
    """Where a configuration's labelled cases lie."""
    base = environment_folder("nnUNet_preprocessed") / dataset_name(dataset)
    found = configuration_of(PlansManager(read_plans(base / f"{plans}.json")), configuration)
    if (first := found.previous_stage_name) is not None:
        raise UserError(
            f"-c {configuration} is a cascade's second stage, which compare does not train; take -c {first}"
        )
    return base / found.data_identifier


def _check_cases(experiment: Experiment, job: Job) -> None:
    """A job's training and its unlabelled cases are what the folds say, and no test cases."""
    run, fold = job.run, experiment.trained_fold(job)
    base = environment_folder("nnUNet_preprocessed") / dataset_name(run.dataset)
    raw, splits = raw_or_empty(base.name, read_dataset_json(base)), read_splits(base)
    labeled = _labeled_cases(experiment, job, base, splits or [])
    check_not_moved(raw, labeled)
    unlabeled = unlabeled_cases(run.trainer_class, run.dataset, experiment.configuration, experiment.plans, fold)
    if run.teacher:
        unlabeled |= _predicted_scans(run, raw, splits, fold, unlabeled)
    check_unseen(job, experiment.test_scans(job), labeled=labeled, unlabeled=unlabeled)


def _labeled_cases(experiment: Experiment, job: Job, base: Path, splits: list[dict]) -> set[str]:
    """Cases that the job may train or validate on; of a fold that nnU-Net is still to draw, all."""
    fold = experiment.trained_fold(job)
    closed = {*unlabeled_in_splits(splits, fold), *held_out_in_place(base, splits, fold)}
    labeled = labeled_cases_in(_preprocessed(job.run.dataset, experiment.configuration, experiment.plans)) - closed
    if experiment.cross_validation:
        train, tests = experiment.held_out[job.fold]
        if base.name == experiment.raw.name and (missing := sorted({*train} - labeled)):
            raise UserError(f"fold {job.fold} trains on {few(missing)}, not preprocessed with a mask; preprocess again")
        return labeled - {*tests}
    if fold == "all":
        _check_none_for_validation_only(base, splits, labeled)
    elif int(fold) < len(splits):
        return {*splits[int(fold)]["train"], *splits[int(fold)]["val"]}
    return labeled


def _check_none_for_validation_only(base: Path, splits: list[dict], labeled: set[str]) -> None:
    """Fold "all" would train on cases that a protocol takes for validation."""
    train, val = ({case for fold in splits for case in fold[key]} for key in ("train", "val"))
    if only := sorted((val - train) & labeled):
        raise UserError(
            f"fold all would train on {few(only)}, which {base / 'splits_final.json'} only validates on; give -f 0, or "
            "the fold that you mean"
        )


def _predicted_scans(
    run: Run, raw: RawDataset, splits: list[dict] | None, fold: int | str, unlabeled: set[str]
) -> set[str]:
    """The scans that get masks in a self-training; a UserError where there is none, or no other for its trainer."""
    if not (scans := {*raw.images("Un")}):
        raise UserError(f"--runs {run.name}: @{run.teacher} is to predict {raw.folder / 'imagesUn'}, which has no scan")
    if unlabeled and unlabeled <= scans:
        raise UserError(
            f"--runs {run.name}: {run.trainer} needs unlabelled scans, but @{run.teacher} predicts masks of all of "
            "them; take nnUNetTrainerSupervised"
        )
    if fold != "all" and int(fold) >= (n := len(folds_without_predictions(raw, splits))):
        raise UserError(f"--runs {run.name}: there is no fold {fold} to add predictions to; give -f below {n}")
    return scans


def unlabeled_cases(
    trainer: type[nnUNetTrainer], dataset: str, configuration: str, plans: str, fold: int | str
) -> set[str]:
    """Cases that a trainer sees without a mask; a UserError for what ``check_before_training`` refuses."""
    if not issubclass(trainer, nnUNetTrainerSemiSupervised):
        return set()
    base = environment_folder("nnUNet_preprocessed") / dataset_name(dataset)
    contents = read_plans(base / f"{plans}.json"), read_dataset_json(base)
    found = check_before_training(base.name, configuration, *contents, base, fold=fold)
    return {*found, *unlabeled_in_splits(read_splits(base), fold)}


def check_unseen(job: Job, tests: Iterable[str], *, labeled: Iterable[str], unlabeled: Iterable[str]) -> None:
    """Whatever the dataset of a run is like, no test case is trained on or validated on, nor seen without its mask.

    Raises:
        UserError: One is.
    """
    for cases, how in ((labeled, "trained on"), (unlabeled, "shown the unlabelled scan(s)")):
        if seen := sorted({*tests} & {*cases}):
            raise UserError(
                f"{job} would be {how} {few(seen)}, which it is tested on; take them out of {job.run.dataset}"
            )

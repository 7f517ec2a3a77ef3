"""What is compared: runs (a trainer with settings), seeds, and the cases that are held out for the test."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, redirect_stdout
from dataclasses import asdict, dataclass, fields
from functools import cached_property
from io import StringIO
from pathlib import Path
from textwrap import shorten
from typing import Any

import torch
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer
from nnunetv2.utilities.crossval_split import generate_crossval_split
from nnunetv2.utilities.find_objects import recursive_find_trainer_class_by_name

from nnunet_dycon.dataset.pseudo_labels import predicted_masks
from nnunet_dycon.dataset.raw_dataset import RawDataset, environment_folder, open_raw_dataset
from nnunet_dycon.dataset.splits import held_out_in_place, read_splits, unlabeled_in_splits
from nnunet_dycon.errors import UserError
from nnunet_dycon.files.json_files import read_json_object
from nnunet_dycon.models.trained_model import CHECKPOINT, TrainedModel, open_model
from nnunet_dycon.settings import ENVIRONMENT_VARIABLE, Settings, overrides_from_environment

DEFAULT_RUNS = ("control=nnUNetTrainerSupervised", "mt=nnUNetTrainerMeanTeacher", "dycon=nnUNetTrainerDyCON")
LENGTHS = ("num_epochs", "num_iterations_per_epoch", "num_val_iterations_per_epoch")
"""What nnU-Net's own trainers are told."""
RECORD, RESULT = "record.json", "job.json"
_TEST = "put test scans with masks into imagesTs and labelsTs"


@dataclass(frozen=True)
class Run:
    """A trainer with settings on a dataset, under a name.

    Attributes:
        teacher: Name of the run whose predictions of the unlabelled scans are masks in this one (self-training), or "".
    """

    name: str
    trainer: str
    settings: str
    dataset: str
    teacher: str = ""

    @classmethod
    def parse(cls, text: str, dataset: str) -> Run:
        """``NAME=TRAINER[@RUN][:settings]``, with ``DATASET/`` before the name for a dataset other than ``dataset``.

        A UserError where the text is none of this.
        """
        name, _, rest = text.partition("=")
        if "/" in name:
            dataset, _, name = name.partition("/")
        trainer, _, settings = rest.partition(":")
        trainer, _, teacher = trainer.partition("@")
        if not name.replace("_", "").replace("-", "").isalnum() or not trainer:
            raise UserError(
                f"--runs {text}: write NAME=TRAINER[@RUN][:settings] or DATASET/NAME=TRAINER[:settings]; NAME has "
                "letters, digits, _ and -"
            )
        return cls(name, trainer, settings, dataset, teacher)

    @property
    def trainer_class(self) -> type[nnUNetTrainer]:
        """The class that nnU-Net finds; a UserError where it finds none."""
        try:
            with redirect_stdout(StringIO()):  # nnU-Net tells where it looks
                return recursive_find_trainer_class_by_name(self.trainer)
        except RuntimeError as error:
            raise UserError(f"--runs {self.name}: nnU-Net finds no trainer {self.trainer}") from error

    def settings_json(self, shared: str) -> str:
        """The settings as the trainer reads them: its own, and of the ``shared`` ones those that it has.

        Raises:
            UserError: There is no such trainer, or its own settings are none of this trainer's.
        """
        trainer, own = self.trainer_class, parse_settings(self.settings)
        known = known_settings(trainer)
        if isinstance(defaults := getattr(trainer, "default_settings", None), Settings):
            defaults.override(own, trainer=self.trainer, unused=trainer.unused_settings)
        elif unknown := [name for name in own if name not in known]:
            raise UserError(f"--runs {self.name}: nnU-Net's own trainers have no setting {unknown[0]}; leave it out")
        return json.dumps({name: value for name, value in parse_settings(shared).items() if name in known} | own)


def known_settings(trainer: type[nnUNetTrainer]) -> set[str]:
    """Names of the settings that a trainer reads."""
    settings = getattr(trainer, "default_settings", None)
    if not isinstance(settings, Settings):
        return set(LENGTHS)
    return {field.name for field in fields(settings)} - set(getattr(trainer, "unused_settings", ()))


def parse_settings(text: str) -> dict[str, Any]:
    """Settings by name, of a text that ``nnUNet_dycon`` may hold."""
    with environment(**{ENVIRONMENT_VARIABLE: text}):
        return overrides_from_environment()


@contextmanager
def environment(**values: str) -> Iterator[None]:
    """Inside, the environment has these values; nnU-Net and the settings are read from there."""
    before = dict(os.environ)
    os.environ.update(values)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


@dataclass(frozen=True)
class Job:
    """One training of a run."""

    run: Run
    seed: int
    fold: int | str

    def __str__(self) -> str:
        return f"{self.run.name}:{self.seed}" + ("" if self.fold == "all" else f":{self.fold}")


@dataclass(frozen=True)
class Experiment:
    """All that an experiment's jobs share.

    Attributes:
        folds: Folds that train and are tested on imagesTs; with ``cross_validation`` those whose validation cases are
            held out (none named: all).
        cross_validation: Test on labelled cases that are held out, in place of imagesTs.
        settings: Of all runs, ``key=value,key=value``.
        curve: Points of the curve of Dice against steps.
        bfloat16: On a CPU, run the networks as CUDA does under autocast, in bfloat16.
        mirroring: Predict with mirrored copies.
        min_confidence: Voxels of a self-training's masks that are less sure are ignored; 0 takes all.
    """

    dataset: str
    configuration: str
    plans: str
    folds: tuple[int | str, ...]
    cross_validation: bool
    output: Path
    runs: tuple[Run, ...]
    seeds: tuple[int, ...]
    settings: str = ""
    device: str = "cuda"
    curve: int = 4
    bfloat16: bool = False
    mirroring: bool = True
    min_confidence: float = 0.0

    @cached_property
    def raw(self) -> RawDataset:
        """The dataset that all runs are tested on."""
        return open_raw_dataset(self.dataset)

    def jobs(self) -> list[Job]:
        """All trainings; every seed and fold of all runs before the next."""
        folds = list(self.held_out) if self.cross_validation else self.folds
        return [Job(run, seed, fold) for seed in self.seeds for fold in folds for run in self.runs]

    def job(self, text: str) -> Job:
        """The job ``NAME:SEED`` or ``NAME:SEED:FOLD``; a UserError where there is none."""
        for job in self.jobs():
            if text in (str(job), f"{job.run.name}:{job.seed}:{job.fold}"):
                return job
        raise UserError(f"--job {text}: there are {', '.join(map(str, self.jobs()))}")

    def folder(self, job: Job) -> Path:
        """Where a job works."""
        return self.output / job.run.name / f"seed_{job.seed}" / f"fold_{job.fold}"

    def teacher_of(self, job: Job) -> Job | None:
        """The job whose predictions a self-training takes for masks."""
        return next((Job(run, job.seed, job.fold) for run in self.runs if run.name == job.run.teacher), None)

    def test_scans(self, job: Job) -> dict[str, list[Path]]:
        """Channel files of the cases that a job is tested on; a UserError where there is none."""
        part = "Tr" if self.cross_validation else "Ts"
        images, masks = self.raw.images(part), self.raw.labels(part)
        wanted = masks.keys() - predicted_masks(self.raw.folder / f"labels{part}")
        if self.cross_validation:
            wanted &= {*self.held_out[job.fold][1]}
        if not (scans := {case: files for case, files in images.items() if case in wanted}):
            raise UserError(f"{self.raw.folder} has no test scan with a mask; {_TEST}, or use --cross-validation")
        return scans

    def record(self, job: Job) -> dict[str, Any]:
        """What a job's result depends on, so that results of different settings do not meet in one table."""
        kept = ("dataset", "configuration", "plans", "cross_validation", "settings", "bfloat16", "mirroring")
        shared = {key: getattr(self, key) for key in kept}
        if job.run.teacher:
            shared["min_confidence"] = self.min_confidence
        if (teacher := self.teacher_of(job)) is not None:
            shared["teacher"] = self.record(teacher)
        shared |= {"trainer_settings": json.loads(job.run.settings_json(self.settings))}
        shared |= {"test_cases": sorted(self.test_scans(job))}
        return shared | {"run": asdict(job.run), "seed": job.seed, "fold": job.fold}

    def check_record(self, job: Job, **cases: list[str]) -> dict[str, Any]:
        """What a job's folder is to record: what it does, of which earlier versions wrote less, and ``cases`` it sees.

        Raises:
            UserError: The same job was done there, or begun, with something else.
        """
        file, wanted = self.folder(job) / RECORD, self.record(job) | cases
        there = read_json_object(file, "remove its folder") if file.is_file() else {}
        if different := [key for key in wanted if there.get(key, wanted[key]) != wanted[key]]:
            before, now = (shorten(str(i[different[0]]), 200) for i in (there, wanted))
            raise UserError(
                f"{file.parent} holds this job with another {' and '.join(different)} ({before}, now {now}); "
                "give another -o or another NAME, or remove that folder"
            )
        return there | wanted

    def trained_fold(self, job: Job) -> int | str:
        """The fold that nnU-Net trains, without the held-out cases."""
        return "all" if self.cross_validation else job.fold

    def open_model(self, folder: Path, job: Job, checkpoint_name: str = CHECKPOINT) -> TrainedModel:
        """A trained model of a job's fold."""
        folds, device = [self.trained_fold(job)], torch.device(self.device)
        return open_model(folder, folds, checkpoint_name=checkpoint_name, device=device, mirroring=self.mirroring)

    @cached_property
    def held_out(self) -> Mapping[int | str, tuple[list[str], list[str]]]:
        """Training and held-out cases by fold: of splits_final.json, else of nnU-Net's random split of up to five.

        Raises:
            UserError: There are fewer than two labelled cases, or a fold that does not exist was asked for.
        """
        found = _folds_that_hold_out(self.raw)
        wanted = [i for i in self.folds if i != "all"] or list(found)
        if unknown := [str(i) for i in wanted if i not in found]:
            raise UserError(f"-f {' '.join(unknown)}: the folds that hold cases out are {', '.join(map(str, found))}")
        return {number: found[number] for number in wanted}


def _folds_that_hold_out(raw: RawDataset) -> dict[int | str, tuple[list[str], list[str]]]:
    """A fold of splits_final.json does so where no run can have seen its validation cases, as fold "all" is trained."""
    folder = environment_folder("nnUNet_preprocessed") / raw.name
    splits = read_splits(folder) or []
    predicted = predicted_masks(raw.folder / "labelsTr")
    unlabeled = {*unlabeled_in_splits(splits, "all")}
    closed = {*unlabeled, *held_out_in_place(folder, splits, "all")}
    folds = {
        number: fold
        for number, fold in enumerate(splits)
        if fold["val"]
        and not closed & {*fold["train"]}
        and not {*fold["train"], *predicted, *unlabeled} & {*fold["val"]}
    }
    if not folds:
        cases = sorted(raw.labels("Tr").keys() - {*closed, *predicted})
        if len(cases) < 2:
            raise UserError(f"{raw.name} has {len(cases)} labelled case(s), so none can be held out; {_TEST}")
        drawn = generate_crossval_split(cases, seed=12345, n_splits=min(5, len(cases)))
        folds = {
            number: fold | {"train": [*fold["train"], *sorted(predicted - closed)]} for number, fold in enumerate(drawn)
        }
    return {number: ([*map(str, i["train"])], [*map(str, i["val"])]) for number, i in folds.items()}

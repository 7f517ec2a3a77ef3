"""Settings of a run: what its trainer knows of those of all runs, and its own."""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from io import StringIO
from typing import Any

from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer
from nnunetv2.utilities.find_objects import recursive_find_trainer_class_by_name

from nnunet_dycon.errors import UserError
from nnunet_dycon.settings import ENVIRONMENT_VARIABLE, Settings, overrides_from_environment
from nnunet_dycon.tools.compare.experiment import Run
from nnunet_dycon.trainers import nnUNetTrainerDyCON

LENGTHS = ("num_epochs", "num_iterations_per_epoch", "num_val_iterations_per_epoch")
"""What nnU-Net's own trainers are told."""


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


def run_settings(shared: str, run: Run) -> str:
    """The settings of a run as the trainers read them, JSON; of the shared ones those that its trainer has.

    Raises:
        UserError: There is no such trainer, or its own settings are none of this trainer's.
    """
    trainer = trainer_of(run)
    known = known_settings(trainer)
    own = parse(run.settings)
    if isinstance(getattr(trainer, "default_settings", None), Settings):
        trainer.default_settings.override(own, trainer=run.trainer, unused=trainer.unused_settings)
    elif unknown := [name for name in own if name not in known]:
        raise UserError(f"--runs {run.name}: nnU-Net's own trainers have no setting {unknown[0]}; leave it out")
    return json.dumps({name: value for name, value in parse(shared).items() if name in known} | own)


def check_shared_settings(shared: str, runs: Sequence[Run]) -> None:
    """Refuse a setting of all runs that neither one of them nor DyCON has.

    Raises:
        UserError: There is one.
    """
    trainers: list[type[nnUNetTrainer]] = [nnUNetTrainerDyCON, *map(trainer_of, runs)]
    known = {name for trainer in trainers for name in known_settings(trainer)}
    if unknown := [name for name in parse(shared) if name not in known]:
        raise UserError(f"--settings {unknown[0]}: there is no such setting; nnunet-dycon settings lists them")


def parse(text: str) -> dict[str, Any]:
    """Settings by name, of a text that ``nnUNet_dycon`` may hold."""
    with environment(**{ENVIRONMENT_VARIABLE: text}):
        return overrides_from_environment()


def trainer_of(run: Run) -> type[nnUNetTrainer]:
    """The class that nnU-Net finds.

    Raises:
        UserError: It finds none.
    """
    try:
        with redirect_stdout(StringIO()):  # nnU-Net tells where it looks
            return recursive_find_trainer_class_by_name(run.trainer)
    except RuntimeError as error:
        raise UserError(f"--runs {run.name}: nnU-Net finds no trainer {run.trainer}") from error


def known_settings(trainer: type[nnUNetTrainer]) -> set[str]:
    """Names of the settings that a trainer reads."""
    settings = getattr(trainer, "default_settings", None)
    if not isinstance(settings, Settings):
        return set(LENGTHS)
    return {field.name for field in dataclasses.fields(settings)} - set(getattr(trainer, "unused_settings", ()))

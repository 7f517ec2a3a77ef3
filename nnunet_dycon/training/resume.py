"""Continuing a training: what must fit and must not have changed, and the random numbers it would have drawn."""

from __future__ import annotations

import random
import textwrap
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
import torch

from nnunet_dycon.errors import UserError
from nnunet_dycon.models.checkpoints import load_checkpoint_file, stored_settings
from nnunet_dycon.settings import ENVIRONMENT_VARIABLE, Settings

_OF_A_STATE = ("loading state_dict", "loaded state dict", "parameter group")


def own_state(file: Path, trainer: str, device: torch.device) -> dict[str, Any]:
    """What a semi-supervised trainer of this name has added to nnU-Net's checkpoint.

    Raises:
        UserError: a damaged checkpoint, or one of another trainer.
    """
    checkpoint = load_checkpoint_file(file, device)
    if checkpoint["trainer_name"] != trainer or "semi_supervised" not in checkpoint:
        raise UserError(
            f"the checkpoint was written by {checkpoint['trainer_name']}, not by {trainer}. Continue with "
            f"-tr {checkpoint['trainer_name']}, or start from its weights with -pretrained_weights"
        )
    return checkpoint["semi_supervised"]


def check_settings(asked: Settings, before: Settings, stored: dict[str, Any]) -> None:
    """Check that the settings asked for are those before, of which the checkpoint has ``stored`` some.

    Raises:
        UserError: settings that touch the training differ, and ``change_on_resume`` is not set.
    """
    listed = asked.changes(before, stored)
    if listed and not asked.change_on_resume:
        raise UserError(
            f"settings differ from those of the checkpoint: {listed}. Unset them in {ENVIRONMENT_VARIABLE} to "
            "continue, add change_on_resume=true to continue with the new ones, or start a new training"
        )


def check_overwriting(
    folder: Path,
    settings: Settings,
    resumed: Callable[[dict[str, Any]], Settings],
    trainer: str,
) -> None:
    """Check that a new training overwrites none with other settings; nnU-Net starts over without a word.

    Args:
        resumed: makes the settings of the other one, given what its checkpoint stored.

    Raises:
        UserError: there is a checkpoint of one.
    """
    files = [folder / f"checkpoint_{name}.pth" for name in ("final", "latest", "best")]
    stored: dict[str, Any] = {}
    with suppress(UserError, StopIteration):  # a damaged checkpoint is no loss
        stored = stored_settings(load_checkpoint_file(next(i for i in files if i.is_file())))
    if stored and (listed := settings.changes(resumed(stored), stored)):
        raise UserError(
            f"{folder} holds a training with other settings ({listed}), which a new one would overwrite. "
            "Continue that one with --c, or give these settings a folder of their own: nnunet-dycon variant "
            f"NAME -tr {trainer} key=value; or move the folder away"
        )


@contextmanager
def loading(source: str, fix: str) -> Iterator[None]:
    """Around calls of ``load_state_dict``, whose complaints it tells in one sentence where torch lists every tensor.

    Raises:
        UserError: the weights of ``source`` are another network's; ``fix`` is what to do about it.
    """
    try:
        yield
    except (RuntimeError, ValueError) as error:
        text = str(error)
        if not any(i in text for i in _OF_A_STATE):
            raise
        lines = [i.strip() for i in text.splitlines()]
        first = textwrap.shorten(lines[min(1, len(lines) - 1)], 200).rstrip(".")
        if "parameter group" in text:
            first = "it was trained with or without projection head, unlike here (weight_fecl)"
        raise UserError(f"{source} does not fit: {first}. {fix}") from error


def get_random_state() -> dict[str, Any]:
    """States of Python's, numpy's and torch's generators, of all CUDA devices as well."""
    return {
        "python": random.getstate(),
        "numpy": np.random.get_state(),
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
    }


def set_random_state(state: dict[str, Any]) -> None:
    """Restore what ``get_random_state`` returned; CUDA's only where there are as many devices as there were."""
    random.setstate(state["python"])
    np.random.set_state(state["numpy"])
    torch.set_rng_state(state["torch"].cpu())
    if len(state["cuda"]) == torch.cuda.device_count():
        torch.cuda.set_rng_state_all([i.cpu() for i in state["cuda"]])

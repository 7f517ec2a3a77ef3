"""Trainers that a user names: a small file each, in a folder of the user's that nnU-Net searches."""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING, cast

from nnunet_dycon.errors import UserError
from nnunet_dycon.files.whole_files import write_text
from nnunet_dycon.settings import overrides_from_pairs

if TYPE_CHECKING:
    from nnunet_dycon.trainers import nnUNetTrainerSupervised

_FILE = '''\
"""{base} with {listed}; written by nnunet-dycon variant."""

from nnunet_dycon.trainers import {base}


class {name}({base}):
    default_settings = {base}.default_settings.override({values!r})
'''


def user_folder() -> Path:
    """Where the files lie; ``nnunet_dycon_startup`` says the same without importing this package."""
    return Path(os.environ.get("nnUNet_dycon_trainers") or "~/.nnunet_dycon/trainers").expanduser()


def write_trainer(name: str, base: str, settings: Sequence[str], *, overwrite: bool = False) -> Path:
    """Write a trainer that is ``base`` with other settings, ``key=value`` each; the file.

    The base is a trainer of this package, or a variant of it such as ``nnUNetTrainerDyCON_50epochs``.

    Raises:
        UserError: a name that is taken or that nnU-Net could not use, an unknown base, or a setting that it refuses.
    """
    if not name.isidentifier() or "__" in name or not name.startswith("nnUNetTrainer"):
        raise UserError(f"{name} is no name for a trainer; begin with nnUNetTrainer, then letters, digits and single _")
    text = _text(name, base, settings)
    file = user_folder() / f"{name}.py"
    if not file.is_file() and _found(name) is not None:
        raise UserError(f"there is a trainer {name} already; choose another name")
    if file.is_file() and file.read_text() != text and not overwrite:
        raise UserError(f"{file} exists with other settings; choose another name, or give --overwrite")
    file.parent.mkdir(parents=True, exist_ok=True)
    write_text(text, file)
    return file


def _text(name: str, base: str, settings: Sequence[str]) -> str:
    from nnunet_dycon import trainers

    trainer = getattr(trainers, base, None) if base.startswith("nnUNetTrainer") else None
    if trainer is None:
        raise UserError(f"-tr {base}: give one of {', '.join(trainers.__all__)}, or NAME_100epochs, NAME_NoMirroring")
    values = overrides_from_pairs(settings, "write key=value, as in weight_fecl=0.05")
    chosen = trainer.default_settings.override(values, trainer=base, unused=trainer.unused_settings)
    values = {key: getattr(chosen, key) for key in values}
    listed = ", ".join(f"{key}={value}" for key, value in values.items())
    return _FILE.format(base=base, name=name, listed=listed, values=values)


def find_trainer(name: str) -> type[nnUNetTrainerSupervised]:
    """A trainer with settings, by the name that nnU-Net finds it under: of this package, or of the user's.

    Raises:
        UserError: there is none, or it has no settings.
    """
    trainer = _found(name)
    if not hasattr(trainer, "default_settings"):
        from nnunet_dycon import trainers

        state = "there is no such trainer" if trainer is None else "it has no settings"
        raise UserError(f"-tr {name}: {state}; give one of {', '.join(trainers.__all__)}, or NAME_100epochs")
    return cast("type[nnUNetTrainerSupervised]", trainer)


def _found(name: str) -> type | None:
    """The trainer that nnU-Net finds, without what it says while searching."""
    from nnunetv2.utilities.find_objects import recursive_find_trainer_class_by_name

    try:
        with open(os.devnull, "w") as silence, redirect_stdout(silence):
            return recursive_find_trainer_class_by_name(name)
    except RuntimeError:
        return None

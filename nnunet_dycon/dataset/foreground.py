"""Is there anything to learn? Whether at least one of the labelled masks has foreground."""

from __future__ import annotations

import pickle
from collections.abc import Iterable
from pathlib import Path

from nnunet_dycon.errors import UserError
from nnunet_dycon.files.text import few


def check_preprocessed_foreground(folder: Path, cases: Iterable[str]) -> None:
    """Check preprocessed cases, whose ``CASE.pkl`` says where the foreground is.

    Args:
        folder: of the configuration's labelled cases.
        cases: the labelled training cases of a fold; no other case's file is opened.

    Raises:
        UserError: no case has foreground.
    """
    files = {case: folder / f"{case}.pkl" for case in cases}
    if files and not any(map(_has_foreground, files.values())):
        raise no_foreground(files)


def no_foreground(cases: Iterable[str]) -> UserError:
    """The error that names the cases."""
    cases = list(cases)
    return UserError(
        f"none of the {len(cases)} labelled masks ({few(cases)}) has foreground, so there is nothing to learn "
        "(nnU-Net's planning would end with an IndexError); label cases with foreground, or choose others"
    )


def _has_foreground(file: Path) -> bool:
    try:
        with file.open("rb") as stream:
            locations = pickle.load(stream)["class_locations"]
    except (OSError, KeyError, EOFError, pickle.UnpicklingError, TypeError):
        return True  # damaged files are told by others
    return any(len(i) for i in locations.values())

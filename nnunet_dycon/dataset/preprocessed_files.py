"""Are preprocessed files whole, and is there anything to learn? Found out before the first step of a training."""

from __future__ import annotations

import os
import pickle
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import blosc2

from nnunet_dycon.errors import UserError
from nnunet_dycon.files.text import few

# as in nnU-Net's own dataset: memory mapping does not work on Windows
MMAP: dict[str, Any] = {} if os.name == "nt" else {"mmap_mode": "r"}


def open_image(file: Path | str) -> blosc2.NDArray:
    """An image in nnU-Net's format, (channels, X, Y, Z), read where it is sliced; a UserError where it is not whole."""
    try:
        return blosc2.open(str(file), mode="r", dparams={"nthreads": 1}, **MMAP)
    except (OSError, RuntimeError, ValueError) as error:
        state = "cannot be read" if os.path.isfile(file) else "is missing"
        raise UserError(f"{file} {state}") from error


def is_whole(file: Path) -> bool:
    """Whether a preprocessed image is there and not truncated; its end is needed to open it."""
    try:
        open_image(file)
    except UserError:
        return False
    return True


def labeled_cases_in(folder: Path) -> set[str]:
    """Names of the labelled cases in a configuration's folder, of which files may be missing."""
    names = {file.stem for ending in ("b2nd", "pkl", "npz") for file in folder.glob(f"*.{ending}")}
    return {name for name in names if not (name.endswith("_seg") and name.removesuffix("_seg") in names)}


def check_labeled_cases(folder: Path, cases: Iterable[str]) -> None:
    """Raise a UserError where files of preprocessed labelled cases are missing or truncated, or differ in size."""
    problems = []
    for case in cases:
        properties = folder / f"{case}.pkl"
        if not (properties.is_file() and properties.stat().st_size > 0):
            problems.append(f"{properties} is missing or empty")
        if fault := fault_of_labels(folder / f"{case}.b2nd", folder / f"{case}_seg.b2nd"):
            problems.append(fault)
    if problems:
        listed = few(problems, between="\n")
        raise UserError("preprocessed labelled cases are damaged; run nnUNetv2_preprocess again:\n" + listed)


def fault_of_labels(image: Path, labels: Path) -> str | None:
    """Why preprocessed labels, ([1,] X, Y, Z), cannot be those of an image, (channels, X, Y, Z); None if they can."""
    try:
        expected, found = open_image(image).shape[1:], open_image(labels).shape[-3:]
    except UserError as error:
        return str(error)
    return None if found == expected else f"{labels} has {found} voxels, the preprocessed image {expected}"


def check_preprocessed_foreground(folder: Path, cases: Iterable[str]) -> None:
    """Raise a UserError where no labelled training case of a fold has foreground; no other case's file is opened."""
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

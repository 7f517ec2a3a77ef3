"""What a benchmark dataset says of itself: how its cases are called, its published divisions, its options."""

from __future__ import annotations

import argparse
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from nnunet_dycon.errors import UserError
from nnunet_dycon.tools.convert.plan import DatasetPlan


@dataclass(frozen=True, kw_only=True)
class Published:
    """One published division: lists of cases below ``lists/``, and how many of them are labelled.

    Attributes:
        prefix: Of the protocols' names, which are ``PREFIX-SUFFIX``.
        labeled: Suffix to the number of labelled cases: the first ones, unless they are drawn.
        train: Lists of the training cases, one after the other.
        test: List of the test cases.
        validation: List of the validation cases, or None.
        configuration: nnU-Net's configuration of the literature.
        volumes_per_patient: Volumes of one patient follow each other in the list and are drawn together.
        warning: What speaks against the division, or an empty string.
    """

    prefix: str
    labeled: Mapping[str, int]
    train: tuple[str, ...]
    test: str
    validation: str | None = None
    configuration: str = "3d_fullres"
    volumes_per_patient: int = 1
    warning: str = ""


def no_options(parser: argparse.ArgumentParser) -> None:
    """For a dataset without options of its own."""


@dataclass(frozen=True, kw_only=True)
class Benchmark:
    """A dataset that ``nnunet-dycon convert`` reads; its module in ``datasets/`` calls it ``BENCHMARK``.

    Modules in ``datasets/`` are imported for every ``--help``: they import what reads images inside their loaders.

    Attributes:
        name: As given to ``convert``.
        title: Default name of the nnU-Net dataset.
        about: One line for ``--help``.
        entry: Regular expression of a case in a list or download, whose group ``id`` names the case.
        case: Case name made of that ``id``; every spelling of a case gives one name.
        example: An entry, for messages.
        plan: ``plan(source, **options)``, options as ``add_arguments`` calls them.
        published: Its published divisions.
        suggested: Protocol of the next step that ``convert`` names.
        add_arguments: Adds the dataset's options to its parser.
    """

    name: str
    title: str
    about: str
    entry: str
    case: str
    example: str
    plan: Callable[..., DatasetPlan]
    published: tuple[Published, ...]
    suggested: str
    add_arguments: Callable[[argparse.ArgumentParser], None] = no_options

    def case_name(self, entry: str) -> str:
        """The nnU-Net case name of an entry of a published list, or of a file or folder stem of the download.

        Blanks, carriage returns and the ending ``.h5`` make no difference.

        Raises:
            UserError: The entry names no case of this dataset.
        """
        match = re.fullmatch(self.entry, entry.strip().removesuffix(".h5"))
        if match is None:
            raise UserError(f"{entry.strip()!r} names no case of {self.name}; expected an entry like {self.example}")
        return self.case.format(id=match["id"])


def add_spacing(parser: argparse.ArgumentParser, default: str) -> None:
    """The option ``--spacing X Y Z``."""
    parser.add_argument(
        "--spacing",
        dest="spacing_mm",
        nargs=3,
        type=_positive_mm,
        metavar=("X", "Y", "Z"),
        help=f"voxel size in mm for files without one ({default})",
    )


def _positive_mm(text: str) -> float:
    value = float(text)
    if not (math.isfinite(value) and value > 0):
        raise argparse.ArgumentTypeError(f"{text} is no voxel size")
    return value


def comma_separated(text: str) -> list[str]:
    """``"DWI, adc"`` as ``["dwi", "adc"]``."""
    return [part.strip().lower() for part in text.split(",") if part.strip()]

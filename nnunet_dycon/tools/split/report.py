"""How a split was made: ``split.json`` beside dataset.json, and the report for the user."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from nnunet_dycon import __version__
from nnunet_dycon.tools.split.division import Division
from nnunet_dycon.tools.split.options import SplitOptions

STRATIFY_WARNING = (
    "stratified by foreground volume: the masks of all training cases were read to choose, also those of cases that "
    "are now unlabelled. This is fit for a simulation only; with truly unlabelled scans it cannot be done"
)


@dataclass(frozen=True)
class SplitReport:
    """What was written.

    Attributes:
        dataset_name: DatasetXXX_Name.
        division: The cases.
        folds: The folds that were written.
        first_fold: Number of the first of them.
        configuration: nnU-Net's configuration that suits the data.
        split_file: The ``split.json``.
        splits_final_file: nnU-Net's ``splits_final.json``.
        warnings: What speaks against the split, in whole sentences.
        notes: What the user should know.
    """

    dataset_name: str
    division: Division
    folds: list[dict[str, list[str]]]
    first_fold: int
    configuration: str
    split_file: Path
    splits_final_file: Path
    warnings: list[str]
    notes: list[str]


def split_warnings(options: SplitOptions) -> list[str]:
    """Warnings that follow from the options alone."""
    warnings = [options.protocol.warning] if options.protocol else []
    if options.stratify:
        warnings.append(STRATIFY_WARNING)
    return [warning for warning in warnings if warning]


def configuration_of(options: SplitOptions, flat: bool) -> str:
    """nnU-Net's configuration: a protocol's, else 2d where masks are single slices (``flat``)."""
    if options.protocol:
        return options.protocol.configuration
    return "2d" if flat else "3d_fullres"


def split_record(
    *,
    dataset_name: str,
    source: str,
    in_place: bool,
    options: SplitOptions,
    division: Division,
    folds: list[dict[str, list[str]]],
    warnings: list[str],
) -> dict[str, Any]:
    """Content of ``split.json``; the same split gives the same content."""
    own_part = "its part of the labeled cases" if options.folds else "labeled cases"
    return {
        "dataset": dataset_name,
        "source": source,
        "in_place": in_place,
        "options": options.recorded(),
        "masks_of_unlabeled_cases_read_to_choose": options.stratify,
        "validated_on": "validation cases" if division.validation else own_part,
        "cases": asdict(division),
        "folds": [fold | {"unlabeled": division.unlabeled} for fold in folds],
        "warnings": warnings,
        "nnunet_dycon_version": __version__,
    }

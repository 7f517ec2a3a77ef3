"""What was split: its labelled masks, the content of ``split.json``, and what the command tells."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from nnunet_dycon import __version__
from nnunet_dycon.dataset import commands
from nnunet_dycon.dataset.raw_dataset import RawDataset
from nnunet_dycon.dataset.reading import read_volume, reader_of
from nnunet_dycon.errors import UserError
from nnunet_dycon.files.text import few
from nnunet_dycon.tools.split.division import Division, SplitOptions


@dataclass(frozen=True, kw_only=True)
class Split:
    """A split that was made.

    Attributes:
        dataset_name: DatasetXXX_Name, in place that of the source.
        first_fold: Number of the first fold that was written.
        configuration: nnU-Net's configuration that suits the data.
    """

    dataset_name: str
    source: str
    options: SplitOptions
    division: Division
    first_fold: int = 0
    configuration: str
    split_file: Path
    splits_final_file: Path
    warnings: list[str]
    notes: list[str]

    @property
    def folds(self) -> list[dict[str, list[str]]]:
        """``train`` and ``val`` of the folds that were written."""
        return self.division.folds(self.options.folds)

    @property
    def in_place(self) -> bool:
        """No new dataset was made."""
        return self.dataset_name == self.source

    def record(self) -> dict[str, Any]:
        """Content of ``split.json``; the same split gives the same content."""
        own_part = "its part of the labeled cases" if self.options.folds else "labeled cases"
        record = {
            "dataset": self.dataset_name,
            "source": self.source,
            "in_place": self.in_place,
            "options": self.options.recorded(),
            "validated_on": "validation cases" if self.division.validation else own_part,
            "cases": asdict(self.division),
            "folds": [fold | {"unlabeled": self.division.unlabeled} for fold in self.folds],
            "warnings": self.warnings,
            "nnunet_dycon_version": __version__,
        }
        return record | ({"fold": None if self.options.folds else self.first_fold} if self.in_place else {})

    def lines(self) -> list[str]:
        """How many cases there are of each kind, what was written, and the next commands."""
        cases, folds = self.division, self.folds
        lines = [
            f"{self.dataset_name}: {len(cases.labeled)} labelled, {len(cases.unlabeled)} unlabelled, "
            f"{len(cases.validation)} validation, {len(cases.test)} test cases"
        ]
        train = commands.training(self.dataset_name, self.configuration, self.first_fold)
        if len(folds) > 1:
            shares = ", ".join(f"{len(fold['train'])} and {len(fold['val'])}" for fold in folds)
            lines.append(
                f"folds 0 to {len(folds) - 1} train and validate on {shares} of the labelled cases; all unlabelled "
                "cases are unlabelled in each of them"
            )
            train = commands.training(self.dataset_name, self.configuration, "$fold")
            train = f"for fold in {' '.join(map(str, range(len(folds))))}; do {train} --npz; done"
        steps = [f"nnunet-dycon audit -d {commands.number(self.dataset_name)}", train]
        if not self.in_place:
            options = ("-c", self.configuration, "--verify_dataset_integrity")
            steps.insert(1, commands.planning(self.dataset_name, commands.PLANS, *options))
        return [*lines, f"wrote {self.split_file.parent}, {self.splits_final_file}", f"next: {'; '.join(steps)}"]


def checked_split(
    source: RawDataset,
    masks: Mapping[str, Path],
    options: SplitOptions,
    division: Division,
    *,
    first_fold: int = 0,
    warnings: Sequence[str] = (),
    **about: Any,
) -> Split:
    """The split, still unwritten, once the masks of its labelled cases were looked at; ``about`` is the rest of it."""
    protocol = options.protocol
    missing, flat = look_at_masks(source, masks, division.folds(options.folds), first_fold)
    return Split(
        source=source.name, options=options, division=division, first_fold=first_fold,
        configuration=protocol.configuration if protocol else "2d" if flat else "3d_fullres",
        warnings=[*([protocol.warning] if protocol and protocol.warning else []), *warnings, *missing], **about,
    )  # fmt: skip


def check_masks_there(dataset: RawDataset, masks: Mapping[str, Path], cases: Sequence[str]) -> None:
    """Raise a UserError where a case that needs a mask has none; ``masks`` says where it is or should be."""
    for case in cases:
        if case not in masks or not masks[case].is_file():
            there = masks.get(case, f"{case}{dataset.file_ending}")
            raise UserError(f"case {case} has no mask; add {there}, or leave the case out of the labelled ones")


def look_at_masks(
    dataset: RawDataset, masks: Mapping[str, Path], folds: Sequence[Mapping[str, Sequence[str]]], first_fold: int = 0
) -> tuple[list[str], bool]:
    """A warning for each fold whose labelled masks lack a class, and whether masks are single slices.

    Masks of the folds' training cases are read, each once, until all classes are found; no other one is opened.

    Raises:
        UserError: A mask is missing or cannot be read, or in a fold none has any foreground.
    """

    @cache
    def content(case: str) -> tuple[frozenset[int], bool]:
        check_masks_there(dataset, masks, [case])
        return mask_content(masks[case], dataset.dataset_json)

    labels = dataset.dataset_json["labels"]
    values = {name: {*value} if isinstance(value, list) else {value} for name, value in labels.items()}
    warnings = []
    for number, fold in enumerate(folds, first_fold):
        missing = _missing_values(set(dataset.foreground_values()), fold["train"], number, content)
        if names := few(name for name in labels if values[name] <= missing):
            warnings.append(f"no mask of the labelled cases of fold {number} has {names}: it cannot be learned")
    return warnings, content(folds[0]["train"][0])[1]


def _missing_values(
    wanted: set[int], cases: Sequence[str], fold: int, content: Callable[[str], tuple[frozenset[int], bool]]
) -> set[int]:
    found: set[int] = set()
    for case in cases:
        if wanted <= found:
            break
        found |= content(case)[0]
    if wanted and not wanted & found:
        raise UserError(
            f"no mask of the {len(cases)} labelled cases of fold {fold} has foreground ({few(cases)}): they hold "
            f"{few(sorted(found))}, dataset.json's labels are {few(sorted(wanted))}. Nothing can be learned from "
            "them and nnU-Net's planning stops; choose other cases (--seed, --labeled-list), or correct the masks "
            "or dataset.json"
        )
    return wanted - found


def mask_content(mask: Path, dataset_json: dict[str, Any]) -> tuple[frozenset[int], bool]:
    """Values of a mask, and whether it is a single slice; a UserError where it cannot be read."""
    voxels = read_volume(mask, reader_of(mask, dataset_json), is_mask=True).voxels
    return frozenset(int(value) for value in np.unique(voxels)), voxels.shape[1] == 1

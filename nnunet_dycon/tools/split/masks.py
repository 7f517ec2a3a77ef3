"""What a split reads of masks: whether the labelled ones have foreground of every class."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from nnunet_dycon.dataset.raw_dataset import RawDataset
from nnunet_dycon.dataset.reading import read_volume, reader_of
from nnunet_dycon.errors import UserError
from nnunet_dycon.files.text import few


@dataclass(frozen=True)
class Masks:
    """The masks of a dataset; a file is opened only when it is asked for.

    Attributes:
        dataset: Decides on nnU-Net's reader and names the classes.
        files: Where the mask of each case is or should be.
    """

    dataset: RawDataset
    files: Mapping[str, Path]
    _read: dict[str, tuple[frozenset[int], bool]] = field(default_factory=dict)

    def check_there(self, cases: Sequence[str]) -> None:
        """Raise a UserError where a case that needs a mask has none."""
        for case in cases:
            if case not in self.files or not self.files[case].is_file():
                there = self.files.get(case, f"{case}{self.dataset.file_ending}")
                raise UserError(f"case {case} has no mask; add {there}, or leave the case out of the labelled ones")

    def content(self, case: str) -> tuple[frozenset[int], bool]:
        """Values of a mask, and whether it is a single slice; read once."""
        if case not in self._read:
            self.check_there([case])
            self._read[case] = mask_content(self.files[case], self.dataset.dataset_json)
        return self._read[case]

    def missing_classes(self, folds: Sequence[Mapping[str, Sequence[str]]], first_fold: int = 0) -> list[str]:
        """A warning for each fold whose labelled masks lack a class. Masks are read until all classes are found.

        Raises:
            UserError: In a fold no mask has any foreground, so that nnU-Net can neither plan nor learn anything.
        """
        warnings = []
        labels = self.dataset.dataset_json["labels"]
        values = {name: {*value} if isinstance(value, list) else {value} for name, value in labels.items()}
        for number, fold in enumerate(folds, first_fold):
            missing = self._missing_values(fold["train"], number)
            if names := few(name for name in labels if values[name] <= missing):
                warnings.append(f"no mask of the labelled cases of fold {number} has {names}: it cannot be learned")
        return warnings

    def _missing_values(self, cases: Sequence[str], fold: int) -> set[int]:
        wanted = set(self.dataset.foreground_values())
        found: set[int] = set()
        for case in cases:
            if wanted <= found:
                break
            found |= self.content(case)[0]
        if wanted and not wanted & found:
            raise UserError(
                f"no mask of the {len(cases)} labelled cases of fold {fold} has foreground ({few(cases)}): they hold "
                f"{few(sorted(found))}, dataset.json's labels are {few(sorted(wanted))}. Nothing can be learned from "
                "them and nnU-Net's planning stops; choose other cases (--seed, --labeled-list), or correct the masks "
                "or dataset.json"
            )
        return wanted - found


def mask_content(mask: Path, dataset_json: dict[str, Any]) -> tuple[frozenset[int], bool]:
    """Values of a mask, and whether it is a single slice.

    Raises:
        UserError: It cannot be read.
    """
    voxels, _ = read_volume(mask, reader_of(mask, dataset_json), is_mask=True)
    return frozenset(int(value) for value in np.unique(voxels)), voxels.shape[1] == 1

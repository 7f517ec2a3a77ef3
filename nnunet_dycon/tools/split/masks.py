"""What a split reads of masks: whether the labelled ones have foreground and, to stratify, volumes of all."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from nnunet_dycon.dataset.raw_dataset import RawDataset
from nnunet_dycon.dataset.reading import read_volume, reader_of
from nnunet_dycon.errors import UserError
from nnunet_dycon.files.pool import map_cases
from nnunet_dycon.files.text import few


class MaskContent(NamedTuple):
    """What is in a mask."""

    values: frozenset[int]
    flat: bool
    """a single slice"""


@dataclass(frozen=True)
class LabeledMasks:
    """The masks of labelled cases, each read at most once, and only if the others leave a question open.

    Attributes:
        dataset: Decides on nnU-Net's reader and names the classes.
        files: Mask by case.
    """

    dataset: RawDataset
    files: Mapping[str, Path]
    _read: dict[str, MaskContent] = field(default_factory=dict)

    def content(self, case: str) -> MaskContent:
        """What is in the mask of a case.

        Raises:
            UserError: It cannot be read.
        """
        if case not in self._read:
            self._read[case] = mask_content(self.files[case], self.dataset.dataset_json)
        return self._read[case]

    def missing_classes(self, folds: Sequence[Mapping[str, Sequence[str]]], first_fold: int = 0) -> list[str]:
        """A warning for each fold whose labelled masks lack a class.

        Raises:
            UserError: In a fold no mask has any foreground, so that nnU-Net can neither plan nor learn anything.
        """
        warnings = []
        for number, fold in enumerate(folds, first_fold):
            missing = self._missing_values(fold["train"], number)
            names = [name for name, values in self.dataset.dataset_json["labels"].items() if _all_in(values, missing)]
            if names:
                warnings.append(
                    f"no mask of the labelled cases of fold {number} has {few(names)}: it cannot be learned"
                )
        return warnings

    def _missing_values(self, cases: Sequence[str], fold: int) -> set[int]:
        wanted = set(self.dataset.foreground_values())
        missing = set(wanted)
        for case in cases:
            missing -= self.content(case).values
            if not missing:
                return missing
        if missing == wanted:
            found = sorted(set().union(*(self.content(case).values for case in cases)))
            raise UserError(
                f"no mask of the {len(cases)} labelled cases of fold {fold} has foreground ({few(cases)}): they hold "
                f"{few(found)}, dataset.json's labels are {few(sorted(wanted))}. Nothing can be learned from them and "
                "nnU-Net's planning stops; choose other cases (--seed, --stratify, --labeled-list), or correct the "
                "masks or dataset.json"
            )
        return missing


def _all_in(values: int | list[int], missing: set[int]) -> bool:
    return {int(value) for value in (values if isinstance(values, list) else [values])} <= missing


def mask_content(mask: Path, dataset_json: dict[str, Any]) -> MaskContent:
    """Read a mask.

    Raises:
        UserError: It cannot be read.
    """
    voxels, _ = read_volume(mask, reader_of(mask, dataset_json), is_mask=True)
    return MaskContent(frozenset(int(value) for value in np.unique(voxels)), voxels.shape[1] == 1)


def foreground_volumes_mm3(
    masks: Mapping[str, Path], dataset: RawDataset, *, num_processes: int = 1, progress: bool = False
) -> dict[str, float]:
    """Volume of all foreground voxels of each mask, for stratified splits.

    Args:
        masks: Mask file by case.
        dataset: Decides on nnU-Net's reader and the mask values that count.
        num_processes: Worker processes.
        progress: Show a progress bar.

    Raises:
        UserError: A mask cannot be read.
    """
    volumes = map_cases(
        partial(_volume_mm3, dataset_json=dataset.dataset_json, foreground_values=dataset.foreground_values()),
        list(masks.values()),
        num_processes=num_processes,
        description="reading masks",
        progress=progress,
    )
    return dict(zip(masks, volumes, strict=True))


def _volume_mm3(mask: Path, dataset_json: dict[str, Any], foreground_values: Sequence[int]) -> float:
    voxels, properties = read_volume(mask, reader_of(mask, dataset_json), is_mask=True)
    return float(np.isin(voxels, foreground_values).sum() * np.prod(np.asarray(properties["spacing"], float)))

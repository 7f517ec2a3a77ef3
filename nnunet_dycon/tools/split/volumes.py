"""Foreground volumes of masks, for stratified splits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from nnunet_dycon.dataset.reading import read_volume, reader_of
from nnunet_dycon.files.pool import map_cases


def foreground_volumes_mm3(
    masks: Mapping[str, Path],
    dataset_json: dict[str, Any],
    foreground_values: Sequence[int],
    *,
    num_processes: int = 1,
    progress: bool = False,
) -> dict[str, float]:
    """Volume of all foreground voxels of each mask.

    Args:
        masks: Mask file by case.
        dataset_json: Decides on nnU-Net's reader.
        foreground_values: Mask values that count.
        num_processes: Worker processes.
        progress: Show a progress bar.

    Raises:
        UserError: A mask cannot be read.
    """
    volumes = map_cases(
        partial(_volume_mm3, dataset_json=dataset_json, foreground_values=foreground_values),
        list(masks.values()),
        num_processes=num_processes,
        description="reading masks",
        progress=progress,
    )
    return dict(zip(masks, volumes, strict=True))


def _volume_mm3(mask: Path, dataset_json: dict[str, Any], foreground_values: Sequence[int]) -> float:
    voxels, properties = read_volume(mask, reader_of(mask, dataset_json), is_mask=True)
    return float(np.isin(voxels, foreground_values).sum() * np.prod(np.asarray(properties["spacing"], float)))

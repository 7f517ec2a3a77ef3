"""Foreground volumes of masks, for stratified splits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from nnunet_dycon.errors import UserError
from nnunet_dycon.parallel import map_cases


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
    from nnunetv2.imageio.reader_writer_registry import determine_reader_writer_from_dataset_json

    reader = determine_reader_writer_from_dataset_json(dataset_json, verbose=False)()
    try:
        voxels, properties = reader.read_seg(str(mask))
    except (RuntimeError, OSError, ValueError) as error:
        raise UserError(f"{mask} cannot be read ({str(error).splitlines()[-1:]}); write it again") from error
    return float(np.isin(voxels, foreground_values).sum() * np.prod(np.asarray(properties["spacing"], float)))

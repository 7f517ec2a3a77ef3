"""What is wrong with a scan before it is preprocessed: nnU-Net would take it, or fail without naming the file."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from nnunetv2.preprocessing.resampling.default_resampling import compute_new_shape
from nnunetv2.utilities.plans_handling.plans_handler import ConfigurationManager, PlansManager

from nnunet_dycon.dataset.raw_dataset import channel_names, label_values
from nnunet_dycon.dataset.reading import ITK_REPAIR
from nnunet_dycon.dataset.scan_files import Volume, read_file
from nnunet_dycon.errors import UserError

# 16 GiB in float32: beyond it the voxel size in the header is wrong, as where metres stand for millimetres
_MAX_VOXELS = 2**32
_MOST_LABELS = 256
_FLAT = 0.4
_SAMPLED_VOXELS = 50_000
_SHEARED = (
    "the affine in the header is sheared (its axes are not at right angles), which ITK refuses; read with the nearest "
    f"rotation. nnU-Net's own commands read such files with {ITK_REPAIR}=1 in the environment"
)
_PERHAPS_MASK = (
    "few whole values in flat regions, as a mask or a synthetic image has; look at it, and take it out of imagesUn if "
    "it is a mask"
)


def check_scan(
    files: Sequence[str],
    plans: PlansManager,
    configuration: ConfigurationManager,
    dataset_json: dict[str, Any],
    *,
    may_be_masks: bool = False,
) -> list[str]:
    """Read a scan and check that training can use it.

    Args:
        files: its channel files.
        configuration: the one it is preprocessed for.
        may_be_masks: the labelled images look like masks, so unlabelled ones may as well.

    Returns:
        What is worth a look, in whole sentences without the scan's name.

    Raises:
        UserError: as ``read_scan``, or there is nothing to learn from the scan.
    """
    volumes = read_scan(files, plans, configuration, dataset_json)
    if all(np.ptp(channel) == 0 for volume in volumes for channel in volume.voxels):
        raise UserError(f"{volumes[0].file} has the same value in all voxels, so there is nothing to learn; remove it")
    notes = [_SHEARED] if any(i.is_sheared for i in volumes) else []
    verdict = None if may_be_masks else likeness_to_mask([i.voxels for i in volumes], dataset_json)
    if verdict == "surely":
        raise UserError(
            f"{volumes[0].file} holds nothing but label values or very few others and seems to be a mask; put the "
            "image there, and keep masks out of imagesUn"
        )
    return [*notes, _PERHAPS_MASK] if verdict else notes


def read_scan(
    files: Sequence[str], plans: PlansManager, configuration: ConfigurationManager, dataset_json: dict[str, Any]
) -> list[Volume]:
    """Read a scan and check that nnU-Net can preprocess it.

    Raises:
        UserError: naming the file and the fix.
    """
    reader = plans.image_reader_writer_class()
    volumes = [read_file(Path(file), reader) for file in files]
    _check_files(volumes, len(channel_names(dataset_json)))
    _check_size(volumes[0], plans.transpose_forward, configuration)
    return volumes


def _check_files(volumes: Sequence[Volume], num_channels: int) -> None:
    first = volumes[0]
    for file, voxels, spacing, *_ in volumes:
        shapes = first.voxels.shape[1:], voxels.shape[1:]
        if shapes[0] != shapes[1] or not np.allclose(first.spacing_mm, spacing):
            raise UserError(
                f"{file} has {shapes[1]} voxels of {spacing} mm, {first.file.name} has {shapes[0]} of "
                f"{first.spacing_mm} mm; resample it to the grid of the first channel"
            )
        if not np.isfinite(voxels.sum(dtype=np.float64)):
            raise UserError(f"{file} has voxels that are NaN or infinite; replace them by a value that means no signal")
    number = sum(len(i.voxels) for i in volumes)
    if number != num_channels:
        raise UserError(
            f"{first.file} has {number} channels, dataset.json names {num_channels}; write each channel to a file of "
            "its own (CASE_0000, CASE_0001, ...)"
        )


def _check_size(volume: Volume, transpose: Sequence[int], configuration: ConfigurationManager) -> None:
    shape = [volume.voxels.shape[1:][i] for i in transpose]
    spacing = [volume.spacing_mm[i] for i in transpose]
    dim = len(configuration.patch_size)
    if min(shape[-dim:]) < 2:
        raise UserError(
            f"{volume.file} has {tuple(shape)} voxels, fewer axes than the {dim}D configuration; remove the scan"
        )
    if not all(math.isfinite(i) and i > 0 for i in spacing):
        raise UserError(f"{volume.file} has voxels of {tuple(spacing)} mm; correct the spacing in its header")
    target = [*spacing[: len(shape) - len(configuration.spacing)], *configuration.spacing]
    new_shape = [int(i) for i in compute_new_shape(shape, spacing, target)]
    if min(new_shape) < 1 or math.prod(new_shape) > _MAX_VOXELS:
        raise UserError(
            f"{volume.file} has voxels of {tuple(spacing)} mm, and would have {tuple(new_shape)} voxels at the "
            f"{tuple(target)} mm of the configuration; correct the spacing in its header"
        )


def likeness_to_mask(channels: Sequence[np.ndarray], dataset_json: dict[str, Any]) -> str | None:
    """Whether an image is a label map: ``surely``, ``perhaps``, or None.

    Of two values any image is one; of more, up to 256 whole ones, if neighbours mostly have the same. (In MR images of
    8 bits up to 0.31 of neighbours do, in masks of small lesions 0.42 and more.)
    """
    sample = [i.ravel()[:: max(1, i.size // _SAMPLED_VOXELS)] for i in channels]
    if len(values := _values(sample)) <= _MOST_LABELS:  # a sample decides where it can, as sorting all takes long
        values = _values(channels)
    if len(values) > _MOST_LABELS:
        return None
    if len(values) <= 2:
        return "surely"
    is_whole = bool(values.min() >= 0 and (values == np.rint(values)).all())
    if not is_whole or max(map(_share_of_equal_neighbours, channels)) < _FLAT:
        return None
    labels = label_values(dataset_json)
    return "surely" if len(values) <= len(labels) or values.max() <= labels[-1] else "perhaps"


def _values(channels: Sequence[np.ndarray]) -> np.ndarray:
    return np.unique(np.concatenate([np.unique(i) for i in channels]))


def _share_of_equal_neighbours(voxels: np.ndarray) -> float:
    """Of pairs of neighbours that are not both of the most frequent value."""
    values, counts = np.unique(voxels, return_counts=True)
    usual = values[counts.argmax()]
    equal = number = 0
    for axis in range(voxels.ndim):
        along = np.moveaxis(voxels, axis, 0)
        pairs = (along[:-1] != usual) | (along[1:] != usual)
        equal += np.count_nonzero((along[:-1] == along[1:]) & pairs)
        number += np.count_nonzero(pairs)
    return equal / max(number, 1)

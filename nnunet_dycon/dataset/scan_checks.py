"""What is wrong with a scan before it is preprocessed: nnU-Net would take it, or fail without naming the file."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from nnunetv2.preprocessing.resampling.default_resampling import compute_new_shape
from nnunetv2.utilities.plans_handling.plans_handler import ConfigurationManager, PlansManager

from nnunet_dycon.dataset.raw_dataset import channel_names, label_values
from nnunet_dycon.dataset.reading import read_volume
from nnunet_dycon.errors import UserError

# 16 GiB in float32: beyond it the voxel size in the header is wrong, as where metres stand for millimetres
_MAX_VOXELS = 2**32


class Volume(NamedTuple):
    """One file of a scan."""

    file: Path
    voxels: np.ndarray
    """(channels, X, Y, Z)"""
    spacing: tuple[float, ...]


def check_scan(
    files: Sequence[str], plans: PlansManager, configuration: ConfigurationManager, dataset_json: dict[str, Any]
) -> None:
    """Read a scan and check that training can use it.

    Raises:
        UserError: as ``read_scan``, or there is nothing to learn from the scan.
    """
    volumes = read_scan(files, plans, configuration, dataset_json)
    _check_variation(volumes)
    _check_no_mask(volumes, plans, dataset_json)


def read_scan(
    files: Sequence[str], plans: PlansManager, configuration: ConfigurationManager, dataset_json: dict[str, Any]
) -> list[Volume]:
    """Read a scan and check that nnU-Net can preprocess it.

    Args:
        files: its channel files.
        plans: the dataset's plans.
        configuration: the configuration it is preprocessed for.
        dataset_json: the dataset's dataset.json.

    Raises:
        UserError: naming the file and the fix.
    """
    reader = plans.image_reader_writer_class()
    volumes = []
    for file in map(Path, files):
        voxels, properties = read_volume(file, reader)
        volumes.append(Volume(file, voxels, tuple(float(i) for i in properties["spacing"])))
    _check_grids(volumes)
    _check_channels(volumes, len(channel_names(dataset_json)))
    _check_size(volumes[0], plans.transpose_forward, configuration)
    _check_values(volumes)
    return volumes


def _check_grids(volumes: Sequence[Volume]) -> None:
    first = volumes[0]
    for other in volumes[1:]:
        shapes = first.voxels.shape[1:], other.voxels.shape[1:]
        if shapes[0] != shapes[1] or not np.allclose(first.spacing, other.spacing):
            raise UserError(
                f"{other.file} has {shapes[1]} voxels of {other.spacing} mm, {first.file.name} has {shapes[0]} of "
                f"{first.spacing} mm; resample it to the grid of the first channel"
            )


def _check_channels(volumes: Sequence[Volume], expected: int) -> None:
    number = sum(len(i.voxels) for i in volumes)
    if number != expected:
        raise UserError(
            f"{volumes[0].file} has {number} channels, dataset.json names {expected}; write each channel to a file "
            "of its own (CASE_0000, CASE_0001, ...)"
        )


def _check_size(volume: Volume, transpose: Sequence[int], configuration: ConfigurationManager) -> None:
    shape = [volume.voxels.shape[1:][i] for i in transpose]
    spacing = [volume.spacing[i] for i in transpose]
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


def _check_values(volumes: Sequence[Volume]) -> None:
    for volume in volumes:
        if not np.isfinite(volume.voxels.sum(dtype=np.float64)):
            raise UserError(
                f"{volume.file} has voxels that are NaN or infinite; replace them by a value that means no signal"
            )


def _check_variation(volumes: Sequence[Volume]) -> None:
    if all(np.ptp(channel) == 0 for volume in volumes for channel in volume.voxels):
        raise UserError(f"{volumes[0].file} has the same value in all voxels, so there is nothing to learn; remove it")


def _check_no_mask(volumes: Sequence[Volume], plans: PlansManager, dataset_json: dict[str, Any]) -> None:
    """A scan with label values alone is a mask, unless the labelled scans look like that, too."""
    largest = label_values(dataset_json)[-1]
    intensities = plans.foreground_intensity_properties_per_channel or {}
    images_are_like_masks = all(i["max"] <= largest for i in intensities.values())
    if not images_are_like_masks and all(_is_label_map(i.voxels, largest) for i in volumes):
        raise UserError(
            f"{volumes[0].file} holds nothing but label values (0 to {largest}) and seems to be a mask; put the image "
            "there, and keep masks out of imagesUn"
        )


def _is_label_map(voxels: np.ndarray, largest: int) -> bool:
    return bool(voxels.min() >= 0 and voxels.max() <= largest and (voxels == np.rint(voxels)).all())

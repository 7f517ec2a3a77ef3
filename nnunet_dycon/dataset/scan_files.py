"""The files of one scan and its mask: reading them, whether they fit together, and whether training can use them."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from nnunetv2.preprocessing.resampling.default_resampling import compute_new_shape
from nnunetv2.utilities.plans_handling.plans_handler import ConfigurationManager, PlansManager

from nnunet_dycon.dataset.raw_dataset import channel_names, label_values
from nnunet_dycon.dataset.reading import ITK_REPAIR, Volume, read_volume, reader_of
from nnunet_dycon.errors import UserError
from nnunet_dycon.files.text import few

SHEARED = "the affine in the header is sheared (its axes are not at right angles); read with the nearest rotation"
MEND = f"set {ITK_REPAIR}=1 for all commands of nnU-Net, or write the file with axes at right angles"
# 16 GiB in float32: beyond it the voxel size in the header is wrong, as where metres stand for millimetres
_MAX_VOXELS = 2**32
_MOST_LABELS = 256
_FLAT = 0.4
_SAMPLED_VOXELS = 50_000
_PERHAPS_MASK = (
    "few whole values in flat regions, as a mask or a synthetic image has; look at it, and take it out of imagesUn if "
    "it is a mask"
)


@dataclass(frozen=True)
class Finding:
    """Something about a dataset that is worth telling.

    Attributes:
        severity: ``leak``, ``error``, ``warning`` or ``note``.
        code: Short name of the kind of finding, for scripts.
    """

    severity: str
    code: str
    message: str
    cases: list[str] = field(default_factory=list)
    fix: str = ""


@dataclass(frozen=True)
class Scan:
    """Files of ``images<part>/<case>`` and its mask, if there is one."""

    part: str
    case: str
    images: list[Path]
    mask: Path | None


def read_files(scan: Scan, dataset_json: dict[str, Any]) -> list[Volume]:
    """All files of a scan, its mask last; a UserError where one cannot be read."""
    files = [*scan.images, *([scan.mask] if scan.mask else [])]
    return [read_volume(file, reader_of(file, dataset_json), is_mask=file == scan.mask) for file in files]


def file_findings(scan: Scan, volumes: Sequence[Volume], n_channels: int) -> Iterator[Finding]:
    """What is wrong with the files of a scan, as ``read_files`` has read them."""
    channels = channels_of(scan, volumes)
    if len(channels) != n_channels:
        message = f"{volumes[0].file} has {len(channels)} channels, dataset.json names {n_channels}"
        fix = "write each to a file of its own (CASE_0000, CASE_0001, ...), remove one, or correct dataset.json"
        yield Finding("error", "channels", message, [scan.case], fix)
    for volume in volumes:
        if not np.isfinite(volume.voxels.sum(dtype=np.float64)):
            message = f"{volume.file} has voxels that are NaN or infinite"
            yield Finding("error", "not-finite", message, [scan.case], "replace them by a value that means no signal")
    if sheared := [i.file.name for i in volumes if i.is_sheared]:
        # nnU-Net's planning and prediction stop at such a file; unlabelled scans are read by this package alone
        severity = "warning" if scan.part == "Un" else "error"
        yield Finding(severity, "sheared", f"{few(sheared)}: {SHEARED}", [scan.case], MEND)
    for volume in volumes[1:]:
        yield from _grid_findings(scan, volumes[0], volume)


def channels_of(scan: Scan, volumes: Sequence[Volume]) -> list[np.ndarray]:
    """Voxels (Z, Y, X) of each channel, without the mask."""
    return [channel for volume in volumes[: len(scan.images)] for channel in volume.voxels]


def _grid_findings(scan: Scan, first: Volume, other: Volume) -> Iterator[Finding]:
    """As nnU-Net judges: other shape or spacing is an error, another position a warning."""
    grids = {"shape": (i.voxels.shape[1:] for i in (other, first)), "spacing": (i.spacing_mm for i in (other, first))}
    for key, (found, expected) in grids.items():
        if len(found) != len(expected) or not np.allclose(found, expected):
            message = f"{other.file} has {key} {found}, the scan's first channel {expected}"
            yield Finding("error", "grid", message, [scan.case], "resample the file to the grid of the first channel")
            return
    if moved := [i for i, found in other.position.items() if not np.allclose(found, first.position[i], atol=1e-3)]:
        message = f"{other.file} has another {' and '.join(sorted(moved))} than the scan's first channel"
        fix = "look at the overlay; if the voxels match, copy the header of the first channel"
        yield Finding("warning", "grid-position", message, [scan.case], fix)


def check_scan(
    files: Sequence[str],
    plans: PlansManager,
    configuration: ConfigurationManager,
    dataset_json: dict[str, Any],
    *,
    may_be_masks: bool = False,
) -> list[str]:
    """Read a scan and check that training can use it; what is worth a look, in sentences without the scan's name.

    ``may_be_masks`` says that the labelled images look like masks, so unlabelled ones may as well.

    Raises:
        UserError: as ``read_scan``, or there is nothing to learn from the scan.
    """
    volumes = read_scan(files, plans, configuration, dataset_json)
    if all(np.ptp(channel) == 0 for volume in volumes for channel in volume.voxels):
        raise UserError(f"{volumes[0].file} has the same value in all voxels, so there is nothing to learn; remove it")
    notes = [f"{SHEARED}; {MEND}"] if any(i.is_sheared for i in volumes) else []
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
    """Read a scan and check that nnU-Net can preprocess it; a UserError where it cannot."""
    reader, scan = plans.image_reader_writer_class(), Scan("Un", "", [Path(file) for file in files], None)
    volumes = [read_volume(file, reader) for file in scan.images]
    for finding in file_findings(scan, volumes, len(channel_names(dataset_json))):
        if finding.severity == "error":
            raise UserError(f"{finding.message}; {finding.fix}")
    _check_size(volumes[0], plans.transpose_forward, configuration)
    return volumes


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

"""The files of one scan and its mask: reading them, and whether they fit together."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from nnunet_dycon.dataset.reading import ITK_REPAIR, read_volume, reader_of
from nnunet_dycon.files.text import few


@dataclass(frozen=True)
class Finding:
    """Something about a dataset that is worth telling.

    Attributes:
        severity: ``leak``, ``error``, ``warning`` or ``note``.
        code: Short name of the kind of finding, for scripts.
        message: What is the matter, naming the cases.
        cases: Names of the cases concerned.
        fix: What to do about it.
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


class Volume(NamedTuple):
    """A file as nnU-Net reads it."""

    file: Path
    voxels: np.ndarray
    """(channels, Z, Y, X)"""
    spacing_mm: tuple[float, ...]
    """(z, y, x)"""
    position: dict[str, np.ndarray]
    """Origin, direction, affine: what the reader knows of them."""
    is_sheared: bool


def read_file(file: Path, reader: Any, *, is_mask: bool = False) -> Volume:
    """One file, by one of nnU-Net's readers.

    Raises:
        UserError: It cannot be read.
    """
    voxels, properties = read_volume(file, reader, is_mask=is_mask)
    stored = properties.get("sitk_stuff", {}) | properties.get("nibabel_stuff", {})
    position = {key: np.asarray(stored[key]) for key in ("origin", "direction", "original_affine") if key in stored}
    return Volume(file, voxels, tuple(map(float, properties["spacing"])), position, "sheared" in properties)


def read_files(scan: Scan, dataset_json: dict[str, Any]) -> list[Volume]:
    """All files of a scan, its mask last.

    Raises:
        UserError: One cannot be read.
    """
    files = [*scan.images, *([scan.mask] if scan.mask else [])]
    return [read_file(file, reader_of(file, dataset_json), is_mask=file == scan.mask) for file in files]


def file_findings(scan: Scan, volumes: Sequence[Volume], n_channels: int) -> Iterator[Finding]:
    """What is wrong with the files of a scan, as ``read_files`` has read them."""
    name, channels = f"images{scan.part}/{scan.case}", channels_of(scan, volumes)
    if len(channels) != n_channels:
        message = f"{name} has {len(channels)} channels, dataset.json names {n_channels}"
        fix = "add or remove channel files, or correct dataset.json"
        yield Finding("error", "channels", message, [scan.case], fix)
    if not all(np.isfinite(channel).all() for channel in channels):
        message = f"{name} has voxels that are NaN or infinite"
        yield Finding("error", "not-finite", message, [scan.case], "replace them by a value that means no signal")
    if sheared := [i.file.name for i in volumes if i.is_sheared]:
        # nnU-Net's planning and prediction stop at such a file; unlabelled scans are read by this package alone
        severity = "warning" if scan.part == "Un" else "error"
        message = (
            f"{few(sheared)}: the affine is sheared (its axes are not at right angles); read as the nearest rotation"
        )
        fix = f"set {ITK_REPAIR}=1 for all commands of nnU-Net, or write the files with axes at right angles"
        yield Finding(severity, "sheared", message, [scan.case], fix)
    for volume in volumes[1:]:
        yield from _grid_findings(scan, volumes[0], volume)


def channels_of(scan: Scan, volumes: Sequence[Volume]) -> list[np.ndarray]:
    """Voxels (Z, Y, X) of each channel, without the mask."""
    return [channel for volume in volumes[: len(scan.images)] for channel in volume.voxels]


def _grid_findings(scan: Scan, first: Volume, other: Volume) -> Iterator[Finding]:
    """As nnU-Net judges: other shape or spacing is an error, another position a warning."""
    name = f"{other.file.parent.name}/{other.file.name}"
    grids = {"shape": (i.voxels.shape[1:] for i in (other, first)), "spacing": (i.spacing_mm for i in (other, first))}
    for key, (found, expected) in grids.items():
        if len(found) != len(expected) or not np.allclose(found, expected):
            message = f"{name} has {key} {found}, the scan's first channel {expected}"
            fix = "resample the file to the grid of the first channel"
            yield Finding("error", "grid", message, [scan.case], fix)
            return
    moved = [key for key, found in other.position.items() if not np.allclose(found, first.position[key], atol=1e-3)]
    if moved:
        message = f"{name} has another {' and '.join(sorted(moved))} than the scan's first channel"
        fix = "look at the overlay; if the voxels match, copy the header of the first channel"
        yield Finding("warning", "grid-position", message, [scan.case], fix)

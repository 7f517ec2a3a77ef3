"""Reading one scan and its mask: what they contain and whether their grids agree."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from nnunet_dycon.dataset.comparison import ScanFacts, facts_of
from nnunet_dycon.dataset.reading import ITK_REPAIR, read_volume, reader_of
from nnunet_dycon.errors import UserError
from nnunet_dycon.files.text import few
from nnunet_dycon.tools.audit.findings import Finding
from nnunet_dycon.tools.audit.similarity import FINE_VOXELS, Signature, signature_of


@dataclass(frozen=True)
class Scan:
    """Files of ``images<part>/<case>`` and its mask, if there is one."""

    part: str
    case: str
    images: list[Path]
    mask: Path | None


@dataclass(frozen=True)
class ScanContent:
    """What a scan contains.

    Attributes:
        scan: Its files.
        image_hashes: For each channel a hash of its voxels, None where it is constant.
        mask_hash: Hash of the mask's voxels, None without a mask or without foreground.
        has_foreground: Whether the mask has foreground; True without a mask.
        signature: Of the first channel; None where it cannot be made.
        facts: What is compared between labelled and unlabelled scans; None where it cannot be read.
        findings: What is wrong with the files.
    """

    scan: Scan
    image_hashes: tuple[str | None, ...] = ()
    mask_hash: str | None = None
    has_foreground: bool = True
    signature: Signature | None = None
    facts: ScanFacts | None = None
    findings: list[Finding] = field(default_factory=list)


def comparison_voxel_mm(scan: Scan, dataset_json: dict[str, Any]) -> float:
    """Voxel size at which a scan's longest axis has ``FINE_VOXELS``, at least its own; 0 if it is unreadable."""
    try:
        _, grid = _read(scan.images[0], dataset_json, is_mask=False)
    except UserError:
        return 0.0
    axes = [(n, s) for n, s in zip(grid["shape"], grid["spacing"], strict=True) if n > 1]
    return max([n * s / FINE_VOXELS for n, s in axes] + [min((s for _, s in axes), default=0.0)])


def read_scan(
    scan: Scan, dataset_json: dict[str, Any], n_channels: int, foreground_values: Sequence[int], target_mm: float
) -> ScanContent:
    """Read all files of a scan, one after the other.

    Args:
        scan: Its files.
        dataset_json: Decides on nnU-Net's reader.
        n_channels: Number of channels the dataset has.
        foreground_values: Mask values that count as foreground.
        target_mm: Voxel size of the signature.
    """
    files = [*scan.images, *([scan.mask] if scan.mask else [])]
    try:
        volumes, grids = zip(*(_read(file, dataset_json, file == scan.mask) for file in files), strict=True)
    except UserError as error:
        return ScanContent(scan, findings=[_fault(scan, "unreadable", str(error), "write the file again")])
    channels = [channel for volume in volumes[: len(scan.images)] for channel in volume]
    mask_hash = _mask_hash(volumes[-1][0], foreground_values) if scan.mask else None
    findings = [*_channel_findings(scan, channels, n_channels), *_shear_findings(scan, files, grids)]
    for file, grid in zip(files[1:], grids[1:], strict=True):
        findings += _grid_findings(scan, file, grids[0], grid)
    return ScanContent(
        scan=scan,
        image_hashes=tuple(map(_image_hash, channels)),
        mask_hash=mask_hash,
        has_foreground=scan.mask is None or mask_hash is not None,
        signature=signature_of(np.nan_to_num(channels[0]), grids[0]["spacing"], target_mm),
        facts=facts_of(scan.images[0], channels, grids[0]["spacing"], dataset_json),
        findings=findings,
    )


def _image_hash(channel: np.ndarray) -> str | None:
    return _hash(channel) if np.ptp(channel) != 0 else None


def _mask_hash(mask: np.ndarray, foreground_values: Sequence[int]) -> str | None:
    return _hash(mask) if np.isin(mask, foreground_values).any() else None


def _read(file: Path, dataset_json: dict[str, Any], is_mask: bool) -> tuple[np.ndarray, dict[str, Any]]:
    """Voxels (channel, z, y, x) and grid of a file; a UserError if it cannot be read."""
    voxels, properties = read_volume(file, reader_of(file, dataset_json), is_mask=is_mask)
    return voxels, _grid(voxels, properties)


def _channel_findings(scan: Scan, channels: Sequence[np.ndarray], n_channels: int) -> list[Finding]:
    findings = []
    if len(channels) != n_channels:
        message = f"{_label(scan)} has {len(channels)} channels, dataset.json names {n_channels}"
        findings.append(_fault(scan, "channels", message, "add or remove channel files, or correct dataset.json"))
    if not all(np.isfinite(channel).all() for channel in channels):
        message = f"{_label(scan)} has voxels that are NaN or infinite"
        findings.append(_fault(scan, "not-finite", message, "replace them by a value that means no signal"))
    return findings


def _shear_findings(scan: Scan, files: Sequence[Path], grids: Sequence[dict[str, Any]]) -> list[Finding]:
    """nnU-Net's planning and prediction stop at such a file; unlabelled scans are read by this package alone."""
    sheared = [file.name for file, grid in zip(files, grids, strict=True) if grid["sheared"]]
    if not sheared:
        return []
    message = f"{few(sheared)}: the affine is sheared (its axes are not at right angles); read as the nearest rotation"
    fix = f"set {ITK_REPAIR}=1 for all commands of nnU-Net, or write the files with axes at right angles"
    return [Finding("warning" if scan.part == "Un" else "error", "sheared", message, [scan.case], fix)]


def _label(scan: Scan) -> str:
    return f"images{scan.part}/{scan.case}"


def _fault(scan: Scan, code: str, message: str, fix: str) -> Finding:
    return Finding("error", code, message, [scan.case], fix)


def _grid(voxels: np.ndarray, properties: dict[str, Any]) -> dict[str, Any]:
    """Shape and spacing, and what else the reader knows of the position in space."""
    grid: dict[str, Any] = {"shape": voxels.shape[1:], "spacing": tuple(float(s) for s in properties["spacing"])}
    position = properties.get("sitk_stuff", {}) | properties.get("nibabel_stuff", {})
    keys = ("origin", "direction", "original_affine")
    grid["sheared"] = "sheared" in properties
    return grid | {key: np.asarray(position[key]) for key in keys if key in position}


def _grid_findings(scan: Scan, file: Path, expected: dict[str, Any], grid: dict[str, Any]) -> list[Finding]:
    """As nnU-Net judges: other shape or spacing is an error, another position a warning."""
    name = f"{file.parent.name}/{file.name}"
    for key in ("shape", "spacing"):
        if len(grid[key]) != len(expected[key]) or not np.allclose(grid[key], expected[key]):
            message = f"{name} has {key} {grid[key]}, the scan's first channel {expected[key]}"
            return [_fault(scan, "grid", message, "resample the file to the grid of the first channel")]
    other = [
        key
        for key in grid.keys() - {"shape", "spacing", "sheared"}
        if not np.allclose(grid[key], expected[key], atol=1e-3)
    ]
    if other:
        message = f"{name} has another {' and '.join(sorted(other))} than the scan's first channel"
        fix = "look at the overlay; if the voxels match, copy the header of the first channel"
        return [Finding("warning", "grid-position", message, [scan.case], fix)]
    return []


def _hash(voxels: np.ndarray) -> str:
    """Of shape and values, whatever type they are stored as."""
    values = np.ascontiguousarray(voxels, np.float32)
    return hashlib.blake2b(str(values.shape).encode() + values.tobytes(), digest_size=16).hexdigest()

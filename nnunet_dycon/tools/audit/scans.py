"""What a scan and its mask contain, in a form that can be compared with all others."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from nnunet_dycon.dataset.comparison import ScanFacts, facts_of
from nnunet_dycon.dataset.raw_dataset import RawDataset
from nnunet_dycon.dataset.reading import read_volume, reader_of
from nnunet_dycon.dataset.scan_files import Finding, Scan, channels_of, file_findings, read_files
from nnunet_dycon.errors import UserError
from nnunet_dycon.tools.audit.similarity import FINE_VOXELS, Signature, signature_of


@dataclass(frozen=True)
class ScanContent:
    """What a scan contains.

    Attributes:
        scan: Its files.
        image_hashes: Number and hash of the voxels of each channel that is not constant.
        mask_hash: Hash of the mask's voxels, None without a mask or without foreground.
        signature: Of the first channel; None where it cannot be made.
        facts: What is compared between labelled and unlabelled scans; None where it cannot be read.
        findings: What is wrong with the files.
    """

    scan: Scan
    image_hashes: frozenset[tuple[int, str]] = frozenset()
    mask_hash: str | None = None
    signature: Signature | None = None
    facts: ScanFacts | None = None
    findings: list[Finding] = field(default_factory=list)


def comparison_voxel_mm(scan: Scan, dataset_json: dict[str, Any]) -> float:
    """Voxel size at which a scan's longest axis has ``FINE_VOXELS``, at least its own; 0 if it is unreadable."""
    try:
        first = read_volume(scan.images[0], reader_of(scan.images[0], dataset_json))
    except UserError:
        return 0.0
    axes = [(n, s) for n, s in zip(first.voxels.shape[1:], first.spacing_mm, strict=True) if n > 1]
    return max([n * s / FINE_VOXELS for n, s in axes] + [min((s for _, s in axes), default=0.0)])


def read_scan(scan: Scan, raw: RawDataset, target_mm: float) -> ScanContent:
    """Read all files of a scan of a dataset; ``target_mm`` is the voxel size of its signature."""
    try:
        volumes = read_files(scan, raw.dataset_json)
    except UserError as error:
        unreadable = Finding("error", "unreadable", str(error), [scan.case], "write the file again")
        return ScanContent(scan, findings=[unreadable])
    channels, mask, spacing_mm = channels_of(scan, volumes), volumes[-1].voxels[0], volumes[0].spacing_mm
    return ScanContent(
        scan=scan,
        image_hashes=frozenset((i, _hash(channel)) for i, channel in enumerate(channels) if np.ptp(channel) != 0),
        mask_hash=_hash(mask) if scan.mask and np.isin(mask, raw.foreground_values()).any() else None,
        signature=signature_of(np.nan_to_num(channels[0]), spacing_mm, target_mm),
        facts=facts_of(volumes[: len(scan.images)], raw.dataset_json),
        findings=list(file_findings(scan, volumes, raw.n_channels)),
    )


def _hash(voxels: np.ndarray) -> str:
    """Of shape and values, whatever type they are stored as."""
    values = np.ascontiguousarray(voxels, np.float32)
    return hashlib.blake2b(str(values.shape).encode() + values.tobytes(), digest_size=16).hexdigest()

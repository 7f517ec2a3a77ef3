"""Do unlabelled scans look like the labelled ones? One short table, and what to do where they differ."""

from __future__ import annotations

import filecmp
import hashlib
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import SimpleITK

from nnunet_dycon.dataset.raw_dataset import channel_names
from nnunet_dycon.dataset.reading import Volume, read_volume, reader_of
from nnunet_dycon.dataset.scan_files import likeness_to_mask
from nnunet_dycon.errors import UserError
from nnunet_dycon.files.pool import map_cases
from nnunet_dycon.files.text import text_table

LABELED = "labelled"
_MOST_SCANS = 8  # of a group
_QUANTILES = (0.01, 0.5, 0.99)
_OTHER_SPACING = 2.0
_OTHER_SIZE = 2.0
_OTHER_SPREAD = 4.0


@dataclass(frozen=True)
class ScanFacts:
    """What is compared of one scan, axes in array order.

    Attributes:
        orientation: such as LPS, where the index grows to (x, y, z); empty where the format stores none.
        quantiles: (channels, 3): the 1st, 50th and 99th percentile of the voxels.
    """

    spacing_mm: tuple[float, ...]
    shape: tuple[int, ...]
    orientation: str
    quantiles: np.ndarray
    likeness_to_mask: str | None = None


def facts_of(volumes: Sequence[Volume], dataset_json: dict[str, Any]) -> ScanFacts:
    """The facts of a scan's channel files; the first one orients it."""
    channels = [channel for volume in volumes for channel in volume.voxels]
    samples = (i.ravel()[:: max(1, i.size // 100_000)] for i in channels)
    quantiles = np.array([np.quantile(np.nan_to_num(i), _QUANTILES) for i in samples])
    verdict = likeness_to_mask(channels, dataset_json)
    return ScanFacts(volumes[0].spacing_mm, channels[0].shape, _orientation(volumes[0].position), quantiles, verdict)


def _orientation(position: Mapping[str, np.ndarray]) -> str:
    if "original_affine" in position:
        return "".join(i or "-" for i in nibabel.aff2axcodes(position["original_affine"]))
    direction = position.get("direction", np.empty(0)).tolist()
    name = SimpleITK.DICOMOrientImageFilter.GetOrientationFromDirectionCosines
    return name(direction) if len(direction) == 9 else ""


@dataclass(frozen=True)
class Comparison:
    """Facts by group: of some labelled scans, called ``LABELED``, and of some of each source of unlabelled ones."""

    groups: Mapping[str, Sequence[ScanFacts]]
    dataset_json: dict[str, Any]

    @property
    def labeled_look_like_masks(self) -> bool:
        """Whether one cannot tell a mask in imagesUn by its values."""
        return LABELED in self.groups and all(i.likeness_to_mask for i in self.groups[LABELED])

    def table(self) -> str:
        """A row for each group, medians of all that is a number; empty without scans of both kinds."""
        if LABELED not in self.groups or len(self.groups) < 2:
            return ""
        quantiles = [f"{name} 1 / 50 / 99 %" for name in channel_names(self.dataset_json)]
        rows = [_row(group, facts, len(quantiles)) for group, facts in self.groups.items()]
        return text_table(["scans", "n", "spacing mm", "voxels", "orientation", *quantiles], rows)

    def warnings(self) -> list[str]:
        """What differs so much that a user should know, with what to do."""
        return [
            f"{group} scans differ from the labelled ones: {warning}"
            for group, facts in self.groups.items()
            if group != LABELED and LABELED in self.groups
            for warning in _differences((self.groups[LABELED], facts), self.dataset_json)
        ]


def compare(
    groups: Mapping[str, Sequence[Sequence[Path]]], dataset_json: dict[str, Any], *, num_processes: int, progress: bool
) -> Comparison:
    """Read a few scans of each group, given as files of each scan, the labelled ones as ``LABELED``."""
    some = [  # at most so many, from first to last
        (group, files) for group, scans in groups.items() for files in scans[:: max(1, -(-len(scans) // _MOST_SCANS))]
    ]
    read = map_cases(
        partial(_scan_facts, dataset_json=dataset_json), [files for _, files in some],
        num_processes=num_processes, description="Comparing labelled and unlabelled scans", progress=progress,
    )  # fmt: skip
    found: dict[str, list[ScanFacts]] = {}
    for (group, _), facts in zip(some, read, strict=True):
        if facts is not None:
            found.setdefault(group, []).append(facts)
    return Comparison(found, dataset_json)


def copies(scans: Mapping[str, Path], others: Mapping[str, Path]) -> dict[str, str]:
    """Scans whose file is, byte by byte, that of another name, with that name; what cannot be read is no copy."""
    known = {key: name for name, file in others.items() if (key := _sample(file))}
    pairs = {name: known[key] for name, file in scans.items() if (key := _sample(file)) and key in known}
    return {name: other for name, other in pairs.items() if filecmp.cmp(scans[name], others[other], shallow=False)}


def _sample(file: Path) -> tuple[int, bytes] | None:
    """Size, and a part from the middle, which seldom two scans share."""
    try:
        with file.open("rb") as content:
            size = content.seek(0, os.SEEK_END)
            content.seek(size // 2)
            return size, hashlib.sha256(content.read(2**16)).digest()
    except OSError:
        return None


def _scan_facts(files: Sequence[Path], dataset_json: dict[str, Any]) -> ScanFacts | None:
    """Read a scan; None if that is not possible, which others tell."""
    try:
        return facts_of([read_volume(file, reader_of(file, dataset_json)) for file in files], dataset_json)
    except UserError:
        return None


def _row(group: str, facts: Sequence[ScanFacts], num_channels: int) -> list[str]:
    quantiles = [" / ".join(f"{i:.4g}" for i in channel) for channel in _median(facts, lambda i: i.quantiles)]
    return [
        group,
        str(len(facts)),
        _times(_median(facts, lambda i: i.spacing_mm)),
        _times(_median(facts, lambda i: i.shape)),
        ", ".join(sorted({i.orientation or "-" for i in facts})),
        *[*quantiles, *["-"] * num_channels][:num_channels],
    ]


def _differences(both: tuple[Sequence[ScanFacts], Sequence[ScanFacts]], dataset_json: dict[str, Any]) -> Iterator[str]:
    expected, spacing = (_median(facts, lambda i: i.spacing_mm) for facts in both)
    if _ratio(expected, spacing) > _OTHER_SPACING:
        yield (
            f"voxels of {_times(spacing)} mm, not {_times(expected)} mm. nnU-Net resamples both to its plans; check "
            "the headers (units, order of axes), and leave out scans that are much coarser"
        )
    expected, size = (_median(facts, lambda i: np.multiply(i.spacing_mm, i.shape)) for facts in both)
    if _ratio(expected, size) > _OTHER_SIZE:
        yield (
            f"they show {_times(size)} mm, not {_times(expected)} mm. Crop them to the region that the labelled scans "
            "show, else few crops show it"
        )
    if "Reorient" not in str(dataset_json.get("overwrite_image_reader_writer")):
        yield from _other_orientation(*({i.orientation for i in facts} - {""} for facts in both))
    quantiles = (_median(facts, lambda i: i.quantiles) for facts in both)
    for channel in zip(channel_names(dataset_json), *quantiles, strict=False):
        yield from _other_intensities(*channel)


def _other_orientation(known: set[str], codes: set[str]) -> Iterator[str]:
    if known and codes - known:
        yield (
            f"orientation {', '.join(sorted(codes - known))}, not {', '.join(sorted(known))}. nnU-Net does not turn "
            f"scans: turn them (SimpleITK.DICOMOrient(image, '{min(known)}')), so that left and right, head and feet "
            "are the same in all"
        )


def _other_intensities(name: str, expected: np.ndarray, other: np.ndarray) -> Iterator[str]:
    """Of a channel by its quantiles: another spread, or other values altogether."""
    if expected[0] <= other[1] <= expected[2] and _ratio(np.ptp(expected), np.ptp(other)) <= _OTHER_SPREAD:
        return
    todo = (
        "CT is normalised by fixed numbers: bring them to Hounsfield units"
        if name.lower() == "ct"
        else "nnU-Net's z-score takes scale and offset away, other differences not: check that it is the same kind of "
        "image (sequence, units, clipping)"
    )
    yield (
        f"intensities of channel {name} (1 to 99 %) {other[0]:.4g} to {other[2]:.4g}, not {expected[0]:.4g} to "
        f"{expected[2]:.4g}. {todo}"
    )


def _median(facts: Sequence[ScanFacts], value: Callable[[ScanFacts], Any]) -> np.ndarray:
    """Over scans; those with as many axes or channels as the first."""
    arrays = [np.asarray(value(i), float) for i in facts]
    return np.median([i for i in arrays if i.shape == arrays[0].shape], axis=0)


def _ratio(one: Any, other: Any) -> float:
    """Largest factor between two positive vectors; 1 where they cannot be compared."""
    one, other = (np.maximum(i, np.finfo(float).tiny) for i in (one, other))
    return 1.0 if one.shape != other.shape else float(np.maximum(one / other, other / one).max())


def _times(values: np.ndarray) -> str:
    return " x ".join(f"{i:.3g}" for i in values)

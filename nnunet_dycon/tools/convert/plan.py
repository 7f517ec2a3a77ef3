"""What a conversion is made of: a plan for a dataset, a plan for each case, and the volumes read from one case."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import SimpleITK as sitk


@dataclass(frozen=True)
class CaseVolumes:
    """One case in memory: channels and label share one grid; ``notes`` say what was assumed or repaired."""

    channels: list[sitk.Image]
    label: sitk.Image
    notes: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class CasePlan:
    """How to read one case: ``load(**sources, **parameters)`` in any process (``load`` is a module's function).

    Attributes:
        name: nnU-Net case name.
        sources: Files or folders of the download, by the name of ``load``'s argument.
        parameters: JSON values; a case is converted again when they or its sources change.
    """

    name: str
    load: Callable[..., CaseVolumes]
    sources: Mapping[str, Path]
    parameters: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class DatasetPlan:
    """What a download holds and what becomes of it.

    Attributes:
        dataset: ``la``, ``pancreas``, ``brats19`` or ``isles22``.
        layout: The distribution that was recognised, in words.
        source: The download folder.
        channel_names: By channel number; nnU-Net derives the normalisation from them.
        labels: nnU-Net's ``labels``: name to value, or to a list of values for regions.
        regions_class_order: nnU-Net's key of this name; None without regions.
        reference: Where the data come from, for dataset.json.
        cases: The cases to convert.
        lists: Protocol lists (names below ``protocols/lists``) whose cases all ought to be there.
        failures: Cases that cannot be converted, and why.
        skipped: Cases that are left out on purpose, and why.
        notes: What holds for all cases, e.g. an assumed spacing.
    """

    dataset: str
    layout: str
    source: Path
    channel_names: dict[int, str]
    labels: dict[str, int | list[int]]
    cases: list[CasePlan]
    reference: str
    regions_class_order: tuple[int, ...] | None = None
    lists: tuple[str, ...] = ()
    failures: dict[str, str] = field(default_factory=dict)
    skipped: dict[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

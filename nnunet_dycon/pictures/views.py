"""What a picture of the uncertainty shows: one slice with image, prediction and entropy, kept in a small file."""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np

from nnunet_dycon.files.whole_files import whole


@dataclass(frozen=True)
class View:
    """One slice of a case; all arrays are (rows, columns)."""

    title: str
    image: np.ndarray
    prediction: np.ndarray
    """Labels."""
    entropy: np.ndarray
    """Nats."""
    mean_entropy: float
    """Mean over the whole crop, nats."""
    aspect: float = 1.0
    """Height of a voxel over its width."""
    reference: np.ndarray | None = None
    """Labels; None for an unlabelled case."""


@dataclass(frozen=True)
class Picture:
    """The views of an epoch."""

    epoch: int
    highest_entropy: float
    """Largest entropy that a voxel can have, nats."""
    views: tuple[View, ...]

    def save(self, file: Path) -> None:
        """Write everything into ``file`` (.npz), whole or not at all."""
        arrays = {"epoch": np.asarray(self.epoch), "highest_entropy": np.asarray(self.highest_entropy)}
        for index, view in enumerate(self.views):
            values = {i.name: getattr(view, i.name) for i in fields(view)}
            arrays |= {f"{index}_{name}": np.asarray(i) for name, i in values.items() if i is not None}
        with whole(file) as partial:
            np.savez_compressed(partial, **arrays)  # type: ignore[arg-type]  # numpy's stub takes no dict of arrays

    @classmethod
    def load(cls, file: Path) -> Picture:
        """What ``save`` has written."""
        with np.load(file, allow_pickle=False) as arrays:
            count = len([key for key in arrays if key.endswith("_title")])
            views = [{i.name: arrays.get(f"{index}_{i.name}") for i in fields(View)} for index in range(count)]
            for values in views:
                values |= {"title": str(values["title"])}
                values |= {name: float(values[name]) for name in ("mean_entropy", "aspect")}
            return cls(int(arrays["epoch"]), float(arrays["highest_entropy"]), tuple(View(**i) for i in views))

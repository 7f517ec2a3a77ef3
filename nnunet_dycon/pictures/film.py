"""Prediction and entropy of slices: of one epoch or of the least sure cases, and as a film strip over the epochs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from nnunet_dycon.files.whole_files import whole
from nnunet_dycon.pictures import canvas
from nnunet_dycon.pictures.canvas import Slice

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_PANEL_INCHES = 2.2
_RIGHT_INCHES = 0.75
_DPI = 110


@dataclass(frozen=True)
class Picture:
    """The views of an epoch."""

    epoch: int
    highest_entropy: float
    """Largest entropy that a voxel can have, nats."""
    views: tuple[Slice, ...]

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
            views = [{i.name: arrays.get(f"{index}_{i.name}") for i in fields(Slice)} for index in range(count)]
            for values in views:
                values |= {"title": str(values["title"])}
                values |= {name: float(values[name]) for name in ("mean_entropy", "aspect")}
            return cls(int(arrays["epoch"]), float(arrays["highest_entropy"]), tuple(Slice(**i) for i in views))


@canvas.style()
def views_figure(views: Sequence[Slice], highest_entropy: float, title: str, *, dpi: int = _DPI) -> Figure:
    """A row a view: image, prediction on the image, entropy map (black to bright for ``highest_entropy`` nats)."""
    figure, axes = _figure(views, [view.title.splitlines() for view in views], 3, dpi)
    classes = canvas.shown_classes(views)
    for row, view in zip(axes, views, strict=True):
        canvas.show_image(row[0], view)
        canvas.show_masks(row[1], view, classes)
        shown = canvas.show_entropy(row[2], view, highest_entropy, f"mean {view.mean_entropy:.3f}")
    for axis, head in zip(axes[0], ("image", "prediction", "entropy"), strict=True):
        axis.set_title(head, pad=4)
    _add_keys(figure, shown, views, title)
    return figure


@canvas.style()
def film_strip_figure(pictures: Sequence[Picture], *, dpi: int = _DPI) -> Figure:
    """Two rows a case, prediction and entropy map; a column an epoch.

    Raises:
        ValueError: no picture, or pictures of different cases.
    """
    _check_same_cases(pictures)
    first, views = pictures[0].views, [view for picture in pictures for view in picture.views]
    labels = [lines for view in first for lines in ([*view.title.splitlines(), "prediction"], ["entropy"])]
    figure, axes = _figure([view for view in first for _ in range(2)], labels, len(pictures), dpi)
    classes = canvas.shown_classes(views)
    for column, picture in enumerate(pictures):
        axes[0, column].set_title(f"epoch {picture.epoch}", pad=4)
        for (upper, lower), view in zip(axes[:, column].reshape(-1, 2), picture.views, strict=True):
            canvas.show_masks(upper, view, classes)
            shown = canvas.show_entropy(lower, view, picture.highest_entropy, f"mean {view.mean_entropy:.3f}")
    _add_keys(figure, shown, views)
    return figure


def _check_same_cases(pictures: Sequence[Picture]) -> None:
    if not pictures:
        raise ValueError("no picture for a film strip")
    titles = {tuple(view.title for view in picture.views) for picture in pictures}
    if len(titles) > 1:
        raise ValueError(f"pictures of different cases do not make one film strip: {sorted(titles)}")


def _figure(
    rows: Sequence[Slice], labels: Sequence[Sequence[str]], columns: int, dpi: int
) -> tuple[Figure, np.ndarray]:
    heights = [view.height for view in rows]
    return canvas.panels(heights, labels, columns, panel_inches=_PANEL_INCHES, right=_RIGHT_INCHES, dpi=dpi)


def _add_keys(figure: Figure, shown: Any, views: Sequence[Slice], note: str = "") -> None:
    canvas.add_entropy_scale(figure, shown, _RIGHT_INCHES)
    with_reference = any(view.reference is not None for view in views)
    canvas.add_legend(figure, list(canvas.shown_classes(views)), reference=with_reference, note=note)


def spread(pictures: Sequence[Any], most: int) -> list[Any]:
    """At most ``most`` of them, evenly spread, first and last included."""
    if len(pictures) <= most:
        return list(pictures)
    return [pictures[round(i)] for i in np.linspace(0, len(pictures) - 1, most)]

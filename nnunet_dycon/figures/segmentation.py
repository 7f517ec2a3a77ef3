"""Predictions against references on several slices of a case, with the entropy map."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import SimpleITK as sitk

from nnunet_dycon.errors import UserError
from nnunet_dycon.figures.style import ORANGE, SKY_BLUE, WIDTH_INCHES, empty_figure
from nnunet_dycon.overlay import CaseFiles, OverlayCase, dice, draw_contour, read_case

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MARGIN_MM = 20.0


@dataclass(frozen=True)
class SegmentedCase:
    """A case in radiological view; arrays are (Z, Y, X)."""

    volumes: OverlayCase
    entropy: np.ndarray | None
    """Nats; None for predictions without entropy map."""

    @property
    def prediction(self) -> np.ndarray:
        return self.volumes.predictions[0]


def read_segmented_case(files: CaseFiles, entropy_map: Path | None) -> SegmentedCase:
    """Read a case.

    Raises:
        UserError: a file that cannot be read or lies on another grid.
    """
    volumes = read_case(files)
    if entropy_map is None:
        return SegmentedCase(volumes, None)
    entropy = sitk.GetArrayFromImage(sitk.DICOMOrient(sitk.ReadImage(str(entropy_map)), "LPS"))
    if entropy.shape != volumes.image.shape:
        raise UserError(f"{entropy_map}: {entropy.shape} voxels, its image has {volumes.image.shape}")
    return SegmentedCase(volumes, entropy)


def shown_slices(case: SegmentedCase, count: int) -> list[int]:
    """Axial slices spread evenly over the extent of reference and prediction, the outermost tenths left out."""
    slices = np.flatnonzero((case.volumes.reference | case.prediction).any(axis=(1, 2)))
    if not len(slices):
        return [case.volumes.image.shape[0] // 2] * count
    shares = (np.arange(count) + 0.5) / count * 0.8 + 0.1
    return [int(slices[min(int(i * len(slices)), len(slices) - 1)]) for i in shares]


def shown_window(case: SegmentedCase) -> tuple[slice, slice]:
    """Rows and columns around everything segmented in any slice, with a margin."""
    masks = (case.volumes.reference | case.prediction).any(axis=0)
    if not masks.any():
        return slice(None), slice(None)
    corners, spacing_mm = np.argwhere(masks), np.array(case.volumes.spacing_mm[1:])
    margin = np.ceil(MARGIN_MM / spacing_mm).astype(int)
    low = np.maximum(corners.min(axis=0) - margin, 0)
    high = np.minimum(corners.max(axis=0) + 1 + margin, masks.shape)
    return slice(low[0], high[0]), slice(low[1], high[1])


def segmentation_figure(
    cases: Sequence[SegmentedCase], slices: int = 3, highest_entropy: float | None = None
) -> Figure:
    """A row a case: slices from the feet to the head with both contours, and the entropy of the middle one.

    Args:
        cases: one row each.
        slices: slices of a case.
        highest_entropy: upper end of the entropy's colour scale in nats; None is the largest shown.

    Raises:
        ValueError: no case.
    """
    if not cases:
        raise ValueError("no case to draw")
    windows = [shown_window(case) for case in cases]
    with_entropy = all(case.entropy is not None for case in cases)
    columns = slices + with_entropy
    heights = [_aspect(case, window) for case, window in zip(cases, windows, strict=True)]
    figure = empty_figure(0.3 + WIDTH_INCHES * 0.88 / columns * sum(heights))
    axes = figure.subplots(len(cases), columns, squeeze=False, gridspec_kw={"height_ratios": heights})
    shown: Any = None
    for row, case, window in zip(axes, cases, windows, strict=True):
        places = shown_slices(case, slices)
        for axis, place in zip(row, places, strict=False):
            _draw_slice(axis, case, place, window)
        row[0].set_ylabel(f"{short_name(case.volumes.name)}\nDice {dice_text(case)}", fontsize=7)
        if with_entropy:
            shown = _draw_entropy(row[-1], case, places[slices // 2], window, highest_entropy)
    if shown is not None:
        axes[0, -1].set_title("entropy", fontsize=8)
        figure.colorbar(shown, ax=axes[:, -1], fraction=0.05, pad=0.03, aspect=25, label="nats")
    _add_legend(figure)
    return figure


def dice_text(case: SegmentedCase) -> str:
    """Dice of the whole volume, or "-" where both masks are empty."""
    score = dice(case.prediction, case.volumes.reference)
    return "-" if math.isnan(score) else f"{score:.3f}"


def short_name(name: str, most: int = 14) -> str:
    """A case's name, cut where it is longer than ``most`` letters."""
    return name if len(name) <= most else f"{name[: most - 1]}…"


def _aspect(case: SegmentedCase, window: tuple[slice, slice]) -> float:
    rows, columns = case.volumes.image[0][window].shape
    spacing_mm = case.volumes.spacing_mm
    return rows * spacing_mm[1] / (columns * spacing_mm[2])


def _show(axis: Axes, pixels: np.ndarray, case: SegmentedCase, **options: Any) -> Any:
    axis.set(xticks=[], yticks=[])
    for spine in axis.spines.values():
        spine.set_visible(False)
    return axis.imshow(pixels, aspect=case.volumes.spacing_mm[1] / case.volumes.spacing_mm[2], **options)


def _draw_slice(axis: Axes, case: SegmentedCase, place: int, window: tuple[slice, slice]) -> None:
    pixels = case.volumes.image[place][window]
    low, high = np.percentile(pixels, (0.5, 99.5))
    _show(axis, pixels, case, cmap="gray", vmin=low, vmax=max(high, low + 1e-6), interpolation="bilinear")
    draw_contour(axis, case.volumes.reference[place][window], SKY_BLUE, 1.3)
    draw_contour(axis, case.prediction[place][window], ORANGE, 1.1)
    _write_slice(axis, place)


def _write_slice(axis: Axes, place: int) -> None:
    box = {"boxstyle": "round,pad=0.2", "facecolor": "black", "edgecolor": "none", "alpha": 0.6}
    text = f"slice {place}"
    axis.text(0.03, 0.04, text, transform=axis.transAxes, color="white", fontsize=6.5, va="bottom", bbox=box)


def _draw_entropy(
    axis: Axes, case: SegmentedCase, place: int, window: tuple[slice, slice], highest: float | None
) -> Any:
    assert case.entropy is not None
    highest = float(case.entropy.max()) if highest is None else highest
    shown = _show(
        axis, case.entropy[place][window], case, cmap="magma", vmin=0, vmax=max(highest, 1e-6), interpolation="nearest"
    )
    _write_slice(axis, place)
    return shown


def _add_legend(figure: Figure) -> None:
    from matplotlib.lines import Line2D

    handles = [
        Line2D([], [], color=SKY_BLUE, label="reference"),
        Line2D([], [], color=ORANGE, label="prediction"),
    ]
    figure.legend(handles=handles, loc="outside upper left", ncols=2)

"""Predictions against references on several slices of a case, class by class, with the entropy map."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import SimpleITK as sitk

from nnunet_dycon.errors import UserError
from nnunet_dycon.pictures.overlay import CaseFiles, dice, draw_contour, read_case
from nnunet_dycon.pictures.style import CLASS_COLOURS, ORANGE, SKY_BLUE, WIDTH_INCHES, empty_figure
from nnunet_dycon.tools.evaluate.classes import EvaluatedClasses

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MARGIN_MM = 20.0
MOST_CLASSES = 4
"""More classes than these have one mean Dice beside the slices, and one common surface."""


@dataclass(frozen=True)
class SegmentedCase:
    """A case in radiological view; arrays are (Z, Y, X), label maps without ignored voxels."""

    name: str
    image: np.ndarray
    reference: np.ndarray
    prediction: np.ndarray
    classes: Mapping[str, tuple[int, ...]]
    """Label values by name; several for a region."""
    spacing_mm: tuple[float, ...] = (1.0, 1.0, 1.0)
    entropy: np.ndarray | None = None
    """Nats; None for predictions without entropy map."""

    def masks(self, name: str) -> tuple[np.ndarray, np.ndarray]:
        """Reference and prediction of a class or region."""
        values = self.classes[name]
        return np.isin(self.reference, values), np.isin(self.prediction, values)

    def foreground(self) -> np.ndarray:
        """Voxels of any class, in the reference or the prediction."""
        values = sorted({value for i in self.classes.values() for value in i})
        return np.isin(self.reference, values) | np.isin(self.prediction, values)

    def dice_text(self, name: str) -> str:
        """Dice of the whole volume, or "-" where both masks are empty."""
        return _as_text(dice(*self.masks(name)))

    def together(self) -> SegmentedCase:
        """The same case with all its classes as one, if there are too many to show one by one."""
        if len(self.classes) <= MOST_CLASSES:
            return self
        values = tuple(sorted({value for i in self.classes.values() for value in i}))
        name = f"all {len(self.classes)} classes together"
        shown = {name: values}
        return SegmentedCase(
            self.name, self.image, self.reference, self.prediction, shown, self.spacing_mm, self.entropy
        )


def read_segmented_case(files: CaseFiles, entropy_map: Path | None, classes: EvaluatedClasses) -> SegmentedCase:
    """Read a case; voxels with the ignore label in the reference are background in both masks.

    Raises:
        UserError: a file that cannot be read or lies on another grid.
    """
    volumes = read_case(files)
    reference, prediction = _array(files.reference), _array(files.predictions[0])
    ignored = reference == (-1 if classes.ignore_label is None else classes.ignore_label)
    reference[ignored] = prediction[ignored] = 0
    entropy = None if entropy_map is None else _array(entropy_map)
    if entropy is not None and entropy.shape != volumes.image.shape:
        raise UserError(f"{entropy_map}: {entropy.shape} voxels, its image has {volumes.image.shape}")
    return SegmentedCase(
        files.name, volumes.image, reference, prediction, classes.values, volumes.spacing_mm, entropy
    )  # fmt: skip


def _array(file: Path) -> np.ndarray:
    return sitk.GetArrayFromImage(sitk.DICOMOrient(sitk.ReadImage(str(file)), "LPS"))


def shown_slices(case: SegmentedCase, count: int) -> list[int]:
    """Axial slices spread evenly over the extent of reference and prediction, the outermost tenths left out."""
    slices = np.flatnonzero(case.foreground().any(axis=(1, 2)))
    if not len(slices):
        return [case.image.shape[0] // 2] * count
    shares = (np.arange(count) + 0.5) / count * 0.8 + 0.1
    return [int(slices[min(int(i * len(slices)), len(slices) - 1)]) for i in shares]


def shown_window(case: SegmentedCase) -> tuple[slice, slice]:
    """Rows and columns around everything segmented in any slice, with a margin."""
    masks = case.foreground().any(axis=0)
    if not masks.any():
        return slice(None), slice(None)
    corners, spacing_mm = np.argwhere(masks), np.array(case.spacing_mm[1:])
    margin = np.ceil(MARGIN_MM / spacing_mm).astype(int)
    low = np.maximum(corners.min(axis=0) - margin, 0)
    high = np.minimum(corners.max(axis=0) + 1 + margin, masks.shape)
    return slice(low[0], high[0]), slice(low[1], high[1])


def segmentation_figure(
    cases: Sequence[SegmentedCase], slices: int = 3, highest_entropy: float | None = None
) -> Figure:
    """A row a case: slices from the feet to the head with both contours, and the entropy of the middle one.

    One class has a colour for each of reference and prediction; of several each has its colour, and dashes are the
    reference.

    Args:
        cases: one row each, all with the same classes.
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
    legend_rows = math.ceil((len(cases[0].classes) + 2) / _LEGEND_COLUMNS)
    figure = empty_figure(0.15 + 0.15 * legend_rows + WIDTH_INCHES * 0.88 / columns * sum(heights))
    axes = figure.subplots(len(cases), columns, squeeze=False, gridspec_kw={"height_ratios": heights})
    shown: Any = None
    for row, case, window in zip(axes, cases, windows, strict=True):
        places = shown_slices(case, slices)
        for axis, place in zip(row, places, strict=False):
            _draw_slice(axis, case, place, window)
        row[0].set_ylabel(f"{short_name(case.name)}\n{dice_lines(case)}", fontsize=7)
        if with_entropy:
            shown = _draw_entropy(row[-1], case, places[slices // 2], window, highest_entropy)
    if shown is not None:
        axes[0, -1].set_title("entropy", fontsize=8)
        figure.colorbar(shown, ax=axes[:, -1], fraction=0.05, pad=0.03, aspect=25, label="nats")
    _add_legend(figure, list(cases[0].classes))
    return figure


def dice_lines(case: SegmentedCase) -> str:
    """Dice of the only class, of each of a few classes, or the mean of many."""
    names = list(case.classes)
    if len(names) == 1:
        return f"Dice {case.dice_text(names[0])}"
    if len(names) <= MOST_CLASSES:
        return "\n".join(f"{short_name(name)} {case.dice_text(name)}" for name in names)
    scores = [dice(*case.masks(name)) for name in names]
    defined = [score for score in scores if not math.isnan(score)]
    mean = sum(defined) / len(defined) if defined else math.nan
    return f"mean Dice {_as_text(mean)}\n({len(defined)} of {len(names)} classes)"


def short_name(name: str, most: int = 14) -> str:
    """A case's name, cut where it is longer than ``most`` letters."""
    return name if len(name) <= most else f"{name[: most - 1]}…"


def class_colour(index: int) -> str:
    """Colour of a class by its place; they repeat."""
    return CLASS_COLOURS[index % len(CLASS_COLOURS)]


def _as_text(score: float) -> str:
    return "-" if math.isnan(score) else f"{score:.3f}"


def _aspect(case: SegmentedCase, window: tuple[slice, slice]) -> float:
    rows, columns = case.image[0][window].shape
    return rows * case.spacing_mm[1] / (columns * case.spacing_mm[2])


def _show(axis: Axes, pixels: np.ndarray, case: SegmentedCase, **options: Any) -> Any:
    axis.set(xticks=[], yticks=[])
    for spine in axis.spines.values():
        spine.set_visible(False)
    return axis.imshow(pixels, aspect=case.spacing_mm[1] / case.spacing_mm[2], **options)


def _draw_slice(axis: Axes, case: SegmentedCase, place: int, window: tuple[slice, slice]) -> None:
    pixels = case.image[place][window]
    low, high = np.percentile(pixels, (0.5, 99.5))
    _show(axis, pixels, case, cmap="gray", vmin=low, vmax=max(high, low + 1e-6), interpolation="bilinear")
    for index, name in enumerate(case.classes):
        reference, prediction = (mask[place][window] for mask in case.masks(name))
        if len(case.classes) == 1:
            draw_contour(axis, reference, SKY_BLUE, 1.3)
            draw_contour(axis, prediction, ORANGE, 1.1)
        else:
            draw_contour(axis, prediction, class_colour(index), 1.1)
            draw_contour(axis, reference, class_colour(index), 1.1, _REFERENCE_LINE)
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


_REFERENCE_LINE = "dashed"
_LEGEND_COLUMNS = 5


def _add_legend(figure: Figure, names: Sequence[str]) -> None:
    from matplotlib.lines import Line2D

    entries: list[tuple[str, str, Any]]
    if len(names) == 1:
        entries = [("reference", SKY_BLUE, "-"), ("prediction", ORANGE, "-")]
    else:
        entries = [("reference", "0.3", "--"), ("prediction", "0.3", "-")]
        entries += [(short_name(name, 24), class_colour(i), "-") for i, name in enumerate(names)]
    handles = [Line2D([], [], color=colour, linestyle=line, label=label) for label, colour, line in entries]
    figure.legend(handles=handles, loc="outside upper left", ncols=_LEGEND_COLUMNS)

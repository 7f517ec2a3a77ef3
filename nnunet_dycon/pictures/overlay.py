"""A picture of segmentations on their scans: a row a case, columns for image, reference and prediction(s).

Each row shows the axial slice with most reference foreground. Masks are drawn as contours in two colours of the
Okabe-Ito palette, which people with any of the common colour-vision deficiencies tell apart. All labels above 0 are
foreground.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import SimpleITK as sitk

from nnunet_dycon.errors import UserError
from nnunet_dycon.files.whole_files import whole

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

REFERENCE_COLOUR = "#56B4E9"  # Okabe-Ito sky blue
PREDICTION_COLOUR = "#E69F00"  # Okabe-Ito orange
FILE_ENDINGS = (".nii.gz", ".nii", ".nrrd", ".mha")
PANEL_WIDTH_INCHES = 2.1
DPI = 200


@dataclass(frozen=True)
class OverlayCase:
    """One row. ``image`` and the boolean masks are (Z, Y, X) of one shape, ``spacing_mm`` has the same order."""

    name: str
    image: np.ndarray
    reference: np.ndarray
    predictions: tuple[np.ndarray, ...]
    spacing_mm: tuple[float, ...] = (1.0, 1.0, 1.0)


@dataclass(frozen=True)
class CaseFiles:
    """Where a case lies."""

    name: str
    image: Path
    reference: Path
    predictions: tuple[Path, ...]


# --- reading ---------------------------------------------------------------------------------------------------------


def _case_name(path: Path) -> str:
    for ending in FILE_ENDINGS:
        if path.name.endswith(ending):
            return path.name[: -len(ending)]
    raise UserError(f"{path}: not one of {', '.join(FILE_ENDINGS)}")


def find_cases(
    images: Path, references: Path, predictions: Sequence[Path], names: Sequence[str] = ()
) -> list[CaseFiles]:
    """The files of every case of the first prediction folder (or of ``names``); channel 0 of the images.

    If the paths are files, they are the one case.

    Raises:
        UserError: a missing file or folder, or an empty prediction folder.
    """
    for path in (images, references, *predictions):
        if not path.exists():
            raise UserError(f"{path} does not exist: give the image, the reference and the prediction(s)")
        if path.is_dir() != images.is_dir():
            raise UserError(f"{images} and {path}: give either files only or folders only")
    if not images.is_dir():
        return [CaseFiles(_case_name(references), images, references, tuple(predictions))]
    found = [path for path in sorted(predictions[0].iterdir()) if path.name.endswith(FILE_ENDINGS)]
    endings = {_case_name(path): path.name[len(_case_name(path)) :] for path in found}
    if not endings:
        raise UserError(f"{predictions[0]}: no prediction there ({', '.join(FILE_ENDINGS)})")
    if unknown := sorted(set(names) - set(endings)):
        raise UserError(f"{predictions[0]}: no prediction of {', '.join(unknown)}; there are {', '.join(endings)}")
    return [_case_in_folders(name, endings[name], images, references, predictions) for name in names or endings]


def _case_in_folders(name: str, ending: str, images: Path, references: Path, predictions: Sequence[Path]) -> CaseFiles:
    case = CaseFiles(
        name,
        images / f"{name}_0000{ending}",
        references / f"{name}{ending}",
        tuple(folder / f"{name}{ending}" for folder in predictions),
    )
    for path in (case.image, case.reference, *case.predictions):
        if not path.is_file():
            raise UserError(f"case {name}: {path} does not exist; add it, or choose other cases with --cases")
    return case


def _read(path: Path) -> sitk.Image:
    try:
        volume = sitk.ReadImage(str(path))
    except RuntimeError as error:
        raise UserError(f"{path} cannot be read: {error}") from error
    if volume.GetDimension() != 3 or volume.GetNumberOfComponentsPerPixel() != 1:
        raise UserError(f"{path}: not a 3D volume with one channel")
    return sitk.DICOMOrient(volume, "LPS")  # rows run to the back, columns to the patient's left


def _read_mask(path: Path, size: tuple[int, ...]) -> np.ndarray:
    mask = _read(path)
    if mask.GetSize() != size:
        raise UserError(f"{path}: {mask.GetSize()} voxels, its image has {size}; give masks on the image's grid")
    return sitk.GetArrayFromImage(mask) > 0


def read_case(files: CaseFiles) -> OverlayCase:
    """Read a case, turned to axial slices in radiological view.

    Raises:
        UserError: a file that cannot be read, is not 3D, or whose grid differs from the image's.
    """
    image = _read(files.image)
    reference, *predictions = (_read_mask(path, image.GetSize()) for path in (files.reference, *files.predictions))
    array = sitk.GetArrayFromImage(image)
    return OverlayCase(files.name, array, reference, tuple(predictions), image.GetSpacing()[::-1])


# --- choice of cases -------------------------------------------------------------------------------------------------


def dice(prediction: np.ndarray, reference: np.ndarray) -> float:
    """Dice of two boolean volumes; NaN if both are empty."""
    total = int(prediction.sum()) + int(reference.sum())
    return 2.0 * int((prediction & reference).sum()) / total if total else math.nan


def pick_cases(
    cases: Sequence[CaseFiles],
    count: int,
    progress: Callable[[Sequence[CaseFiles]], Iterable[CaseFiles]] = iter,
) -> list[CaseFiles]:
    """Pick cases spread evenly over the ranks of the first prediction's Dice, from the best to the worst.

    So the choice shows failures as well. Cases whose Dice is undefined come last.
    """
    if count < 1:
        raise UserError(f"--count {count}: give at least 1")
    if len(cases) <= 1:
        return list(cases)
    scores = {case.name: _score(case) for case in progress(cases)}
    ranked = sorted(cases, key=lambda case: (-scores[case.name], case.name))
    ranks = np.linspace(0, len(ranked) - 1, min(count, len(ranked)))
    return [ranked[round(rank)] for rank in ranks]


def _score(files: CaseFiles) -> float:
    case = read_case(files)
    score = dice(case.predictions[0], case.reference)
    return -1.0 if math.isnan(score) else score


# --- figure ----------------------------------------------------------------------------------------------------------


def shown_slice(case: OverlayCase) -> int:
    """Slice with most reference foreground; without any, with most predicted foreground, else the middle one."""
    for mask in (case.reference, *case.predictions):
        if mask.any():
            return int(mask.sum(axis=(1, 2)).argmax())
    return case.image.shape[0] // 2


def shown_window(case: OverlayCase, margin_mm: float | None) -> tuple[slice, slice]:
    """Rows and columns to show: the whole slice, or a square around the foreground of that slice."""
    masks = np.stack([case.reference, *case.predictions])[:, shown_slice(case)].any(axis=0)
    if margin_mm is None or not masks.any():
        return slice(None), slice(None)
    spacing_mm = np.array(case.spacing_mm[1:])
    corners = np.argwhere(masks)
    low, high = corners.min(axis=0), corners.max(axis=0) + 1
    half_mm = ((high - low) * spacing_mm).max() / 2 + margin_mm
    half_voxels = np.ceil(half_mm / spacing_mm)
    centre = (low + high) / 2
    start = np.maximum(centre - half_voxels, 0).astype(int)
    stop = np.minimum(centre + half_voxels, masks.shape).astype(int)
    return slice(start[0], stop[0]), slice(start[1], stop[1])


def overlay_figure(
    cases: Sequence[OverlayCase],
    *,
    prediction_names: Sequence[str] = ("Prediction",),
    margin_mm: float | None = None,
    percentiles: tuple[float, float] = (0.5, 99.5),
) -> Figure:
    """Draw the cases.

    Args:
        cases: one row each.
        prediction_names: column titles, one for each prediction of a case.
        margin_mm: show so much around the foreground; None shows whole slices.
        percentiles: grey values of the shown part that become black and white.

    Raises:
        ValueError: no case, names and predictions that do not match, or masks of another shape than their image.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    _check(cases, prediction_names)
    windows = [shown_window(case, margin_mm) for case in cases]
    heights = [PANEL_WIDTH_INCHES * _aspect(case, window) for case, window in zip(cases, windows, strict=True)]
    columns = 2 + len(prediction_names)
    top, bottom, left = 0.3, 0.36, 0.36  # inches for titles, legend and row labels
    width, height = left + columns * PANEL_WIDTH_INCHES, top + bottom + sum(heights)
    figure = Figure(figsize=(width, height), dpi=DPI, facecolor="white")
    FigureCanvasAgg(figure)
    grid = figure.add_gridspec(
        len(cases), columns, height_ratios=heights, hspace=0.02, wspace=0.02,
        left=left / width, right=1.0 - 0.05 / width, top=1.0 - top / height, bottom=bottom / height,
    )  # fmt: skip
    for row, (case, window) in enumerate(zip(cases, windows, strict=True)):
        axes = [figure.add_subplot(grid[row, column]) for column in range(columns)]
        _draw_row(axes, case, window, percentiles)
        _label_row(axes[0], case, heights[row])
        if row == 0:
            for axis, title in zip(axes, ("Image", "Reference", *prediction_names), strict=True):
                axis.set_title(title, fontsize=10, pad=5)
    _add_legend(figure, height)
    return figure


def save_figure(figure: Figure, path: Path) -> None:
    """Write the figure (PNG, PDF, SVG by its ending), whole or not at all.

    Raises:
        UserError: an ending that matplotlib cannot write.
    """
    supported = figure.canvas.get_supported_filetypes()
    if path.suffix[1:].lower() not in supported:
        raise UserError(f"{path}: no picture format; end the name in .png, .pdf or .svg")
    path.parent.mkdir(parents=True, exist_ok=True)
    with whole(path) as partial:
        figure.savefig(partial)


def _check(cases: Sequence[OverlayCase], prediction_names: Sequence[str]) -> None:
    if not cases:
        raise ValueError("no case to draw")
    for case in cases:
        if len(case.predictions) != len(prediction_names):
            raise ValueError(f"{case.name}: {len(case.predictions)} predictions, {len(prediction_names)} names")
        for mask in (case.reference, *case.predictions):
            if mask.shape != case.image.shape:
                raise ValueError(f"{case.name}: mask {mask.shape}, image {case.image.shape}")


def _aspect(case: OverlayCase, window: tuple[slice, slice]) -> float:
    """Height of the shown part over its width, in mm."""
    rows, columns = case.image[0][window].shape
    return rows * case.spacing_mm[1] / (columns * case.spacing_mm[2])


def _draw_row(
    axes: Sequence[Axes], case: OverlayCase, window: tuple[slice, slice], percentiles: tuple[float, float]
) -> None:
    index = shown_slice(case)
    pixels = case.image[index][window]
    low, high = np.percentile(pixels, percentiles)
    for axis in axes:
        axis.imshow(
            pixels, cmap="gray", vmin=low, vmax=max(high, low + 1e-6), interpolation="bilinear",
            aspect=case.spacing_mm[1] / case.spacing_mm[2],
        )  # fmt: skip
        axis.set_xticks([])
        axis.set_yticks([])
        for spine in axis.spines.values():
            spine.set_visible(False)
    reference = case.reference[index][window]
    draw_contour(axes[1], reference, REFERENCE_COLOUR, 1.3)
    for axis, prediction in zip(axes[2:], case.predictions, strict=True):
        draw_contour(axis, reference, REFERENCE_COLOUR, 0.9)
        draw_contour(axis, prediction[index][window], PREDICTION_COLOUR, 1.3)
        _write_dice(axis, dice(prediction, case.reference))


def draw_contour(axis: Axes, mask: np.ndarray, colour: str, width_points: float, line: str = "solid") -> None:
    """Draw the outline of a boolean mask (rows, columns) along the borders of its voxels."""
    if not mask.any():
        return
    padded = np.pad(mask.astype(float), 1)  # closes contours at the border of the picture
    rows, columns = (np.arange(-1, n + 1) for n in mask.shape)
    axis.contour(columns, rows, padded, levels=[0.5], colors=[colour], linewidths=width_points, linestyles=line)
    axis.set_xlim(-0.5, mask.shape[1] - 0.5)
    axis.set_ylim(mask.shape[0] - 0.5, -0.5)


def _label_row(axis: Axes, case: OverlayCase, height_inches: float) -> None:
    """Write name and slice beside the row, in a size at which the name is no longer than the row is high."""
    size_points = float(np.clip(72 * height_inches / (0.75 * len(case.name)), 4.0, 8.0))
    axis.set_ylabel(f"{case.name}\nslice {shown_slice(case)}", fontsize=size_points, labelpad=3)


def _write_dice(axis: Axes, score: float) -> None:
    text = "both empty" if math.isnan(score) else f"Dice {score:.2f}"
    box = {"boxstyle": "round,pad=0.25", "facecolor": "black", "edgecolor": "none", "alpha": 0.65}
    axis.text(0.03, 0.03, text, transform=axis.transAxes, color="white", fontsize=8, va="bottom", bbox=box)


def _add_legend(figure: Figure, height_inches: float) -> None:
    from matplotlib.lines import Line2D

    handles = [
        Line2D([], [], color=REFERENCE_COLOUR, linewidth=2, label="Reference"),
        Line2D([], [], color=PREDICTION_COLOUR, linewidth=2, label="Prediction"),
        Line2D([], [], linestyle="none", label="Dice: whole volume"),
    ]
    figure.legend(
        handles=handles, loc="lower center", ncols=3, frameon=False, fontsize=8,
        bbox_to_anchor=(0.5, 0.04 / height_inches),
    )  # fmt: skip

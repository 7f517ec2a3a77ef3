"""One look for all figures: palette, canvas, slices with contours. Readable at a column's width, and by colour-blind
readers. Nothing here uses pyplot, whose state belongs to nnU-Net's own plots.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from nnunet_dycon.errors import UserError
from nnunet_dycon.files.whole_files import whole

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Okabe-Ito
ORANGE, SKY_BLUE, GREEN, YELLOW = "#E69F00", "#56B4E9", "#009E73", "#F0E442"
BLUE, VERMILION, PURPLE = "#0072B2", "#D55E00", "#CC79A7"
STUDENT, TEACHER, REFERENCE, PREDICTION = VERMILION, BLUE, SKY_BLUE, ORANGE
CLASS_COLOURS = (ORANGE, SKY_BLUE, GREEN, YELLOW, PURPLE, VERMILION)  # those that stand out on grey; they repeat
ENTROPY_COLOURS = "magma"  # perceptually uniform, readable in grey
WIDTH_INCHES = 7.0  # two columns of most journals
LABEL_POINTS = 7.0

Classes = Mapping[str, tuple[int, ...]]
"""Label values by name; several for a region."""

_PARAMETERS: Any = {
    "font.size": 8,
    "axes.titlesize": 9,
    "axes.labelsize": 8,
    "legend.fontsize": 7.5,
    "legend.frameon": False,
    "lines.linewidth": 1.5,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "figure.dpi": 300,
    "savefig.dpi": "figure",
    "pdf.fonttype": 42,  # text stays text in editors
}


@contextmanager
def style() -> Iterator[None]:
    """Inside, matplotlib draws in this look, whatever was set before (nnU-Net's plots set seaborn's)."""
    import matplotlib as mpl
    import matplotlib.style

    with matplotlib.style.context("default"), mpl.rc_context(_PARAMETERS):
        yield


def empty_figure(width_inches: float, height_inches: float, **options: Any) -> Figure:
    """A white figure without pyplot."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width_inches, height_inches), facecolor="white", **options)
    FigureCanvasAgg(figure)
    return figure


def panels(
    heights: Sequence[float],
    labels: Sequence[Sequence[str]],
    columns: int,
    *,
    panel_inches: float,
    right: float = 0.1,
    top: float = 0.3,
    bottom: float = 0.4,
    dpi: int | None = None,
) -> tuple[Figure, np.ndarray]:
    """A figure with rows of panels that touch, and its axes (rows, columns).

    Args:
        heights: of each row's panels, as a multiple of their width.
        labels: lines left of each row.
        columns: panels in a row.
        panel_inches: width of a panel.
        right, top, bottom: margins in inches.
        dpi: None is the look's.
    """
    texts = [wrapped(lines, panel_inches * height) for lines, height in zip(labels, heights, strict=True)]
    left = 0.12 + LABEL_POINTS * 1.25 / 72 * max(text.count("\n") + 1 for text in texts)
    width = left + right + panel_inches * columns
    height = top + bottom + panel_inches * sum(heights)
    figure = empty_figure(width, height, dpi=dpi)
    grid = {
        "height_ratios": list(heights), "hspace": 0.03, "wspace": 0.03, "left": left / width,
        "right": 1 - right / width, "top": 1 - top / height, "bottom": bottom / height,
    }  # fmt: skip
    axes = figure.subplots(len(heights), columns, squeeze=False, gridspec_kw=grid)
    for axis, text in zip(axes[:, 0], texts, strict=True):
        axis.set_ylabel(text, fontsize=LABEL_POINTS, labelpad=3)
    return figure, axes


def wrapped(lines: Iterable[str], height_inches: float) -> str:
    """Whole lines to be written upwards, broken where a line is longer than its panel is high."""
    most = max(6, int(72 * height_inches / (0.68 * LABEL_POINTS)))  # capitals are that wide
    return "\n".join(line[i : i + most] for line in lines for i in range(0, max(len(line), 1), most))


def save_figure(figure: Figure, path: Path) -> None:
    """Write the figure (PNG, PDF, SVG by its ending), whole or not at all.

    Raises:
        UserError: an ending that matplotlib cannot write.
    """
    if path.suffix[1:].lower() not in figure.canvas.get_supported_filetypes():
        raise UserError(f"{path}: no picture format; end the name in .png, .pdf or .svg")
    path.parent.mkdir(parents=True, exist_ok=True)
    with whole(path) as partial, style():
        figure.savefig(partial)


# ------------------------------------------------------------------------------------------------------------- slices


@dataclass(frozen=True)
class Slice:
    """One slice of a case; all arrays are (rows, columns)."""

    title: str
    image: np.ndarray
    prediction: np.ndarray
    """Labels."""
    entropy: np.ndarray | None = None
    """Nats."""
    mean_entropy: float = float("nan")
    """Mean over the whole case or crop, nats."""
    aspect: float = 1.0
    """Height of a voxel over its width."""
    reference: np.ndarray | None = None
    """Labels; None for a case without a mask."""

    @property
    def height(self) -> float:
        """Height of its panel over the width."""
        rows, columns = self.image.shape
        return float(np.clip(rows * self.aspect / columns, 0.3, 3.0))


def shown_classes(views: Sequence[Slice]) -> dict[str, tuple[int, ...]]:
    """Each label that any of the views shows as a class of its own."""
    shown = [i for view in views for i in (view.prediction, view.reference) if i is not None]
    values = sorted({int(i) for labels in shown for i in np.unique(labels) if i > 0})
    return {f"class {value}": (value,) for value in values} if len(values) > 1 else {"": tuple(values)}


def show_image(axis: Axes, view: Slice) -> None:
    """Draw the image; percentiles of its grey values become black and white."""
    low, high = np.percentile(view.image, (0.5, 99.5))
    _show(axis, view.image, view, cmap="gray", vmin=low, vmax=max(high, low + 1e-6), interpolation="bilinear")


def show_masks(axis: Axes, view: Slice, classes: Classes, *, prediction: bool = True) -> None:
    """Draw the image with contours.

    One class has a colour for each of reference and prediction; of several each has its colour, and dashes are the
    reference.
    """
    show_image(axis, view)
    for index, values in enumerate(classes.values()):
        colour = CLASS_COLOURS[index % len(CLASS_COLOURS)]
        single = len(classes) == 1
        if view.reference is not None:
            look = (REFERENCE, 1.3, "-") if single else (colour, 1.1, "--" if prediction else "-")
            _contour(axis, np.isin(view.reference, values), *look)
        if prediction:
            _contour(axis, np.isin(view.prediction, values), PREDICTION if single else colour, 1.2, "-")


def show_entropy(axis: Axes, view: Slice, highest: float, text: str = "") -> Any:
    """Draw the entropy map, black for 0 and bright for ``highest``; the return value is for ``add_entropy_scale``."""
    assert view.entropy is not None
    options = {"cmap": ENTROPY_COLOURS, "vmin": 0.0, "vmax": max(highest, 1e-6), "interpolation": "nearest"}
    shown = _show(axis, view.entropy, view, **options)
    write_in(axis, text)
    return shown


def write_in(axis: Axes, text: str) -> None:
    """Write into the lower left corner of a panel."""
    if text:
        box = {"boxstyle": "round,pad=0.2", "facecolor": "black", "edgecolor": "none", "alpha": 0.6}
        axis.text(0.03, 0.03, text, transform=axis.transAxes, color="white", fontsize=6.5, va="bottom", bbox=box)


def _show(axis: Axes, pixels: np.ndarray, view: Slice, **options: Any) -> Any:
    shown = axis.imshow(pixels, aspect=view.aspect, **options)
    axis.set(xticks=[], yticks=[])
    for spine in axis.spines.values():
        spine.set_visible(False)
    return shown


def _contour(axis: Axes, mask: np.ndarray, colour: str, width_points: float, line: str) -> None:
    """Draw the outline of a boolean mask (rows, columns) along the borders of its voxels."""
    if not mask.any():
        return
    padded = np.pad(mask.astype(float), 1)  # closes contours at the border of the picture
    rows, columns = (np.arange(-1, n + 1) for n in mask.shape)
    axis.contour(columns, rows, padded, levels=[0.5], colors=[colour], linewidths=width_points, linestyles=line)
    axis.set(xlim=(-0.5, mask.shape[1] - 0.5), ylim=(mask.shape[0] - 0.5, -0.5))


def legend_inches(names: Sequence[str], width_inches: float, note: str = "") -> float:
    """Height of the bottom margin that ``add_legend`` needs."""
    entries = _legend_entries(names)
    return 0.14 + 0.17 * -(-len(entries) // _legend_columns(entries, width_inches)) + (0.14 if note else 0.0)


def add_legend(figure: Figure, names: Sequence[str], *, reference: bool = True, note: str = "") -> None:
    """Say below the panels, in ``legend_inches``, what the contours are; ``note`` is what else a reader has to know."""
    from matplotlib.lines import Line2D

    entries = _legend_entries(names)[not reference :]
    handles = [Line2D([], [], color=colour, linestyle=line, linewidth=2, label=name) for name, colour, line in entries]
    width, height = figure.get_size_inches()
    columns = min(_legend_columns(entries, width), len(entries))
    place = 0.5, (0.17 if note else 0.04) / height
    figure.legend(handles=handles, ncols=columns, borderaxespad=0, loc="lower center", bbox_to_anchor=place)
    figure.text(0.5, 0.05 / height, note, ha="center", va="bottom", fontsize=6.5, color="0.3")


def _legend_entries(names: Sequence[str]) -> list[tuple[str, str, Any]]:
    """Name, colour and line of each entry."""
    if len(names) <= 1:
        return [("reference", REFERENCE, "-"), ("prediction", PREDICTION, "-")]
    classes = [(name, CLASS_COLOURS[i % len(CLASS_COLOURS)], "-") for i, name in enumerate(names)]
    return [("reference", "0.3", "--"), ("prediction", "0.3", "-"), *classes]


def _legend_columns(entries: Sequence[tuple[str, str, Any]], width_inches: float) -> int:
    return max(1, int(width_inches / (0.5 + 0.075 * max(len(name) for name, *_ in entries))))


def add_entropy_scale(figure: Figure, shown: Any, right: float) -> None:
    """A colour bar for all entropy maps in the right margin, which is ``right`` inches wide."""
    width, height = figure.get_size_inches()
    length = min(0.75 * height, 3.0)
    area = (1 - (right - 0.08) / width, 0.5 - length / 2 / height, 0.11 / width, length / height)
    scale = figure.colorbar(shown, cax=figure.add_axes(area))
    scale.set_label("entropy [nats]", fontsize=7.5)
    scale.ax.tick_params(labelsize=7)

"""One look for all figures: palette, canvas, slices with contours. Readable at a column's width, and by colour-blind
readers. Nothing here uses pyplot, whose state belongs to nnU-Net's own plots.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import cycle
from pathlib import Path
from typing import Any, NamedTuple

import matplotlib.style
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from nnunet_dycon.errors import UserError
from nnunet_dycon.files.whole_files import whole

# Okabe-Ito
ORANGE, SKY_BLUE, GREEN, YELLOW = "#E69F00", "#56B4E9", "#009E73", "#F0E442"
BLUE, VERMILION, PURPLE = "#0072B2", "#D55E00", "#CC79A7"
STUDENT, TEACHER, REFERENCE, PREDICTION = VERMILION, BLUE, SKY_BLUE, ORANGE
CLASS_COLOURS = (ORANGE, SKY_BLUE, GREEN, YELLOW, PURPLE, VERMILION)  # those that stand out on grey; they repeat
_ENTROPY_COLOURS = "magma"  # perceptually uniform, readable in grey
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

style = functools.partial(matplotlib.style.context, ["default", _PARAMETERS])
"""Inside, matplotlib draws in this look, whatever was set before (nnU-Net's plots set seaborn's)."""


def empty_figure(width_inches: float, height_inches: float, **options: Any) -> Figure:
    """A white figure without pyplot."""
    figure = Figure(figsize=(width_inches, height_inches), facecolor="white", **options)
    FigureCanvasAgg(figure)
    return figure


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
    """One slice of a case; all arrays are (rows, columns): labels, entropy in nats.

    ``mean_entropy`` is of the whole case or crop, ``aspect`` the height of a voxel over its width. ``reference`` is
    None for a case without a mask.
    """

    title: str
    image: np.ndarray
    prediction: np.ndarray
    entropy: np.ndarray | None = None
    mean_entropy: float = float("nan")
    aspect: float = 1.0
    reference: np.ndarray | None = None

    @property
    def height(self) -> float:
        """Height of its panel over the width."""
        rows, columns = self.image.shape
        return float(np.clip(rows * self.aspect / columns, 0.3, 3.0))


class Panel(NamedTuple):
    """A slice with the contours of classes, or its entropy map, bright for ``highest_entropy`` nats; and a text on it.

    One class has a colour for each of reference and prediction; of several each has its colour, and dashes are the
    reference.
    """

    view: Slice
    classes: Classes | None = None
    text: str = ""
    highest_entropy: float | None = None
    with_prediction: bool = True


def shown_classes(views: Iterable[Slice]) -> dict[str, tuple[int, ...]]:
    """Each label that any of the views shows as a class of its own."""
    shown = [i for view in views for i in (view.prediction, view.reference) if i is not None]
    values = sorted({int(i) for labels in shown for i in np.unique(labels) if i > 0})
    return {f"class {value}": (value,) for value in values} if len(values) > 1 else {"": tuple(values)}


def legend_inches(names: Sequence[str], width_inches: float, note: str) -> float:
    """Height of the bottom margin that the legend of ``slices_figure`` needs."""
    entries, columns = _legend(names, width_inches)
    return 0.14 + 0.17 * math.ceil(len(entries) / columns) + (0.14 if note else 0.0)


@style()
def slices_figure(
    rows: Sequence[tuple[Sequence[str], Sequence[Panel]]],
    titles: Sequence[str],
    names: Sequence[str],
    *,
    panel_inches: float,
    right: float = 0.1,
    top: float = 0.3,
    bottom: float = 0.4,
    pad_points: float = 4.0,
    dpi: int | None = None,
    note: str = "",
) -> Figure:
    """Rows of panels that touch, with lines of text left of each row and titles ``pad_points`` above the columns.

    Below is a legend of the classes' ``names``, with a note of what else a reader has to know. If the last panel is
    an entropy map, the right margin has the scale of all. The margins right, top, bottom are in inches, as is the
    width of a panel; a ``dpi`` of None is the look's.
    """
    heights = [of_row[0].view.height for _, of_row in rows]
    texts = [wrapped(lines, panel_inches * height) for (lines, _), height in zip(rows, heights, strict=True)]
    left = 0.12 + LABEL_POINTS * 1.25 / 72 * max(text.count("\n") + 1 for text in texts)
    width = left + right + panel_inches * len(titles)
    height = top + bottom + panel_inches * sum(heights)
    figure = empty_figure(width, height, dpi=dpi)
    grid = {
        "height_ratios": heights, "hspace": 0.03, "wspace": 0.03, "left": left / width,
        "right": 1 - right / width, "top": 1 - top / height, "bottom": bottom / height,
    }  # fmt: skip
    axes = figure.subplots(len(rows), len(titles), squeeze=False, gridspec_kw=grid)
    for axis, text in zip(axes[:, 0], texts, strict=True):
        axis.set_ylabel(text, fontsize=LABEL_POINTS, labelpad=3)
    for axis, title in zip(axes[0], titles, strict=True):
        axis.set_title(title, pad=pad_points)
    shown = [panel for _, of_row in rows for panel in of_row]
    drawn = [_draw(axis, panel) for axis, panel in zip(axes.flat, shown, strict=True)]
    if shown[-1].highest_entropy is not None:
        _add_entropy_scale(figure, drawn[-1], right)
    _add_legend(figure, names, shown, note)
    return figure


def _draw(axis: Axes, panel: Panel) -> Any:
    """Draw a panel; percentiles of its grey values become black and white. The image is for the entropy's scale."""
    look: dict[str, Any]
    if panel.highest_entropy is None:
        pixels, look = panel.view.image, {"cmap": "gray", "interpolation": "bilinear"}
        low, high = np.percentile(pixels, (0.5, 99.5))
    else:
        assert panel.view.entropy is not None
        pixels, look = panel.view.entropy, {"cmap": _ENTROPY_COLOURS, "interpolation": "nearest"}
        low, high = 0.0, panel.highest_entropy
    shown = axis.imshow(pixels, vmin=low, vmax=max(high, low + 1e-6), aspect=panel.view.aspect, **look)
    axis.set(xticks=[], yticks=[])
    axis.spines[:].set_visible(False)
    _draw_contours(axis, panel, panel.classes or {})
    if panel.text:
        box = {"boxstyle": "round,pad=0.2", "facecolor": "black", "edgecolor": "none", "alpha": 0.6}
        axis.text(0.03, 0.03, panel.text, transform=axis.transAxes, color="white", fontsize=6.5, va="bottom", bbox=box)
    return shown


def _draw_contours(axis: Axes, panel: Panel, classes: Classes) -> None:
    view, single = panel.view, len(classes) == 1
    for own, values in zip(cycle(CLASS_COLOURS), classes.values(), strict=False):
        if view.reference is not None:
            look = (REFERENCE, 1.3, "-") if single else (own, 1.1, "--" if panel.with_prediction else "-")
            _contour(axis, np.isin(view.reference, values), *look)
        if panel.with_prediction:
            _contour(axis, np.isin(view.prediction, values), PREDICTION if single else own, 1.2, "-")


def _contour(axis: Axes, mask: np.ndarray, colour: str, width_points: float, line: str) -> None:
    """Draw the outline of a boolean mask (rows, columns) along the borders of its voxels."""
    if not mask.any():
        return
    padded = np.pad(mask.astype(float), 1)  # closes contours at the border of the picture
    rows, columns = (np.arange(-1, n + 1) for n in mask.shape)
    axis.contour(columns, rows, padded, levels=[0.5], colors=[colour], linewidths=width_points, linestyles=line)
    axis.set(xlim=(-0.5, mask.shape[1] - 0.5), ylim=(mask.shape[0] - 0.5, -0.5))


def _add_legend(figure: Figure, names: Sequence[str], shown: Sequence[Panel], note: str) -> None:
    width, height = figure.get_size_inches()
    entries, columns = _legend(names, width)
    if all(panel.view.reference is None for panel in shown):
        entries = entries[1:]
    handles = [Line2D([], [], color=colour, linestyle=line, linewidth=2, label=name) for name, colour, line in entries]
    look: Any = {"ncols": min(columns, len(entries)), "borderaxespad": 0, "loc": "lower center"}
    figure.legend(handles=handles, bbox_to_anchor=(0.5, (0.17 if note else 0.04) / height), **look)
    figure.text(0.5, 0.05 / height, note, ha="center", va="bottom", fontsize=6.5, color="0.3")


def _legend(names: Sequence[str], width_inches: float) -> tuple[list[tuple[str, str, Any]], int]:
    """Name, colour and line of each entry, and how many fit beside each other."""
    entries = [("reference", REFERENCE, "-"), ("prediction", PREDICTION, "-")]
    if len(names) > 1:
        classes = [(name, colour, "-") for name, colour in zip(names, cycle(CLASS_COLOURS), strict=False)]
        entries = [("reference", "0.3", "--"), ("prediction", "0.3", "-"), *classes]
    return entries, max(1, int(width_inches / (0.5 + 0.075 * max(len(name) for name, *_ in entries))))


def _add_entropy_scale(figure: Figure, shown: Any, right: float) -> None:
    width, height = figure.get_size_inches()
    length = min(0.75 * height, 3.0)
    area = (1 - (right - 0.08) / width, 0.5 - length / 2 / height, 0.11 / width, length / height)
    scale = figure.colorbar(shown, cax=figure.add_axes(area))
    scale.set_label("entropy [nats]", fontsize=7.5)
    scale.ax.tick_params(labelsize=7)

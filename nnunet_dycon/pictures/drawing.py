"""Figures of views: the picture of one epoch, and the film strip over the epochs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from nnunet_dycon.pictures.overlay import PREDICTION_COLOUR, REFERENCE_COLOUR, draw_contour
from nnunet_dycon.pictures.views import Picture, View

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Okabe-Ito colours that stand out on grey and differ from the reference's
_CLASS_COLOURS = (PREDICTION_COLOUR, "#CC79A7", "#009E73", "#F0E442", "#D55E00", "#0072B2")
_ENTROPY_COLOURS = "magma"  # perceptually uniform, readable in grey and by colour-blind readers
_PANEL_INCHES = 2.2
_DPI = 110


def epoch_figure(picture: Picture) -> Figure:
    """A row a view: image, prediction on the image, entropy map."""
    rows = len(picture.views)
    heights = [_height(view) for view in picture.views]
    figure, grid = _empty_figure(rows, 3, [1.0] * 3, heights)
    for row, view in enumerate(picture.views):
        axes = [figure.add_subplot(grid[row, column]) for column in range(3)]
        _show_image(axes[0], view)
        _label(axes[0], view.title, view)
        _show_prediction(axes[1], view)
        shown = _show_entropy(axes[2], view, picture.highest_entropy)
        if row == 0:
            for axis, title in zip(axes, ("image", "prediction", "entropy"), strict=True):
                axis.set_title(title, fontsize=9, pad=4)
    _add_scale(figure, shown)
    _add_legend(figure, picture)
    figure.text(0.01, 0.01, f"epoch {picture.epoch}", fontsize=9, weight="bold", va="bottom")
    return figure


def film_strip_figure(pictures: Sequence[Picture], *, dpi: int = _DPI) -> Figure:
    """Two rows a case, prediction and entropy map; a column an epoch.

    Raises:
        ValueError: no picture, or pictures of different cases.
    """
    if not pictures:
        raise ValueError("no picture for a film strip")
    titles = [tuple(view.title for view in picture.views) for picture in pictures]
    if len(set(titles)) > 1:
        raise ValueError(f"pictures of different cases do not make one film strip: {sorted(set(titles))}")
    heights = [_height(view) for view in pictures[0].views for _ in range(2)]
    figure, grid = _empty_figure(len(heights), len(pictures), [1.0] * len(pictures), heights, dpi)
    for column, picture in enumerate(pictures):
        for index, view in enumerate(picture.views):
            upper, lower = (figure.add_subplot(grid[2 * index + i, column]) for i in range(2))
            _show_prediction(upper, view)
            shown = _show_entropy(lower, view, picture.highest_entropy)
            if index == 0:
                upper.set_title(f"epoch {picture.epoch}", fontsize=9, pad=4)
            if column == 0:
                _label(upper, f"{view.title}\nprediction", view)
                _label(lower, "entropy", view)
    _add_scale(figure, shown)
    _add_legend(figure, pictures[-1])
    return figure


def spread(pictures: Sequence[Any], most: int) -> list[Any]:
    """At most ``most`` of them, evenly spread, first and last included."""
    if len(pictures) <= most:
        return list(pictures)
    return [pictures[round(i)] for i in np.linspace(0, len(pictures) - 1, most)]


def _height(view: View) -> float:
    """Height of a panel over its width."""
    rows, columns = view.image.shape
    return float(np.clip(rows * view.aspect / columns, 0.3, 3.0))


def _label(axis: Axes, text: str, view: View) -> None:
    """Write beside a panel, in a size at which the text is no longer than the panel is high."""
    longest = max(len(line) for line in text.splitlines())
    size_points = float(np.clip(72 * _PANEL_INCHES * _height(view) / (0.68 * longest), 4.0, 8.0))
    axis.set_ylabel(text, fontsize=size_points, labelpad=3)


def _empty_figure(
    rows: int, columns: int, widths: Sequence[float], heights: Sequence[float], dpi: int = _DPI
) -> tuple[Figure, Any]:
    """A figure without pyplot, whose state belongs to nnU-Net's own plots, and its grid of panels."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    left, right, top, bottom = 0.5, 0.75, 0.3, 0.4  # inches
    width = left + right + _PANEL_INCHES * sum(widths)
    height = top + bottom + _PANEL_INCHES * sum(heights)
    figure = Figure(figsize=(width, height), dpi=dpi, facecolor="white")
    FigureCanvasAgg(figure)
    grid = figure.add_gridspec(
        rows, columns, width_ratios=widths, height_ratios=heights, hspace=0.03, wspace=0.03,
        left=left / width, right=1 - right / width, top=1 - top / height, bottom=bottom / height,
    )  # fmt: skip
    return figure, grid


def _show(axis: Axes, pixels: np.ndarray, view: View, **options: Any) -> Any:
    shown = axis.imshow(pixels, aspect=view.aspect, **options)
    axis.set_xticks([])
    axis.set_yticks([])
    for spine in axis.spines.values():
        spine.set_visible(False)
    return shown


def _show_image(axis: Axes, view: View) -> None:
    low, high = np.percentile(view.image, (0.5, 99.5))
    _show(axis, view.image, view, cmap="gray", vmin=low, vmax=max(high, low + 1e-6), interpolation="bilinear")


def _show_prediction(axis: Axes, view: View) -> None:
    _show_image(axis, view)
    if view.reference is not None:
        for value in np.unique(view.reference[view.reference > 0]):
            draw_contour(axis, view.reference == value, REFERENCE_COLOUR, 1.0)
    for value in np.unique(view.prediction[view.prediction > 0]):
        draw_contour(axis, view.prediction == value, _class_colour(int(value)), 1.4)


def _show_entropy(axis: Axes, view: View, highest: float) -> Any:
    shown = _show(axis, view.entropy, view, cmap=_ENTROPY_COLOURS, vmin=0.0, vmax=highest, interpolation="nearest")
    box = {"boxstyle": "round,pad=0.2", "facecolor": "black", "edgecolor": "none", "alpha": 0.6}
    text = f"crop mean {view.mean_entropy:.3f}"
    axis.text(0.03, 0.03, text, transform=axis.transAxes, color="white", fontsize=7, va="bottom", bbox=box)
    return shown


def _add_scale(figure: Figure, shown: Any) -> None:
    """A colour bar for all entropy maps, right of the panels."""
    width, height = figure.get_size_inches()
    area = (1 - 0.65 / width, 0.5 / height, 0.12 / width, 1 - 0.9 / height)
    scale = figure.colorbar(shown, cax=figure.add_axes(area))
    scale.set_label("entropy [nats]", fontsize=8)
    scale.ax.tick_params(labelsize=7)


def _class_colour(value: int) -> str:
    return _CLASS_COLOURS[(value - 1) % len(_CLASS_COLOURS)]


def _add_legend(figure: Figure, picture: Picture) -> None:
    from matplotlib.lines import Line2D

    values = sorted({int(i) for view in picture.views for i in np.unique(view.prediction) if i > 0})
    several = len(values) > 1
    handles = [
        Line2D([], [], color=_class_colour(i), linewidth=2, label=f"prediction, class {i}" if several else "prediction")
        for i in values
    ]
    if any(view.reference is not None for view in picture.views):
        label = "reference, each class" if several else "reference"
        handles.append(Line2D([], [], color=REFERENCE_COLOUR, linewidth=2, label=label))
    height = figure.get_size_inches()[1]
    if handles:
        figure.legend(
            handles=handles, loc="lower center", ncols=len(handles), frameon=False, fontsize=8,
            bbox_to_anchor=(0.5, 0.04 / height),
        )  # fmt: skip

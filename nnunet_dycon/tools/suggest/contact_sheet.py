"""A picture of the suggested cases: for each the slice that is least sure, with the prediction, and its entropy."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from nnunet_dycon.pictures.overlay import draw_contour
from nnunet_dycon.tools.suggest.scan_view import ScanView
from nnunet_dycon.tools.suggest.selection import Pick

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

CONTOUR_COLOURS = ("#E69F00", "#56B4E9", "#009E73", "#F0E442", "#CC79A7", "#D55E00")  # Okabe-Ito, from label 1
ENTROPY_COLOURS = "magma"
PANEL_INCHES = 2.2
TITLE_INCHES = 0.42
GAP_INCHES = 0.2  # between cases
BOTTOM_INCHES = 0.62  # for the scale
HEAD_INCHES = 0.5
DPI = 160
_MOST_CHARACTERS = 44  # of a name, beyond which its end alone is shown


def contact_sheet(picks: Sequence[Pick], views: Sequence[ScanView], title: str) -> Figure:
    """Draw the sheet: two cases a row (one if there is one), each with image and entropy.

    Args:
        picks: the suggested cases in their order.
        views: of the same cases.
        title: heading.

    Raises:
        ValueError: no case, or numbers that differ.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    if not picks or len(picks) != len(views):
        raise ValueError(f"{len(picks)} picks and {len(views)} views; give one view a pick, and at least one")
    columns = min(2, len(picks))
    rows = math.ceil(len(picks) / columns)
    panel_heights = [
        PANEL_INCHES * max(_height_over_width(view) for view in views[row * columns : (row + 1) * columns])
        for row in range(rows)
    ]
    width = columns * 2 * PANEL_INCHES + (columns + 1) * GAP_INCHES
    height = HEAD_INCHES + sum(panel_heights) + rows * (TITLE_INCHES + GAP_INCHES) + BOTTOM_INCHES
    figure = Figure(figsize=(width, height), dpi=DPI, facecolor="white")
    FigureCanvasAgg(figure)
    figure.text(GAP_INCHES / width, 1 - 0.28 / height, title, fontsize=11, va="center", weight="bold")
    top = height - HEAD_INCHES
    for row, panel_height in enumerate(panel_heights):
        top -= TITLE_INCHES + panel_height
        for column in range(columns):
            if (i := row * columns + column) < len(picks):
                left = GAP_INCHES + column * (2 * PANEL_INCHES + GAP_INCHES)
                boxes = [(left + side * PANEL_INCHES, top, PANEL_INCHES, panel_height) for side in (0, 1)]
                axes = [figure.add_axes((x / width, y / height, w / width, h / height)) for x, y, w, h in boxes]
                _draw_case(axes, i + 1, picks[i], views[i])
        top -= GAP_INCHES
    _add_scale(figure, width, height)
    return figure


def _height_over_width(view: ScanView) -> float:
    return view.image.shape[0] * view.aspect / view.image.shape[1]


def _draw_case(axes: Sequence[Axes], rank: int, pick: Pick, view: ScanView) -> None:
    axes[0].imshow(view.image, cmap="gray", vmin=0, vmax=255, aspect=view.aspect, interpolation="bilinear")
    axes[1].imshow(
        view.entropy / 255.0, cmap=ENTROPY_COLOURS, vmin=0, vmax=1, aspect=view.aspect, interpolation="bilinear"
    )
    for axis in axes:
        axis.set_axis_off()
        axis.set_anchor("N")
    for label in range(1, int(view.labels.max()) + 1):
        colour = CONTOUR_COLOURS[(label - 1) % len(CONTOUR_COLOURS)]
        draw_contour(axes[0], view.labels == label, colour, 1.4)
    draw_contour(axes[1], view.labels > 0, "white", 0.7)
    name = pick.case if len(pick.case) <= _MOST_CHARACTERS else f"…{pick.case[1 - _MOST_CHARACTERS :]}"
    numbers = f"uncertainty {pick.uncertainty:.2f}, slice {view.index}"
    if not math.isnan(pick.distance):
        numbers += f", distance {pick.distance:.2g}"
    axes[0].text(0, 1.0, f"{rank}  {name}\n", transform=axes[0].transAxes, fontsize=8.5, va="bottom", weight="bold")
    axes[0].text(0, 1.02, numbers, transform=axes[0].transAxes, fontsize=8, va="bottom")


def _add_scale(figure: Figure, width: float, height: float) -> None:
    """What the lines mean, and the scale of the entropy."""
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import Normalize

    figure.text(
        GAP_INCHES / width, 0.37 / height, "Lines: predicted outline. The slice shown\nhas the most entropy around it.",
        fontsize=8, va="center",
    )  # fmt: skip
    length = 1.7
    axis = figure.add_axes(((width - length - 0.25) / width, 0.42 / height, length / width, 0.1 / height))
    bar = figure.colorbar(
        ScalarMappable(Normalize(0, 1), ENTROPY_COLOURS), cax=axis, orientation="horizontal", ticks=[0, 0.5, 1]
    )
    bar.ax.tick_params(labelsize=7, pad=1, length=2)
    bar.set_label("entropy, share of the largest", fontsize=8, labelpad=1)

"""Predictions against references on several slices of a case, class by class, with the entropy map."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from nnunet_dycon.pictures import canvas
from nnunet_dycon.pictures.cases import Case

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MARGIN_MM = 20.0
_RIGHT_INCHES = 0.6


@canvas.style()
def segmentation_figure(
    cases: Sequence[Case], slices: int = 3, *, highest_entropy: float | None = None, note: str = ""
) -> Figure:
    """A row a case: slices from one end of the organ to the other with both contours, and the middle one's entropy.

    Args:
        cases: one row each, all with the same classes.
        slices: slices of a case.
        highest_entropy: upper end of the entropy's colour scale in nats; None is the largest shown.
        note: where the predictions come from.

    Raises:
        ValueError: no case.
    """
    if not cases:
        raise ValueError("no case to draw")
    maps = [case.entropy for case in cases if case.entropy is not None]
    with_entropy = len(maps) == len(cases)
    highest = float(max(map(np.max, maps), default=0)) if highest_entropy is None else highest_entropy
    names, columns, right = list(cases[0].classes), slices + with_entropy, _RIGHT_INCHES if with_entropy else 0.1
    panel = (canvas.WIDTH_INCHES - 0.6 - right) / columns
    heights = [case.view(0, case.window(MARGIN_MM)).height for case in cases]
    labels = [[case.name, *case.dice_lines()] for case in cases]
    bottom = canvas.legend_inches(names, canvas.WIDTH_INCHES, note)
    figure, axes = canvas.panels(heights, labels, columns, panel_inches=panel, right=right, top=0.25, bottom=bottom)
    for row, case in zip(axes, cases, strict=True):
        shown = _draw_row(row, case, slices, highest)
    if with_entropy:
        axes[0, -1].set_title("entropy")
        canvas.add_entropy_scale(figure, shown, right)
    canvas.add_legend(figure, names, note=note)
    return figure


def _draw_row(row: Sequence[Axes], case: Case, slices: int, highest: float) -> Any:
    """Draw a case; the return value is for the entropy's scale, if the row has a panel for it."""
    places, window = case.spread_slices(slices), case.window(MARGIN_MM)
    for axis, index in zip(row, places, strict=False):
        canvas.show_masks(axis, case.view(index, window), case.classes)
        canvas.write_in(axis, case.place(index))
    if len(row) == slices:
        return None
    middle = places[slices // 2]
    return canvas.show_entropy(row[-1], case.view(middle, window), highest, case.place(middle))

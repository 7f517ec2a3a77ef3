"""A picture of segmentations on their scans: a row a case, columns for image, reference and prediction(s)."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from nnunet_dycon.pictures import canvas
from nnunet_dycon.pictures.cases import Case, CaseFiles, Window

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

PANEL_INCHES = 2.1
DPI = 200
NOTE = "Dice: whole volume, of the masks as they were given"


def pick_cases(
    cases: Sequence[CaseFiles],
    count: int,
    read: Callable[[CaseFiles], Case],
    progress: Callable[[Sequence[CaseFiles]], Iterable[CaseFiles]] = iter,
) -> list[CaseFiles]:
    """Pick cases spread evenly over the ranks of the first prediction's Dice, from the best to the worst.

    So the choice shows failures as well. Cases whose Dice is undefined come last.
    """
    if len(cases) <= 1:
        return list(cases)
    scores = {case.name: read(case).mean_dice() for case in progress(cases)}
    ranked = sorted(cases, key=lambda i: (math.isnan(scores[i.name]), -scores[i.name], i.name))
    ranks = np.linspace(0, len(ranked) - 1, min(count, len(ranked)))
    return [ranked[round(rank)] for rank in ranks]


@canvas.style()
def overlay_figure(
    cases: Sequence[Case], *, prediction_names: Sequence[str] = ("prediction",), margin_mm: float | None = None
) -> Figure:
    """Draw of each case the slice with most reference foreground.

    Args:
        cases: one row each, all with the same classes.
        prediction_names: column titles, one for each prediction of a case.
        margin_mm: show so much around the foreground; None shows whole slices.

    Raises:
        ValueError: no case, or names and predictions that do not match.
    """
    if not cases:
        raise ValueError("no case to draw")
    for case in cases:
        if len(case.predictions) != len(prediction_names):
            raise ValueError(f"{case.name}: {len(case.predictions)} predictions, {len(prediction_names)} names")
    places = [case.fullest_slice() for case in cases]
    first = [case.view(i, case.window(margin_mm, i)) for case, i in zip(cases, places, strict=True)]
    names, columns = list(cases[0].classes), 2 + len(prediction_names)
    labels = [
        canvas.wrapped([case.name, case.place(i)], PANEL_INCHES * view.height)
        for case, i, view in zip(cases, places, first, strict=True)
    ]
    figure, axes = canvas.panels(
        [view.height for view in first], columns, panel_inches=PANEL_INCHES, dpi=DPI,
        left=canvas.margin_inches(labels), bottom=canvas.legend_inches(names, columns * PANEL_INCHES, NOTE),
    )  # fmt: skip
    for row, case, index, text in zip(axes, cases, places, labels, strict=True):
        canvas.label(row[0], text)
        _draw_row(row, case, index, case.window(margin_mm, index))
    for axis, title in zip(axes[0], ("image", "reference", *prediction_names), strict=True):
        axis.set_title(title, pad=5)
    canvas.add_legend(figure, names, note=NOTE)
    return figure


def _draw_row(axes: Sequence[Axes], case: Case, index: int, window: Window) -> None:
    view = case.view(index, window)
    canvas.show_image(axes[0], view)
    canvas.show_masks(axes[1], view, case.classes, prediction=False)
    for number, axis in enumerate(axes[2:]):
        canvas.show_masks(axis, case.view(index, window, number), case.classes)
        canvas.write_in(axis, "\n".join(case.dice_lines(number)))

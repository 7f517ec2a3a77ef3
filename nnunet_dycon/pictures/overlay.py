"""A picture of segmentations on their scans: a row a case, columns for image, reference and prediction(s)."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING

from nnunet_dycon.pictures import canvas
from nnunet_dycon.pictures.cases import Case, CaseFiles
from nnunet_dycon.pictures.film import spread

if TYPE_CHECKING:
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
    return spread(sorted(cases, key=lambda i: (math.isnan(scores[i.name]), -scores[i.name], i.name)), count)


@canvas.style()
def overlay_figure(
    cases: Sequence[Case], *, prediction_names: Sequence[str] = ("prediction",), margin_mm: float | None = None
) -> Figure:
    """A row a case, all with the same classes: the slice with most reference foreground, whole or with a margin.

    Raises:
        ValueError: no case, or names and predictions that do not match.
    """
    if not cases:
        raise ValueError("no case to draw")
    for case in cases:
        if len(case.predictions) != len(prediction_names):
            raise ValueError(f"{case.name}: {len(case.predictions)} predictions, {len(prediction_names)} names")
    names, columns = list(cases[0].classes), 2 + len(prediction_names)
    views, labels = [], []
    for case in cases:
        index = case.fullest_slice()
        window = case.window(margin_mm, index)
        views.append([case.view(index, window, number) for number in range(len(prediction_names))])
        labels.append([case.name, case.place(index)])
    figure, axes = canvas.panels(
        [row[0].height for row in views], labels, columns, panel_inches=PANEL_INCHES, dpi=DPI,
        bottom=canvas.legend_inches(names, columns * PANEL_INCHES, NOTE),
    )  # fmt: skip
    for row, case, of_case in zip(axes, cases, views, strict=True):
        canvas.show_image(row[0], of_case[0])
        canvas.show_masks(row[1], of_case[0], case.classes, prediction=False)
        for number, (axis, view) in enumerate(zip(row[2:], of_case, strict=True)):
            canvas.show_masks(axis, view, case.classes)
            canvas.write_in(axis, "\n".join(case.dice_lines(number)))
    for axis, title in zip(axes[0], ("image", "reference", *prediction_names), strict=True):
        axis.set_title(title, pad=5)
    canvas.add_legend(figure, names, note=NOTE)
    return figure

"""Segmentations on their scans: one slice a case with reference and prediction(s), or several with the entropy map."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from tqdm import tqdm

from nnunet_dycon.pictures.canvas import WIDTH_INCHES, Panel, legend_inches, slices_figure
from nnunet_dycon.pictures.cases import Case, CaseFiles

_MARGIN_MM = 20.0
_PANEL_INCHES = 2.1
_DPI = 200
_NOTE = "Dice: whole volume, of the masks as they were given"


def pick_cases(cases: Sequence[CaseFiles], count: int, read: Callable[[CaseFiles], Case]) -> list[CaseFiles]:
    """Pick cases spread evenly over the ranks of the first prediction's Dice, from the best to the worst.

    So the choice shows failures as well. Cases whose Dice is undefined come last.
    """
    if len(cases) <= 1:
        return list(cases)
    scores = {case.name: read(case).mean_dice() for case in tqdm(cases, desc="overlay", unit="case")}
    return spread(sorted(cases, key=lambda i: (math.isnan(scores[i.name]), -scores[i.name], i.name)), count)


def spread(items: Sequence[Any], most: int) -> list[Any]:
    """At most ``most`` of them, evenly spread, first and last included."""
    return [items[round(i)] for i in np.linspace(0, len(items) - 1, min(most, len(items)))]


def overlay_figure(
    cases: Sequence[Case], *, prediction_names: Sequence[str] = ("prediction",), margin_mm: float | None = None
) -> Figure:
    """A row a case, all with the same classes: the slice with most reference foreground, whole or with a margin.

    A ValueError says that there is no case, or that names and predictions do not match.
    """
    rows = []
    for case in cases:
        if len(case.predictions) != len(prediction_names):
            raise ValueError(f"{case.name}: {len(case.predictions)} predictions, {len(prediction_names)} names")
        index = case.fullest_slice()
        window = case.window(margin_mm, index)
        view = case.view(index, window)
        panels = [Panel(view), Panel(view, case.classes, with_prediction=False)]
        for number in range(len(prediction_names)):
            text = "\n".join(case.dice_lines(number))
            panels.append(Panel(case.view(index, window, number), case.classes, text))
        rows.append(([case.name, case.place(index)], panels))
    titles, names = ("image", "reference", *prediction_names), _class_names(cases)
    bottom = legend_inches(names, len(titles) * _PANEL_INCHES, _NOTE)
    return slices_figure(
        rows, titles, names, panel_inches=_PANEL_INCHES, bottom=bottom, pad_points=5.0, dpi=_DPI, note=_NOTE
    )


def segmentation_figure(cases: Sequence[Case], slices: int = 3, *, highest_entropy: float, note: str = "") -> Figure:
    """A row a case: slices from one end of the organ to the other with both contours, and the middle one's entropy.

    The cases have the same classes; ``highest_entropy`` is the upper end of the entropy's colour scale in nats. A
    ValueError says that there is no case.
    """
    rows, with_entropy = [], all(case.entropy is not None for case in cases)
    for case in cases:
        window, places = case.window(_MARGIN_MM), case.spread_slices(slices)
        panels = [Panel(case.view(i, window), case.classes, case.place(i)) for i in places]
        if with_entropy:
            middle = panels[slices // 2]
            panels.append(Panel(middle.view, None, middle.text, highest_entropy))
        rows.append(([case.name, *case.dice_lines()], panels))
    titles, right = ([""] * slices + ["entropy"], 0.6) if with_entropy else ([""] * slices, 0.1)
    names, panel_inches = _class_names(cases), (WIDTH_INCHES - 0.6 - right) / len(titles)
    bottom = legend_inches(names, WIDTH_INCHES, note)
    margins: Any = {"right": right, "top": 0.25, "bottom": bottom}
    return slices_figure(rows, titles, names, panel_inches=panel_inches, **margins, pad_points=6.0, note=note)


def _class_names(cases: Sequence[Case]) -> list[str]:
    if not cases:
        raise ValueError("no case to draw")
    return list(cases[0].classes)

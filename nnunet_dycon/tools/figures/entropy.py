"""How entropy and Dice of student and teacher went along the training."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from nnunet_dycon.pictures.style import BLUE, VERMILION, empty_figure
from nnunet_dycon.tools.figures.trained_run import TrainedRun

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def entropy_figure(run: TrainedRun) -> Figure | None:
    """Mean entropy of the training crops, and Dice of the validation crops, by epoch; None if none was logged."""
    if not len(run.curve("student_entropy")):
        return None
    figure = empty_figure(2.4)
    left, right = figure.subplots(1, 2)
    _draw(left, run, "{}_entropy")
    left.set(ylabel="mean entropy [nats]", title="Entropy of the training crops")
    left.set_ylim(bottom=0)
    _draw(right, run, "{}_mean_fg_dice")
    right.set(ylabel="Dice", title="Dice of the validation crops")
    for axis in (left, right):
        axis.set_xlabel("epoch")
        axis.xaxis.get_major_locator().set_params(integer=True)
        axis.legend()
    return figure


def _draw(axis: Axes, run: TrainedRun, pattern: str) -> None:
    for network, colour, line in (("student", VERMILION, "-"), ("teacher", BLUE, "--")):
        values = run.curve(pattern.format(network))
        marker = "o" if len(values) < 30 else None
        axis.plot(np.arange(len(values)), values, line, color=colour, label=network, marker=marker, markersize=3)

"""How entropy and pseudo Dice of student and teacher went along the training."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from nnunet_dycon.models.trained_model import TrainedModel
from nnunet_dycon.pictures import canvas

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


@canvas.style()
def entropy_figure(model: TrainedModel) -> Figure | None:
    """Mean entropy of the training crops, and pseudo Dice, by epoch of the first fold; None if none was logged."""
    if not len(model.curve("student_entropy")):
        return None
    figure = canvas.empty_figure(canvas.WIDTH_INCHES, 2.4, layout="constrained")
    left, right = figure.subplots(1, 2)
    _draw(left, model, "{}_entropy")
    left.set(ylabel="mean entropy [nats]", title="Entropy of the training crops")
    left.set_ylim(bottom=0)
    _draw(right, model, "{}_mean_fg_dice")
    right.set(ylabel="pseudo Dice", title=f"Pseudo Dice, {model.validated_on}")
    for axis in (left, right):
        axis.set_xlabel("epoch")
        axis.xaxis.get_major_locator().set_params(integer=True)
        axis.legend()
    return figure


def _draw(axis: Axes, model: TrainedModel, pattern: str) -> None:
    for network, colour, line in (("student", canvas.STUDENT, "-"), ("teacher", canvas.TEACHER, "--")):
        values = model.curve(pattern.format(network))
        marker = "o" if len(values) < 30 else None
        axis.plot(np.arange(len(values)), values, line, color=colour, label=network, marker=marker, markersize=3)

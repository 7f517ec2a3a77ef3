"""What UnCL's beta does: the size of its gradient by the student's prediction, and along the training."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch

from nnunet_dycon.figures.style import BLACK, BLUE, GREEN, ORANGE, PURPLE, SKY_BLUE, VERMILION, empty_figure
from nnunet_dycon.losses import UnCLoss, beta_schedule
from nnunet_dycon.settings import Settings

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

TEACHER_PROBABILITY = 0.9
_BETA_COLOURS = (BLACK, BLUE, GREEN, ORANGE, VERMILION)
_STUDENT_PROBABILITIES = {0.5: VERMILION, 0.7: ORANGE, 0.97: SKY_BLUE, 0.999: PURPLE}
_LINES = ("-", "--", "-.", ":", (0, (5, 1, 1, 1, 1, 1)))


def gradient_magnitude(student: np.ndarray, teacher: float, beta: float, *, entropy_weight: float) -> np.ndarray:
    """Length of UnCL's gradient with respect to the logits of a voxel with two classes.

    Args:
        student: (V,) the student's foreground probabilities, in (0, 1).
        teacher: the teacher's.
        beta: UnCL's beta.
        entropy_weight: factor on UnCL's entropy term.

    Returns:
        (V,)
    """
    logits = torch.logit(torch.as_tensor(student, dtype=torch.float64))
    logits = torch.stack([torch.zeros_like(logits), logits])[None].requires_grad_()
    target = torch.tensor([0.0, float(torch.logit(torch.tensor(teacher, dtype=torch.float64)))], dtype=torch.float64)
    loss = UnCLoss(entropy_weight=entropy_weight)
    loss(logits, target[None, :, None].expand_as(logits), beta).backward()
    assert logits.grad is not None
    return (logits.grad[0] * len(student)).norm(dim=0).numpy()


def uncl_gradient_figure(settings: Settings, betas: Sequence[float] = (0.0, 0.5, 1.0, 2.0, 5.0)) -> Figure:
    """Three panels: the consistency term and the whole loss for several beta, and the run's own schedule."""
    figure = empty_figure(2.75)
    axes = figure.subplots(1, 3)
    _by_prediction(axes[0], betas, entropy_weight=0.0)
    axes[0].set_title("Consistency term")
    _by_prediction(axes[1], betas, entropy_weight=settings.entropy_weight)
    axes[1].set_title(f"With entropy term (weight {settings.entropy_weight:g})")
    _by_progress(axes[2], settings)
    axes[2].set_title(f"Consistency, beta {settings.beta_max:g} to {settings.beta_min:g}")
    axes[0].set_ylabel("length of the gradient at a voxel")
    axes[0].legend(loc="upper left", ncols=2, columnspacing=0.8, handlelength=1.8, handletextpad=0.5)
    return figure


def _by_prediction(axis: Axes, betas: Sequence[float], *, entropy_weight: float) -> None:
    student = np.linspace(0.001, 0.999, 499)
    for beta, colour, line in zip(betas, _BETA_COLOURS, _LINES, strict=False):
        size = gradient_magnitude(student, TEACHER_PROBABILITY, beta, entropy_weight=entropy_weight)
        axis.plot(student, size, color=colour, linestyle=line, label=f"beta {beta:g}")
    axis.axvline(TEACHER_PROBABILITY, color="0.6", linewidth=0.8, zorder=0)
    axis.set(xlabel="student's probability of the foreground", xlim=(0, 1))
    axis.set_ylim(0, 1.35 * axis.get_ylim()[1])  # room for the legend
    axis.annotate(
        "teacher", (TEACHER_PROBABILITY, 0.99), xycoords=("data", "axes fraction"), xytext=(2, 0), color="0.4",
        textcoords="offset points", ha="left", va="top", rotation=90, fontsize=7,
    )  # fmt: skip


def _by_progress(axis: Axes, settings: Settings) -> None:
    progress = np.linspace(0, 1, 101)
    betas = [beta_schedule(float(i), beta_max=settings.beta_max, beta_min=settings.beta_min) for i in progress]
    for (probability, colour), line in zip(_STUDENT_PROBABILITIES.items(), _LINES, strict=False):
        student = np.array([probability])
        sizes = [gradient_magnitude(student, TEACHER_PROBABILITY, i, entropy_weight=0.0)[0] for i in betas]
        axis.plot(progress, sizes, color=colour, linestyle=line, label=f"{probability:g}")
    axis.set(xlabel="share of the training", xlim=(0, 1), yscale="log")
    axis.set_ylim(bottom=axis.get_ylim()[0] / 12)  # room for the legend
    axis.legend(
        title=f"student (teacher {TEACHER_PROBABILITY:g})", title_fontsize=7.5, loc="lower center", ncols=2,
        columnspacing=1.0, handlelength=2.2,
    )  # fmt: skip

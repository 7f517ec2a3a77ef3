"""What UnCL's beta does: the size of its gradient by the student's prediction, and along this training."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch

from nnunet_dycon.losses import UnCLoss
from nnunet_dycon.pictures.style import BLACK, BLUE, GREEN, ORANGE, PURPLE, VERMILION, empty_figure
from nnunet_dycon.tools.figures.trained_run import TrainedRun

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

TEACHER_PROBABILITY = 0.9
_BETA_COLOURS = (BLACK, BLUE, GREEN, ORANGE, VERMILION)
_LINES = ("-", "--", "-.", ":", (0, (5, 1, 1, 1, 1, 1)))
BETAS = (0.0, 0.5, 1.0, 2.0, 5.0)


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


def gradient_of_a_difference(student_entropy: np.ndarray, teacher_entropy: np.ndarray, beta: np.ndarray) -> np.ndarray:
    """Slope of UnCL's consistency term over the student's probabilities, for a difference of 1 and fixed entropies.

    It is 2 / (exp(beta H_s) + exp(beta H_t)): 1 at beta 0 or without entropy, less where a network is unsure.
    """
    return 2 / (np.exp(beta * student_entropy) + np.exp(beta * teacher_entropy))


def uncl_gradient_figure(run: TrainedRun, betas: Sequence[float] = BETAS) -> Figure | None:
    """By the student's prediction, without and with the entropy term, and along this training; each for several beta.

    Returns:
        None if the training had no UnCL.
    """
    settings = run.settings
    logged = all(len(run.curve(i)) for i in ("beta", "student_entropy", "teacher_entropy"))
    if settings is None or settings.weight_uncl == 0 or not logged:
        return None
    figure = empty_figure(2.9)
    axes = figure.subplots(1, 3)
    _by_prediction(axes[0], betas, entropy_weight=0.0)
    axes[0].set_title("Consistency term")
    _by_prediction(axes[1], betas, entropy_weight=settings.entropy_weight)
    axes[1].set_title(f"With entropy term (weight {settings.entropy_weight:g})")
    _by_progress(axes[2], run, betas)
    axes[2].set_title("Over this training")
    axes[0].set_ylabel("length of a voxel's gradient")
    handles, labels = axes[2].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=len(labels), columnspacing=1.2, handlelength=2.2)
    return figure


def _by_prediction(axis: Axes, betas: Sequence[float], *, entropy_weight: float) -> None:
    student = np.linspace(0.001, 0.999, 499)
    for beta, colour, line in zip(betas, _BETA_COLOURS, _LINES, strict=False):
        size = gradient_magnitude(student, TEACHER_PROBABILITY, beta, entropy_weight=entropy_weight)
        axis.plot(student, size, color=colour, linestyle=line, label=f"beta {beta:g}")
    axis.axvline(TEACHER_PROBABILITY, color="0.6", linewidth=0.8, zorder=0)
    axis.set(xlabel="student's foreground probability", xlim=(0, 1))
    axis.set_ylim(bottom=0)
    axis.annotate(
        f"teacher {TEACHER_PROBABILITY:g}", (TEACHER_PROBABILITY, 0.99), xycoords=("data", "axes fraction"),
        xytext=(2, 0), color="0.4", textcoords="offset points", ha="left", va="top", rotation=90, fontsize=7,
    )  # fmt: skip


def _by_progress(axis: Axes, run: TrainedRun, betas: Sequence[float]) -> None:
    progress, scheduled = run.progress(), run.curve("beta")
    entropies = run.curve("student_entropy"), run.curve("teacher_entropy")
    marker = "o" if len(progress) < 30 else None
    for beta, colour, line in zip(betas, _BETA_COLOURS, _LINES, strict=False):
        size = gradient_of_a_difference(*entropies, np.asarray(beta))
        axis.plot(progress, size, color=colour, linestyle=line, label=f"beta {beta:g}")
    size = gradient_of_a_difference(*entropies, scheduled)
    settings = run.settings
    assert settings is not None
    label = f"this training: {settings.beta_max:g} to {settings.beta_min:g}"
    axis.plot(progress, size, color=PURPLE, linewidth=2.5, label=label, marker=marker, markersize=3)
    axis.set(
        xlabel="share of the training", xlim=(0, 1), ylabel="gradient per unit of difference,\nat the mean entropies"
    )

"""Schedules: pure functions of training progress that return builtin floats."""

from __future__ import annotations

import math
from dataclasses import dataclass


def _check_progress(progress: float) -> float:
    if not 0.0 <= progress <= 1.0:
        raise ValueError(f"progress must lie in [0, 1], got {progress}")
    return float(progress)


def beta_schedule(progress: float, *, beta_max: float = 5.0, beta_min: float = 0.5) -> float:
    """Exponential decay of UnCL's beta from ``beta_max`` to ``beta_min`` over the training progress t in [0, 1].

    beta(t) = beta_max * (beta_min / beta_max)^t

    Raises:
        ValueError: progress outside [0, 1], or a beta that is not positive.
    """
    if beta_max <= 0 or beta_min <= 0:
        raise ValueError(f"beta_max and beta_min must be positive, got {beta_max} and {beta_min}")
    return float(beta_max * (beta_min / beta_max) ** _check_progress(progress))


def sigmoid_rampup(progress: float, *, start: float = 0.0, length: float = 0.4) -> float:
    """Weight that rises along a Gaussian flank from 0 to 1, the field's "sigmoid ramp-up" (Laine & Aila, 2017).

    lambda(t) = exp(-5 (1 - min(1, (t - start) / length))^2), and 0 before ``start``; length 0 switches on at once

    Raises:
        ValueError: progress outside [0, 1], or a negative start or length.
    """
    if start < 0 or length < 0:
        raise ValueError(f"start and length must not be negative, got {start} and {length}")
    elapsed = _check_progress(progress) - start
    if elapsed < 0:
        return 0.0
    if elapsed >= length:
        return 1.0
    return math.exp(-5.0 * (1.0 - elapsed / length) ** 2)


@dataclass(frozen=True)
class Schedule:
    """What happens at a training step, counted from 0."""

    num_steps: int
    steps_per_epoch: int
    ramp_start: float
    """Share of the training, like the next."""
    ramp_length: float

    def progress(self, step: int) -> float:
        """Share of the planned steps that is done, in [0, 1]."""
        return min(1.0, step / self.num_steps)

    def ramp_up(self, step: int) -> float:
        """Factor on the weights of all semi-supervised losses, in [0, 1]."""
        return sigmoid_rampup(self.progress(step), start=self.ramp_start, length=self.ramp_length)

    def uses_unlabeled(self, step: int) -> bool:
        """Whether a step needs the unlabelled crops: all do from the start of the ramp-up on.

        Before, the first step of an epoch does all the same: too little memory shows at once, not after days, and each
        curve has a value.
        """
        return step % self.steps_per_epoch == 0 or self.ramp_up(step) > 0

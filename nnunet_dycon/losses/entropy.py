"""Shannon entropy of predictions, in nats."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F

NONLINEARITIES = ("softmax", "sigmoid")


def check_nonlinearity(nonlinearity: str) -> None:
    """Raise a ValueError unless ``nonlinearity`` is "softmax" or "sigmoid"."""
    if nonlinearity not in NONLINEARITIES:
        raise ValueError(f"nonlinearity must be one of {NONLINEARITIES}, got {nonlinearity!r}")


def check_same_shape(student_logits: torch.Tensor, teacher_logits: torch.Tensor) -> None:
    """Raise a ValueError for logits that differ in shape."""
    if student_logits.shape != teacher_logits.shape:
        raise ValueError(
            f"student and teacher logits differ in shape: {tuple(student_logits.shape)} and "
            f"{tuple(teacher_logits.shape)}"
        )


def max_entropy(num_channels: int, nonlinearity: str = "softmax") -> float:
    """Largest entropy a voxel can have: log C for C classes, C log 2 for C regions."""
    check_nonlinearity(nonlinearity)
    return math.log(num_channels) if nonlinearity == "softmax" else num_channels * math.log(2.0)


def entropy(logits: torch.Tensor, nonlinearity: str = "softmax") -> torch.Tensor:
    """Entropy of each voxel's prediction in nats, of regions the sum of their binary entropies.

    Shape: logits (B, C, X, Y[, Z]) to (B, X, Y[, Z]), in float32 at least.

    Raises:
        ValueError: a nonlinearity other than "softmax" (for classes) and "sigmoid" (for regions).
    """
    check_nonlinearity(nonlinearity)
    logits = logits if logits.dtype == torch.float64 else logits.float()
    if nonlinearity == "softmax":
        log_p = F.log_softmax(logits, dim=1)
        return -(log_p.exp() * log_p).sum(1)
    log_p, log_q = F.logsigmoid(logits), F.logsigmoid(-logits)
    return -(log_p.exp() * log_p + log_q.exp() * log_q).sum(1)


def entropy_of_probabilities(probabilities: torch.Tensor, nonlinearity: str) -> torch.Tensor:
    """As ``entropy``, where probabilities (C, ...) are all there is, of a resampled prediction; (...) in float32."""
    check_nonlinearity(nonlinearity)
    total = torch.zeros(probabilities.shape[1:])
    for channel in probabilities.float():
        total += torch.special.entr(channel)
        if nonlinearity == "sigmoid":
            total += torch.special.entr(1 - channel)
    return total

"""UnCL: uncertainty-aware consistency between student and teacher."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from nnunet_dycon.losses.entropy import check_nonlinearity, check_same_shape

# Voxels handled at once: enough to fill the device, few enough that the temporaries stay in a CPU's cache.
_CHUNK_VOXELS = {"cpu": 1 << 17}
_CHUNK_VOXELS_DEFAULT = 1 << 22
_MAX_EXPONENT = 80.0  # of e, for float32: many undecided regions or a large beta reach further


class UnCLoss(nn.Module):
    """Uncertainty-aware consistency loss (Assefa et al., CVPR 2025, UnCL).

    For voxel i with predictions p_s, p_t and entropies H_s, H_t in nats::

        L = mean_i [ sum_c (p_s - p_t)^2 / (exp(beta H_s) + exp(beta H_t)) ] + beta * mean_i (H_s + H_t)

    Where either network is unsure its difference counts less; the second term lowers the entropy itself.

    Args:
        nonlinearity: "softmax" for classes; "sigmoid" for regions (H is then the sum of the binary entropies).
        entropy_weight: factor on the second term; 1 is the paper's.

    Shape:
        student_logits, teacher_logits: (B, C, X, Y[, Z]); the teacher gets no gradient. Returns a scalar,
        float64 for float64 input and float32 otherwise, whatever the autocast type.

    Raises:
        ValueError: shapes that differ, fewer than two softmax classes, an empty tensor, a beta that is negative
            or not finite, an unknown nonlinearity.

    Example:
        >>> loss = UnCLoss()(torch.randn(2, 3, 8, 8, 8), torch.randn(2, 3, 8, 8, 8), beta=2.0)

    Differences from the published code: entropies come from log-softmax (there: log(p + 1e-6)); the gradient is
    computed in closed form together with the value, so no intermediate tensor is kept for the backward pass. It is
    kept in float32 and without the factor 1 / voxels, which would be lost in float16, until the factor that comes in
    (a gradient scaler's) is known. The gradient itself cannot be differentiated again.
    """

    def __init__(self, *, nonlinearity: str = "softmax", entropy_weight: float = 1.0) -> None:
        super().__init__()
        check_nonlinearity(nonlinearity)
        self.nonlinearity = nonlinearity
        self.entropy_weight = entropy_weight

    def forward(self, student_logits: torch.Tensor, teacher_logits: torch.Tensor, beta: float) -> torch.Tensor:
        check_same_shape(student_logits, teacher_logits)
        if student_logits.ndim < 3 or student_logits.numel() == 0:
            raise ValueError(f"logits must be (B, C, X, Y[, Z]) and not empty, got {tuple(student_logits.shape)}")
        if self.nonlinearity == "softmax" and student_logits.shape[1] < 2:
            raise ValueError(f"softmax needs at least two classes, got logits of shape {tuple(student_logits.shape)}")
        beta = float(beta)
        if not (math.isfinite(beta) and beta >= 0):
            raise ValueError(f"beta must be finite and not negative, got {beta}")
        return _UnCL.apply(
            student_logits, teacher_logits.detach(), beta, self.entropy_weight, self.nonlinearity == "sigmoid"
        )


class _UnCL(torch.autograd.Function):
    """Value and gradient in one pass over chunks of voxels."""

    @staticmethod
    def forward(
        ctx: Any, student: torch.Tensor, teacher: torch.Tensor, beta: float, entropy_weight: float, regions: bool
    ) -> torch.Tensor:
        dtype = torch.float64 if student.dtype == torch.float64 else torch.float32
        num_voxels = student.shape[0] * student[0, 0].numel()
        chunk = _CHUNK_VOXELS.get(student.device.type, _CHUNK_VOXELS_DEFAULT)
        terms = _region_terms if regions else _binary_terms if student.shape[1] == 2 else _class_terms
        total = torch.zeros((), dtype=dtype, device=student.device)
        needs_gradient = ctx.needs_input_grad[0]
        gradient = torch.empty(student.shape, dtype=dtype, device=student.device) if needs_gradient else None
        with torch.autocast(student.device.type, enabled=False):
            s_crops, t_crops = student.flatten(2), teacher.flatten(2)
            slopes = None if gradient is None else gradient.flatten(2)
            for part in _chunks(s_crops, chunk):
                slope = None if slopes is None else slopes[part]
                total += terms(s_crops[part].to(dtype), t_crops[part].to(dtype), beta, entropy_weight, slope)
        ctx.gradient, ctx.num_voxels, ctx.dtype = gradient, num_voxels, student.dtype
        return total / num_voxels

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad_output: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        if ctx.gradient is None:
            return None, None, None, None, None
        return (ctx.gradient * (grad_output / ctx.num_voxels)).to(ctx.dtype), None, None, None, None


def _chunks(crops: torch.Tensor, num_voxels: int) -> Iterator[tuple[slice, slice, slice]]:
    """Parts of (B, C, V) with about this many voxels: several small crops at once, or a piece of a large one."""
    step = max(1, num_voxels // crops.shape[2])
    for crop in range(0, crops.shape[0], step):
        for start in range(0, crops.shape[2], num_voxels):
            yield slice(crop, crop + step), slice(None), slice(start, start + num_voxels)


# Each function below returns the sum of the loss over the voxels of a chunk, given the logits of student ``s`` and
# teacher ``t`` (B, C, V), and writes its gradient over ``s`` into ``slope`` (B, C, V), if given.


def _class_terms(
    s: torch.Tensor, t: torch.Tensor, beta: float, entropy_weight: float, slope: torch.Tensor | None
) -> torch.Tensor:
    """For softmax logits."""

    def log_probability_and_entropy(x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        log_p = F.log_softmax(x, dim=1)
        p = log_p.exp()
        return log_p, p, (p * log_p).sum(1, keepdim=True).neg_().clamp_(min=0)

    log_p, p, h_s = log_probability_and_entropy(s)
    _, q, h_t = log_probability_and_entropy(t)
    value, slope_p, slope_h = _weighted_difference(q.neg_().add_(p), h_s, h_t, beta, entropy_weight)
    if slope is not None:
        # dp_c/ds_j = p_c (delta_cj - p_j) and dH/ds_j = -p_j (log p_j + H)
        slope_p.addcmul_(slope_h, log_p, value=-1)
        torch.mul(slope_p.sub_((p * slope_p).sum(1, keepdim=True)), p, out=slope)
    return value


def _binary_terms(
    s: torch.Tensor, t: torch.Tensor, beta: float, entropy_weight: float, slope: torch.Tensor | None
) -> torch.Tensor:
    """``_class_terms`` for two classes, by way of the difference x of their logits: half the work."""

    def probability_and_entropy(x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        p = torch.sigmoid(x)
        return p, F.softplus(x, threshold=30).addcmul_(x, p, value=-1).clamp_(min=0)  # H = log(1 + e^x) - x p

    x = s[:, 1:] - s[:, :1]
    p, h_s = probability_and_entropy(x)
    q, h_t = probability_and_entropy(t[:, 1:] - t[:, :1])
    # both classes differ by the same, hence the factor 2 in the squares, which also doubles their slope
    pair = q.neg_().add_(p).mul_(math.sqrt(2))
    value, slope_p, slope_h = _weighted_difference(pair, h_s, h_t, beta, entropy_weight)
    if slope is not None:
        slope_x = slope_p.mul_(math.sqrt(2)).addcmul_(slope_h, x, value=-1)  # dH/dx = -p (1 - p) x
        torch.mul(slope_x, p.addcmul_(p, p, value=-1), out=slope[:, 1:])
        torch.neg(slope[:, 1:], out=slope[:, :1])
    return value


def _region_terms(
    s: torch.Tensor, t: torch.Tensor, beta: float, entropy_weight: float, slope: torch.Tensor | None
) -> torch.Tensor:
    """For sigmoid logits."""

    def probability_and_entropy(x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        log_p, log_not_p = F.logsigmoid(x), F.logsigmoid(-x)
        p = log_p.exp()
        return p, -(p * log_p + log_not_p.exp() * log_not_p).sum(1, keepdim=True)

    p, h_s = probability_and_entropy(s)
    q, h_t = probability_and_entropy(t)
    value, slope_p, slope_h = _weighted_difference(q.neg_().add_(p), h_s, h_t, beta, entropy_weight)
    if slope is not None:
        # dp/ds = p (1 - p) and dH/ds = -p (1 - p) s
        torch.mul(slope_p.addcmul_(slope_h, s, value=-1).mul_(p), torch.sigmoid(-s), out=slope)
    return value


def _weighted_difference(
    difference: torch.Tensor, h_s: torch.Tensor, h_t: torch.Tensor, beta: float, entropy_weight: float
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Value over differences p - q of (B, C, V) probabilities; its slopes over p and over H_s (B, 1, V)."""
    entropies = h_s.sum() + h_t.sum()
    exp_s = h_s.mul_(beta).clamp_(max=_MAX_EXPONENT).exp_()
    weight = h_t.mul_(beta).clamp_(max=_MAX_EXPONENT).exp_().add_(exp_s).reciprocal_()
    weighted = difference * weight
    consistency = difference.mul_(weighted)
    if consistency.shape[1] > 1:
        consistency = consistency.sum(1, keepdim=True)
    value = consistency.sum() + beta * entropy_weight * entropies
    slope_h = consistency.mul_(weight).mul_(exp_s).mul_(-beta).add_(beta * entropy_weight)
    return value, weighted.mul_(2), slope_h

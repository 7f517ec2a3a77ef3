"""UnCL: uncertainty-aware consistency between student and teacher."""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from nnunet_dycon.losses.entropy import check_nonlinearity

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
    computed in closed form together with the value, so no intermediate tensor is kept for the backward pass.
    The gradient itself cannot be differentiated again.
    """

    def __init__(self, *, nonlinearity: str = "softmax", entropy_weight: float = 1.0) -> None:
        super().__init__()
        check_nonlinearity(nonlinearity)
        self.nonlinearity = nonlinearity
        self.entropy_weight = entropy_weight

    def forward(self, student_logits: torch.Tensor, teacher_logits: torch.Tensor, beta: float) -> torch.Tensor:
        if student_logits.shape != teacher_logits.shape:
            raise ValueError(
                f"student and teacher logits differ in shape: {tuple(student_logits.shape)} and "
                f"{tuple(teacher_logits.shape)}"
            )
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
        ctx: Any,
        student: torch.Tensor,
        teacher: torch.Tensor,
        beta: float,
        entropy_weight: float,
        regions: bool,
    ) -> torch.Tensor:
        dtype = torch.float64 if student.dtype == torch.float64 else torch.float32
        num_voxels = student.shape[0] * student[0, 0].numel()
        chunk = _CHUNK_VOXELS.get(student.device.type, _CHUNK_VOXELS_DEFAULT)
        terms = _region_terms if regions else _binary_terms if student.shape[1] == 2 else _class_terms
        total = torch.zeros((), dtype=dtype, device=student.device)
        needs_gradient = ctx.needs_input_grad[0]
        gradient = torch.empty_like(student, memory_format=torch.contiguous_format) if needs_gradient else None
        with torch.autocast(student.device.type, enabled=False):
            for b in range(student.shape[0]):
                s_crop, t_crop = student[b].flatten(1), teacher[b].flatten(1)
                for start in range(0, s_crop.shape[1], chunk):
                    part = slice(start, start + chunk)
                    value, slope = terms(
                        s_crop[:, part].to(dtype), t_crop[:, part].to(dtype), beta, entropy_weight, needs_gradient
                    )
                    total += value
                    if gradient is not None:
                        gradient[b].flatten(1)[:, part] = slope.div_(num_voxels)
        ctx.gradient = gradient
        return total / num_voxels

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad_output: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        gradient = None if ctx.gradient is None else ctx.gradient * grad_output.to(ctx.gradient.dtype)
        return gradient, None, None, None, None


def _weighted_difference(
    difference: torch.Tensor,
    h_s: torch.Tensor,
    h_t: torch.Tensor,
    beta: float,
    entropy_weight: float,
    needs_gradient: bool,
) -> tuple[torch.Tensor, torch.Tensor | None, torch.Tensor | None]:
    """Value over differences p - q of (C, V) probabilities, and its slopes with respect to p (C, V) and H_s (V)."""
    exp_s = torch.exp((beta * h_s).clamp_(max=_MAX_EXPONENT))
    weight = (exp_s + torch.exp((beta * h_t).clamp_(max=_MAX_EXPONENT))).reciprocal_()
    consistency = difference.square().sum(0).mul_(weight)
    value = consistency.sum() + (beta * entropy_weight) * (h_s.sum() + h_t.sum())
    if not needs_gradient:
        return value, None, None
    slope_h = consistency.mul_(weight).mul_(exp_s).mul_(-beta).add_(beta * entropy_weight)
    return value, difference.mul_(weight).mul_(2), slope_h


def _class_terms(
    s: torch.Tensor, t: torch.Tensor, beta: float, entropy_weight: float, needs_gradient: bool
) -> tuple[torch.Tensor, torch.Tensor]:
    """Sum over voxels and its gradient for softmax logits (C, V)."""

    def probability_and_entropy(x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        p = x.exp()
        z = p.sum(0)
        p.div_(z)
        return p, z.log_().sub_((p * x).sum(0)).clamp_(min=0)  # H = log Z - E[x]

    s, t = s - s.amax(0), t - t.amax(0)
    p, h_s = probability_and_entropy(s)
    q, h_t = probability_and_entropy(t)
    value, slope_p, slope_h = _weighted_difference(p - q, h_s, h_t, beta, entropy_weight, needs_gradient)
    if slope_p is None or slope_h is None:
        return value, p
    # dp_c/ds_j = p_c (delta_cj - p_j) and dH/ds_j = -p_j (s_j - E[s])
    slope = slope_p.sub_(slope_h * s)
    return value, slope.sub_((p * slope).sum(0)).mul_(p)


def _binary_terms(
    s: torch.Tensor, t: torch.Tensor, beta: float, entropy_weight: float, needs_gradient: bool
) -> tuple[torch.Tensor, torch.Tensor]:
    """``_class_terms`` for two classes, by way of the difference of their logits: half the work."""

    def probability_and_entropy(x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        size = x.abs()
        e = size.neg().exp_()
        smaller = e / (1 + e)
        h = e.log1p_().addcmul_(size, smaller)  # log(1 + e) + |x| e / (1 + e)
        return torch.where(x > 0, 1 - smaller, smaller), h, smaller.mul_(1 - smaller)

    x = s[1] - s[0]
    p, h_s, slope_p = probability_and_entropy(x)
    q, h_t, _ = probability_and_entropy(t[1] - t[0])
    # both classes differ by the same, hence the factor 2 in the squares, which also doubles their slope
    pair = p.sub_(q).mul_(math.sqrt(2))[None]
    value, slope, slope_h = _weighted_difference(pair, h_s, h_t, beta, entropy_weight, needs_gradient)
    if slope is None or slope_h is None:
        return value, pair
    slope_x = slope[0].mul_(math.sqrt(2)).sub_(slope_h.mul_(x)).mul_(slope_p)
    return value, torch.stack([-slope_x, slope_x])


def _region_terms(
    s: torch.Tensor, t: torch.Tensor, beta: float, entropy_weight: float, needs_gradient: bool
) -> tuple[torch.Tensor, torch.Tensor]:
    """Sum over voxels and its gradient for sigmoid logits (C, V)."""

    def probability_and_entropy(x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        log_p, log_not_p = F.logsigmoid(x), F.logsigmoid(-x)
        p = log_p.exp()
        return p, -(p * log_p + log_not_p.exp() * log_not_p).sum(0)

    p, h_s = probability_and_entropy(s)
    q, h_t = probability_and_entropy(t)
    value, slope_p, slope_h = _weighted_difference(p - q, h_s, h_t, beta, entropy_weight, needs_gradient)
    if slope_p is None or slope_h is None:
        return value, p
    # dp/ds = p (1 - p) and dH/ds = -p (1 - p) s
    return value, (slope_p - slope_h * s).mul_(p).mul_(torch.sigmoid(-s))

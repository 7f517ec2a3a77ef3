"""FeCL: focal, entropy-aware contrastive loss between the patches of a crop."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
from torch import nn

# Entries of the similarity matrix handled at once: a CPU's cache, or enough work for a GPU.
_BLOCK_ENTRIES = {"cpu": 1 << 19}
_BLOCK_ENTRIES_DEFAULT = 1 << 24
_MAX_TEACHER_SIMILARITY = 1.0 - 1e-4  # keeps log(1 - S) and its slope finite


class _Settings(NamedTuple):
    temperature: float
    gamma: float
    negative_focal: bool
    top_k: int
    lambda_cross: float


class FeCLoss(nn.Module):
    """Focal entropy-aware contrastive loss (Assefa et al., CVPR 2025, FeCL).

    Patches of one crop are contrasted with each other. With S_ik = z_i . z_k, P(i) the other patches of the class
    of i and Q(i) the patches of another class::

        F_q-  = ((1 + S_iq) / 2)^gamma
        p_ik  = exp(S_ik/tau) / (exp(S_ik/tau) + sum_{q in Q(i)} F_q- exp(S_iq/tau))
        l_i   = mean_{k in P(i)} -(1 - p_ik)^gamma log p_ik                      (0 where P(i) is empty)
        T_i   = mean over the top-k teacher patches of another class of -log(1 - max(S_il, 0))
        L     = mean_i (1 + H_i) l_i + lambda_cross * mean_i T_i

    Both means run over all labelled patches of the batch.

    Args:
        temperature: tau, above 0.
        gamma: exponent of both focal factors, not negative; 0 switches them off.
        negative_focal: weight negatives by F_q-; False is a plain sum over negatives.
        top_k: teacher patches of another class that count, most similar first (fewer where there are fewer).
        lambda_cross: weight of the teacher term.
        block_entries: entries of the similarity matrix held at once; None chooses by device.

    Shape:
        - embeddings: (B, N, D), unit length along D.
        - labels: (B, N) integers; -1 is no label, and such a patch takes no part.
        - teacher_embeddings: (b, N, D), patch by patch at the places of ``embeddings``, of all crops or of the last b,
          where the others have no teacher term; gets no gradient.
        - uncertainty: (B, N), H_i / log C in [0, 1], so that an uncertain patch counts up to twice.
        - returns a scalar, float64 for float64 input and float32 otherwise, whatever the autocast type.
          Zero, with a gradient of zeros, where no patch has a partner.

    Raises:
        ValueError: shapes that do not fit, labels that are no integers, settings
            out of range.

    Example:
        >>> z = torch.nn.functional.normalize(torch.randn(2, 64, 16), dim=-1)
        >>> loss = FeCLoss()(z, torch.randint(0, 2, (2, 64)))

    Differences from the published code: the normaliser is a log-sum-exp per anchor (there a maximum per column is
    subtracted, so the value depends on the other anchors); the negative factor works on the negatives (there on
    entries that are already zero) with S mapped to [0, 1]; every positive is focal (there only those above a
    threshold that is never reached). Value and gradient are computed together in blocks of anchors, so memory
    grows with N, not N^2; the gradient itself cannot be differentiated again.
    """

    def __init__(
        self,
        *,
        temperature: float = 0.6,
        gamma: float = 2.0,
        negative_focal: bool = True,
        top_k: int = 10,
        lambda_cross: float = 1.0,
        block_entries: int | None = None,
    ) -> None:
        super().__init__()
        if temperature <= 0 or gamma < 0 or top_k < 1 or lambda_cross < 0:
            raise ValueError(
                "temperature must be above 0, gamma and lambda_cross not negative and top_k at least 1, got "
                f"{temperature=}, {gamma=}, {lambda_cross=}, {top_k=}"
            )
        self.settings = _Settings(temperature, gamma, negative_focal, top_k, lambda_cross)
        self.block_entries = block_entries

    def forward(
        self,
        embeddings: torch.Tensor,
        labels: torch.Tensor,
        teacher_embeddings: torch.Tensor | None = None,
        uncertainty: torch.Tensor | None = None,
    ) -> torch.Tensor:
        _check_shapes(embeddings, labels, teacher_embeddings, uncertainty)
        if teacher_embeddings is not None:
            teacher_embeddings = teacher_embeddings.detach()
        entries = self.block_entries or _BLOCK_ENTRIES.get(embeddings.device.type, _BLOCK_ENTRIES_DEFAULT)
        return _FeCL.apply(embeddings, labels, teacher_embeddings, uncertainty, self.settings, entries)


def _check_shapes(
    embeddings: torch.Tensor,
    labels: torch.Tensor,
    teacher_embeddings: torch.Tensor | None,
    uncertainty: torch.Tensor | None,
) -> None:
    if embeddings.ndim != 3 or embeddings.numel() == 0:
        raise ValueError(f"embeddings must be (B, N, D) and not empty, got {tuple(embeddings.shape)}")
    if labels.dtype.is_floating_point or labels.dtype == torch.bool:
        raise ValueError(f"labels must be integers, got {labels.dtype}")
    taught = 0 if teacher_embeddings is None else min(len(teacher_embeddings), len(embeddings))
    for name, tensor, expected in (
        ("labels", labels, embeddings.shape[:2]),
        ("teacher_embeddings", teacher_embeddings, (taught, *embeddings.shape[1:])),
        ("uncertainty", uncertainty, embeddings.shape[:2]),
    ):
        if tensor is not None and tensor.shape != expected:
            raise ValueError(
                f"{name} must be {tuple(expected)} to fit embeddings of {tuple(embeddings.shape)}, "
                f"got {tuple(tensor.shape)}"
            )


class _FeCL(torch.autograd.Function):
    """Value and gradient in one pass over blocks: several whole crops, or a part of one crop's anchors."""

    @staticmethod
    def forward(
        ctx: Any,
        embeddings: torch.Tensor,
        labels: torch.Tensor,
        teacher_embeddings: torch.Tensor | None,
        uncertainty: torch.Tensor | None,
        settings: _Settings,
        block_entries: int,
    ) -> torch.Tensor:
        dtype = torch.float64 if embeddings.dtype == torch.float64 else torch.float32
        with torch.autocast(embeddings.device.type, enabled=False):
            z = embeddings.to(dtype)
            valid = (labels >= 0).to(dtype)
            share = valid / valid.sum().clamp(min=1)  # of each patch in the mean
            batch = _Batch(
                z=z,
                labels=labels,
                teacher=z[:0] if teacher_embeddings is None else teacher_embeddings.to(dtype),
                share=share,
                weight=share if uncertainty is None else share * (1 + uncertainty.detach().to(dtype)),
                focal=torch.zeros_like(share),
                gradient=torch.zeros_like(z) if ctx.needs_input_grad[0] else None,
            )
            total = torch.zeros((), dtype=dtype, device=z.device)
            for crops, anchors in _blocks(len(z), z.shape[1], block_entries):
                total += _block(batch, crops, anchors, settings)
        # both are kept in float32 until the gradient that comes in, a gradient scaler's, is known: see ``UnCLoss``
        ctx.gradients = batch.gradient, batch.focal * share if ctx.needs_input_grad[3] else None
        ctx.dtypes = embeddings.dtype, None if uncertainty is None else uncertainty.dtype
        return total

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad_output: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        scaled = [
            None if gradient is None else (gradient * grad_output).to(dtype)
            for gradient, dtype in zip(ctx.gradients, ctx.dtypes, strict=True)
        ]
        return scaled[0], None, None, scaled[1], None, None


class _Batch(NamedTuple):
    """What a block reads, and adds to: ``focal`` (l_i) and ``gradient``."""

    z: torch.Tensor  # (B, N, D)
    labels: torch.Tensor  # (B, N)
    teacher: torch.Tensor  # (b, N, D), of the last b crops
    share: torch.Tensor  # (B, N)
    weight: torch.Tensor  # (B, N)
    focal: torch.Tensor  # (B, N)
    gradient: torch.Tensor | None  # (B, N, D)


def _blocks(num_crops: int, num_patches: int, entries: int) -> Iterator[tuple[slice, slice]]:
    """Crops and anchors whose similarities to all patches of their crop are at most so many entries."""
    crops, anchors = max(1, entries // num_patches**2), max(1, entries // num_patches)
    for crop in range(0, num_crops, crops):
        for anchor in range(0, num_patches, anchors):
            yield slice(crop, min(crop + crops, num_crops)), slice(anchor, min(anchor + anchors, num_patches))


def _block(batch: _Batch, crops: slice, anchors: slice, settings: _Settings) -> torch.Tensor:
    """Add up the terms of some anchors of some crops; fills ``focal`` and ``gradient`` of the batch in place."""
    z, labels, weight = batch.z[crops], batch.labels[crops], batch.weight[crops, anchors]
    z_block, gradient = z[:, anchors], None if batch.gradient is None else batch.gradient[crops]
    labeled = labels >= 0
    same = labels[:, anchors, None] == labels[:, None]
    other = ~same & labeled[:, None] & labeled[:, anchors, None]
    same &= labeled[:, None]
    same.diagonal(anchors.start, 1, 2).fill_(False)
    logits = (z_block @ z.mT).div_(settings.temperature)
    loss, slope = _focal_term(logits, same, other, settings, gradient is not None)
    batch.focal[crops, anchors] = loss
    value = (loss * weight).sum()
    if slope is not None and gradient is not None:
        slope *= weight[..., None]
        gradient[:, anchors] += slope @ z
        gradient += slope.mT @ z_block
    first = len(batch.z) - len(batch.teacher)  # crop that the teacher has seen
    taught = slice(max(first - crops.start, 0), None)
    if settings.lambda_cross > 0 and crops.stop > first:
        teacher = batch.teacher[max(crops.start - first, 0) : crops.stop - first]
        cross, slope = _teacher_term(z_block[taught] @ teacher.mT, other[taught], settings.top_k)
        scale = settings.lambda_cross * batch.share[crops, anchors][taught]
        value += (cross * scale).sum()
        if gradient is not None:
            gradient[taught, anchors] += slope.mul_(scale[..., None]) @ teacher
    return value


def _focal_term(
    logits: torch.Tensor,
    same: torch.Tensor,
    other: torch.Tensor,
    settings: _Settings,
    needs_gradient: bool,
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """l_i of the anchors (B, M) and dl_i/dS_ij (B, M, N), from ``logits`` S_ij / tau, which are overwritten.

    All exponentials are taken relative to the anchor's largest one. With e_ik = exp(S_ik/tau) and the sum over
    negatives Z_i = sum_q F_q- e_iq: p_ik = e_ik / (e_ik + Z_i), so that two transcendental functions suffice.
    """
    tau, gamma = settings.temperature, settings.gamma
    focal_negatives = settings.negative_focal and gamma > 0
    half = logits.mul(tau / 2).add_(0.5).clamp_(min=torch.finfo(logits.dtype).eps) if focal_negatives else None
    logits.masked_fill_(~(same | other), -math.inf)  # the anchor itself and patches without label
    logits.sub_(logits.amax(-1, keepdim=True).clamp_(min=-1 / tau))
    exponential = logits.exp()
    negatives = exponential if half is None else _power(half, gamma).mul_(exponential)
    negatives = negatives * other
    z = negatives.sum(-1, keepdim=True)
    denominator = exponential.add_(z).clamp_(min=torch.finfo(logits.dtype).tiny)
    hard = z / denominator  # 1 - p
    loss = denominator.log_().sub_(logits)  # -log p
    focus = _power(hard, gamma)
    per_positive = (z > 0) / same.sum(-1, keepdim=True, dtype=z.dtype).clamp_(min=1)  # 0 where there is no negative
    anchor_loss = (focus * loss).masked_fill_(~same, 0).sum(-1) * per_positive[..., 0]
    if not needs_gradient:
        return anchor_loss, None
    # d(l_i)/du with u = log Z_i - S_ik/tau, of each positive; then through S_ik and through Z_i
    slope_u = loss.mul_(1 - hard).mul_(gamma).add_(hard).mul_(focus).masked_fill_(~same, 0).mul_(per_positive)
    through_z = slope_u.sum(-1, keepdim=True) / z.clamp(min=torch.finfo(z.dtype).tiny)
    slope = negatives.mul_(through_z)
    slope.mul_(1 / tau if half is None else half.reciprocal_().mul_(gamma / 2).add_(1 / tau))
    return anchor_loss, slope.sub_(slope_u, alpha=1 / tau)


def _power(base: torch.Tensor, exponent: float) -> torch.Tensor:
    """``base ** exponent`` with the cheap path for the paper's exponent."""
    return base.square() if exponent == 2 else base**exponent


def _teacher_term(similarity: torch.Tensor, other: torch.Tensor, top_k: int) -> tuple[torch.Tensor, torch.Tensor]:
    """T_i of the anchors (B, M) and dT_i/dS_il (B, M, N), from the similarities S_il, which are overwritten."""
    nearest_similarity, nearest = similarity.masked_fill_(~other, -math.inf).topk(min(top_k, similarity.shape[-1]))
    counts = nearest_similarity > -math.inf
    per_patch = counts.to(similarity.dtype) / counts.sum(-1, keepdim=True).clamp(min=1)
    clamped = nearest_similarity.clamp(0.0, _MAX_TEACHER_SIMILARITY)
    inside = clamped == nearest_similarity
    slope = similarity.zero_().scatter_(-1, nearest, per_patch * inside / (1 - clamped))
    return (-torch.log1p(-clamped) * per_patch).sum(-1), slope

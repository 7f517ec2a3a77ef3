"""FeCL: focal, entropy-aware contrastive loss between the patches of a crop."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from functools import cache
from typing import Any, NamedTuple, cast

import torch
import torch.nn.functional as F
from torch import nn

# Entries of the similarity matrix handled at once: a CPU's cache, or enough work for a GPU.
_BLOCK_ENTRIES = {"cpu": 1 << 19}
_BLOCK_ENTRIES_DEFAULT = 1 << 24
_MAX_TEACHER_SIMILARITY = 1.0 - 1e-4  # keeps log(1 - S) and its slope finite
_SAFE_TEMPERATURE = 0.04  # from which on exp(S/tau) and exp(-S/tau) fit float32 with room to spare


class _Settings(NamedTuple):
    temperature: float
    gamma: float
    negative_focal: bool
    top_k: int
    lambda_cross: float


_Contrast = Callable[..., tuple[torch.Tensor, torch.Tensor | None]]


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
        compiled: fuse what is done with the similarities by ``torch.compile``; for a GPU, where it saves most of the
            passes over them.

    Shape:
        - embeddings: (B, N, D), unit length along D.
        - labels: (B, N) integers; -1 is no label, and such a patch takes no part.
        - teacher_embeddings: (b, N, D), patch by patch at the places of ``embeddings``, of all crops or of the last b,
          where the others have no teacher term; gets no gradient.
        - uncertainty: (B, N), H_i / log C in [0, 1], so that an uncertain patch counts up to twice.
        - returns a scalar, float64 for float64 input and float32 otherwise, whatever the autocast type.
          Zero, with a gradient of zeros, where no patch has a partner.

    Raises:
        ValueError: shapes that do not fit, labels that are no integers, settings out of range.

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
        compiled: bool = False,
    ) -> None:
        super().__init__()
        if temperature <= 0 or gamma < 0 or top_k < 1 or lambda_cross < 0:
            raise ValueError(
                "temperature must be above 0, gamma and lambda_cross not negative and top_k at least 1, got "
                f"{temperature=}, {gamma=}, {lambda_cross=}, {top_k=}"
            )
        self.settings = _Settings(temperature, gamma, negative_focal, top_k, lambda_cross)
        self.block_entries = block_entries
        self.compiled = compiled

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
        contrast = _compiled() if self.compiled else _contrast
        return _FeCL.apply(embeddings, labels, teacher_embeddings, uncertainty, self.settings, entries, contrast)


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
        contrast: _Contrast,
    ) -> torch.Tensor:
        dtype = torch.float64 if embeddings.dtype == torch.float64 else torch.float32
        with torch.autocast(embeddings.device.type, enabled=False):
            z = embeddings.to(dtype)
            labeled = labels >= 0
            share = labeled.to(dtype)
            share = share / share.sum().clamp_(min=1)  # of each patch in the mean
            total = share.new_zeros(())
            batch = _Batch(
                z=z,
                labels=labels,
                labeled=labeled,
                teacher=z[:0] if teacher_embeddings is None else teacher_embeddings.to(dtype),
                share=share,
                weight=share if uncertainty is None else torch.addcmul(share, share, uncertainty.to(dtype)),
                zero=total,
                gradient=torch.zeros_like(z) if ctx.needs_input_grad[0] else None,
                focal=torch.zeros_like(share) if ctx.needs_input_grad[3] else None,
            )
            for crops, anchors in _blocks(len(z), z.shape[1], block_entries):
                total = total + _block(batch, crops, anchors, settings, contrast)
        # both are kept in float32 until the gradient that comes in, a gradient scaler's, is known: see ``UnCLoss``
        ctx.gradients = batch.gradient, batch.focal
        ctx.dtypes = embeddings.dtype, None if uncertainty is None else uncertainty.dtype
        return total

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad_output: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        scaled = [
            None if gradient is None else (gradient * grad_output).to(dtype)
            for gradient, dtype in zip(ctx.gradients, ctx.dtypes, strict=True)
        ]
        return scaled[0], None, None, scaled[1], None, None, None


class _Batch(NamedTuple):
    """What a block reads, and the gradients that it adds to."""

    z: torch.Tensor  # (B, N, D)
    labels: torch.Tensor  # (B, N)
    labeled: torch.Tensor  # (B, N)
    teacher: torch.Tensor  # (b, N, D), of the last b crops
    share: torch.Tensor  # (B, N)
    weight: torch.Tensor  # (B, N)
    zero: torch.Tensor  # a scalar
    gradient: torch.Tensor | None  # (B, N, D)
    focal: torch.Tensor | None  # (B, N), over the uncertainty


def _blocks(num_crops: int, num_patches: int, entries: int) -> Iterator[tuple[slice, slice]]:
    """Crops and anchors whose similarities to all patches of their crop are at most so many entries."""
    crops, anchors = max(1, entries // num_patches**2), max(1, entries // num_patches)
    for crop in range(0, num_crops, crops):
        for anchor in range(0, num_patches, anchors):
            yield slice(crop, min(crop + crops, num_crops)), slice(anchor, min(anchor + anchors, num_patches))


def _block(batch: _Batch, crops: slice, anchors: slice, settings: _Settings, contrast: _Contrast) -> torch.Tensor:
    """The terms of some anchors of some crops; adds their gradients to those of the batch.

    On a GPU few patches cost as many microseconds as there are operations, and many patches as there are passes over
    their similarities: factors of an anchor are therefore multiplied to its embedding or left to a matrix product.
    """
    z, labels, z_block = batch.z[crops], batch.labels[crops], batch.z[crops, anchors]
    gradient = None if batch.gradient is None else batch.gradient[crops]
    same = labels[:, anchors, None] == labels[:, None]
    not_other = same == batch.labeled[crops, None]  # the rows of patches without label do not count
    same.diagonal(anchors.start, 1, 2).fill_(False)
    num_positives = same.sum(-1).clamp_(min=1)
    weight = batch.weight[crops, anchors] / num_positives
    loss, slope = contrast(z_block, z, same, not_other, settings, batch.zero, gradient is not None)
    value = (loss * weight).sum()
    if gradient is not None and slope is not None:
        gradient.baddbmm_(slope.mT, z_block * weight[..., None], alpha=-1 / settings.temperature)
        gradient[:, anchors].addcmul_(slope @ z, weight[..., None], value=-1 / settings.temperature)
    if batch.focal is not None:
        batch.focal[crops, anchors].addcdiv_(loss * batch.share[crops, anchors], num_positives)
    first = len(batch.z) - len(batch.teacher)  # crop that the teacher has seen
    if settings.lambda_cross > 0 and crops.stop > first:
        taught = slice(max(first - crops.start, 0), None)
        teacher = batch.teacher[max(crops.start - first, 0) : crops.stop - first]
        share = batch.share[crops, anchors][taught]
        cross, slope = _teacher_term(
            z_block[taught] @ teacher.mT, not_other[taught], share * settings.lambda_cross, teacher, settings.top_k
        )
        value += cross
        if gradient is not None:
            gradient[taught, anchors].add_(slope)
    return value


def _contrast(
    anchors: torch.Tensor,
    patches: torch.Tensor,
    same: torch.Tensor,
    not_other: torch.Tensor,
    settings: _Settings,
    zero: torch.Tensor,
    needs_gradient: bool,
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """l_i |P(i)| of the anchors (B, M), and -tau times its gradient (B, M, N) over S_ij.

    With the sum over negatives Z_i = sum_q F_q- exp(S_iq/tau), p_ik = sigmoid(S_ik/tau - log Z_i); all but positives
    get p_ik = 1, which costs nothing.
    """
    tau, gamma = settings.temperature, settings.gamma
    logits = torch.baddbmm(zero, anchors, patches.mT, beta=0, alpha=1 / tau)
    exponential = logits.masked_fill(not_other, -math.inf)
    shift = exponential.amax(-1, keepdim=True).clamp_(min=-1 / tau) if tau < _SAFE_TEMPERATURE else None
    exponential = exponential.exp_() if shift is None else exponential.sub_(shift).exp_()
    negatives, by_base, factor = _negatives(exponential, logits, settings)
    z = negatives.sum(-1, keepdim=True)
    log_z = z.mul(factor).log_() if shift is None else z.mul(factor).log_().add_(shift)
    logits.sub_(log_z).masked_fill_(~same, math.inf)
    p = logits.sigmoid()
    log_p = torch.log(p, out=logits) if shift is None else F.logsigmoid(logits)
    hard = 1 - p
    if gamma == 0:
        anchor_loss, slope = log_p.sum(-1).neg_(), hard
    else:
        focus = hard.square_() if gamma == 2 else hard.pow_(gamma)
        slope = torch.addcmul(zero, focus, log_p, value=-gamma, out=log_p)
        anchor_loss = slope.sum(-1).div_(gamma)
        slope = torch.lerp(focus, slope, p, out=slope)  # of the loss over log Z_i - S_ik/tau
    if not needs_gradient:
        return anchor_loss, None
    through_z = slope.sum(-1, keepdim=True).div_(z.clamp_(min=torch.finfo(z.dtype).tiny))
    if by_base is not None:
        negatives.add_(by_base, alpha=gamma * tau)
    return anchor_loss, slope.addcmul_(through_z, negatives, value=-1)


@cache
def _compiled() -> _Contrast:
    return cast(_Contrast, torch.compile(_contrast))


def _negatives(
    exponential: torch.Tensor, logits: torch.Tensor, settings: _Settings
) -> tuple[torch.Tensor, torch.Tensor | None, float]:
    """``exponential`` (1 + S)^gamma, the same with gamma - 1 if there is a focal factor, and what F_q- has beside."""
    tau, gamma = settings.temperature, settings.gamma
    if not settings.negative_focal or gamma == 0:
        return exponential, None, 1.0
    if gamma == 2:
        by_base = torch.addcmul(exponential, exponential, logits, value=tau)
        return torch.addcmul(by_base, by_base, logits, value=tau, out=exponential), by_base, 0.25
    base = logits.mul(tau).add_(1).clamp_(min=torch.finfo(logits.dtype).eps)
    by_base = base.pow(gamma - 1).mul_(exponential)
    return base.mul_(by_base), by_base, 0.5**gamma


def _teacher_term(
    similarity: torch.Tensor, not_other: torch.Tensor, weight: torch.Tensor, teacher: torch.Tensor, top_k: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Sum of T_i by ``weight`` (B, M) and its gradient (B, M, D), from the similarities S_il, which are overwritten."""
    crops, patches, size = teacher.shape
    nearest, index = similarity.masked_fill_(not_other, -math.inf).topk(min(top_k, patches))
    weight = (weight / (nearest > -math.inf).sum(-1).clamp_(min=1))[..., None]
    clamped = nearest.clamp(0.0, _MAX_TEACHER_SIMILARITY)  # 0, without a slope, where there are fewer
    value = (torch.log1p(-clamped) * weight).sum().neg_()
    slope = ((clamped == nearest) * weight).div_(1 - clamped)
    index = index + torch.arange(0, crops * patches, patches, device=index.device)[:, None, None]
    gradient = F.embedding_bag(
        index.flatten(0, 1), teacher.flatten(0, 1), per_sample_weights=slope.flatten(0, 1), mode="sum"
    )
    return value, gradient.view(*index.shape[:2], size)

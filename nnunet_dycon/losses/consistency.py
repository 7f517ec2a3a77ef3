"""Plain consistency losses: the mean squared difference of Mean Teacher, and a soft Dice in which foreground counts."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from nnunetv2.utilities.ddp_allgather import AllGatherGrad

from nnunet_dycon.losses.entropy import check_nonlinearity, check_same_shape


def consistency_mse(
    student_logits: torch.Tensor, teacher_logits: torch.Tensor, nonlinearity: str = "softmax"
) -> torch.Tensor:
    """mean_i sum_c (p_s - p_t)^2 / C, over voxels i (Tarvainen & Valpola, 2017); all else as ``consistency_dice``."""
    return F.mse_loss(*_probabilities(student_logits, teacher_logits, nonlinearity))


def consistency_dice(
    student_logits: torch.Tensor, teacher_logits: torch.Tensor, nonlinearity: str = "softmax", *, ddp: bool = False
) -> torch.Tensor:
    """1 - mean_c 2 sum_i p_s p_t / sum_i (p_s^2 + p_t^2), over foreground classes c and all voxels i of the batch.

    The mean over voxels of a squared difference hardly notices small foreground; here each class counts the same
    (the squared form of Milletari et al., 2016, with the teacher's probabilities for a reference: 0 where both agree).

    Args:
        student_logits: (B, C, X, Y[, Z]).
        teacher_logits: same shape; gets no gradient.
        nonlinearity: "softmax" for classes, of which the first is background; "sigmoid" for regions.
        ddp: sum over the crops of all processes, as nnU-Net's batch Dice does.

    Returns:
        Scalar, float32 at least, in [0, 1]; a class that both networks see nowhere costs nothing.

    Raises:
        ValueError: shapes that differ, or an unknown nonlinearity.
    """
    p, q = _probabilities(student_logits, teacher_logits, nonlinearity)
    if nonlinearity == "softmax":
        p, q = p[:, 1:], q[:, 1:]
    axes = [0, *range(2, p.ndim)]
    agreement = 2 * (p * q).sum(axes)
    size = p.square().sum(axes) + q.square().sum(axes)
    if ddp:
        agreement, size = (AllGatherGrad.apply(i).sum(0) for i in (agreement, size))
    smooth = 1.0  # a voxel: keeps classes that are hardly there from dominating
    return 1 - ((agreement + smooth) / (size + smooth)).mean()


def _probabilities(
    student_logits: torch.Tensor, teacher_logits: torch.Tensor, nonlinearity: str
) -> tuple[torch.Tensor, torch.Tensor]:
    check_nonlinearity(nonlinearity)
    check_same_shape(student_logits, teacher_logits)

    def probabilities(logits: torch.Tensor) -> torch.Tensor:
        logits = logits if logits.dtype == torch.float64 else logits.float()
        return F.softmax(logits, dim=1) if nonlinearity == "softmax" else torch.sigmoid(logits)

    return probabilities(student_logits), probabilities(teacher_logits.detach())

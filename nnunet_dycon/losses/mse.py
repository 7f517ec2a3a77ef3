"""Mean squared difference of two predictions: the consistency of a plain Mean Teacher."""

from __future__ import annotations

import torch
import torch.nn.functional as F

from nnunet_dycon.losses.entropy import check_nonlinearity


def consistency_mse(
    student_logits: torch.Tensor, teacher_logits: torch.Tensor, nonlinearity: str = "softmax"
) -> torch.Tensor:
    """mean_i sum_c (p_s - p_t)^2 / C, over voxels i (Tarvainen & Valpola, 2017).

    Args:
        student_logits: (B, C, X, Y[, Z]).
        teacher_logits: same shape; gets no gradient.
        nonlinearity: "softmax" for classes, "sigmoid" for regions.

    Returns:
        Scalar, float32 at least.

    Raises:
        ValueError: shapes that differ, or an unknown nonlinearity.
    """
    check_nonlinearity(nonlinearity)
    if student_logits.shape != teacher_logits.shape:
        raise ValueError(
            f"student and teacher logits differ in shape: {tuple(student_logits.shape)} and "
            f"{tuple(teacher_logits.shape)}"
        )

    def probabilities(logits: torch.Tensor) -> torch.Tensor:
        logits = logits if logits.dtype == torch.float64 else logits.float()
        return F.softmax(logits, dim=1) if nonlinearity == "softmax" else torch.sigmoid(logits)

    return F.mse_loss(probabilities(student_logits), probabilities(teacher_logits.detach()))

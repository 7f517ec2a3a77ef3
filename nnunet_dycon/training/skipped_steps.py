"""Steps that the optimiser skips because their gradient is not finite, counted without waiting for the device."""

from __future__ import annotations

import torch

from nnunet_dycon.errors import UserError

MAX_IN_A_ROW = 20
"""CUDA's gradient scaler halves its scale at each skipped step: after 20 of them the scale is not the reason."""
CHECK_EVERY_STEPS = 50


class SkippedSteps:
    """Counts skipped steps in a row, over epochs.

    Args:
        device: where the gradients are; the count stays there until ``check``.
    """

    def __init__(self, device: torch.device) -> None:
        self._in_a_row = torch.zeros((), dtype=torch.int64, device=device)
        self._steps = 0

    @torch.no_grad()
    def add(self, gradient_norm: torch.Tensor) -> torch.Tensor:
        """Count a step by its gradient's norm; returns 1 if it is skipped, else 0, on the device."""
        self._steps += 1
        skipped = (~torch.isfinite(gradient_norm)).to(self._in_a_row)
        self._in_a_row = (self._in_a_row + 1) * skipped
        return skipped

    @property
    def is_due(self) -> bool:
        """Whether to check within an epoch: seldom, because it waits for the device."""
        return self._steps % CHECK_EVERY_STEPS == 0

    def check(self, terms: dict[str, float]) -> None:
        """Read the count.

        Args:
            terms: mean of each loss term over the epoch so far, for the message.

        Raises:
            UserError: the last ``MAX_IN_A_ROW`` steps or more were skipped.
        """
        if (number := int(self._in_a_row)) >= MAX_IN_A_ROW:
            means = ", ".join(f"{name} {value:.4g}" for name, value in terms.items())
            raise UserError(
                f"the gradient was not finite in the last {number} steps, so none of them was taken. Means over the "
                f"epoch: {means}. Look for NaN or infinite voxels in the preprocessed images, lower the weight of the "
                "term that is not finite, and continue from the last checkpoint with --c"
            )

"""The optimiser's steps; those whose gradient is not finite are skipped, and counted without a wait for the device."""

from __future__ import annotations

from collections.abc import Callable

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

    def take_step(
        self,
        loss: torch.Tensor,
        optimizer: torch.optim.Optimizer,
        grad_scaler: torch.amp.GradScaler | None,
        terms: Callable[[], dict[str, float]],
    ) -> torch.Tensor:
        """nnU-Net's optimiser step on all of the optimiser's parameters; 1 if it was skipped, else 0, on the device.

        A step whose gradient is not finite is not taken: by the gradient scaler on CUDA, here elsewhere. The teacher is
        to be updated and the step to be counted all the same: an average that moves towards an unchanged student does
        no harm, and the schedules follow the batches that were seen. ``terms`` are for ``check``, now and then.
        """
        parameters = [p for group in optimizer.param_groups for p in group["params"]]
        if grad_scaler is None:
            loss.backward()
            norm = torch.nn.utils.clip_grad_norm_(parameters, 12)
            if torch.isfinite(norm):
                optimizer.step()
        else:
            grad_scaler.scale(loss).backward()
            grad_scaler.unscale_(optimizer)
            norm = torch.nn.utils.clip_grad_norm_(parameters, 12)
            grad_scaler.step(optimizer)
            grad_scaler.update()
        skipped = self.add(norm)
        if self._steps % CHECK_EVERY_STEPS == 0:  # seldom, because it waits for the device
            self.check({"sum of all terms": float(loss.detach()), **terms()})
        return skipped

    @torch.no_grad()
    def add(self, gradient_norm: torch.Tensor) -> torch.Tensor:
        """Count a step by its gradient's norm; returns 1 if it is skipped, else 0, on the device."""
        self._steps += 1
        skipped = (~torch.isfinite(gradient_norm)).to(self._in_a_row)
        self._in_a_row = (self._in_a_row + 1) * skipped
        return skipped

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

"""One vector a scan, by which scans are compared: what the encoder's deepest stage sees of it.

It is the global average of the deepest feature map over all windows (and mirrored copies) of nnU-Net's sliding window,
compared by Euclidean distance as it is. A good vector recognises a scan in another shape. Measured on 54 unlabelled LA
scans (3.5 mm, stock nnU-Net trained on 4 others), each against all after a crop of 1 to 3 voxels and noise of a fifth
of the standard deviation: the nearest one is the same scan for 83 % of them; with the stage above for 54 %, with
averages weighted by the foreground probability for 72 %. Dividing each channel by its spread does not help.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import nn

from nnunet_dycon.errors import UserError
from nnunet_dycon.training.embeddings import EncoderTap


class PoolingTap(EncoderTap):
    """Global averages of the encoder's deepest feature map, collected over forward passes.

    Args:
        network: network with an ``encoder`` that returns its skips.

    Raises:
        UserError: the network has no encoder.
    """

    def __init__(self, network: nn.Module) -> None:
        if not isinstance(getattr(network, "encoder", None), nn.Module):
            raise UserError(
                f"{type(network).__name__} has no encoder, whose features tell scans apart; use a model whose plans "
                "have a PlainConvUNet or ResidualEncoderUNet"
            )
        super().__init__(network, stage=-1)
        self._pooled: list[torch.Tensor] = []

    def _keep(self, module: nn.Module, args: tuple, skips: Sequence[torch.Tensor]) -> None:
        if self._active:
            self._pooled += skips[self.stage].flatten(2).mean(-1, dtype=torch.float32).unbind()

    def take_mean(self) -> np.ndarray:
        """Mean of what was collected since the last call, (channels,) float64; it is then forgotten."""
        if not self._pooled:
            raise RuntimeError("no forward pass was caught; run the network inside PoolingTap.active()")
        pooled, self._pooled = self._pooled, []
        return torch.stack(pooled).cpu().double().mean(0).numpy()

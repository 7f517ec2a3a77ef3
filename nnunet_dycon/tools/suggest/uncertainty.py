"""How unsure a network is of a scan, from its logits alone.

The number by which scans are compared is the mean entropy in and around the predicted foreground. The mean over the
whole volume would mostly measure how much of the scan is background, where the entropy is close to 0: crop the same
anatomy more tightly and the mean rises although the network is as sure as before. The predicted foreground alone would
miss what the network has not found; a border of a few voxels holds the places where foreground and background compete.

The mean has a preference: the smaller a structure, the more of its region is surface, which is where entropy lies.
A network that is wrong and sure of it has low entropy; no measure made of its output alone can see that.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from nnunetv2.utilities.label_handling.label_handling import LabelManager
from scipy import ndimage

from nnunet_dycon.losses.entropy import entropy, max_entropy

BORDER_VOXELS = 2


@dataclass(frozen=True)
class Prediction:
    """What the network predicts for a scan, each (X, Y, Z) on the preprocessed grid.

    Attributes:
        labels: int16, 0 is background.
        entropy: float32, as a share of the largest entropy there is: 0 is sure, 1 is no idea.
        region: bool, in and around the predicted foreground.
    """

    labels: np.ndarray
    entropy: np.ndarray
    region: np.ndarray

    @property
    def uncertainty(self) -> float:
        """Mean entropy in the region, 0 to 1."""
        return float(self.entropy[self.region].mean(dtype=np.float64))

    @property
    def volume_entropy(self) -> float:
        """Mean entropy of all voxels, 0 to 1."""
        return float(self.entropy.mean(dtype=np.float64))


def prediction_of(logits: torch.Tensor, label_manager: LabelManager) -> Prediction:
    """Segmentation, entropy and region of a scan.

    Args:
        logits: (C, X, Y, Z), C classes or regions, of any float type.
        label_manager: nnU-Net's, which knows whether there are classes or regions.
    """
    nonlinearity = "sigmoid" if label_manager.has_regions else "softmax"
    logits = logits.cpu().float()
    share = entropy(logits[None], nonlinearity)[0] / max_entropy(len(logits), nonlinearity)
    probabilities = label_manager.apply_inference_nonlin(logits)
    labels = np.asarray(label_manager.convert_probabilities_to_segmentation(probabilities)).astype(np.int16)
    foreground = foreground_probability(probabilities, label_manager).numpy()
    return Prediction(labels, share.numpy(), region_around(labels > 0, foreground))


def foreground_probability(probabilities: torch.Tensor, label_manager: LabelManager) -> torch.Tensor:
    """Probability of any foreground; for regions that of the likeliest one.

    Shape: (C, X, Y, Z) to (X, Y, Z).
    """
    return probabilities.max(dim=0).values if label_manager.has_regions else 1 - probabilities[0]


def region_around(foreground: np.ndarray, probability: np.ndarray, border_voxels: int = BORDER_VOXELS) -> np.ndarray:
    """The foreground with a border; without any foreground, the surroundings of its likeliest voxel.

    Args:
        foreground: (X, Y, Z) bool.
        probability: (X, Y, Z), of foreground.
        border_voxels: how far the border reaches, in steps between voxels that share a face.

    Returns:
        (X, Y, Z) bool, never empty.
    """
    seeds = foreground
    if not foreground.any():
        seeds = np.zeros_like(foreground)
        seeds[np.unravel_index(probability.argmax(), probability.shape)] = True
    return ndimage.binary_dilation(seeds, iterations=border_voxels)

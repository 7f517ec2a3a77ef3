"""The losses of DyCON (Assefa et al., CVPR 2025) as pure functions of tensors.

One legend for all shapes: B batch, C classes or regions, X/Y/Z voxels, N patches of a crop, D embedding.
"""

from nnunet_dycon.losses.consistency import consistency_dice, consistency_mse
from nnunet_dycon.losses.entropy import entropy, max_entropy
from nnunet_dycon.losses.fecl import FeCLoss
from nnunet_dycon.losses.uncl import UnCLoss

__all__ = ["FeCLoss", "UnCLoss", "consistency_dice", "consistency_mse", "entropy", "max_entropy"]

"""Appearance changes far beyond nnU-Net's own, at the same geometry: what the student sees of unlabelled crops."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import numpy as np
import torch
from batchgeneratorsv2.transforms.base.basic_transform import BasicTransform
from batchgeneratorsv2.transforms.intensity.contrast import BGContrast, ContrastTransform
from batchgeneratorsv2.transforms.intensity.gamma import GammaTransform
from batchgeneratorsv2.transforms.local.brightness_gradient import BrightnessGradientAdditiveTransform
from batchgeneratorsv2.transforms.local.local_gamma import LocalGammaTransform
from batchgeneratorsv2.transforms.noise.blank_rectangle import BlankRectangleTransform
from batchgeneratorsv2.transforms.utils.compose import ComposeTransforms
from batchgeneratorsv2.transforms.utils.nnunet_masking import MaskImageTransform
from batchgeneratorsv2.transforms.utils.random import RandomTransform
from batchgeneratorsv2.transforms.utils.remove_label import RemoveLabelTansform


class StrongViewTransform(RandomTransform):
    """The strong view of a labelled crop, with some probability; the unlabelled stream leaves it out."""


def strong_view(
    patch_size: Sequence[int], *, inversion: float = 0.0, local: float | None = None
) -> list[BasicTransform]:
    """Intensity transforms for the student's view, on top of nnU-Net's (the kinds of nnUNetTrainerDA5, stronger).

    Scanners, sequences and contrast agents change how bright a structure is against its surroundings, and a few
    labelled scans show little of that. A teacher that is right on a common scan teaches the student here to be right
    on the same anatomy in an uncommon guise.

    Args:
        patch_size: the network's patch size in voxels.
        inversion: share of the gamma changes made on the inverted image, as nnU-Net's ``p_invert_image``; the image is
            inverted back, so bright stays bright.
        local: also brightness gradients and gamma changes of a part of the crop, with standard deviations between this
            share of each axis and all of it; narrow ones can look like a lesion.
    """
    everywhere = GammaTransform(
        gamma=BGContrast((0.3, 3.0)),
        p_invert_image=inversion,
        synchronize_channels=False,
        p_per_channel=1,
        p_retain_stats=1,
    )
    contrast = ContrastTransform(
        contrast_range=BGContrast((0.4, 1.6)), preserve_range=True, synchronize_channels=False, p_per_channel=1
    )
    rectangles = BlankRectangleTransform(
        rectangle_size=[[max(1, side // 10), max(2, side // 3)] for side in patch_size],
        rectangle_value=torch.mean,
        num_rectangles=(1, 4),
        force_square=False,
    )
    return [
        RandomTransform(everywhere, apply_probability=0.5),
        RandomTransform(contrast, apply_probability=0.3),
        *(() if local is None else _local_changes(local)),
        RandomTransform(rectangles, apply_probability=0.3),
    ]


def _local_changes(smallest: float) -> list[BasicTransform]:
    width = partial(_width, smallest)
    gradient = BrightnessGradientAdditiveTransform(
        scale=width, loc=(-0.5, 1.5), max_strength=(-1.5, 1.5), mean_centered=False, same_for_all_channels=False
    )
    somewhere = LocalGammaTransform(scale=width, loc=(-0.5, 1.5), gamma=_local_gamma, same_for_all_channels=False)
    return [RandomTransform(i, apply_probability=0.3) for i in (gradient, somewhere)]


def add_strong_view(
    transforms: ComposeTransforms, strong: Sequence[BasicTransform], probability: float
) -> ComposeTransforms:
    """nnU-Net's training transforms with the ``strong_view`` after its own intensity changes, for a share of crops."""
    view = StrongViewTransform(ComposeTransforms(list(strong)), apply_probability=probability)
    ends = (MaskImageTransform, RemoveLabelTansform)
    position = next(i for i, transform in enumerate(transforms.transforms) if isinstance(transform, ends))
    transforms.transforms.insert(position, view)
    return transforms


def _width(smallest: float, shape: Sequence[int], axis: int) -> float:
    """Standard deviation in voxels of a local change: between the smallest share of the axis and all of it."""
    return float(np.exp(np.random.uniform(np.log(max(1.0, shape[axis] * smallest)), np.log(shape[axis]))))


def _local_gamma() -> float:
    """Exponent of a local change: darker or brighter with equal probability."""
    return float(np.exp(np.random.uniform(np.log(0.3), np.log(3.0))))

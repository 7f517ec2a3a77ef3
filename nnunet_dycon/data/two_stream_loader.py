"""Labelled and unlabelled crops in one batch, from one set of worker processes."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from acvl_utils.cropping_and_padding.bounding_boxes import crop_and_pad_nd
from batchgenerators.dataloading.data_loader import DataLoader
from batchgeneratorsv2.transforms.base.basic_transform import BasicTransform, SegOnlyTransform
from batchgeneratorsv2.transforms.utils.compose import ComposeTransforms
from batchgeneratorsv2.transforms.utils.nnunet_masking import MaskImageTransform
from nnunetv2.training.dataloading.data_loader import nnUNetDataLoader
from threadpoolctl import threadpool_limits

from nnunet_dycon.data.unlabeled_dataset import nnUNetDatasetUnlabeled

# Voxels outside the body are 0 after mask normalisation; resampling leaves a little ringing around it.
_OUTSIDE_TOLERANCE = 1e-3


class nnUNetUnlabeledDataLoader(nnUNetDataLoader):
    """Random crops of unlabelled images, augmented like nnU-Net's labelled ones.

    Foreground is never oversampled: where it is, is not known.

    Args:
        data: the unlabelled images.
        labeled: nnU-Net's loader of labelled crops, whose patch size and augmentation are taken over.
        batch_size: crops in a batch.
    """

    def __init__(self, data: nnUNetDatasetUnlabeled, labeled: nnUNetDataLoader, batch_size: int) -> None:
        drop = 1 if labeled.patch_size_was_2d else 0
        super().__init__(
            data,
            batch_size,
            labeled.patch_size[drop:],
            labeled.final_patch_size[drop:],
            SimpleNamespace(all_labels=[], has_ignore_label=False),  # in place of nnU-Net's label manager
            pad_sides=None if labeled.pad_sides is None else labeled.pad_sides[drop:],
        )
        self.indices = np.array(data.identifiers)
        transforms = [i for i in labeled.transforms.transforms if not isinstance(i, SegOnlyTransform)]
        self.transforms: BasicTransform = ComposeTransforms(transforms)
        self._masked_channels = [
            channel for i in transforms if isinstance(i, MaskImageTransform) for channel in i.apply_to_channels
        ]

    def generate_train_batch(self) -> dict[str, Any]:
        """A batch: ``data`` (batch_size, channels, X, Y[, Z]) float32 and the ``keys`` of its cases."""
        keys = self.get_indices()
        with torch.no_grad(), threadpool_limits(limits=1, user_api=None):
            return {"data": torch.stack([self._crop(key) for key in keys]), "keys": keys}

    def _crop(self, key: str) -> torch.Tensor:
        image = self._data.load_image(key)
        lower, upper = self.get_bbox(image.shape[1:], False, None)
        box = [list(i) for i in zip(lower, upper, strict=True)]
        crop = torch.from_numpy(crop_and_pad_nd(image, box, 0)).float()
        if self.patch_size_was_2d:
            crop = crop[:, 0]
        sample = {"image": crop}
        if self._masked_channels:
            outside = (crop[self._masked_channels].abs() <= _OUTSIDE_TOLERANCE).all(0, keepdim=True)
            sample["segmentation"] = -outside.to(torch.int16)  # nnU-Net's mark for outside the body is -1
        return self.transforms(**sample)["image"]


class TwoStreamDataLoader(DataLoader):
    """Batches of nnU-Net's labelled loader with unlabelled crops added under ``unlabeled``.

    Both streams run in the same worker processes, so the worker budget is shared.

    Args:
        labeled: nnU-Net's own loader, used as it is.
        unlabeled: loader of unlabelled crops.
    """

    def __init__(self, labeled: nnUNetDataLoader, unlabeled: nnUNetUnlabeledDataLoader) -> None:
        super().__init__(None, labeled.batch_size, infinite=True)
        self.labeled = labeled
        self.unlabeled = unlabeled
        self.indices = labeled.indices
        self.transforms = labeled.transforms  # for nnU-Net's debug.json

    def generate_train_batch(self) -> dict[str, Any]:
        """nnU-Net's batch, and ``unlabeled`` (B, channels, X, Y[, Z]) with ``unlabeled_keys``."""
        batch = self.labeled.generate_train_batch()
        unlabeled = self.unlabeled.generate_train_batch()
        return {**batch, "unlabeled": unlabeled["data"], "unlabeled_keys": unlabeled["keys"]}

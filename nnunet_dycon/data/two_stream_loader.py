"""Labelled and unlabelled crops in one batch, from one set of worker processes."""

from __future__ import annotations

import multiprocessing
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from acvl_utils.cropping_and_padding.bounding_boxes import crop_and_pad_nd
from batchgenerators.dataloading.data_loader import DataLoader
from batchgenerators.dataloading.nondet_multi_threaded_augmenter import NonDetMultiThreadedAugmenter
from batchgenerators.dataloading.single_threaded_augmenter import SingleThreadedAugmenter
from batchgeneratorsv2.transforms.base.basic_transform import BasicTransform, SegOnlyTransform
from batchgeneratorsv2.transforms.nnunet.seg_to_onehot import MoveSegAsOneHotToDataTransform
from batchgeneratorsv2.transforms.spatial.mirroring import MirrorTransform
from batchgeneratorsv2.transforms.spatial.spatial import SpatialTransform
from batchgeneratorsv2.transforms.utils.compose import ComposeTransforms
from batchgeneratorsv2.transforms.utils.nnunet_masking import MaskImageTransform
from batchgeneratorsv2.transforms.utils.pseudo2d import Convert2DTo3DTransform, Convert3DTo2DTransform
from nnunetv2.training.dataloading.data_loader import nnUNetDataLoader
from threadpoolctl import threadpool_limits

from nnunet_dycon.data.sources import case_probabilities
from nnunet_dycon.data.strong_view import StrongViewTransform
from nnunet_dycon.data.unlabeled_dataset import nnUNetDatasetUnlabeled
from nnunet_dycon.errors import UserError

_GEOMETRY = (SpatialTransform, MirrorTransform, Convert3DTo2DTransform, Convert2DTo3DTransform)
# Voxels outside the body are 0 after mask normalisation; resampling leaves a little ringing around it.
_OUTSIDE_TOLERANCE = 1e-3


class nnUNetUnlabeledDataLoader(nnUNetDataLoader):
    """Random crops of unlabelled images, augmented like nnU-Net's labelled ones.

    Foreground is never oversampled: where it is, is not known. In the second stage of a cascade the first stage's
    prediction goes through nnU-Net's transforms with the image and ends as one-hot channels, in both views; of its
    augmentations only the student's view gets those beyond geometry.

    Args:
        labeled: nnU-Net's loader of labelled crops, whose patch size and augmentation are taken over.
        shares: how often crops come from each source, see ``case_probabilities``.
        weak_view: also return the crops as they are before intensity augmentation.
        strong_view: transforms that change the appearance of the crops further, see ``strong_view``.
    """

    def __init__(
        self,
        data: nnUNetDatasetUnlabeled,
        labeled: nnUNetDataLoader,
        batch_size: int,
        *,
        shares: str = "equal",
        weak_view: bool = False,
        strong_view: Sequence[BasicTransform] = (),
    ) -> None:
        drop = 1 if labeled.patch_size_was_2d else 0
        super().__init__(
            data,
            batch_size,
            labeled.patch_size[drop:],
            labeled.final_patch_size[drop:],
            SimpleNamespace(all_labels=[], has_ignore_label=False),  # in place of nnU-Net's label manager
            pad_sides=None if labeled.pad_sides is None else labeled.pad_sides[drop:],
            sampling_probabilities=case_probabilities(data.sources, shares),
        )
        self.indices = np.array(data.identifiers)
        geometry, intensity, masks, cascade = _piles(labeled.transforms.transforms)
        intensity += strong_view
        self._geometry, self._intensity = ComposeTransforms(geometry), ComposeTransforms(intensity)
        self._finish, self._finish_weak = (ComposeTransforms([*masks, *i]) for i in (cascade, cascade[:1]))
        self._masked_channels = [channel for i in masks for channel in i.apply_to_channels]
        self._weak_view = weak_view

    def generate_train_batch(self) -> dict[str, Any]:
        """A batch: ``data`` (B, channels, X, Y[, Z]) float32, likewise ``weak`` if wanted, and the cases' ``keys``."""
        keys = self.get_indices()
        with torch.no_grad(), threadpool_limits(limits=1, user_api=None):
            crops = [self._augment(*self._crop(key)) for key in keys]
        views = {name: torch.stack([i[name] for i in crops]) for name in crops[0]}
        return {**views, "keys": keys}

    def _crop(self, key: str) -> tuple[torch.Tensor, torch.Tensor | None]:
        """A random crop of an image, larger than the patch where rotation needs it, and of the previous stage's labels.

        Shape: (channels, X, Y[, Z]) and (1, X, Y[, Z]), the latter -1 outside the image; None without a cascade.
        """
        image, previous = self._data.load_image(key), self._data.load_previous(key)
        lower, upper = self.get_bbox(image.shape[1:], False, None)
        box = [list(i) for i in zip(lower, upper, strict=True)]
        try:
            crop = torch.from_numpy(crop_and_pad_nd(image, box, 0)).float()
            labels = None if previous is None else crop_and_pad_nd(previous, box, -1, cast_cropped_to=np.int16)
        except RuntimeError as error:  # what blosc2 raises for a block that it cannot decompress
            raise UserError(f"the preprocessed image of {key} is damaged; delete it and preprocess again") from error
        layers = None if labels is None else torch.from_numpy(labels)[None].to(torch.int16)
        drop = (slice(None), 0) if self.patch_size_was_2d else ()
        return crop[drop], None if layers is None else layers[drop]

    def _augment(self, crop: torch.Tensor, previous: torch.Tensor | None) -> dict[str, torch.Tensor]:
        """nnU-Net's augmentation, geometry first, so that both views have the same."""
        sample = {"image": crop}
        if self._masked_channels or previous is not None:
            outside = torch.zeros((1, *crop.shape[1:]), dtype=torch.int16)
            if self._masked_channels:  # nnU-Net's mark for outside the body is -1
                outside -= (crop[self._masked_channels].abs() <= _OUTSIDE_TOLERANCE).all(0, keepdim=True).to(outside)
            sample["segmentation"] = outside if previous is None else torch.cat([outside, previous])
        sample = self._geometry(**sample)
        views = {}
        if self._weak_view:
            views["weak"] = self._finish_weak(**{**sample, "image": sample["image"].clone()})["image"]
        views["data"] = self._finish(**self._intensity(**sample))["image"]
        return views


class TwoStreamDataLoader(DataLoader):
    """Batches of nnU-Net's labelled loader with unlabelled crops added under ``unlabeled`` where their step uses them.

    Both streams run in the same worker processes, so the worker budget is shared. Workers run ahead of the training:
    each takes the number of the next step from a counter that they share, and the batch carries it as ``step``.

    Args:
        uses_unlabeled: whether each training step, counted from 0, uses unlabelled crops; later ones do.
        first_step: of the batches to come.
    """

    def __init__(
        self,
        labeled: nnUNetDataLoader,
        unlabeled: nnUNetUnlabeledDataLoader,
        *,
        uses_unlabeled: Sequence[bool] = (),
        first_step: int = 0,
    ) -> None:
        super().__init__(None, labeled.batch_size, infinite=True)
        self.labeled = labeled
        self.unlabeled = unlabeled
        self.first_step = first_step
        self.indices = labeled.indices
        self.transforms = labeled.transforms  # for nnU-Net's debug.json
        self._uses_unlabeled = np.asarray(uses_unlabeled, bool)
        self._step = multiprocessing.Value("q", first_step)

    def restart(self) -> None:
        """Count from the first step again; not while workers run."""
        self._step.value = self.first_step

    def generate_train_batch(self) -> dict[str, Any]:
        """nnU-Net's batch with its ``step``, ``unlabeled`` (B, channels, X, Y[, Z]) and ``unlabeled_keys``.

        A UserError becomes the batch's ``error``, which ``checked`` raises in the training's own process: raised here
        it would end a worker, and the user would read last that some worker is no longer alive.
        """
        try:
            with self._step.get_lock():
                step = self._step.value
                self._step.value += 1
            return {**self._streams(step), "step": step}
        except UserError as error:
            return {"error": str(error)}

    def _streams(self, step: int) -> dict[str, Any]:
        batch = self.labeled.generate_train_batch()
        _check_finite(batch["data"], batch["keys"])
        if step < len(self._uses_unlabeled) and not self._uses_unlabeled[step]:
            return batch
        unlabeled = self.unlabeled.generate_train_batch()
        _check_finite(unlabeled["data"], unlabeled["keys"])
        batch |= {"unlabeled": unlabeled["data"], "unlabeled_keys": unlabeled["keys"]}
        return batch | ({"unlabeled_weak": unlabeled["weak"]} if "weak" in unlabeled else {})


class OrderedAugmenter(NonDetMultiThreadedAugmenter):
    """nnU-Net's worker processes, whose batches are handed out by their ``step`` whoever is ready first."""

    def __init__(self, loader: TwoStreamDataLoader, **options: Any) -> None:
        super().__init__(loader, None, **options)
        self._next_step = loader.first_step
        self._early: dict[int, dict[str, Any]] = {}

    def __next__(self) -> dict[str, Any]:
        while self._next_step not in self._early:
            batch = super().__next__()
            if "error" in batch:
                return batch
            self._early[batch["step"]] = batch
        self._next_step += 1
        return self._early.pop(self._next_step - 1)

    def put_back(self, batch: dict[str, Any]) -> None:
        """Hand out this batch, the last one, again."""
        self._next_step = batch["step"]
        self._early[batch["step"]] = batch


def feed(augmenter: Any, loader: TwoStreamDataLoader) -> Any:
    """nnU-Net's augmenter, or one like it, with another loader; it begins at the loader's first step.

    Raises:
        UserError: the first batch cannot be made.
    """
    if isinstance(augmenter, SingleThreadedAugmenter):
        augmenter.data_loader = loader
        checked(next(augmenter))
        loader.restart()
        return augmenter
    augmenter._finish()
    how = {name: getattr(augmenter, name) for name in ("num_processes", "num_cached", "pin_memory", "wait_time")}
    ordered = OrderedAugmenter(loader, **how)
    try:
        ordered.put_back(checked(next(ordered)))
    except UserError:
        ordered._finish()
        raise
    return ordered


def loader_of(augmenter: Any) -> Any:
    """The data loader behind nnU-Net's augmenter."""
    return augmenter.data_loader if isinstance(augmenter, SingleThreadedAugmenter) else augmenter.generator


def end_workers(*augmenters: Any) -> None:
    """End the worker processes of nnU-Net's augmenters that have some."""
    for augmenter in augmenters:
        if isinstance(augmenter, NonDetMultiThreadedAugmenter):
            augmenter._finish()


def checked(batch: dict[str, Any]) -> dict[str, Any]:
    """The batch itself.

    Raises:
        UserError: a worker could not make it.
    """
    if "error" in batch:
        raise UserError(batch["error"])
    return batch


def _piles(transforms: Sequence[Any]) -> tuple[list[Any], list[Any], list[Any], list[Any]]:
    """nnU-Net's transforms of images: geometry, intensity, masks of the body, and a cascade's from one-hot on."""
    images = [i for i in transforms if not isinstance(i, (SegOnlyTransform, StrongViewTransform))]
    end = next((place for place, i in enumerate(images) if isinstance(i, MoveSegAsOneHotToDataTransform)), len(images))
    geometry: list[Any] = []
    intensity: list[Any] = []
    masks: list[Any] = []
    for i in images[:end]:
        is_mask = isinstance(i, MaskImageTransform)
        (geometry if isinstance(i, _GEOMETRY) else masks if is_mask else intensity).append(i)
    return geometry, intensity, masks, images[end:]


def _check_finite(crops: torch.Tensor, keys: Sequence[str]) -> None:
    """Raise a UserError that names the cases whose crops are NaN or infinite, before they make the loss so."""
    wrong = [str(key) for key, crop in zip(keys, crops, strict=True) if not torch.isfinite(crop).all()]
    if wrong:
        raise UserError(
            f"crops of {', '.join(dict.fromkeys(wrong))} have voxels that are NaN or infinite; correct these scans in "
            "the raw dataset and preprocess them again, or remove them"
        )

"""Bidirectional copy-paste (Bai et al., CVPR 2023): crops that are partly labelled, partly unlabelled."""

from __future__ import annotations

import dataclasses
from typing import Any

import torch
import torch.nn.functional as F

from nnunet_dycon.errors import UserError
from nnunet_dycon.settings import SemiSupervisedSettings, setting, share
from nnunet_dycon.trainers.semi_supervised import nnUNetTrainerSemiSupervised
from nnunet_dycon.training.step import Crops, Losses
from nnunet_dycon.training.student_views import random_box

SIDE = 2 / 3
"""Side of the pasted box, as a share of the crop's."""
_IGNORED = -100  # what torch's cross-entropy ignores


@dataclasses.dataclass(frozen=True)
class BCPSettings(SemiSupervisedSettings):
    """Settings of bidirectional copy-paste; ``preset=paper`` gives the published values, without other views."""

    weight_pseudo: float = setting(
        0.5, "Weight of the part whose labels come from the teacher; the labelled part has 1.", low=0, paper=0.5
    )
    ramp_start: float = share(0.12, "Share of the training after which the unlabelled scans count.", paper=0.12)
    ramp_length: float = share(0.0, "Share of the training that the ramp-up takes.", paper=0.0)
    teacher_noise: float = setting(
        0.0, "Standard deviation of the noise on the teacher's input, clipped at two of them.", low=0, paper=0.0
    )


class nnUNetTrainerBCP(nnUNetTrainerSemiSupervised):
    """A box of an unlabelled crop in a labelled one, and the other way round; the teacher labels the unlabelled part.

    Before ``ramp_start`` boxes of labelled crops are pasted into labelled ones. The loss is nnU-Net's, with deep
    supervision. Differences from the published code: the teacher's labels are not reduced to their largest component;
    this package's views are on unless ``preset=paper`` switches them off.
    """

    default_settings: BCPSettings = BCPSettings()
    unused_settings = ("student_zoom", "cutmix", "teach_labeled")
    settings: BCPSettings

    def initialize(self) -> None:
        if self.label_manager.has_regions:
            raise UserError("nnUNetTrainerBCP pastes classes and knows no regions; use nnUNetTrainerMeanTeacher")
        super().initialize()

    def _build_loss(self) -> Any:
        """nnU-Net's, which leaves out the part of a crop that has no label of its kind."""
        loss = super()._build_loss()
        inner = loss.loss if self.enable_deep_supervision else loss
        self._ignored = _IGNORED if inner.ignore_label is None else inner.ignore_label
        inner.ignore_label = self._ignored
        return loss

    def losses(self, crops: Crops) -> list[Losses]:
        number = max(len(crops.labeled), len(crops.unlabeled))
        inside = self._box(crops)
        images = _pasted(inside, _repeated(crops.labeled, number), _repeated(crops.unlabeled, number))
        with self.autocast():
            outputs = self.student_branch.logits(images)
            pseudo = self.teach(crops).logits[-len(crops.unlabeled) :].argmax(1, keepdim=True)
            labeled_part, pseudo_part = [], []
            for target in crops.targets:
                mask, labels = (_resized(i, target) for i in (inside, pseudo))
                mine, theirs = _repeated(target, number), _repeated(labels, number)
                ignored = torch.full_like(mine, self._ignored)
                labeled_part.append(_pasted(mask > 0, mine, ignored))
                pseudo_part.append(_pasted(mask > 0, ignored, theirs))
            losses = [self.supervised_loss(outputs, targets) for targets in (labeled_part, pseudo_part)]
        return [Losses(losses[0], {"pseudo": losses[1]})]

    def labeled_losses(self, crops: Crops) -> list[Losses]:
        inside = self._box(crops)
        images = torch.where(inside, crops.labeled.roll(1, 0), crops.labeled)
        targets = [torch.where(_resized(inside, i) > 0, i.roll(1, 0), i) for i in crops.targets]
        with self.autocast():
            return [Losses(self.supervised_loss(self.student_branch.logits(images), targets))]

    def _box(self, crops: Crops) -> torch.Tensor:
        """(1, 1, X, Y[, Z]): whether a voxel lies in the pasted box, which is the same for all crops of a step."""
        shape = crops.labeled.shape[2:]
        inside = torch.zeros((1, 1, *shape), dtype=torch.bool, device=self.device)
        place = (slice(None), slice(None), *random_box(shape, SIDE ** len(shape), self.generator))
        inside[place] = True
        return inside


def _pasted(inside: torch.Tensor, labeled: torch.Tensor, unlabeled: torch.Tensor) -> torch.Tensor:
    """(2 N, ...): unlabelled boxes in labelled crops, then labelled boxes in unlabelled ones, other crops each time."""
    return torch.cat([
        torch.where(inside, unlabeled, labeled),
        torch.where(inside, labeled.roll(1, 0), unlabeled.roll(1, 0)),
    ])  # fmt: skip


def _repeated(crops: torch.Tensor, number: int) -> torch.Tensor:
    """The first ``number`` of the crops, again from the first where there are fewer."""
    return torch.cat([crops] * -(-number // len(crops)))[:number]


def _resized(labels: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """Labels (B, 1, X, Y[, Z]) at the resolution of a deep supervision target."""
    return F.interpolate(labels.float(), target.shape[2:], mode="nearest").to(target.dtype)

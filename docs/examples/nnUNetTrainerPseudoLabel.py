"""A semi-supervised method on the base class: confident predictions of the teacher are the student's labels."""

from __future__ import annotations

import dataclasses

import torch
import torch.nn.functional as F

from nnunet_dycon.settings import SemiSupervisedSettings, setting
from nnunet_dycon.trainers import nnUNetTrainerSemiSupervised
from nnunet_dycon.training.step import Step


@dataclasses.dataclass(frozen=True)
class PseudoLabelSettings(SemiSupervisedSettings):
    """The common settings and two more."""

    weight_pseudo: float = setting(1.0, "Weight of the cross-entropy on pseudo-labels after the ramp-up.", low=0)
    confidence: float = setting(0.95, "Smallest teacher probability with which a voxel counts.", low=0.5, high=1)


class nnUNetTrainerPseudoLabel(nnUNetTrainerSemiSupervised):
    """Cross-entropy on the unlabelled voxels of which the teacher is sure; it sees a weaker augmentation."""

    default_settings = PseudoLabelSettings()
    curves = nnUNetTrainerSemiSupervised.curves | {"share of voxels": ("confident_share",)}

    def semi_supervised_losses(self, step: Step) -> dict[str, torch.Tensor]:
        student, teacher = (i.float() for i in step.compared())
        if self.nonlinearity == "sigmoid":  # regions
            labels = (teacher > 0).float()
            sure = torch.sigmoid(teacher.abs()) >= self.settings.confidence
            losses = F.binary_cross_entropy_with_logits(student, labels, reduction="none")
        else:
            probability, labels = teacher.softmax(1).max(1)
            sure = probability >= self.settings.confidence
            losses = F.cross_entropy(student, labels, reduction="none")
        self.log_step("confident_share", sure.float().mean())
        return {"pseudo": (losses * sure).mean()}

"""Mean Teacher (Tarvainen & Valpola, 2017): the student's predictions follow those of its moving average."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import ClassVar

import torch

from nnunet_dycon.losses import consistency_dice, consistency_mse, entropy
from nnunet_dycon.settings import SemiSupervisedSettings, setting
from nnunet_dycon.trainers.semi_supervised import nnUNetTrainerSemiSupervised
from nnunet_dycon.training.step import Step


@dataclasses.dataclass(frozen=True)
class MeanTeacherSettings(SemiSupervisedSettings):
    """Settings of Mean Teacher and what extends it."""

    weight_mse: float = setting(
        0.0, "Weight of the plain mean-squared consistency at the end of the ramp-up.", low=0, paper=0.1
    )
    weight_dice: float = setting(
        1.0,
        "Weight of the soft Dice consistency on unlabelled crops at the end of the ramp-up; not in the paper.",
        low=0,
        paper=0.0,
    )


class nnUNetTrainerMeanTeacher(nnUNetTrainerSemiSupervised):
    """Plain Mean Teacher: mean-squared consistency alone, with the same views of the crops as DyCON."""

    default_settings: MeanTeacherSettings = MeanTeacherSettings(weight_mse=10.0, weight_dice=0.0)
    curves: ClassVar[Mapping[str, Sequence[str]]] = {
        "ramp-up": ("ramp_up",),
        "entropy [nats]": ("student_entropy", "teacher_entropy"),
    }
    settings: MeanTeacherSettings

    def semi_supervised_losses(self, step: Step) -> dict[str, torch.Tensor]:
        self.log_entropies(step)
        return self.consistency(step)

    def consistency(self, step: Step) -> dict[str, torch.Tensor]:
        """Losses where there is no annotation: on the unlabelled crops, where masks have an ignore label on all."""
        pair = step.compared(with_labeled=self.label_manager.has_ignore_label)
        losses = {}
        if self.settings.weight_mse > 0:
            losses["mse"] = consistency_mse(*pair, self.nonlinearity)
        if self.settings.weight_dice > 0:
            losses["dice"] = consistency_dice(*pair, self.nonlinearity, ddp=self.is_ddp)
        return losses

    def log_entropies(self, step: Step) -> torch.Tensor:
        """Log both networks' mean entropy; the student's of each voxel, (B, X, Y[, Z])."""
        student = entropy(step.student_logits.detach(), self.nonlinearity)
        self.log_step("student_entropy", student.mean())
        self.log_step("teacher_entropy", entropy(step.teacher.logits, self.nonlinearity).mean())
        return student

"""DyCON: UnCL and FeCL on a Mean Teacher (Assefa et al., CVPR 2025)."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import ClassVar

import torch

from nnunet_dycon.losses import FeCLoss, UnCLoss, max_entropy
from nnunet_dycon.losses.patches import patch_labels, pool_to_grid, predicted_labels, regions_to_labels
from nnunet_dycon.settings import setting, share
from nnunet_dycon.trainers.mean_teacher import MeanTeacherSettings, nnUNetTrainerMeanTeacher
from nnunet_dycon.training.processes import mean_over_processes
from nnunet_dycon.training.schedules import beta_schedule
from nnunet_dycon.training.step import Step


@dataclasses.dataclass(frozen=True)
class DyCONSettings(MeanTeacherSettings):
    """Settings of DyCON; the defaults are the best found on development data."""

    weight_uncl: float = setting(5.0, "Weight of UnCL at the end of the ramp-up.", low=0, paper=0.5)
    weight_fecl: float = setting(
        0.5,
        "Weight of FeCL at the end of the ramp-up; 0 also removes projection head and feature map.",
        low=0,
        paper=0.5,
    )
    beta_max: float = setting(5.0, "UnCL's beta at the start.", above=0, paper=5.0)
    beta_min: float = setting(0.5, "UnCL's beta at the end.", above=0, paper=0.5)
    entropy_weight: float = setting(0.01, "Factor on UnCL's entropy term.", low=0, paper=1.0)
    temperature: float = setting(0.6, "Temperature of FeCL's similarities.", above=0)
    gamma: float = setting(2.0, "Exponent of FeCL's focal factors.", low=0)
    negative_focal: bool = setting(True, "Whether hard negatives count more in FeCL.")
    top_k: int = setting(10, "Teacher patches of another class that FeCL pushes an anchor away from.", low=1)
    lambda_cross: float = setting(1.0, "Weight of FeCL's teacher term; 0 spares the teacher's projection.", low=0)
    uncertainty_weighting: bool = setting(True, "Whether uncertain patches count up to twice in FeCL.")
    max_patches: int | None = setting(
        None,
        "FeCL reads the shallowest encoder stage with at most this many positions for the plan's patch size; none: "
        "4096 in 3D, 1024 in 2D, where a batch has more crops.",
        low=2,
        paper=4096,
    )
    patch_foreground_share: float | None = setting(
        0.1,
        "Foreground share from which a patch counts as foreground; none: the class with the largest share wins.",
        above=0,
        high=1,
        paper=None,
    )
    patch_min_purity: float = share(
        0.0, "Smallest share of its class that a patch must have; others carry no label.", paper=0.0
    )
    pseudo_label_min_confidence: float = setting(
        0.8,
        "Smallest teacher probability with which a voxel of an unlabelled crop counts for patch labels.",
        low=0,
        below=1,
        paper=0.0,
    )


class nnUNetTrainerDyCON(nnUNetTrainerMeanTeacher):
    """nnU-Net's trainer with DyCON on the unlabelled scans.

    ``weight_uncl`` and ``weight_fecl`` switch the two losses off at 0; what is left is a plain Mean Teacher.
    """

    default_settings: DyCONSettings = DyCONSettings()
    curves: ClassVar[Mapping[str, Sequence[str]]] = {
        "ramp-up, beta": ("ramp_up", "beta"),
        "entropy [nats], patch share": (
            "student_entropy",
            "teacher_entropy",
            "patch_share_unlabeled",
            "patch_share_foreground",
        ),
    }
    settings: DyCONSettings

    def initialize(self) -> None:
        super().initialize()
        self.uncl = UnCLoss(nonlinearity=self.nonlinearity, entropy_weight=self.settings.entropy_weight)
        self.fecl = FeCLoss(
            temperature=self.settings.temperature,
            gamma=self.settings.gamma,
            negative_focal=self.settings.negative_focal,
            top_k=self.settings.top_k,
            lambda_cross=self.settings.lambda_cross,
        )

    def embedding_patches(self) -> int:
        settings, is_3d = self.settings, len(self.configuration_manager.patch_size) == 3
        return (settings.max_patches or (4096 if is_3d else 1024)) if settings.weight_fecl > 0 else 0

    def semi_supervised_losses(self, step: Step) -> dict[str, torch.Tensor]:
        """Mean Teacher's, on all crops that the teacher has seen UnCL, and on all crops FeCL."""
        settings, student_entropy = self.settings, self.log_entropies(step)
        losses = self.consistency(step)
        beta = beta_schedule(step.progress, beta_max=settings.beta_max, beta_min=settings.beta_min)
        self.log_step("beta", beta)
        if settings.weight_uncl > 0:
            losses["uncl"] = self.uncl(*step.compared(with_labeled=True), beta)
        if settings.weight_fecl > 0:
            losses["fecl"] = self._contrast(step, student_entropy)
        return losses

    def _contrast(self, step: Step, student_entropy: torch.Tensor) -> torch.Tensor:
        """FeCL over all crops; the teacher term only where the teacher has seen the crop."""
        assert step.student_embeddings is not None
        labels = self._patch_labels(step)
        self.log_step("patch_share_unlabeled", (labels < 0).float().mean())
        self.log_step("patch_share_foreground", (labels > 0).float().mean())
        uncertainty = None
        if self.settings.uncertainty_weighting:
            highest = max_entropy(step.student_logits.shape[1], self.nonlinearity)
            uncertainty = pool_to_grid(student_entropy[:, None], step.grid)[:, 0] / highest
        loss = self.fecl(step.student_embeddings, labels, step.teacher.embeddings, uncertainty)
        count = (labels >= 0).sum()
        return loss * count / mean_over_processes(count).clamp(min=1)  # one mean over the patches of all processes

    def on_train_epoch_end(self, train_outputs: list[dict]) -> None:
        super().on_train_epoch_end(train_outputs)
        if self.embedding_patches() and self.logger.get_value("patch_share_foreground", -1) == 0:
            self.print_to_log_file(
                "FeCL had no foreground patch in this epoch, so nothing to tell background from; a larger max_patches, "
                "a smaller patch_foreground_share or patch_min_purity gives it some, weight_fecl=0 saves its time"
            )

    @torch.no_grad()
    def _patch_labels(self, step: Step) -> torch.Tensor:
        """(B, N): from ground truth where there is one, from the teacher's prediction elsewhere."""
        manager, settings, order = self.label_manager, self.settings, self.class_order
        pseudo = predicted_labels(
            step.teacher.logits, class_order=order, min_confidence=settings.pseudo_label_min_confidence
        )
        labels = self._true_labels(step.target)
        if manager.has_ignore_label:  # the teacher has seen the labelled crops, too
            labels = torch.where(labels < 0, pseudo[: step.num_labeled], labels)
        labels = torch.cat([labels, pseudo[-(len(step.student_logits) - step.num_labeled) :]])
        classes = [0, *dict.fromkeys(order)] if order else [i for i in manager.all_labels if i != manager.ignore_label]
        return patch_labels(
            labels,
            classes,
            step.grid,
            foreground_share=settings.patch_foreground_share,
            min_purity=settings.patch_min_purity,
        )

    def _true_labels(self, target: torch.Tensor) -> torch.Tensor:
        """Label map (b, X, Y[, Z]) of nnU-Net's target (b, 1 or regions, X, Y[, Z]); ignored voxels are -1."""
        if (order := self.class_order) is None:
            labels = target[:, 0].long()
            ignore = self.label_manager.ignore_label
            return labels if ignore is None else labels.masked_fill(labels == ignore, -1)
        labels = regions_to_labels(target[:, : len(order)], order)
        return labels.masked_fill(target[:, -1] > 0, -1) if self.label_manager.has_ignore_label else labels


class nnUNetTrainerMeanTeacherUnCL(nnUNetTrainerDyCON):
    """Mean Teacher with UnCL; DyCON without FeCL."""

    default_settings = DyCONSettings(weight_fecl=0.0)


class nnUNetTrainerMeanTeacherFeCL(nnUNetTrainerDyCON):
    """Mean Teacher with FeCL; DyCON without UnCL."""

    default_settings = DyCONSettings(weight_uncl=0.0)

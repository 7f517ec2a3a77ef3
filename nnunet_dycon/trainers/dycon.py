"""DyCON: UnCL and FeCL on a Mean Teacher (Assefa et al., CVPR 2025)."""

from __future__ import annotations

import torch

from nnunet_dycon.losses import FeCLoss, UnCLoss, consistency_dice, consistency_mse, entropy, max_entropy
from nnunet_dycon.losses.patches import patch_labels, pool_to_grid, predicted_labels, regions_to_labels
from nnunet_dycon.trainers.semi_supervised import Step, nnUNetTrainerSemiSupervised
from nnunet_dycon.training.processes import mean_over_processes
from nnunet_dycon.training.schedules import beta_schedule


class nnUNetTrainerDyCON(nnUNetTrainerSemiSupervised):
    """nnU-Net's trainer with DyCON on the unlabelled scans.

    ``weight_uncl`` and ``weight_fecl`` switch the two losses off at 0; what is left is a plain Mean Teacher.
    """

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

    def needs_embeddings(self) -> bool:
        return self.settings.weight_fecl > 0

    def semi_supervised_losses(self, step: Step) -> dict[str, torch.Tensor]:
        settings = self.settings
        beta = beta_schedule(step.progress, beta_max=settings.beta_max, beta_min=settings.beta_min)
        self.log_step("beta", beta)
        student_entropy = entropy(step.student_logits.detach(), self.nonlinearity)
        self.log_step("student_entropy", student_entropy.mean())
        self.log_step("teacher_entropy", entropy(step.teacher_logits, self.nonlinearity).mean())
        losses = {}
        taught_logits = step.student_logits[step.taught]
        if settings.weight_uncl > 0:
            losses["uncl"] = self.uncl(taught_logits, step.teacher_logits, beta)
        if settings.weight_fecl > 0:
            losses["fecl"] = self._contrast(step, student_entropy)
        first = 0 if self.label_manager.has_ignore_label else step.num_labeled
        unlabeled = step.student_logits[first:]
        teacher = step.teacher_logits[-len(unlabeled) :]
        if settings.weight_mse > 0:
            losses["mse"] = consistency_mse(unlabeled, teacher, self.nonlinearity)
        if settings.weight_dice > 0:
            losses["dice"] = consistency_dice(unlabeled, teacher, self.nonlinearity, ddp=self.is_ddp)
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
        counts = (labels >= 0).sum(1)  # so that the groups, and the processes, make one mean over all patches
        total = torch.zeros((), device=labels.device)
        for crops, teacher in self._contrasted(step):
            part = self.fecl(
                step.student_embeddings[crops],
                labels[crops],
                teacher,
                None if uncertainty is None else uncertainty[crops],
            )
            total = total + part * counts[crops].sum()
        return total / mean_over_processes(counts.sum()).clamp(min=1)

    def _contrasted(self, step: Step) -> list[tuple[slice, torch.Tensor | None]]:
        """Groups of crops that go through FeCL together, with their teacher embeddings."""
        if step.taught.start in (None, 0):
            return [(slice(None), step.teacher_embeddings)]
        return [(slice(0, step.num_labeled), None), (step.taught, step.teacher_embeddings)]

    @torch.no_grad()
    def _patch_labels(self, step: Step) -> torch.Tensor:
        """(B, N): from ground truth where there is one, from the teacher's prediction elsewhere."""
        manager, settings = self.label_manager, self.settings
        order = manager.regions_class_order if manager.has_regions else None
        pseudo = predicted_labels(
            step.teacher_logits, class_order=order, min_confidence=settings.pseudo_label_min_confidence
        )
        labels = self._true_labels(step.target, order)
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

    def _true_labels(self, target: torch.Tensor, order: list[int] | None) -> torch.Tensor:
        """Label map (b, X, Y[, Z]) of nnU-Net's target (b, 1 or regions, X, Y[, Z]); ignored voxels are -1."""
        if order is None:
            labels = target[:, 0].long()
            ignore = self.label_manager.ignore_label
            return labels if ignore is None else labels.masked_fill(labels == ignore, -1)
        labels = regions_to_labels(target[:, : len(order)], order)
        return labels.masked_fill(target[:, -1] > 0, -1) if self.label_manager.has_ignore_label else labels

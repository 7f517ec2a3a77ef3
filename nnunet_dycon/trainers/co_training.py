"""Co-training, the paper's second framework: two students, each taught by the other's prediction."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import replace

import torch
from torch import nn

from nnunet_dycon.errors import UserError
from nnunet_dycon.settings import Settings
from nnunet_dycon.trainers.dycon import nnUNetTrainerDyCON
from nnunet_dycon.training.embeddings import Branch
from nnunet_dycon.training.step import Crops, Step
from nnunet_dycon.training.teacher import Peer


class nnUNetTrainerDyCONCoTraining(nnUNetTrainerDyCON):
    """Two students with different initialisation, and UnCL and FeCL between them; the teaching one gets no gradient.

    The second student stands where Mean Teacher has the teacher: in the log, the checkpoint and ``predict_with``.
    Both see the same crops, without noise.
    """

    def make_teacher(self, modules: nn.ModuleDict) -> Peer:
        if self.is_ddp:
            raise UserError("co-training runs on one GPU; leave out -num_gpus, or use nnUNetTrainerDyCON")
        peer = deepcopy(modules)
        peer.apply(_initialize)
        self.optimizer.add_param_group({"params": list(peer.parameters())})
        return Peer(peer)

    def on_train_epoch_start(self) -> None:
        super().on_train_epoch_start()
        self.teacher.module.train()

    def on_validation_epoch_start(self) -> None:
        super().on_validation_epoch_start()
        self.teacher.module.eval()

    def student_branches(self) -> list[Branch]:
        return [self.student_branch, self.teacher_branch]

    def _losses(self, crops: Crops) -> tuple[torch.Tensor, torch.Tensor | float]:
        with self._autocast():
            passes = [branch(crops.images) for branch in self.student_branches()]
            supervised = torch.stack([self._supervised_loss(outputs, crops) for outputs, _ in passes])
        total: torch.Tensor | float = 0.0
        for (outputs, embeddings), (other_outputs, other_embeddings) in (passes, passes[::-1]):
            step = Step(
                self.progress, crops.num_labeled, slice(0, len(crops.images)), crops.targets[0],
                outputs[0], other_outputs[0].detach(), embeddings, _detached(other_embeddings), self.grid,
            )  # fmt: skip
            total = total + self.weighted_losses(step)
        return supervised, total


class nnUNetTrainerCoTraining(nnUNetTrainerDyCONCoTraining):
    """Plain co-training: mean-squared consistency between two students."""

    default_settings = replace(Settings(), weight_uncl=0.0, weight_fecl=0.0, weight_dice=0.0, weight_mse=10.0)


def _detached(embeddings: torch.Tensor | None) -> torch.Tensor | None:
    return None if embeddings is None else embeddings.detach()


def _initialize(module: nn.Module) -> None:
    """Draw a layer's weights anew: convolutions as nnU-Net does, others by their own rule."""
    if isinstance(module, (nn.Conv2d, nn.Conv3d, nn.ConvTranspose2d, nn.ConvTranspose3d)):
        nn.init.kaiming_normal_(module.weight, a=1e-2)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
    elif callable(reset := getattr(module, "reset_parameters", None)):
        reset()

"""Co-training, the paper's second framework: two students, each taught by the other's prediction."""

from __future__ import annotations

from copy import deepcopy

import torch
from torch import nn

from nnunet_dycon.errors import UserError
from nnunet_dycon.trainers.dycon import DyCONSettings, nnUNetTrainerDyCON
from nnunet_dycon.trainers.mean_teacher import nnUNetTrainerMeanTeacher
from nnunet_dycon.training.embeddings import Branch
from nnunet_dycon.training.step import Crops, Losses, Step, Taught
from nnunet_dycon.training.teacher import Teacher


class nnUNetTrainerCoTraining(nnUNetTrainerMeanTeacher):
    """Plain co-training: two students with different initialisation, and mean-squared consistency between them.

    The second student stands where Mean Teacher has the teacher: in the log, the checkpoint and ``predict_with``.
    Both see the same crops, without noise; the teaching one gets no gradient.
    """

    unused_settings = ("ema_decay", "teacher_noise", "weak_teacher_view", "student_zoom", "cutmix", "teach_labeled")

    def make_teacher(self, modules: nn.ModuleDict) -> Teacher:
        if self.is_ddp:
            raise UserError("co-training runs on one GPU; leave out -num_gpus, or use nnUNetTrainerDyCON")
        peer = deepcopy(modules)
        with torch.random.fork_rng(devices=()):  # a seed draws the same crops with and without the second student
            peer.apply(_initialize)
        self.optimizer.add_param_group({"params": list(peer.parameters())})
        return Teacher(peer)

    def on_train_epoch_start(self) -> None:
        super().on_train_epoch_start()
        self.teacher.module.train()

    def on_validation_epoch_start(self) -> None:
        super().on_validation_epoch_start()
        self.teacher.module.eval()

    def student_branches(self) -> list[Branch]:
        return [self.student_branch, self.teacher_branch]

    def losses(self, crops: Crops) -> list[Losses]:
        """Each student's, taught by the other."""
        with self.autocast():
            passes = [branch(crops.images) for branch in self.student_branches()]
            supervised = [self.supervised_loss(outputs, crops.targets) for outputs, _ in passes]
        said = [Taught(outputs[0], embeddings).detach() for outputs, embeddings in passes]
        steps = [
            Step(self.progress, crops.targets[0], outputs[0], other, embeddings, self.grid)
            for (outputs, embeddings), other in zip(passes, said[::-1], strict=True)
        ]
        return [Losses(i, self.semi_supervised_losses(step)) for i, step in zip(supervised, steps, strict=True)]


class nnUNetTrainerDyCONCoTraining(nnUNetTrainerCoTraining, nnUNetTrainerDyCON):
    """Co-training with UnCL and FeCL between the students."""

    default_settings = DyCONSettings()


def _initialize(module: nn.Module) -> None:
    """Draw a layer's weights anew: convolutions as nnU-Net does, others by their own rule."""
    if isinstance(module, (nn.Conv2d, nn.Conv3d, nn.ConvTranspose2d, nn.ConvTranspose3d)):
        nn.init.kaiming_normal_(module.weight, a=1e-2)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
    elif callable(reset := getattr(module, "reset_parameters", None)):
        reset()

"""A trainer with two networks: a student that learns, and what teaches it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from copy import deepcopy
from typing import cast

import numpy as np
import torch
from torch import autocast, nn

from nnunet_dycon.models.checkpoints import OTHER_NETWORK
from nnunet_dycon.settings import SemiSupervisedSettings
from nnunet_dycon.trainers.supervised import nnUNetTrainerSupervised
from nnunet_dycon.training.embeddings import Branch, EncoderTap, ProjectionHead, choose_stage, skip_shapes
from nnunet_dycon.training.processes import sum_over_processes, unwrap, wrap
from nnunet_dycon.training.teacher import EMATeacher, Teacher


class nnUNetTrainerTwoNetworks(nnUNetTrainerSupervised):
    """nnU-Net's trainer with a teacher beside the student: both are validated, either predicts."""

    settings: SemiSupervisedSettings
    network: nn.Module
    """The student."""
    teacher_network: nn.Module
    head: nn.Module | None = None
    """The student's projection head; None where no loss reads embeddings."""
    grid: tuple[int, ...] = ()
    """Patches of a crop along each axis, each with an embedding."""

    def initialize(self) -> None:
        super().initialize()
        modules = nn.ModuleDict({"network": unwrap(self.network)})
        stage = self._add_head(modules) if self.embedding_patches() else None
        self.teacher = self.make_teacher(modules)
        self.teacher_network = self.teacher.module.get_submodule("network")
        taps = [None if stage is None else EncoderTap(i, stage) for i in (modules["network"], self.teacher_network)]
        if self._do_i_compile():
            self.teacher_network = cast(nn.Module, torch.compile(self.teacher_network))
        if self.head is not None and self.is_ddp:
            self.head = wrap(self.head, self.device)
        teacher_head = None if self.head is None else self.teacher.module.get_submodule("head")
        self.student_branch = Branch(self.network, self.head, taps[0])
        self.teacher_branch = Branch(self.teacher_network, teacher_head, taps[1])

    def make_teacher(self, modules: nn.ModuleDict) -> Teacher:
        """What teaches the student, given the student's ``network`` and, where there is one, ``head``."""
        return EMATeacher(modules, self.settings.ema_decay)

    def _add_head(self, modules: nn.ModuleDict) -> int:
        """Add a projection head on the encoder stage that suits the settings; returns the stage."""
        patch_size = self.configuration_manager.patch_size
        shapes = skip_shapes(modules["network"], self.num_input_channels, patch_size)
        stage = choose_stage(shapes, self.embedding_patches())
        channels, self.grid = shapes[stage][0], shapes[stage][1:]
        with torch.random.fork_rng(devices=()):  # a seed draws the same crops with and without the head
            self.head = modules["head"] = ProjectionHead(channels, len(patch_size)).to(self.device)
        self.optimizer.add_param_group({"params": list(self.head.parameters())})
        self.print_to_log_file(f"patch embeddings: encoder stage {stage}, {channels} channels, grid {self.grid}")
        return stage

    @contextmanager
    def _using(self, name: str) -> Iterator[None]:
        """Inside, nnU-Net's code runs with the ``teacher`` or the ``student`` as its network."""
        student = self.network
        if name == "teacher":
            self.network = self.teacher_network
        try:
            yield
        finally:
            self.network = student

    def predicting_network(self) -> nn.Module:
        return unwrap(self.teacher_network if self.settings.predict_with == "teacher" else self.network)

    def set_deep_supervision_enabled(self, enabled: bool) -> None:
        for network in (self.network, self.teacher_network):
            unwrap(network).get_submodule("decoder").deep_supervision = enabled  # type: ignore[assignment]

    def embedding_patches(self) -> int:
        """Largest number of patches of a crop whose embeddings the losses read; 0 makes no projection head."""
        return 0

    def student_branches(self) -> list[Branch]:
        """The networks that are trained."""
        return [self.student_branch]

    def supervised_loss(self, outputs: list[torch.Tensor], targets: list[torch.Tensor]) -> torch.Tensor:
        """nnU-Net's loss on the crops that have targets, the first of those that gave the outputs."""
        mine = [i[: len(targets[0])] for i in outputs]
        return self.loss(mine, targets) if self.enable_deep_supervision else self.loss(mine[0], targets[0])

    def autocast(self) -> AbstractContextManager:
        """nnU-Net's choice: autocast on CUDA only."""
        return autocast(self.device.type, enabled=True) if self.device.type == "cuda" else nullcontext()

    def validation_step(self, batch: dict) -> dict:
        """nnU-Net's validation step for both networks; the one that predicts is what nnU-Net logs."""
        first, second = self.settings.predict_with, OTHER_NETWORK[self.settings.predict_with]
        target = deepcopy(batch["target"])  # nnU-Net overwrites ignored voxels in place
        with self._using(first):
            outputs = super().validation_step({**batch, "target": target})
        with self._using(second):
            others = super().validation_step(batch)
        return {**outputs, **{f"other_{key}": others[key] for key in ("tp_hard", "fp_hard", "fn_hard")}}

    def on_validation_epoch_end(self, val_outputs: list[dict]) -> None:
        super().on_validation_epoch_end(val_outputs)
        tp, fp, fn = (
            sum_over_processes(np.sum([i[f"other_{key}_hard"] for i in val_outputs], axis=0))
            for key in ("tp", "fp", "fn")
        )
        with np.errstate(invalid="ignore"):
            other = float(np.nanmean(2 * tp / (2 * tp + fp + fn)))
        first = self.settings.predict_with
        dice = {first: self.logger.get_value("mean_fg_dice", -1), OTHER_NETWORK[first]: other}
        for name, value in dice.items():
            self.logger.log(f"{name}_mean_fg_dice", value, self.current_epoch)
        self.print_to_log_file(", ".join(f"{name} pseudo Dice {value:.4f}" for name, value in sorted(dice.items())))

"""Base class of all semi-supervised trainers: unlabelled crops, ramp-up, logging, checkpoints."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache, cached_property
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor

from nnunet_dycon.data.two_stream_loader import (
    TwoStreamDataLoader,
    end_workers,
    feed,
    loader_of,
    nnUNetUnlabeledDataLoader,
)
from nnunet_dycon.data.unlabeled_dataset import nnUNetDatasetUnlabeled
from nnunet_dycon.errors import UserError
from nnunet_dycon.losses import max_entropy
from nnunet_dycon.pictures.training import FOLDER, Reading, TrainingPictures, fixed_crops
from nnunet_dycon.settings import SemiSupervisedSettings
from nnunet_dycon.trainers.two_networks import nnUNetTrainerTwoNetworks
from nnunet_dycon.trainers.unlabeled_cases import UnlabeledCases
from nnunet_dycon.training import resume
from nnunet_dycon.training.cascade import predict_for_next_stages
from nnunet_dycon.training.curves import SemiSupervisedLogger
from nnunet_dycon.training.memory import estimate_of_step, out_of_memory_explained
from nnunet_dycon.training.processes import unwrap
from nnunet_dycon.training.ramp_delay import RampDelay
from nnunet_dycon.training.schedules import Schedule
from nnunet_dycon.training.skipped_steps import SkippedSteps
from nnunet_dycon.training.step import Crops, Losses, Step, Taught
from nnunet_dycon.training.step_log import StepLog
from nnunet_dycon.training.student_views import seen_by_student, student_views


class nnUNetTrainerSemiSupervised(nnUNetTrainerTwoNetworks):
    """nnU-Net's trainer with an EMA teacher and unlabelled crops in every batch.

    A method is a subclass with ``semi_supervised_losses``; each loss it returns under NAME is weighted with the
    setting ``weight_NAME`` and the ramp-up. nnU-Net's own loss on the labelled crops stays as it is. A method that
    changes what goes through the networks has ``losses`` and ``labeled_losses`` for it.
    """

    default_settings: SemiSupervisedSettings = SemiSupervisedSettings()
    curves: ClassVar[Mapping[str, Sequence[str]]] = {"ramp-up": ("ramp_up",)}
    """Names logged with ``log_step`` that get curves, by the title of their panel in progress.png."""
    settings: SemiSupervisedSettings

    def initialize(self) -> None:
        super().initialize()
        self.nonlinearity = "sigmoid" if self.label_manager.has_regions else "softmax"
        self.logger.local_logger = SemiSupervisedLogger(self.settings.loss_names(), self.curves)
        self.steps_done = 0
        self.generator = torch.Generator()
        self._seed = torch.initial_seed()
        self._random_state: dict[str, Any] | None = None
        self._step_log = StepLog()
        self._delay = RampDelay()
        self.skipped_steps = SkippedSteps(self.device)
        self.views = student_views(self.settings)

    # what a method adds ------------------------------------------------------------------------------------------

    def semi_supervised_losses(self, step: Step) -> dict[str, torch.Tensor]:
        """Unweighted losses of a step by name; see ``Step`` for what they may use."""
        raise NotImplementedError

    def losses(self, crops: Crops) -> list[Losses]:
        """Losses of a step on all crops, of each network that is trained."""
        with self.autocast():
            taught = self.teach(crops)
            unlabeled, taught = seen_by_student(crops.unlabeled, taught, self.views, self.grid, self.generator)
            outputs, embeddings = self.student_branch(torch.cat([crops.labeled, unlabeled]))
            supervised = self.supervised_loss(outputs, crops.targets)
        step = Step(self.progress, crops.targets[0], outputs[0], taught, embeddings, self.grid)
        return [Losses(supervised, self.semi_supervised_losses(step))]

    def labeled_losses(self, crops: Crops) -> list[Losses]:
        """Losses of a step on the labelled crops alone: all that counts while the ramp-up is 0."""
        with self.autocast():
            outputs = [branch.logits(crops.labeled) for branch in self.student_branches()]
            return [Losses(self.supervised_loss(i, crops.targets)) for i in outputs]

    def log_step(self, name: str, value: torch.Tensor | float) -> None:
        """Record a number of this step; its mean over the epoch is logged. It stays on the device until then."""
        self._step_log.add(name, value)

    # the crops --------------------------------------------------------------------------------------------------

    def get_dataloaders(self) -> tuple[Any, Any]:
        """nnU-Net's loaders; the one for training also yields unlabelled crops, from the same workers.

        Raises:
            UserError: as ``get_unlabeled_dataset``, or what a worker stumbled over.
        """
        unlabeled = self.get_unlabeled_dataset()
        train, val = super().get_dataloaders()
        labeled = loader_of(train)
        weak = self.settings.weak_teacher_view and "weak_teacher_view" not in self.unused_settings
        planned = self._planned  # the workers run ahead of what the training decides
        loader = TwoStreamDataLoader(
            labeled,
            nnUNetUnlabeledDataLoader(
                unlabeled,
                labeled,
                self.unlabeled_batch_size,
                shares=self.settings.source_shares,
                weak_view=weak,
                strong_view=self.strong_view() if self.settings.strong_student_view else (),
            ),
            uses_unlabeled=[planned.uses_unlabeled(i) for i in range(planned.num_steps)],
            first_step=self.steps_done,
        )
        self.dataloader_val = val
        self.dataloader_train = feed(train, loader)
        return self.dataloader_train, val

    @cached_property
    def unlabeled_cases(self) -> UnlabeledCases:
        """The unlabelled cases of this fold."""
        return UnlabeledCases(self)

    @property
    def unlabeled_batch_size(self) -> int:
        """Unlabelled crops in a batch."""
        return self.settings.unlabeled_batch_size or self.batch_size

    def get_unlabeled_dataset(self) -> nnUNetDatasetUnlabeled:
        """All unlabelled cases, in a cascade's second stage with the predictions of the first.

        Raises:
            UserError: there is none, a case is labelled as well, or a prediction is missing.
        """
        self.unlabeled_cases.check(self.settings.source_shares)
        return self.unlabeled_cases.for_training(*self.do_split())

    # training ---------------------------------------------------------------------------------------------------

    def run_training(self) -> None:
        """nnU-Net's. Workers are ended before an error is shown; what they write when they die would come after it."""
        try:
            with out_of_memory_explained(self.settings.unlabeled_batch_size or self.configuration_manager.batch_size):
                super().run_training()
        except UserError:
            end_workers(self.dataloader_train, self.dataloader_val)
            raise

    def on_train_start(self) -> None:
        super().on_train_start()
        if self.steps_done == 0:
            self.teacher.restart()  # the student may have got pretrained weights
        self.pictures = self._training_pictures()
        self.logger.local_logger.validates_on_training_cases = self.validates_on_training_cases
        self.logger.update_config({"semi_supervised": self.settings.to_dict()})
        for text in self.settings.warnings():
            self.print_to_log_file(f"WARNING: {text}")
        self.print_to_log_file(
            estimate_of_step(
                unwrap(self.network),
                self.num_input_channels,
                self.configuration_manager.patch_size,
                labeled=self.batch_size,
                unlabeled=self.unlabeled_batch_size,
                half=self.device.type == "cuda",
                students=len(self.student_branches()),
            )
        )
        if self._random_state is not None:
            resume.set_random_state(self._random_state)
            self._random_state = None

    @property
    def _planned(self) -> Schedule:
        """What happens when, as the settings say."""
        lengths = self.num_epochs * self.num_iterations_per_epoch, self.num_iterations_per_epoch
        return Schedule(*lengths, self.settings.ramp_start, self.settings.ramp_length)

    @property
    def schedule(self) -> Schedule:
        """What happens when, with a ramp-up that has waited for classes where it had to."""
        return self._delay.applied_to(self._planned)

    @property
    def progress(self) -> float:
        """Share of the planned training steps that is done, in [0, 1]."""
        return self.schedule.progress(self.steps_done)

    def train_step(self, batch: dict) -> dict:
        whole_step = self.schedule.uses_unlabeled(self.steps_done)
        crops = Crops.from_batch(batch, self.device, with_unlabeled=whole_step)
        # the step's own random numbers: one generator for all would move the crops with what a method draws
        self.generator.manual_seed((self._seed + self.steps_done + 1_000_003 * self.local_rank) % 2**63)
        self.optimizer.zero_grad(set_to_none=True)
        losses = self.losses(crops) if whole_step else self.labeled_losses(crops)
        supervised = torch.stack([i.supervised for i in losses])
        total = supervised.sum()
        if whole_step:
            total = total + sum(self._weighted(i.others) for i in losses)
        skipped = self.skipped_steps.take_step(total, self.optimizer, self.grad_scaler, self._step_log.means)
        self.log_step("skipped", skipped)
        self.teacher.update(self.steps_done)
        self.steps_done += 1
        return {"loss": supervised.mean().detach().cpu().numpy()}

    @torch.inference_mode()
    def teach(self, crops: Crops) -> Taught:
        """What the teacher says of the unlabelled crops, and of the labelled ones where the losses want it."""
        images = crops.weak_unlabeled
        if self.settings.teach_labeled or self.label_manager.has_ignore_label:  # whose voxels are not all annotated
            images = torch.cat([crops.labeled, images])
        if sigma := self.settings.teacher_noise:
            generator = self.generator if self.device.type == "cpu" else None  # noise is drawn where the images are
            noise = torch.empty_like(images).normal_(generator=generator)
            images = images + noise.mul_(sigma).clamp_(-2 * sigma, 2 * sigma)
        outputs, embeddings = self.teacher_branch(images)
        return Taught(outputs[0], embeddings)

    def _weighted(self, losses: dict[str, torch.Tensor]) -> torch.Tensor | float:
        """Sum of the semi-supervised losses, each with its weight and the ramp-up."""
        ramp = self.schedule.ramp_up(self.steps_done)
        self.log_step("ramp_up", ramp)
        total: torch.Tensor | float = 0.0
        for name, loss in losses.items():
            self.log_step(name, loss)
            total = total + ramp * self.settings.weight(name) * loss
        return total

    def on_train_epoch_end(self, train_outputs: list[dict]) -> None:
        """nnU-Net's, with the mean of the other steps in place of a loss that is not finite.

        A process of a distributed training hands over as many losses as the others, else they would count unequally.
        """
        losses = np.stack([i["loss"] for i in train_outputs])
        supervised = float(losses.mean())
        if (finite := np.isfinite(losses)).any():
            losses[~finite] = losses[finite].mean()
        super().on_train_epoch_end([{"loss": np.asarray(i)} for i in losses])
        means = self._step_log.means()
        self._step_log.clear()
        for name in self.logger.local_logger.step_keys:
            self.logger.log(name, means.get(name, float("nan")), self.current_epoch)
        self.print_to_log_file(", ".join(f"{name} {value:.4g}" for name, value in means.items()))
        self.skipped_steps.check({"supervised": supervised, **means})

    def on_epoch_end(self) -> None:
        """nnU-Net's, before whose checkpoint it is settled whether the ramp-up waits."""
        names = [i for i in self.dataset_json["labels"] if i not in ("background", "ignore")]
        dice = dict(zip(names, self.logger.get_value("dice_per_class_or_region", -1), strict=False))
        if text := self._delay.before_epoch(self._planned, self.steps_done, dice, self.settings.ramp_min_dice):
            self.print_to_log_file(text)
        epoch = self.current_epoch
        super().on_epoch_end()
        if self.local_rank == 0:
            self.pictures.after_epoch(epoch, is_last=epoch == self.num_epochs - 1)

    def on_train_end(self) -> None:
        super().on_train_end()
        if self.local_rank == 0:
            self.logger.local_logger.plot_last_progress_png(self.output_folder)
            self.pictures.after_training()

    def _training_pictures(self) -> TrainingPictures:
        manager, patch_size = self.label_manager, self.configuration_manager.patch_size
        data = loader_of(self.dataloader_train).unlabeled._data, loader_of(self.dataloader_val)._data
        return TrainingPictures(
            folder=Path(self.output_folder) / FOLDER,
            every_epochs=self.settings.picture_every_epochs,
            crops=cache(lambda: fixed_crops(*data, patch_size, manager.foreground_labels, self.do_split()[0])),
            network=self.predicting_network,
            how=Reading(self.nonlinearity, self.class_order, self.device, self.autocast),
            spacing=self.configuration_manager.spacing,
            highest_entropy=max_entropy(manager.num_segmentation_heads, self.nonlinearity),
            log=self.print_to_log_file,
        )

    # prediction and checkpoints ----------------------------------------------------------------------------------

    def perform_actual_validation(self, save_probabilities: bool = False) -> None:
        with self._using(self.settings.predict_with):
            super().perform_actual_validation(save_probabilities)
        if stages := self.unlabeled_cases.next_stages():
            self.set_deep_supervision_enabled(False)
            predictor = nnUNetPredictor(device=self.device, allow_tqdm=False)
            managers = self.plans_manager, self.configuration_manager, None, self.dataset_json
            how = type(self).__name__, self.inference_allowed_mirroring_axes
            predictor.manual_initialization(self.predicting_network(), *managers, *how)
            folder = Path(self.output_folder)
            predict_for_next_stages(predictor, *self.unlabeled_cases.for_stages(stages), folder, self.print_to_log_file)
            self.set_deep_supervision_enabled(True)

    def load_checkpoint(self, filename_or_checkpoint: str) -> None:
        """Continue from a checkpoint of this trainer, with its settings: only what does not touch the training is free.

        Raises:
            UserError: a damaged checkpoint, one of another trainer, or settings asked for that differ from its own.
        """
        state = resume.own_state(Path(filename_or_checkpoint), type(self).__name__, self.device)
        self.continue_with(state["settings"])
        self.load_network(filename_or_checkpoint)
        self._restore(state)

    def _state(self) -> dict[str, Any]:
        """All else that a resume needs; ``save_checkpoint_file`` adds ``student_weights``."""
        return {
            "settings": self.settings.to_dict(),
            "head_weights": None if self.head is None else unwrap(self.head).state_dict(),
            "teacher": self.teacher.state_dict(),
            "step": self.steps_done,
            "ramp_start": self._delay.ramp_start,
            "seed": self._seed,
            "validates_on_training_cases": self.validates_on_training_cases,
            "random_state": resume.get_random_state(),
        }

    def _restore(self, state: dict[str, Any]) -> None:
        """Continue from such a state, of which an earlier version may have stored less."""
        unwrap(self.network).load_state_dict(state["student_weights"])
        if self.head is not None:
            unwrap(self.head).load_state_dict(state["head_weights"])
        self.teacher.load_state_dict(state["teacher"])
        self.steps_done, self._seed = state["step"], state.get("seed", self._seed)
        self._delay.ramp_start = state.get("ramp_start", 0.0)
        if not self.is_ddp:  # the processes of a distributed training must not draw the same numbers
            self._random_state = state.get("random_state")

"""Base class of all semi-supervised trainers: student, teacher, ramp-up, logging, checkpoints."""

from __future__ import annotations

import io
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from copy import deepcopy
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from batchgenerators.dataloading.nondet_multi_threaded_augmenter import NonDetMultiThreadedAugmenter
from torch import autocast, nn

from nnunet_dycon.errors import UserError
from nnunet_dycon.files.whole_files import whole
from nnunet_dycon.models.checkpoints import load_checkpoint_file
from nnunet_dycon.settings import ENVIRONMENT_VARIABLE, Settings
from nnunet_dycon.trainers.unlabeled_cases import nnUNetTrainerUnlabeledCases
from nnunet_dycon.training.cascade import predict_for_next_stages
from nnunet_dycon.training.curves import SemiSupervisedLogger
from nnunet_dycon.training.cutmix import cutmix
from nnunet_dycon.training.embeddings import Branch, EncoderTap, ProjectionHead, choose_stage, skip_shapes
from nnunet_dycon.training.processes import sum_over_processes, wrap
from nnunet_dycon.training.random_state import get_random_state, set_random_state
from nnunet_dycon.training.schedules import sigmoid_rampup
from nnunet_dycon.training.skipped_steps import SkippedSteps
from nnunet_dycon.training.step import Crops, Step
from nnunet_dycon.training.teacher import EMATeacher, Peer, submodule_weights
from nnunet_dycon.training.unwrapping import unwrap
from nnunet_dycon.training.zoom import zoom

_FREE_ON_RESUME = ("predict_with", "change_on_resume", "save_every", "picture_every_epochs")


class nnUNetTrainerSemiSupervised(nnUNetTrainerUnlabeledCases):
    """nnU-Net's trainer with an EMA teacher and unlabelled crops in every batch.

    A method is a subclass with ``semi_supervised_losses``; each loss it returns under NAME is weighted with the
    setting ``weight_NAME`` and the ramp-up. nnU-Net's own loss on the labelled crops stays as it is.
    """

    loss_names = ("uncl", "fecl", "mse", "dice")
    """Names that ``semi_supervised_losses`` may return."""
    default_settings = Settings()
    network: nn.Module
    teacher_network: nn.Module

    def __init__(
        self,
        plans: dict,
        configuration: str,
        fold: int,
        dataset_json: dict,
        device: torch.device = torch.device("cuda"),  # noqa: B008  nnU-Net's signature, which it inspects
    ) -> None:
        super().__init__(plans, configuration, fold, dataset_json, device)
        self.nonlinearity = "sigmoid" if self.label_manager.has_regions else "softmax"
        self.logger.local_logger = SemiSupervisedLogger(self.loss_names)
        self.head: nn.Module | None = None
        self.grid: tuple[int, ...] = ()
        self._step_logs: dict[str, list[torch.Tensor | float]] = defaultdict(list)
        self._random_state: dict[str, Any] | None = None

    # ------------------------------------------------------------------------------------------ what a method adds

    def semi_supervised_losses(self, step: Step) -> dict[str, torch.Tensor]:
        """Unweighted losses of a step by name; see ``Step`` for what they may use."""
        raise NotImplementedError

    def needs_embeddings(self) -> bool:
        """Whether the losses read patch embeddings; without, no projection head is made."""
        return False

    def log_step(self, name: str, value: torch.Tensor | float) -> None:
        """Record a number of this step; its mean over the epoch is logged. It stays on the device until then."""
        self._step_logs[name].append(value.detach() if isinstance(value, torch.Tensor) else value)

    # ------------------------------------------------------------------------------------------------ the networks

    def initialize(self) -> None:
        super().initialize()
        self.skipped_steps = SkippedSteps(self.device)
        modules = nn.ModuleDict({"network": unwrap(self.network)})
        stage = self._add_head(modules) if self.needs_embeddings() else None
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

    def make_teacher(self, modules: nn.ModuleDict) -> EMATeacher | Peer:
        """What teaches the student, given the student's ``network`` and, where there is one, ``head``."""
        return EMATeacher(modules, self.settings.ema_decay)

    def _add_head(self, modules: nn.ModuleDict) -> int:
        """Add a projection head on the encoder stage that suits the settings; returns the stage."""
        shapes = skip_shapes(modules["network"], self.num_input_channels, self.configuration_manager.patch_size)
        stage = choose_stage(shapes, self.settings.max_patches)
        channels, *grid = shapes[stage]
        self.grid = tuple(grid)
        with torch.random.fork_rng(devices=()):  # a seed draws the same crops with and without the head
            self.head = modules["head"] = ProjectionHead(channels, len(grid)).to(self.device)
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

    # ---------------------------------------------------------------------------------------------------- training

    def run_training(self) -> None:
        """nnU-Net's. Workers are ended before an error is shown; what they write when they die would come after it."""
        try:
            super().run_training()
        except UserError:
            for loader in (self.dataloader_train, self.dataloader_val):
                if isinstance(loader, NonDetMultiThreadedAugmenter):
                    loader._finish()
            raise

    def on_train_start(self) -> None:
        super().on_train_start()
        if self.teacher.step == 0:
            self.teacher.restart()  # the student may have got pretrained weights
        self.logger.update_config({"semi_supervised": self.settings.to_dict()})
        lines = [f"  {name}: {value}" for name, value in self.settings.to_dict().items()]
        self.print_to_log_file("Semi-supervised settings:\n" + "\n".join(lines), add_timestamp=False)
        if self._random_state is not None:
            set_random_state(self._random_state)
            self._random_state = None

    @property
    def progress(self) -> float:
        """Share of the planned training steps that is done, in [0, 1]."""
        return min(1.0, self.teacher.step / (self.num_epochs * self.num_iterations_per_epoch))

    def ramp_up(self) -> float:
        """Factor on the weights of all semi-supervised losses at this step, in [0, 1]."""
        return sigmoid_rampup(self.progress, start=self.settings.ramp_start, length=self.settings.ramp_length)

    def train_step(self, batch: dict) -> dict:
        crops = Crops.from_batch(batch, self.device)
        self.optimizer.zero_grad(set_to_none=True)
        if self.ramp_up() > 0 or not self._step_logs:
            supervised, semi_supervised = self._losses(crops)
        else:
            supervised, semi_supervised = self._labeled_losses(crops), 0.0
        self._descend(supervised.sum() + semi_supervised)
        self.teacher.update()
        return {"loss": supervised.mean().detach().cpu().numpy()}

    def _losses(self, crops: Crops) -> tuple[torch.Tensor, torch.Tensor | float]:
        """Supervised losses, one for each network that is trained, and the weighted sum of the others."""
        with self._autocast():
            taught, teacher_logits, teacher_embeddings = self._teach(crops)
            if torch.rand(()) < self.settings.cutmix:
                teacher_logits, teacher_embeddings = cutmix(crops, teacher_logits, teacher_embeddings, self.grid)
            if (largest := self.settings.student_zoom) > 1:
                teacher_logits, teacher_embeddings = zoom(crops, teacher_logits, teacher_embeddings, self.grid, largest)
            outputs, embeddings = self.student_branch(crops.images)
            supervised = self._supervised_loss(outputs, crops)
        step = Step(
            self.progress, crops.num_labeled, taught, crops.targets[0],
            outputs[0], teacher_logits, embeddings, teacher_embeddings, self.grid,
        )  # fmt: skip
        return supervised[None], self.weighted_losses(step)

    def _labeled_losses(self, crops: Crops) -> torch.Tensor:
        """Supervised losses, one for each network that is trained, from the labelled crops alone.

        All that counts while the ramp-up is 0, and less than half the work. The first step of an epoch is a whole one
        all the same: too little memory shows at once, not after days, and each curve has a value.
        """
        images = crops.images[: crops.num_labeled]
        with self._autocast():
            return torch.stack([self._supervised_loss(i.logits(images), crops) for i in self.student_branches()])

    def student_branches(self) -> list[Branch]:
        """The networks that are trained."""
        return [self.student_branch]

    def _supervised_loss(self, outputs: list[torch.Tensor], crops: Crops) -> torch.Tensor:
        """nnU-Net's loss on the labelled crops."""
        mine = [i[: crops.num_labeled] for i in outputs]
        return self.loss(mine, crops.targets) if self.enable_deep_supervision else self.loss(mine[0], crops.targets[0])

    def _autocast(self) -> Any:
        """nnU-Net's choice: autocast on CUDA only."""
        return autocast(self.device.type, enabled=True) if self.device.type == "cuda" else nullcontext()

    @torch.inference_mode()
    def _teach(self, crops: Crops) -> tuple[slice, torch.Tensor, torch.Tensor | None]:
        """Run the teacher on noisy copies of the crops: which of them, its logits and its embeddings."""
        images = crops.weak_unlabeled
        if self.settings.teach_labeled or self.label_manager.has_ignore_label:  # whose voxels are not all annotated
            images = torch.cat([crops.images[: crops.num_labeled], images])
        sigma = self.settings.teacher_noise
        noise = torch.randn_like(images).mul_(sigma).clamp_(-2 * sigma, 2 * sigma)
        outputs, embeddings = self.teacher_branch(images + noise)
        return slice(len(crops.images) - len(images), len(crops.images)), outputs[0], embeddings

    def weighted_losses(self, step: Step) -> torch.Tensor | float:
        """Sum of the semi-supervised losses, each with its weight and the ramp-up."""
        ramp = self.ramp_up()
        self.log_step("ramp_up", ramp)
        total: torch.Tensor | float = 0.0
        for name, loss in self.semi_supervised_losses(step).items():
            self.log_step(name, loss)
            total = total + ramp * getattr(self.settings, f"weight_{name}") * loss
        return total

    def _descend(self, loss: torch.Tensor) -> None:
        """nnU-Net's optimiser step, with the head's parameters among those that are clipped.

        A step whose gradient is not finite is not taken: by the gradient scaler on CUDA, here elsewhere. The teacher is
        updated and the step counted all the same: an average that moves towards an unchanged student does no harm, and
        the schedules follow the batches that were seen.
        """
        parameters = [p for group in self.optimizer.param_groups for p in group["params"]]
        if self.grad_scaler is None:
            loss.backward()
            norm = torch.nn.utils.clip_grad_norm_(parameters, 12)
            if torch.isfinite(norm):
                self.optimizer.step()
        else:
            self.grad_scaler.scale(loss).backward()
            self.grad_scaler.unscale_(self.optimizer)
            norm = torch.nn.utils.clip_grad_norm_(parameters, 12)
            self.grad_scaler.step(self.optimizer)
            self.grad_scaler.update()
        self.log_step("skipped", self.skipped_steps.add(norm))
        if self.skipped_steps.is_due:
            self.skipped_steps.check({"sum of all terms": float(loss.detach()), **self._step_means()})

    def _step_means(self) -> dict[str, float]:
        return {name: _mean(i) for name, i in self._step_logs.items()}

    def on_train_epoch_end(self, train_outputs: list[dict]) -> None:
        """nnU-Net's, with the mean of the other steps in place of a loss that is not finite.

        A process of a distributed training hands over as many losses as the others, else they would count unequally.
        """
        losses = np.stack([i["loss"] for i in train_outputs])
        if (finite := np.isfinite(losses)).any():
            losses[~finite] = losses[finite].mean()
        super().on_train_epoch_end([{"loss": np.asarray(i)} for i in losses])
        means = self._step_means()
        self._step_logs.clear()
        for name in self.logger.local_logger.step_keys:
            self.logger.log(name, means.get(name, float("nan")), self.current_epoch)
        self.print_to_log_file(", ".join(f"{name} {value:.4g}" for name, value in means.items()))
        self.skipped_steps.check({"supervised": float(np.mean([i["loss"] for i in train_outputs])), **means})

    # -------------------------------------------------------------------------------------------------- validation

    def validation_step(self, batch: dict) -> dict:
        """nnU-Net's validation step for both networks; the one that predicts is what nnU-Net logs."""
        first, second = self.settings.predict_with, self._other_network
        target = deepcopy(batch["target"])  # nnU-Net overwrites ignored voxels in place
        with self._using(first):
            outputs = super().validation_step({**batch, "target": target})
        with self._using(second):
            others = super().validation_step(batch)
        return {**outputs, **{f"other_{key}": others[key] for key in ("tp_hard", "fp_hard", "fn_hard")}}

    @property
    def _other_network(self) -> str:
        return "student" if self.settings.predict_with == "teacher" else "teacher"

    def on_validation_epoch_end(self, val_outputs: list[dict]) -> None:
        super().on_validation_epoch_end(val_outputs)
        tp, fp, fn = (
            sum_over_processes(np.sum([i[f"other_{key}_hard"] for i in val_outputs], axis=0))
            for key in ("tp", "fp", "fn")
        )
        with np.errstate(invalid="ignore"):
            other = float(np.nanmean(2 * tp / (2 * tp + fp + fn)))
        dice = {self.settings.predict_with: self.logger.get_value("mean_fg_dice", -1), self._other_network: other}
        for name, value in dice.items():
            self.logger.log(f"{name}_mean_fg_dice", value, self.current_epoch)
        self.print_to_log_file(", ".join(f"{name} pseudo Dice {value:.4f}" for name, value in sorted(dice.items())))

    def perform_actual_validation(self, save_probabilities: bool = False) -> None:
        with self._using(self.settings.predict_with):
            super().perform_actual_validation(save_probabilities)
        predict_for_next_stages(self)

    # ------------------------------------------------------------------------------------------------- checkpoints

    def save_checkpoint(self, filename: str) -> None:
        """nnU-Net's checkpoint, whose network is the one that predicts, with all else that a resume needs.

        An interruption leaves the former checkpoint whole.
        """
        if self.local_rank != 0 or self.disable_checkpointing:
            return super().save_checkpoint(filename)
        buffer = io.BytesIO()
        super().save_checkpoint(buffer)
        buffer.seek(0)
        checkpoint = torch.load(buffer, map_location="cpu", weights_only=False)
        teacher = self.teacher.state_dict()
        checkpoint["semi_supervised"] = {
            "settings": self.settings.to_dict(),
            "student_weights": checkpoint["network_weights"],
            "head_weights": None if self.head is None else unwrap(self.head).state_dict(),
            "teacher": teacher,
            "step": self.teacher.step,
            "random_state": get_random_state(),
        }
        if self.settings.predict_with == "teacher":
            checkpoint["network_weights"] = submodule_weights(teacher["module"], "network")
        with whole(Path(filename)) as partial:
            torch.save(checkpoint, str(partial))

    def load_checkpoint(self, filename_or_checkpoint: str) -> None:
        """Continue from a checkpoint of this trainer, with the settings it was trained with.

        Raises:
            UserError: a damaged checkpoint, one of another trainer, or settings asked for that differ from its own.
        """
        # nnU-Net 2.8 fails on a dict although it announces one, so it is given the path
        checkpoint = load_checkpoint_file(Path(filename_or_checkpoint), self.device)
        name = type(self).__name__
        if checkpoint.get("trainer_name") != name or "semi_supervised" not in checkpoint:
            raise UserError(
                f"the checkpoint was written by {checkpoint.get('trainer_name')}, not by {name}. Continue with "
                f"-tr {checkpoint.get('trainer_name')}, or start from its weights with -pretrained_weights"
            )
        state = checkpoint["semi_supervised"]
        self._adopt_settings(state["settings"])
        if not self.was_initialized:
            self.initialize()
        super().load_checkpoint(filename_or_checkpoint)
        unwrap(self.network).load_state_dict(state["student_weights"])
        if self.head is not None:
            unwrap(self.head).load_state_dict(state["head_weights"])
        self.teacher.load_state_dict(state["teacher"])
        if not self.is_ddp:  # the processes of a distributed training must not draw the same numbers
            self._random_state = state.get("random_state")

    def _adopt_settings(self, stored: dict[str, Any]) -> None:
        """Take the settings of a checkpoint; only the network to predict with may be chosen anew."""
        settings = self.default_settings.override(stored)
        asked = self.settings if self.was_initialized else settings.override(self._overrides)
        changed = [i for i in stored if getattr(asked, i) != getattr(settings, i) and i not in _FREE_ON_RESUME]
        if changed and not asked.change_on_resume:
            listed = ", ".join(f"{i} {getattr(settings, i)} -> {getattr(asked, i)}" for i in changed)
            raise UserError(
                f"settings differ from those of the checkpoint: {listed}. Unset them in {ENVIRONMENT_VARIABLE} to "
                "continue, add change_on_resume=true to continue with the new ones, or start a new training"
            )
        self.use_settings(asked)


def _mean(values: list[torch.Tensor | float]) -> float:
    """Mean of an epoch's numbers, read from the device once."""
    return float(torch.stack([torch.as_tensor(i, dtype=torch.float32) for i in values]).mean())

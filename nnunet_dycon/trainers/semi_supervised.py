"""Base class of all semi-supervised trainers: student, teacher, ramp-up, logging, checkpoints."""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from copy import deepcopy
from pathlib import Path
from typing import Any, ClassVar, cast

import numpy as np
import torch
from batchgenerators.dataloading.nondet_multi_threaded_augmenter import NonDetMultiThreadedAugmenter
from batchgenerators.dataloading.single_threaded_augmenter import SingleThreadedAugmenter
from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor
from torch import autocast, nn

from nnunet_dycon.data.sources import case_probabilities
from nnunet_dycon.data.two_stream_loader import TwoStreamDataLoader, feed, nnUNetUnlabeledDataLoader
from nnunet_dycon.data.unlabeled_dataset import nnUNetDatasetUnlabeled
from nnunet_dycon.dataset.splits import check_disjoint
from nnunet_dycon.dataset.unlabeled_scans import sources_text
from nnunet_dycon.errors import UserError
from nnunet_dycon.files.whole_files import whole
from nnunet_dycon.losses import max_entropy
from nnunet_dycon.models.checkpoints import load_checkpoint_file
from nnunet_dycon.pictures import training as pictures
from nnunet_dycon.settings import ENVIRONMENT_VARIABLE, SemiSupervisedSettings
from nnunet_dycon.trainers.supervised import nnUNetTrainerSupervised
from nnunet_dycon.trainers.unlabeled_cases import UnlabeledCases
from nnunet_dycon.training.cascade import NextStages, preprocessed_next_stages
from nnunet_dycon.training.curves import SemiSupervisedLogger
from nnunet_dycon.training.embeddings import Branch, EncoderTap, ProjectionHead, choose_stage, skip_shapes
from nnunet_dycon.training.memory import estimate_of_step, out_of_memory_explained
from nnunet_dycon.training.pictures import TrainingPictures
from nnunet_dycon.training.processes import sum_over_processes, wrap
from nnunet_dycon.training.random_state import get_random_state, set_random_state
from nnunet_dycon.training.schedules import sigmoid_rampup
from nnunet_dycon.training.skipped_steps import SkippedSteps
from nnunet_dycon.training.step import Crops, Losses, Step, Taught, seen_by_student
from nnunet_dycon.training.step_log import StepLog
from nnunet_dycon.training.student_views import student_views
from nnunet_dycon.training.teacher import EMATeacher, Peer, submodule_weights
from nnunet_dycon.training.unwrapping import unwrap


class nnUNetTrainerSemiSupervised(nnUNetTrainerSupervised):
    """nnU-Net's trainer with an EMA teacher and unlabelled crops in every batch.

    A method is a subclass with ``semi_supervised_losses``; each loss it returns under NAME is weighted with the
    setting ``weight_NAME`` and the ramp-up. nnU-Net's own loss on the labelled crops stays as it is. A method that
    changes what goes through the networks has ``losses`` and ``labeled_losses`` for it.
    """

    default_settings: SemiSupervisedSettings = SemiSupervisedSettings()
    curves: ClassVar[Mapping[str, Sequence[str]]] = {"ramp-up": ("ramp_up",)}
    """Names logged with ``log_step`` that get curves, by the title of their panel in progress.png."""
    settings: SemiSupervisedSettings
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
        self.logger.local_logger = SemiSupervisedLogger(self.settings.loss_names(), self.curves)
        self.head: nn.Module | None = None
        self.grid: tuple[int, ...] = ()
        self.steps_done = 0
        self.generator = torch.Generator()
        self._seed = torch.initial_seed()
        self._step_log = StepLog()
        self._random_state: dict[str, Any] | None = None
        self.unlabeled_cases = UnlabeledCases(
            self.plans_manager,
            self.dataset_json,
            self.configuration_name,
            self.fold,
            Path(self.preprocessed_dataset_folder_base),
            self._preprocessed_cases,
            self._first_stage() if self.is_cascaded else None,
            is_first_process=self.local_rank == 0,
            tell=self.print_to_log_file,
        )

    def _first_stage(self) -> tuple[Path, str]:
        model_folder = Path(self.folder_with_segs_from_previous_stage).parents[1]
        return model_folder, self.command_of_first_stage(self.fold)

    # ------------------------------------------------------------------------------------------ what a method adds

    def semi_supervised_losses(self, step: Step) -> dict[str, torch.Tensor]:
        """Unweighted losses of a step by name; see ``Step`` for what they may use."""
        raise NotImplementedError

    def embedding_patches(self) -> int:
        """Largest number of patches of a crop whose embeddings the losses read; 0 makes no projection head."""
        return 0

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

    def student_branches(self) -> list[Branch]:
        """The networks that are trained."""
        return [self.student_branch]

    def log_step(self, name: str, value: torch.Tensor | float) -> None:
        """Record a number of this step; its mean over the epoch is logged. It stays on the device until then."""
        self._step_log.add(name, value)

    # ---------------------------------------------------------------------------------------------------- the crops

    def get_dataloaders(self) -> tuple[Any, Any]:
        """nnU-Net's loaders; the one for training also yields unlabelled crops, from the same workers.

        Raises:
            UserError: as ``get_unlabeled_dataset``, or what a worker stumbled over.
        """
        unlabeled = self.get_unlabeled_dataset()
        train, val = super().get_dataloaders()
        labeled = _loader(train)
        weak = self.settings.weak_teacher_view and "weak_teacher_view" not in self.unused_settings
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
            uses_unlabeled=[self.uses_unlabeled(i) for i in range(self.num_epochs * self.num_iterations_per_epoch)],
            first_step=self.steps_done,
        )
        self.dataloader_val = val
        self.dataloader_train = feed(train, loader)
        return self.dataloader_train, val

    @property
    def unlabeled_batch_size(self) -> int:
        """Unlabelled crops in a batch."""
        return self.settings.unlabeled_batch_size or self.batch_size

    def get_unlabeled_dataset(self) -> nnUNetDatasetUnlabeled:
        """All unlabelled cases, in a cascade's second stage with the predictions of the first.

        Raises:
            UserError: there is none, a case is labelled as well, or a prediction is missing.
        """
        case_probabilities(self.unlabeled_cases.check(), self.settings.source_shares)
        train, val = self.do_split()
        files = self.unlabeled_cases.images()
        check_disjoint(train, val, files)
        unlabeled = self.unlabeled_cases.open(files)
        self.print_to_log_file(
            f"This split has {len(train)} labelled and {len(files)} unlabelled training cases"
            f"{sources_text(unlabeled.sources)}."
        )
        return unlabeled

    # ------------------------------------------------------------------------------------------------ the networks

    def initialize(self) -> None:
        super().initialize()
        self.skipped_steps = SkippedSteps(self.device)
        self.views = student_views(self.settings)
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

    def make_teacher(self, modules: nn.ModuleDict) -> EMATeacher | Peer:
        """What teaches the student, given the student's ``network`` and, where there is one, ``head``."""
        return EMATeacher(modules, self.settings.ema_decay)

    def _add_head(self, modules: nn.ModuleDict) -> int:
        """Add a projection head on the encoder stage that suits the settings; returns the stage."""
        shapes = skip_shapes(modules["network"], self.num_input_channels, self.configuration_manager.patch_size)
        stage = choose_stage(shapes, self.embedding_patches())
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
            with out_of_memory_explained(self.settings.unlabeled_batch_size or self.configuration_manager.batch_size):
                super().run_training()
        except UserError:
            for loader in (self.dataloader_train, self.dataloader_val):
                if isinstance(loader, NonDetMultiThreadedAugmenter):
                    loader._finish()
            raise

    def on_train_start(self) -> None:
        if self.current_epoch == 0:
            self._refuse_other_settings()
        super().on_train_start()
        if self.steps_done == 0:
            self.teacher.restart()  # the student may have got pretrained weights
        self.pictures = self._training_pictures()
        self.logger.local_logger.validates_on_training_cases = self.validates_on_training_cases
        self.logger.update_config({"semi_supervised": self.settings.to_dict()})
        lines = [f"  {name}: {value}" for name, value in self.settings.to_dict().items()]
        self.print_to_log_file("Semi-supervised settings:\n" + "\n".join(lines), add_timestamp=False)
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
            set_random_state(self._random_state)
            self._random_state = None

    @property
    def progress(self) -> float:
        """Share of the planned training steps that is done, in [0, 1]."""
        return self._progress(self.steps_done)

    def _progress(self, step: int) -> float:
        return min(1.0, step / (self.num_epochs * self.num_iterations_per_epoch))

    def ramp_up(self) -> float:
        """Factor on the weights of all semi-supervised losses at this step, in [0, 1]."""
        return self._ramp_up(self.steps_done)

    def _ramp_up(self, step: int) -> float:
        settings = self.settings
        return sigmoid_rampup(self._progress(step), start=settings.ramp_start, length=settings.ramp_length)

    def uses_unlabeled(self, step: int) -> bool:
        """Whether a step, counted from 0, needs the unlabelled crops: all do from the start of the ramp-up on.

        Before, the first step of an epoch does all the same: too little memory shows at once, not after days, and each
        curve has a value.
        """
        return self.is_first_of_epoch(step) or self._ramp_up(step) > 0

    def is_first_of_epoch(self, step: int) -> bool:
        """Whether a step, counted from 0, is an epoch's first."""
        return step % self.num_iterations_per_epoch == 0

    def train_step(self, batch: dict) -> dict:
        whole_step = self.uses_unlabeled(self.steps_done)
        crops = Crops.from_batch(batch, self.device, with_unlabeled=whole_step)
        self.generator.manual_seed(self._seed_of_step())
        self.optimizer.zero_grad(set_to_none=True)
        losses = self.losses(crops) if whole_step else self.labeled_losses(crops)
        supervised = torch.stack([i.supervised for i in losses])
        total = supervised.sum()
        if whole_step:
            total = total + sum(self._weighted(i.others) for i in losses)
        self._descend(total)
        self.teacher.update(self.steps_done)
        self.steps_done += 1
        return {"loss": supervised.mean().detach().cpu().numpy()}

    def _seed_of_step(self) -> int:
        """Of the step's own random numbers: one generator for all would move the crops with what a method draws."""
        return (self._seed + self.steps_done + 1_000_003 * self.local_rank) % 2**63

    def supervised_loss(self, outputs: list[torch.Tensor], targets: list[torch.Tensor]) -> torch.Tensor:
        """nnU-Net's loss on the crops that have targets, the first of those that gave the outputs."""
        mine = [i[: len(targets[0])] for i in outputs]
        return self.loss(mine, targets) if self.enable_deep_supervision else self.loss(mine[0], targets[0])

    def autocast(self) -> AbstractContextManager:
        """nnU-Net's choice: autocast on CUDA only."""
        return autocast(self.device.type, enabled=True) if self.device.type == "cuda" else nullcontext()

    @torch.inference_mode()
    def teach(self, crops: Crops) -> Taught:
        """What the teacher says of the unlabelled crops, and of the labelled ones where the losses want it."""
        images = crops.weak_unlabeled
        if self.settings.teach_labeled or self.label_manager.has_ignore_label:  # whose voxels are not all annotated
            images = torch.cat([crops.labeled, images])
        if sigma := self.settings.teacher_noise:
            noise = torch.empty_like(images).normal_(generator=self._noise_generator())
            images = images + noise.mul_(sigma).clamp_(-2 * sigma, 2 * sigma)
        outputs, embeddings = self.teacher_branch(images)
        return Taught(outputs[0], embeddings)

    def _noise_generator(self) -> torch.Generator | None:
        """Noise is drawn where the images are: by the step's own generator on a CPU, by the device's elsewhere."""
        return self.generator if self.device.type == "cpu" else None

    def _weighted(self, losses: dict[str, torch.Tensor]) -> torch.Tensor | float:
        """Sum of the semi-supervised losses, each with its weight and the ramp-up."""
        ramp = self.ramp_up()
        self.log_step("ramp_up", ramp)
        total: torch.Tensor | float = 0.0
        for name, loss in losses.items():
            self.log_step(name, loss)
            total = total + ramp * self.settings.weight(name) * loss
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
            self.skipped_steps.check({"sum of all terms": float(loss.detach()), **self._step_log.means()})

    def on_train_epoch_end(self, train_outputs: list[dict]) -> None:
        """nnU-Net's, with the mean of the other steps in place of a loss that is not finite.

        A process of a distributed training hands over as many losses as the others, else they would count unequally.
        """
        losses = np.stack([i["loss"] for i in train_outputs])
        if (finite := np.isfinite(losses)).any():
            losses[~finite] = losses[finite].mean()
        super().on_train_epoch_end([{"loss": np.asarray(i)} for i in losses])
        means = self._step_log.means()
        self._step_log.clear()
        for name in self.logger.local_logger.step_keys:
            self.logger.log(name, means.get(name, float("nan")), self.current_epoch)
        self.print_to_log_file(", ".join(f"{name} {value:.4g}" for name, value in means.items()))
        self.skipped_steps.check({"supervised": float(np.mean([i["loss"] for i in train_outputs])), **means})

    # ---------------------------------------------------------------------------------------------------- pictures

    def on_epoch_end(self) -> None:
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
        manager = self.label_manager
        order = manager.regions_class_order if manager.has_regions else None
        data = _loader(self.dataloader_train).unlabeled._data, _loader(self.dataloader_val)._data
        patch_size, labels, trained = (
            self.configuration_manager.patch_size,
            manager.foreground_labels,
            self.do_split()[0],
        )
        return TrainingPictures(
            folder=Path(self.output_folder) / pictures.FOLDER,
            every_epochs=self.settings.picture_every_epochs,
            crops=lambda: pictures.fixed_crops(*data, patch_size, labels, trained),
            network=self.predicting_network,
            how=pictures.Reading(self.nonlinearity, order, self.device, self.autocast),
            spacing=self.configuration_manager.spacing,
            highest_entropy=max_entropy(manager.num_segmentation_heads, self.nonlinearity),
            log=self.print_to_log_file,
        )

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
        self._predict_for_next_stages()

    def _predict_for_next_stages(self) -> None:
        """The unlabelled cases, too, for a cascade's next stages."""
        plans, configuration = self.plans_manager, self.configuration_manager
        stages = preprocessed_next_stages(plans, configuration, Path(self.preprocessed_dataset_folder_base))
        if not stages:
            return
        targets = {name: self.unlabeled_cases.images(name) for name in stages}
        data = self.unlabeled_cases.open(self.unlabeled_cases.images())
        self.set_deep_supervision_enabled(False)
        predictor = nnUNetPredictor(device=self.device, allow_tqdm=False)
        mirroring, name = self.inference_allowed_mirroring_axes, type(self).__name__
        network = self.predicting_network()
        predictor.manual_initialization(network, plans, configuration, None, self.dataset_json, name, mirroring)
        folder, labels = Path(self.output_folder).parent, self.label_manager.foreground_labels
        NextStages(predictor, folder, self.fold, labels, self.print_to_log_file).predict(data, targets)
        self.set_deep_supervision_enabled(True)

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
            "step": self.steps_done,
            "seed": self._seed,
            "validates_on_training_cases": self.validates_on_training_cases,
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
        self.steps_done, self._seed = state["step"], state.get("seed", self._seed)
        if not self.is_ddp:  # the processes of a distributed training must not draw the same numbers
            self._random_state = state.get("random_state")

    def _adopt_settings(self, stored: dict[str, Any]) -> None:
        """Take the settings of a checkpoint, of which only those that do not touch the training may be chosen anew."""
        settings = self.default_settings.resumed(stored, self.unused_settings)
        asked = self.settings if self.was_initialized else cast(SemiSupervisedSettings, self.with_overrides(settings))
        listed = asked.changes(settings, stored)
        if listed and not asked.change_on_resume:
            raise UserError(
                f"settings differ from those of the checkpoint: {listed}. Unset them in {ENVIRONMENT_VARIABLE} to "
                "continue, add change_on_resume=true to continue with the new ones, or start a new training"
            )
        self.use_settings(asked)

    def _refuse_other_settings(self) -> None:
        """Whether a training with other settings would be overwritten; nnU-Net starts over without a word.

        Raises:
            UserError: there is a checkpoint of one.
        """
        files = [Path(self.output_folder) / f"checkpoint_{name}.pth" for name in ("final", "latest", "best")]
        if (file := next((i for i in files if i.is_file()), None)) is None:
            return
        stored: dict[str, Any] = {}
        with suppress(UserError):  # a damaged checkpoint is no loss
            stored = load_checkpoint_file(file).get("semi_supervised", {}).get("settings", {})
        if stored and (
            listed := self.settings.changes(self.default_settings.resumed(stored, self.unused_settings), stored)
        ):
            raise UserError(
                f"{file.parent} holds a training with other settings ({listed}), which a new one would overwrite. "
                "Continue that one with --c, or give these settings a folder of their own: nnunet-dycon variant "
                f"NAME -tr {type(self).__name__} key=value; or move the folder away"
            )


def _loader(augmenter: Any) -> Any:
    """The data loader behind nnU-Net's augmenter."""
    return augmenter.data_loader if isinstance(augmenter, SingleThreadedAugmenter) else augmenter.generator

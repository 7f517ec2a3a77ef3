"""The control: plain nnU-Net on the labelled cases alone."""

from __future__ import annotations

import hashlib
import io
import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import torch
from batchgeneratorsv2.transforms.base.basic_transform import BasicTransform
from nnunetv2.training.dataloading.nnunet_dataset import infer_dataset_class, nnUNetDatasetBlosc2
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer

from nnunet_dycon.data.locations import ORGAN, location_overlap
from nnunet_dycon.data.strong_view import add_strong_view, strong_view
from nnunet_dycon.data.unlabeled_dataset import check_previous_predictions
from nnunet_dycon.dataset.commands import preprocessing, training
from nnunet_dycon.dataset.preprocessed_files import check_labeled_cases, labeled_cases_in
from nnunet_dycon.dataset.splits import (
    check_fold,
    check_not_moved,
    held_out_in_place,
    raw_or_empty,
    read_splits,
    unlabeled_in_splits,
)
from nnunet_dycon.errors import UserError
from nnunet_dycon.files.text import few
from nnunet_dycon.models.checkpoints import load_checkpoint_file, save_checkpoint_file, stored_settings
from nnunet_dycon.settings import Settings, overrides_from_environment
from nnunet_dycon.training import resume
from nnunet_dycon.training.processes import wrap


class nnUNetTrainerSupervised(nnUNetTrainer):
    """nnU-Net's own trainer on the labelled cases of a dataset with unlabelled ones.

    It knows the key ``unlabeled`` of ``splits_final.json``, trains with fewer than five labelled cases, and takes the
    length of the training from the settings; all else is nnU-Net's.
    """

    default_settings: Settings = Settings(strong_labeled_view=0.0)
    unused_settings: ClassVar[Sequence[str]] = ()
    """Fields of the settings that this trainer does not read, and therefore refuses."""
    local_rank: int
    network: torch.nn.Module

    def __init__(
        self,
        plans: dict,
        configuration: str,
        fold: int,
        dataset_json: dict,
        device: torch.device = torch.device("cuda"),  # noqa: B008  nnU-Net's signature, which it inspects
    ) -> None:
        super().__init__(plans, configuration, fold, dataset_json, device)
        if self.is_ddp and device.type == "cuda":  # nnU-Net's has the number of the rank, on a second node as well
            self.device = torch.device("cuda", int(os.environ.get("LOCAL_RANK") or self.local_rank))
        elif self.is_ddp:
            self.device, self.grad_scaler = device, None
        self._split: tuple[list[str], list[str]] | None = None
        self._location_overlap: float | None = None
        self._overrides = overrides_from_environment()
        self.use_settings(self.with_overrides(self.default_settings))

    def with_overrides(self, settings: Settings) -> Settings:
        """These settings with what the user asks for."""
        return settings.override(self._overrides, trainer=type(self).__name__, unused=self.unused_settings)

    def use_settings(self, settings: Settings) -> None:
        """Take these settings, with the lengths of training and the time of checkpoints that they name."""
        self.settings = settings
        for name in ("num_epochs", "num_iterations_per_epoch", "num_val_iterations_per_epoch", "save_every"):
            setattr(self, name, getattr(settings, name) or getattr(self, name))
        self.my_init_kwargs["settings"] = settings.to_dict()  # nnU-Net's, which checkpoints hold

    def initialize(self) -> None:
        """nnU-Net's, which hands ``local_rank`` to DistributedDataParallel for the number of the GPU."""
        if not os.path.isdir(self.preprocessed_dataset_folder):
            plans = self.plans_manager
            raise UserError(
                f"{self.preprocessed_dataset_folder} is missing; run "
                f"{preprocessing(plans.dataset_name, self.configuration_name, plans.plans_name)} first"
            )
        if self.is_ddp and self.device.type == "cpu":
            self._initialize_distributed_on_cpu()
            return
        rank = self.local_rank
        if self.device.index is not None:
            self.local_rank = self.device.index
        try:
            super().initialize()
        finally:
            self.local_rank = rank

    def _initialize_distributed_on_cpu(self) -> None:
        """As for one process, then distributed: nnU-Net's call of DistributedDataParallel names a GPU."""
        self.is_ddp = False
        super().initialize()
        self.is_ddp = True
        self._set_batch_size_and_oversample()
        self.network, self.loss = wrap(self.network, self.device), self._build_loss()

    def on_train_start(self) -> None:
        """nnU-Net's; a training with other settings is not overwritten, and the log lists settings and new cases."""
        if self.current_epoch == 0:
            resume.check_overwriting(Path(self.output_folder), self.settings, self._resumed, type(self).__name__)
        super().on_train_start()
        lines = [f"  {name}: {value}" for name, value in self.settings.to_dict().items()]
        self.print_to_log_file("Settings:\n" + "\n".join(lines), add_timestamp=False)
        self.my_init_kwargs["trained_on"] = sorted(self._tell_other_cases())

    def _tell_other_cases(self) -> set[str]:
        """Warn where cases that the checkpoint was trained on are none of this split's training cases.

        Returns:
            Hashes of the names of all cases that were or are trained on; the checkpoint, which others may get, holds
            no names.
        """
        cases = {self._hash(case): case for case in self._preprocessed_cases()}
        now = {self._hash(case) for case in self.do_split()[0]}
        before = {*self.my_init_kwargs.get("trained_on", ())}
        if gone := [case for key, case in cases.items() if key in before - now]:
            self.print_to_log_file(
                f"WARNING: this training has learned from {few(gone)} before, which are no training cases now "
                "(splits_final.json has changed): a result on them says nothing of new scans"
            )
        return before | now

    def perform_actual_validation(self, save_probabilities: bool = False) -> None:
        """nnU-Net's, which scores all predictions in the folder ``validation``; those of other cases leave it before.

        They are of an earlier validation with another split, by which such a case may be unlabelled now.
        """
        self._tell_other_cases()
        if self.local_rank == 0:
            self._move_other_predictions()
        super().perform_actual_validation(save_probabilities)

    def _move_other_predictions(self) -> None:
        folder = Path(self.output_folder, "validation")
        endings = self.dataset_json["file_ending"], ".npz", ".pkl"
        wanted = {f"{case}{ending}" for case in self.do_split()[1] for ending in endings}
        if others := sorted(i for i in folder.glob("*") if i.name.endswith(endings) and i.name not in wanted):
            target = folder.with_name("validation_other_cases")
            target.mkdir(exist_ok=True)
            for file in others:
                file.replace(target / file.name)
            self.print_to_log_file(
                f"moved {few([i.name for i in others])} from {folder} to {target}: this split does not validate on "
                "these cases, and nnU-Net scores all predictions that lie there"
            )

    @staticmethod
    def _hash(case: str) -> str:
        return hashlib.sha256(case.encode()).hexdigest()[:16]

    def save_checkpoint(self, filename: str) -> None:
        """nnU-Net's checkpoint with what ``_state`` adds; an interruption leaves the former one whole."""
        if self.local_rank != 0 or self.disable_checkpointing:
            return super().save_checkpoint(filename)
        buffer = io.BytesIO()
        super().save_checkpoint(buffer)
        save_checkpoint_file(Path(filename), buffer, self._state())

    def _state(self) -> dict[str, Any]:
        """What a checkpoint has beside nnU-Net's."""
        return {}

    def load_checkpoint(self, filename_or_checkpoint: str) -> None:
        """Continue from a checkpoint with its settings: only what does not touch the training is free.

        Raises:
            UserError: a damaged checkpoint, settings asked for that differ from its own, or another network.
        """
        # nnU-Net 2.8 fails on a dict although it announces one, so it is given the path
        checkpoint = load_checkpoint_file(Path(filename_or_checkpoint))
        if stored := stored_settings(checkpoint):  # earlier versions stored none
            self.continue_with(stored)
        self.load_network(filename_or_checkpoint)

    def continue_with(self, stored: dict[str, Any]) -> None:
        """Take the settings of a checkpoint; a UserError where others are asked for that touch the training."""
        before = self._resumed(stored)
        asked = self.settings if self.was_initialized else self.with_overrides(before)
        resume.check_settings(asked, before, stored)
        self.use_settings(asked)

    def load_network(self, filename: str) -> None:
        """nnU-Net's way to continue from a checkpoint.

        Raises:
            UserError: the checkpoint's network is another one.
        """
        fix = (
            "Plans, channels or labels have changed since: continue with those it was trained with (plans.json and "
            "dataset.json lie beside its fold), or start a new training in other plans (-plans_name)"
        )
        with resume.loading(filename, fix):
            super().load_checkpoint(filename)
        self.my_init_kwargs["settings"] = self.settings.to_dict()

    def _resumed(self, stored: dict[str, Any]) -> Settings:
        """The settings that a checkpoint of this trainer stands for."""
        return self.default_settings.resumed(stored, self.unused_settings)

    def do_split(self) -> tuple[list[str], list[str]]:
        """nnU-Net's split, without the cases that are unlabelled for this fold; made, and told of, once."""
        if self._split is None:
            self._split = self._new_split()
            for name, cases in zip(("labelled training", "validation"), self._split, strict=True):
                self.print_to_log_file(f"{len(cases)} {name} case(s): {few(cases, 20)}")
        train, val = self._split
        return list(train), list(val)

    @property
    def class_order(self) -> list[int] | None:
        """Label of each region, None for classes."""
        manager = self.label_manager
        return manager.regions_class_order if manager.has_regions else None

    @property
    def validates_on_training_cases(self) -> bool:
        """As with fewer than five labelled cases, and in fold "all": the pseudo Dice is optimistic then."""
        train, val = self.do_split()
        return bool(set(train) & set(val))

    def _new_split(self) -> tuple[list[str], list[str]]:
        splits = read_splits(self.preprocessed_dataset_folder_base)
        unlabeled = unlabeled_in_splits(splits, self.fold)
        tests = held_out_in_place(Path(self.preprocessed_dataset_folder_base), splits, self.fold)
        if splits is None and self.fold != "all" and len(cases := self._preprocessed_cases()) < 5:
            if int(self.fold) > 0:
                raise UserError(
                    f"fold {self.fold} of {len(cases)} labelled cases: fewer than five make no folds. Train fold 0, "
                    f"which trains on all of them, or write folds of your own into splits_final.json"
                )
            self.print_to_log_file(
                f"Only {len(cases)} labelled cases and no splits_final.json: nnU-Net's five-fold split cannot be made. "
                "Training on all labelled cases and validating on the same, so the validation Dice is optimistic."
            )
            train, val = cases, list(cases)
        else:
            train, val = super().do_split()
            if self.fold == "all":
                train = [case for case in train if case not in {*unlabeled, *tests}]
                val = list(train)
        known = labeled_cases_in(Path(self.preprocessed_dataset_folder))
        check_fold(train, val, unlabeled, known=known, fold=self.fold)
        check_not_moved(raw_or_empty(self.plans_manager.dataset_name, self.dataset_json), [*train, *val])
        return train, val

    def get_training_transforms(self, patch_size: Any, *args: Any, **kwargs: Any) -> Any:
        """nnU-Net's, with the strong view of labelled crops where the settings want it."""
        transforms = nnUNetTrainer.get_training_transforms(patch_size, *args, **kwargs)
        probability = self.settings.strong_labeled_view
        return add_strong_view(transforms, self.strong_view(), probability) if probability > 0 else transforms

    def strong_view(self) -> list[BasicTransform]:
        """The strong changes of appearance, as the settings want them."""
        settings = self.settings
        local = self._is_organ() if settings.strong_view_local is None else settings.strong_view_local
        return strong_view(
            self.configuration_manager.patch_size,
            inversion=settings.strong_view_inversion,
            local=settings.strong_view_width if local else None,
        )

    def _is_organ(self) -> bool:
        """Whether the labelled foreground lies where an organ would; looked up, and told of, once."""
        if self._location_overlap is None:
            manager, dataset = self.label_manager, self.get_tr_and_val_datasets()[0]
            classes = manager.foreground_regions if manager.has_regions else manager.foreground_labels
            self._location_overlap = overlap = location_overlap(dataset, self.do_split()[0], classes)
            organ = overlap >= ORGAN
            where = f"lies at the same place in each scan to {overlap:.2f}, as of {'an organ' if organ else 'lesions'}"
            told = "is in no two scans to compare" if math.isnan(overlap) else where
            self.print_to_log_file(
                f"The labelled foreground {told}: the strong view {'changes' if organ else 'does not change'} the "
                "brightness of a part of a crop"
            )
        return self._location_overlap >= ORGAN

    def get_tr_and_val_datasets(self) -> tuple[Any, Any]:
        """nnU-Net's, of cases whose files are whole."""
        datasets = super().get_tr_and_val_datasets()
        if self.dataset_class is nnUNetDatasetBlosc2:
            cases = sorted({case for dataset in datasets for case in dataset.identifiers})
            folder = Path(self.preprocessed_dataset_folder)
            check_labeled_cases(folder, cases)
            if self.is_cascaded:
                images = {case: folder / f"{case}.b2nd" for case in cases}
                previous = Path(self.folder_with_segs_from_previous_stage)
                fix = f"{self.command_of_first_stage('FOLD')}; it takes the FOLD that validates on the case"
                check_previous_predictions(images, previous, fix)
        return datasets

    def command_of_first_stage(self, fold: int | str) -> str:
        """What makes the predictions that a cascade's second stage needs, for messages."""
        plans, stage = self.plans_manager, self.configuration_manager.previous_stage_name
        command = training(plans.dataset_name, stage, fold, trainer=type(self).__name__, plans=plans.plans_name)
        return f"made by {command}, with --val where it is trained already"

    def _preprocessed_cases(self) -> list[str]:
        folder = self.preprocessed_dataset_folder
        return sorted(infer_dataset_class(folder).get_identifiers(folder))

"""The unlabelled cases of a training: which there are, where their files lie."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from nnunetv2.configuration import default_num_processes

from nnunet_dycon.data.sources import case_probabilities
from nnunet_dycon.data.unlabeled_dataset import (
    check_previous_predictions,
    nnUNetDatasetUnlabeled,
    unlabeled_predictions_folder,
)
from nnunet_dycon.dataset.preprocessed_files import labeled_cases_in
from nnunet_dycon.dataset.splits import check_before_training, check_disjoint, read_splits, unlabeled_in_splits
from nnunet_dycon.dataset.unlabeled_preprocessing import preprocess_unlabeled
from nnunet_dycon.dataset.unlabeled_scans import preprocessed_unlabeled_folder, sources_text
from nnunet_dycon.trainers.supervised import nnUNetTrainerSupervised
from nnunet_dycon.training.processes import left_together, process


class UnlabeledCases:
    """The unlabelled cases of a trainer's dataset and fold."""

    def __init__(self, trainer: nnUNetTrainerSupervised) -> None:
        self.trainer, self.plans = trainer, trainer.plans_manager
        self.folder = Path(trainer.preprocessed_dataset_folder_base)

    def check(self, shares: str) -> None:
        """Check all that names and small files tell.

        Raises:
            UserError: as ``check_before_training`` and, for the ``shares`` of the sources, ``case_probabilities``.
        """
        trainer, plans = self.trainer, self.plans
        dataset = plans.dataset_name, trainer.configuration_name, plans.plans, trainer.dataset_json, self.folder
        case_probabilities(check_before_training(*dataset, fold=trainer.fold), shares)

    def for_training(self, train: Sequence[str], val: Sequence[str]) -> nnUNetDatasetUnlabeled:
        """The dataset of all cases, given the labelled training and validation cases.

        Raises:
            UserError: a case is labelled as well, or as ``images`` and ``open``.
        """
        files = self.images(self.trainer.configuration_name)
        check_disjoint(train, val, files)
        unlabeled = self.open(files)
        self.trainer.print_to_log_file(
            f"This split has {len(train)} labelled and {len(files)} unlabelled training cases"
            f"{sources_text(unlabeled.sources)}."
        )
        return unlabeled

    def images(self, configuration_name: str) -> dict[str, Path]:
        """Preprocessed image of each case: those of ``imagesUn``, made now where needed, and splits_final.json's.

        The configuration is the trainer's, or a cascade's next stage.

        Raises:
            UserError: a case of imagesUn is preprocessed as a labelled one.
        """
        is_first = process()[0] == 0
        with left_together():
            if is_first:
                scans = self.preprocess(configuration_name)
        if not is_first:
            scans = self.preprocess(configuration_name)
        check_disjoint(labeled_cases_in(Path(self.trainer.preprocessed_dataset_folder)), (), scans)
        folder = self._preprocessed_folder(configuration_name)
        files = {case: preprocessed_unlabeled_folder(folder) / f"{case}.b2nd" for case in scans}
        in_splits = unlabeled_in_splits(read_splits(self.folder), self.trainer.fold)
        return files | {case: folder / f"{case}.b2nd" for case in in_splits}

    def next_stages(self) -> list[str]:
        """A cascade's next stages whose labelled cases are preprocessed; nnU-Net predicts for no others and says so."""
        names = self.trainer.configuration_manager.next_stage_names or ()
        return [i for i in names if self._preprocessed_folder(i).is_dir()]

    def for_stages(self, stages: Sequence[str]) -> tuple[nnUNetDatasetUnlabeled, dict[str, dict[str, Path]]]:
        """The dataset, and each next stage's image of each case."""
        targets = {name: self.images(name) for name in stages}
        return self.open(self.images(self.trainer.configuration_name)), targets

    def preprocess(self, configuration_name: str) -> dict[str, str]:
        """Preprocess the scans of ``imagesUn`` that are not yet; all of them, with their sources."""
        return preprocess_unlabeled(
            self.plans.dataset_name,
            configuration_name,
            self.plans.plans,
            self.trainer.dataset_json,
            self._preprocessed_folder(configuration_name),
            num_processes=default_num_processes,
            tell=self.trainer.print_to_log_file,
        )

    def open(self, files: dict[str, Path]) -> nnUNetDatasetUnlabeled:
        """The dataset of preprocessed images, in a cascade's second stage with the first one's predictions.

        Raises:
            UserError: an image is damaged, or a prediction is missing.
        """
        trainer = self.trainer
        if not trainer.is_cascaded:
            return nnUNetDatasetUnlabeled(files)
        fold_folder = Path(trainer.folder_with_segs_from_previous_stage).parents[1] / f"fold_{trainer.fold}"
        folder = unlabeled_predictions_folder(fold_folder, trainer.configuration_name)
        fix = trainer.command_of_first_stage(trainer.fold)
        return nnUNetDatasetUnlabeled(files, check_previous_predictions(files, folder, fix))

    def _preprocessed_folder(self, configuration_name: str) -> Path:
        return self.folder / self.plans.get_configuration(configuration_name).data_identifier

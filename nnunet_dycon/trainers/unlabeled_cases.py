"""The unlabelled cases of a training: which there are, where their files lie, how they get into the batches."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from batchgenerators.dataloading.single_threaded_augmenter import SingleThreadedAugmenter
from nnunetv2.configuration import default_num_processes

from nnunet_dycon.data.previous_stage import check_previous_predictions, unlabeled_predictions_folder
from nnunet_dycon.data.two_stream_loader import TwoStreamDataLoader, checked, nnUNetUnlabeledDataLoader
from nnunet_dycon.data.unlabeled_dataset import nnUNetDatasetUnlabeled
from nnunet_dycon.dataset.splits import check_disjoint, read_splits, unlabeled_in_splits
from nnunet_dycon.dataset.unlabeled_preprocessing import preprocess_unlabeled
from nnunet_dycon.dataset.unlabeled_scans import preprocessed_unlabeled_folder
from nnunet_dycon.errors import UserError
from nnunet_dycon.trainers.pictured import nnUNetTrainerPictured
from nnunet_dycon.training.processes import left_together


class nnUNetTrainerUnlabeledCases(nnUNetTrainerPictured):
    """nnU-Net's trainer whose batches also hold crops of the unlabelled cases of its dataset and fold."""

    def get_dataloaders(self) -> tuple[Any, Any]:
        """nnU-Net's loaders; the one for training also yields unlabelled crops, from the same workers.

        Raises:
            UserError: as ``get_unlabeled_dataset``, or what a worker stumbled over.
        """
        unlabeled = self.get_unlabeled_dataset()
        train, val = super().get_dataloaders()
        labeled = train.data_loader if isinstance(train, SingleThreadedAugmenter) else train.generator
        size = self.settings.unlabeled_batch_size or self.batch_size
        views = {"weak_view": self.settings.weak_teacher_view, "strong_view": self.settings.strong_student_view}
        two_streams = TwoStreamDataLoader(labeled, nnUNetUnlabeledDataLoader(unlabeled, labeled, size, **views))
        if isinstance(train, SingleThreadedAugmenter):
            train.data_loader = two_streams
        else:
            train._finish()
            train.generator = two_streams
        self.dataloader_train, self.dataloader_val = train, val
        checked(next(train))
        return train, val

    def get_unlabeled_dataset(self) -> nnUNetDatasetUnlabeled:
        """All unlabelled cases, in a cascade's second stage with the predictions of the first.

        Raises:
            UserError: there is none, a case is labelled as well, or a prediction is missing.
        """
        files = self.unlabeled_images(self.configuration_name)
        train, val = self.do_split()
        check_disjoint(train, val, files)
        if not files:
            raise UserError(
                f"{self.plans_manager.dataset_name} has no unlabelled case: put scans without masks into the raw "
                "dataset's folder imagesUn, or name cases under 'unlabeled' in a fold of splits_final.json"
            )
        self.print_to_log_file(f"This split has {len(train)} labelled and {len(files)} unlabelled training cases.")
        return self.open_unlabeled(files)

    def unlabeled_images(self, configuration_name: str) -> dict[str, Path]:
        """Preprocessed image of each unlabelled case: ``imagesUn``, made now where needed, and splits_final.json's.

        Args:
            configuration_name: the training's own configuration, or the next stage of a cascade.

        Raises:
            UserError: a case of imagesUn is preprocessed as a labelled one.
        """
        with left_together():
            if self.local_rank == 0:
                scans = self._preprocess_unlabeled(configuration_name)
        if self.local_rank != 0:
            scans = self._preprocess_unlabeled(configuration_name)
        check_disjoint(self._preprocessed_cases(), (), scans)
        folder = self._preprocessed_folder(configuration_name)
        files = {case: preprocessed_unlabeled_folder(folder) / f"{case}.b2nd" for case in scans}
        in_splits = unlabeled_in_splits(read_splits(self.preprocessed_dataset_folder_base), self.fold)
        return files | {case: folder / f"{case}.b2nd" for case in in_splits}

    def _preprocessed_folder(self, configuration_name: str) -> Path:
        configuration = self.plans_manager.get_configuration(configuration_name)
        return Path(self.preprocessed_dataset_folder_base) / configuration.data_identifier

    def _preprocess_unlabeled(self, configuration_name: str) -> list[str]:
        return preprocess_unlabeled(
            self.plans_manager.dataset_name,
            configuration_name,
            self.plans_manager.plans,
            self.dataset_json,
            self._preprocessed_folder(configuration_name),
            num_processes=default_num_processes,
        )

    def open_unlabeled(self, files: dict[str, Path]) -> nnUNetDatasetUnlabeled:
        """The dataset of preprocessed images of this configuration, with the first stage's predictions in a second.

        Raises:
            UserError: an image is damaged, or a prediction is missing.
        """
        if not self.is_cascaded:
            return nnUNetDatasetUnlabeled(files)
        model_folder = Path(self.folder_with_segs_from_previous_stage).parents[1]
        folder = unlabeled_predictions_folder(model_folder, self.fold, self.configuration_name)
        previous = check_previous_predictions(files, folder, self.command_of_first_stage(self.fold))
        return nnUNetDatasetUnlabeled(files, previous)

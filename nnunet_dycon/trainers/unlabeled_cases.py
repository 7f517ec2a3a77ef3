"""The unlabelled cases of a training: which there are, where their files lie."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nnunetv2.configuration import default_num_processes

from nnunet_dycon.data.sources import case_probabilities
from nnunet_dycon.data.unlabeled_dataset import (
    check_previous_predictions,
    nnUNetDatasetUnlabeled,
    unlabeled_predictions_folder,
)
from nnunet_dycon.dataset.splits import check_before_training, check_disjoint, read_splits, unlabeled_in_splits
from nnunet_dycon.dataset.unlabeled_preprocessing import preprocess_unlabeled
from nnunet_dycon.dataset.unlabeled_scans import preprocessed_unlabeled_folder, sources_text
from nnunet_dycon.training.processes import left_together


@dataclass(frozen=True)
class UnlabeledCases:
    """The unlabelled cases of a dataset and fold, for one configuration of its plans."""

    plans_manager: Any
    """nnU-Net's."""
    dataset_json: dict[str, Any]
    configuration_name: str
    fold: int | str
    folder: Path
    """The preprocessed dataset."""
    labeled: Callable[[], list[str]]
    """Cases that are preprocessed with their masks."""
    first_stage: tuple[Path, str] | None = None
    """In a cascade's second stage the first one's folder of the fold, and the command that makes its predictions."""
    is_first_process: bool = True
    tell: Callable[[str], Any] = print
    """Gets what is worth a look in the scans."""

    def check(self, shares: str) -> None:
        """Check all that names and small files tell.

        Raises:
            UserError: as ``check_before_training`` and, for the ``shares`` of the sources, ``case_probabilities``.
        """
        name, plans = self.plans_manager.dataset_name, self.plans_manager.plans
        sources = check_before_training(
            name, self.configuration_name, plans, self.dataset_json, self.folder, fold=self.fold
        )
        case_probabilities(sources, shares)

    def for_training(self, train: Sequence[str], val: Sequence[str]) -> nnUNetDatasetUnlabeled:
        """The dataset of all cases, given the labelled training and validation cases.

        Raises:
            UserError: a case is labelled as well, or as ``images`` and ``open``.
        """
        files = self.images()
        check_disjoint(train, val, files)
        unlabeled = self.open(files)
        self.tell(
            f"This split has {len(train)} labelled and {len(files)} unlabelled training cases"
            f"{sources_text(unlabeled.sources)}."
        )
        return unlabeled

    def images(self, configuration_name: str | None = None) -> dict[str, Path]:
        """Preprocessed image of each case: those of ``imagesUn``, made now where needed, and splits_final.json's.

        A cascade's next stage may be named in place of the own configuration.

        Raises:
            UserError: a case of imagesUn is preprocessed as a labelled one.
        """
        name = configuration_name or self.configuration_name
        with left_together():
            if self.is_first_process:
                scans = self.preprocess(name)
        if not self.is_first_process:
            scans = self.preprocess(name)
        check_disjoint(self.labeled(), (), scans)
        folder = self._preprocessed_folder(name)
        files = {case: preprocessed_unlabeled_folder(folder) / f"{case}.b2nd" for case in scans}
        in_splits = unlabeled_in_splits(read_splits(self.folder), self.fold)
        return files | {case: folder / f"{case}.b2nd" for case in in_splits}

    def next_stages(self) -> list[str]:
        """A cascade's next stages whose labelled cases are preprocessed; nnU-Net predicts for no others and says so."""
        names = self.plans_manager.get_configuration(self.configuration_name).next_stage_names or ()
        return [i for i in names if self._preprocessed_folder(i).is_dir()]

    def for_stages(self, stages: Sequence[str]) -> tuple[nnUNetDatasetUnlabeled, dict[str, dict[str, Path]]]:
        """The dataset, and each next stage's image of each case."""
        targets = {name: self.images(name) for name in stages}
        return self.open(self.images()), targets

    def preprocess(self, configuration_name: str) -> dict[str, str]:
        """Preprocess the scans of ``imagesUn`` that are not yet; all of them, with their sources."""
        return preprocess_unlabeled(
            self.plans_manager.dataset_name,
            configuration_name,
            self.plans_manager.plans,
            self.dataset_json,
            self._preprocessed_folder(configuration_name),
            num_processes=default_num_processes,
            tell=self.tell,
        )

    def open(self, files: dict[str, Path]) -> nnUNetDatasetUnlabeled:
        """The dataset of preprocessed images, with the first stage's predictions in a second.

        Raises:
            UserError: an image is damaged, or a prediction is missing.
        """
        if self.first_stage is None:
            return nnUNetDatasetUnlabeled(files)
        fold_folder, fix = self.first_stage
        folder = unlabeled_predictions_folder(fold_folder, self.configuration_name)
        return nnUNetDatasetUnlabeled(files, check_previous_predictions(files, folder, fix))

    def _preprocessed_folder(self, configuration_name: str) -> Path:
        return self.folder / self.plans_manager.get_configuration(configuration_name).data_identifier

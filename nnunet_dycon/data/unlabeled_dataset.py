"""Unlabelled cases as the data loader sees them: images, and for a cascade what its first stage predicted."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import blosc2
import numpy as np
from nnunetv2.utilities.label_handling.label_handling import convert_labelmap_to_one_hot

from nnunet_dycon.dataset.preprocessed_files import fault_of_labels, is_whole, open_image
from nnunet_dycon.dataset.unlabeled_scans import record_of
from nnunet_dycon.errors import UserError


class nnUNetDatasetUnlabeled:
    """Preprocessed images of unlabelled cases in nnU-Net's memory-mapped format.

    It knows the image file (``CASE.b2nd``) of each case, with the record beside it that names its source, and no other
    file: not the segmentation, and not the properties, which for a case preprocessed with its label hold the places of
    the foreground. In the second stage of a cascade it also knows the file with the first stage's prediction.

    Raises:
        UserError: an image file is missing or truncated.
    """

    def __init__(self, files: Mapping[str, Path], previous: Mapping[str, Path] | None = None) -> None:
        broken = [str(file) for file in files.values() if not is_whole(file)]
        if broken:
            raise UserError(
                f"{len(broken)} preprocessed unlabelled image(s) are missing or truncated, first {broken[0]}. Run "
                "nnUNetv2_preprocess (cases in splits_final.json) or nnunet-dycon preprocess (imagesUn) again"
            )
        self._files = {case: str(files[case]) for case in sorted(files)}
        self._previous = None if previous is None else {case: str(previous[case]) for case in self._files}
        self.identifiers = list(self._files)
        self.sources = {case: str(record_of(files[case]).get("source", "")) for case in self._files}

    def load_image(self, identifier: str) -> blosc2.NDArray:
        """The image of a case, (channels, X, Y, Z), read from disk only where it is sliced."""
        return open_image(self._files[identifier])

    def load_previous(self, identifier: str) -> blosc2.NDArray | None:
        """The labels that a cascade's first stage predicted for a case, (X, Y, Z); None without a cascade."""
        return None if self._previous is None else open_image(self._previous[identifier])


def unlabeled_predictions_folder(fold_folder: Path, next_stage: str) -> Path:
    """Folder with the predictions of unlabelled cases by one fold of the first stage, for a next stage.

    nnU-Net keeps those of labelled cases in ``MODEL/predicted_next_stage/STAGE``, where each comes from the fold that
    validates on the case. All folds predict the unlabelled cases, so theirs are in the folder of the fold.
    """
    return fold_folder / "predicted_next_stage" / next_stage


def check_previous_predictions(images: Mapping[str, Path], folder: Path, fix: str) -> dict[str, Path]:
    """The first stage's prediction of each case in a folder, given the second stage's preprocessed images.

    Raises:
        UserError: predictions are missing, damaged or made for other preprocessed images; ``fix`` makes them.
    """
    predictions = {case: folder / f"{case}.b2nd" for case in images}
    problems = [problem for case in images if (problem := fault_of_labels(images[case], predictions[case]))]
    if problems:
        raise UserError(
            f"{len(problems)} of {len(images)} cases have no usable prediction of the cascade's first stage ({fix}). "
            f"First: {problems[0]}"
        )
    return predictions


def network_input(image: Any, previous: Any | None, foreground_labels: Sequence[int]) -> np.ndarray:
    """A whole case as the network takes it: the image, and in a second stage the previous labels one-hot.

    Shape: image (channels, X, Y, Z) and previous labels (X, Y, Z), arrays or files, to (channels [+ labels], X, Y, Z).
    """
    voxels = image[:]
    if previous is None:
        return voxels
    return np.vstack([voxels, convert_labelmap_to_one_hot(previous[:], foreground_labels, output_dtype=voxels.dtype)])

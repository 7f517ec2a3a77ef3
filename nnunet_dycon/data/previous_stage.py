"""Cascades: where the predictions of a first stage lie, and how the second stage's network sees them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from nnunetv2.utilities.label_handling.label_handling import convert_labelmap_to_one_hot

from nnunet_dycon.dataset.preprocessed_files import open_image
from nnunet_dycon.errors import UserError

NEXT_STAGE_FOLDER = "predicted_next_stage"


def unlabeled_predictions_folder(fold_folder: Path, next_stage: str) -> Path:
    """Folder with the predictions of unlabelled cases by one fold of the first stage, for a next stage.

    nnU-Net keeps those of labelled cases in ``MODEL/predicted_next_stage/STAGE``, where each comes from the fold that
    validates on the case. All folds predict the unlabelled cases, so theirs are in the folder of the fold.
    """
    return fold_folder / NEXT_STAGE_FOLDER / next_stage


def check_previous_predictions(images: Mapping[str, Path], folder: Path, fix: str) -> dict[str, Path]:
    """The first stage's prediction of each case in a folder, given the second stage's preprocessed images.

    Raises:
        UserError: predictions are missing, damaged or made for other preprocessed images; ``fix`` makes them.
    """
    predictions = {case: folder / f"{case}.b2nd" for case in images}
    problems = [problem for case in images if (problem := _problem(images[case], predictions[case]))]
    if problems:
        raise UserError(
            f"{len(problems)} of {len(images)} cases have no usable prediction of the cascade's first stage ({fix}). "
            f"First: {problems[0]}"
        )
    return predictions


def _problem(image: Path, prediction: Path) -> str | None:
    try:
        voxels, expected = open_image(prediction).shape, open_image(image).shape[1:]
    except UserError as error:
        return str(error)
    return None if voxels == expected else f"{prediction} has {voxels} voxels, the preprocessed image {expected}"


def network_input(image: Any, previous: Any | None, foreground_labels: Sequence[int]) -> np.ndarray:
    """A whole case as the network takes it: the image, and in a second stage the previous labels one-hot.

    Shape: image (channels, X, Y, Z) and previous labels (X, Y, Z), arrays or files, to (channels [+ labels], X, Y, Z).
    """
    voxels = image[:]
    if previous is None:
        return voxels
    return np.vstack([voxels, convert_labelmap_to_one_hot(previous[:], foreground_labels, output_dtype=voxels.dtype)])

"""Run the network over scans and keep, of each, what the suggestion needs. Only images are opened, never a mask."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from nnunet_dycon.data.unlabeled_dataset import nnUNetDatasetUnlabeled
from nnunet_dycon.tools.suggest.features import PoolingTap
from nnunet_dycon.tools.suggest.model import TrainedModel
from nnunet_dycon.tools.suggest.scan_view import ScanView, Turn, view_of
from nnunet_dycon.tools.suggest.uncertainty import prediction_of
from nnunet_dycon.training.unwrapping import unwrap


@dataclass(frozen=True)
class Assessment:
    """What is known of an unlabelled scan.

    Attributes:
        uncertainty: mean entropy in and around the predicted foreground, 0 to 1.
        volume_entropy: mean entropy of all voxels, 0 to 1.
        foreground_voxels: size of the predicted foreground on the preprocessed grid.
        features: (D,) float64.
        view: a slice for the contact sheet.
    """

    uncertainty: float
    volume_entropy: float
    foreground_voxels: int
    features: np.ndarray
    view: ScanView


class ScanAssessor:
    """A trained model that looks at preprocessed images.

    Args:
        model: the model; its network is used uncompiled.

    Raises:
        UserError: its network has no encoder.
    """

    def __init__(self, model: TrainedModel) -> None:
        self._predictor = model.predictor
        self._predictor.network = unwrap(self._predictor.network)
        self._tap = PoolingTap(self._predictor.network)

    def features(self, image: np.ndarray) -> np.ndarray:
        """Features (D,) of an image (channels, X, Y, Z)."""
        return self._run(image)[1]

    def assess(self, image: np.ndarray, turn: Turn) -> Assessment:
        """All there is to know of an image (channels, X, Y, Z)."""
        logits, features = self._run(image)
        prediction = prediction_of(logits, self._predictor.label_manager)
        return Assessment(
            uncertainty=prediction.uncertainty,
            volume_entropy=prediction.volume_entropy,
            foreground_voxels=int((prediction.labels > 0).sum()),
            features=features,
            view=view_of(image, prediction, self._predictor.configuration_manager.spacing[-2:], turn),
        )

    def _run(self, image: np.ndarray) -> tuple[torch.Tensor, np.ndarray]:
        """Logits (C, X, Y, Z) of nnU-Net's sliding window, and features."""
        with self._tap.active():
            logits = self._predictor.predict_logits_from_preprocessed_data(torch.from_numpy(image))
        return logits, self._tap.take_mean()


def assess_cases(
    assessor: ScanAssessor,
    unlabeled: Mapping[str, Path],
    labeled: Mapping[str, Path],
    turn_of_case: Callable[[str], Turn],
    *,
    progress: bool,
) -> tuple[dict[str, Assessment], dict[str, np.ndarray]]:
    """Assess all unlabelled images; of labelled ones take the features.

    Args:
        assessor: the model.
        unlabeled: preprocessed image by case.
        labeled: preprocessed image by case.
        turn_of_case: how to show an unlabelled case.
        progress: show a progress bar.

    Raises:
        UserError: an image is missing.
    """
    images, labeled_images = nnUNetDatasetUnlabeled(dict(unlabeled)), nnUNetDatasetUnlabeled(dict(labeled))
    with tqdm(total=len(unlabeled) + len(labeled), desc="looking at scans", unit="scan", disable=not progress) as bar:
        assessments, features = {}, {}
        for case in images.identifiers:
            assessments[case] = assessor.assess(images.load_image(case)[:], turn_of_case(case))
            bar.update()
        for case in labeled_images.identifiers:
            features[case] = assessor.features(labeled_images.load_image(case)[:])
            bar.update()
    return assessments, features

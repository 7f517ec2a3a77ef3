"""The first stage of a cascade predicts the unlabelled cases for the second, as nnU-Net does its validation cases."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch
from nnunetv2.inference.export_prediction import resample_and_save
from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor
from nnunetv2.training.dataloading.nnunet_dataset import nnUNetDatasetBlosc2

from nnunet_dycon.data.unlabeled_dataset import network_input, nnUNetDatasetUnlabeled, unlabeled_predictions_folder
from nnunet_dycon.dataset.preprocessed_files import open_image
from nnunet_dycon.files.whole_files import whole
from nnunet_dycon.training.processes import process


def predict_for_next_stages(
    predictor: nnUNetPredictor,
    data: nnUNetDatasetUnlabeled,
    targets: dict[str, dict[str, Path]],
    fold_folder: Path,
    log: Callable[[str], None],
) -> None:
    """Write labels of all unlabelled cases for next stages; the processes of a distributed training share the cases.

    Masks are not read: the size of a next stage's image is all that is needed of it.

    Args:
        targets: preprocessed image of each case by next stage.
    """
    first, number = process()
    for case in data.identifiers[first::number]:
        log(f"predicting {case} for {', '.join(targets)}")
        foreground_labels = predictor.label_manager.foreground_labels
        voxels = network_input(data.load_image(case), data.load_previous(case), foreground_labels)
        logits = predictor.predict_sliding_window_return_logits(torch.from_numpy(voxels)).cpu()
        for stage, images in targets.items():
            file = unlabeled_predictions_folder(fold_folder, stage) / f"{case}.b2nd"
            _write(predictor, logits, open_image(images[case]).shape[1:], stage, file)


def _write(predictor: nnUNetPredictor, logits: torch.Tensor, shape: tuple[int, ...], stage: str, file: Path) -> None:
    """Resample a case's logits to the next stage's image and write its labels, whole or not at all."""
    file.parent.mkdir(parents=True, exist_ok=True)
    plans = predictor.plans_manager
    spacing = plans.get_configuration(stage).spacing
    # what nnU-Net reads of a case's properties: the number of axes, and for 2d the spacing between slices
    properties = {
        "spacing": [spacing[axis] for axis in plans.transpose_backward],
        "shape_after_cropping_and_before_resampling": shape,
    }
    with whole(file) as partial:
        resample_and_save(
            logits,
            list(shape),
            str(partial).removesuffix(".b2nd"),
            plans,
            predictor.configuration_manager,
            properties,
            predictor.dataset_json,
            torch.get_num_threads(),
            nnUNetDatasetBlosc2,
        )

"""The first stage of a cascade predicts the unlabelled cases for the second, as nnU-Net does its validation cases."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import torch
from nnunetv2.inference.export_prediction import resample_and_save
from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor
from nnunetv2.training.dataloading.nnunet_dataset import nnUNetDatasetBlosc2
from torch import distributed as dist

from nnunet_dycon.data.previous_stage import network_input, unlabeled_predictions_folder
from nnunet_dycon.dataset.preprocessed_files import open_image
from nnunet_dycon.files.whole_files import whole

if TYPE_CHECKING:
    from nnunet_dycon.trainers.semi_supervised import nnUNetTrainerSemiSupervised


def predict_for_next_stages(trainer: nnUNetTrainerSemiSupervised) -> None:
    """Write the predicting network's labels of all unlabelled cases for each next stage that is preprocessed.

    The processes of a distributed training share the cases. Masks are not read: the size of a next stage's image is
    all that is needed of it.
    """
    stages = [name for name in trainer.configuration_manager.next_stage_names or () if _is_preprocessed(trainer, name)]
    if not stages:
        return
    targets = {name: trainer.unlabeled_images(name) for name in stages}
    data = trainer.open_unlabeled(trainer.unlabeled_images(trainer.configuration_name))
    predictor = _predictor(trainer)
    first, step = (dist.get_rank(), dist.get_world_size()) if trainer.is_ddp else (0, 1)
    for case in data.identifiers[first::step]:
        trainer.print_to_log_file(f"predicting {case} for {', '.join(stages)}")
        voxels = network_input(data.load_image(case), data.load_previous(case), trainer.label_manager.foreground_labels)
        logits = predictor.predict_sliding_window_return_logits(torch.from_numpy(voxels)).cpu()
        for name in stages:
            _write(trainer, name, case, logits, open_image(targets[name][case]).shape[1:])
    trainer.set_deep_supervision_enabled(True)


def _is_preprocessed(trainer: nnUNetTrainerSemiSupervised, stage: str) -> bool:
    """Whether the labelled cases of a next stage are; nnU-Net predicts nothing for it otherwise, and says so."""
    folder = trainer.plans_manager.get_configuration(stage).data_identifier
    return (Path(trainer.preprocessed_dataset_folder_base) / folder).is_dir()


def _predictor(trainer: nnUNetTrainerSemiSupervised) -> nnUNetPredictor:
    """The predictor of nnU-Net's validation, with the network that predicts."""
    trainer.set_deep_supervision_enabled(False)
    predictor = nnUNetPredictor(device=trainer.device, allow_tqdm=False)
    predictor.manual_initialization(
        trainer.predicting_network(),
        trainer.plans_manager,
        trainer.configuration_manager,
        None,
        trainer.dataset_json,
        type(trainer).__name__,
        trainer.inference_allowed_mirroring_axes,
    )
    return predictor


def _write(
    trainer: nnUNetTrainerSemiSupervised, stage: str, case: str, logits: torch.Tensor, shape: tuple[int, ...]
) -> None:
    """Resample a case's logits to the next stage's image and write its labels, whole or not at all."""
    folder = unlabeled_predictions_folder(Path(trainer.output_folder).parent, trainer.fold, stage)
    folder.mkdir(parents=True, exist_ok=True)
    plans, spacing = trainer.plans_manager, trainer.plans_manager.get_configuration(stage).spacing
    # what nnU-Net reads of a case's properties: the number of axes, and for 2d the spacing between slices
    properties = {
        "spacing": [spacing[axis] for axis in plans.transpose_backward],
        "shape_after_cropping_and_before_resampling": shape,
    }
    with whole(folder / f"{case}.b2nd") as file:
        resample_and_save(
            logits,
            list(shape),
            str(file).removesuffix(".b2nd"),
            plans,
            trainer.configuration_manager,
            properties,
            trainer.dataset_json,
            torch.get_num_threads(),
            nnUNetDatasetBlosc2,
        )

"""A finished training, ready to look at preprocessed scans with nnU-Net's own predictor."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor
from nnunetv2.utilities.file_path_utilities import convert_trainer_plans_config_to_identifier

from nnunet_dycon.dataset.raw_dataset import dataset_name, environment_folder
from nnunet_dycon.errors import UserError
from nnunet_dycon.models.checkpoints import initialize_predictor, load_checkpoint_file

CHECKPOINT = "checkpoint_final.pth"


@dataclass(frozen=True)
class TrainedModel:
    """A predictor with its network loaded.

    Attributes:
        folder: ``nnUNet_results/DATASET/TRAINER__PLANS__CONFIGURATION``.
        dataset: DatasetXXX_Name.
        configuration: such as 3d_fullres.
        folds: the folds whose networks predict together.
        predictor: nnU-Net's.
    """

    folder: Path
    dataset: str
    configuration: str
    folds: tuple[int | str, ...]
    predictor: nnUNetPredictor


def open_model(
    dataset: int | str,
    *,
    trainer: str,
    plans: str,
    configuration: str,
    folds: Sequence[int | str] | None,
    device: torch.device,
    mirroring: bool = True,
) -> TrainedModel:
    """Load a finished training.

    Args:
        dataset: ID or name.
        trainer: class name, as for nnUNetv2_train.
        plans: plans identifier.
        configuration: such as 3d_fullres.
        folds: numbers or "all"; None takes every fold that is finished.
        device: where to predict.
        mirroring: average the predictions of mirrored windows, as nnU-Net does by default.

    Raises:
        UserError: there is no such finished training, it is damaged, or the device does not exist.
    """
    name = dataset_name(dataset)
    results = environment_folder("nnUNet_results") / name
    folder = results / convert_trainer_plans_config_to_identifier(trainer, plans, configuration)
    finished = finished_folds(folder)
    wanted = tuple(finished if folds is None else folds)
    missing = [fold for fold in wanted if fold not in finished]
    if missing or not wanted:
        raise UserError(_no_model(folder, results, wanted, finished))
    if device.type == "cuda" and not torch.cuda.is_available():
        raise UserError("-device cuda: torch finds no CUDA device; give -device cpu")
    predictor = nnUNetPredictor(
        use_mirroring=mirroring, device=device, perform_everything_on_device=device.type == "cuda", allow_tqdm=False
    )
    for fold in wanted:
        load_checkpoint_file(folder / f"fold_{fold}" / CHECKPOINT)
    initialize_predictor(predictor, folder, wanted, CHECKPOINT)
    return TrainedModel(folder, name, configuration, wanted, predictor)


def finished_folds(folder: Path) -> list[int | str]:
    """Folds of a model folder that have a final checkpoint, "all" last."""
    names = [file.parent.name.removeprefix("fold_") for file in folder.glob(f"fold_*/{CHECKPOINT}")]
    return [*sorted(int(name) for name in names if name.isdecimal()), *(name for name in names if name == "all")]


def _no_model(folder: Path, results: Path, wanted: Sequence[int | str], finished: Sequence[int | str]) -> str:
    """What is missing, and what there is instead."""
    if finished:
        return (
            f"{folder} has no finished training of fold {', '.join(map(str, wanted))} ({CHECKPOINT}); finished: "
            f"{', '.join(map(str, finished))}. Give one of them with -f, or finish that training with nnUNetv2_train"
        )
    others = sorted(path.parent.parent.name for path in results.glob(f"*__*__*/fold_*/{CHECKPOINT}"))
    there = f"there is {', '.join(dict.fromkeys(others))}: choose by -tr, -p, -c" if others else "train a model first"
    return f"{folder} holds no finished training (fold_*/{CHECKPOINT}); {there}"

"""Plain nnU-Net models out of semi-supervised ones: for prediction where this package is not installed."""

from __future__ import annotations

import shlex
import shutil
from pathlib import Path
from typing import Any

import torch

from nnunet_dycon.errors import UserError
from nnunet_dycon.files.whole_files import whole
from nnunet_dycon.models.checkpoints import load_checkpoint_file, networks_of
from nnunet_dycon.models.trained_model import CHECKPOINT, TrainedModel

_COPIED = ("dataset.json", "plans.json", "dataset_fingerprint.json")
_KEPT = ("init_args", "inference_allowed_mirroring_axes", "current_epoch", "_best_ema", "logging")


def plain_checkpoint(checkpoint: dict[str, Any], weights: str) -> dict[str, Any]:
    """A semi-supervised trainer's checkpoint as if ``nnUNetTrainer`` had written it with the teacher or the student.

    Raises:
        UserError: a checkpoint of another trainer, or other weights.
    """
    networks = networks_of(checkpoint)
    if not networks:
        raise UserError(
            f"the checkpoint was written by {checkpoint.get('trainer_name')}, which has neither teacher nor student; "
            "nnU-Net predicts with it as it is"
        )
    if weights not in networks:
        raise UserError(f"weights must be teacher or student, got {weights!r}")
    kept = {key: checkpoint[key] for key in _KEPT if key in checkpoint}
    return {**kept, "network_weights": networks[weights], "trainer_name": "nnUNetTrainer"}


def export_model(model: TrainedModel, output_folder: Path, weights: str) -> list[Path]:
    """Write a plain nnU-Net model folder, whole or not at all, with the teacher or the student of each fold.

    Returns:
        The checkpoints written.

    Raises:
        UserError: a damaged checkpoint, a model of one network, or ``output_folder`` exists.
    """
    if output_folder.exists():
        raise UserError(f"{output_folder} exists; choose another folder or remove it")
    output_folder.parent.mkdir(parents=True, exist_ok=True)
    with whole(output_folder) as folder:
        folder.mkdir()
        for name in _COPIED:
            if (model.folder / name).is_file():
                shutil.copy(model.folder / name, folder / name)
        for file in model.files:
            checkpoint = plain_checkpoint(load_checkpoint_file(file), weights)
            (folder / file.parent.name).mkdir()
            torch.save(checkpoint, folder / file.parent.name / file.name)
    return [output_folder / file.parent.name / file.name for file in model.files]


def predict_command(model: TrainedModel, output_folder: Path) -> str:
    """nnU-Net's command that predicts with the exported model."""
    parts = ["nnUNetv2_predict_from_modelfolder", "-i", "IN", "-o", "OUT", "-m", str(output_folder)]
    parts += ["-f", *map(str, model.folds)]
    parts += [] if model.checkpoint_name == CHECKPOINT else ["-chk", model.checkpoint_name]
    return shlex.join(parts + ([] if torch.cuda.is_available() else ["-device", "cpu"]))

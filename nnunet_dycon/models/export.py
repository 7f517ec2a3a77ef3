"""Plain nnU-Net models out of semi-supervised ones: for prediction where this package is not installed."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import torch

from nnunet_dycon.errors import UserError
from nnunet_dycon.files.whole_files import whole
from nnunet_dycon.models.checkpoints import load_checkpoint_file
from nnunet_dycon.training.teacher import submodule_weights

_COPIED = ("dataset.json", "plans.json", "dataset_fingerprint.json")
_KEPT = ("init_args", "inference_allowed_mirroring_axes", "current_epoch", "_best_ema", "logging")


def plain_checkpoint(checkpoint: dict[str, Any], weights: str) -> dict[str, Any]:
    """A checkpoint that nnU-Net predicts with as if ``nnUNetTrainer`` had written it.

    Args:
        checkpoint: checkpoint of a semi-supervised trainer.
        weights: "teacher" or "student".

    Raises:
        UserError: a checkpoint of another trainer, or other weights.
    """
    if "semi_supervised" not in checkpoint:
        raise UserError(
            f"the checkpoint was written by {checkpoint.get('trainer_name')}, which has neither teacher nor student; "
            "nnU-Net predicts with it as it is"
        )
    state = checkpoint["semi_supervised"]
    teacher = submodule_weights(state["teacher"]["module"], "network")
    networks = {"teacher": teacher, "student": state["student_weights"]}
    if weights not in networks:
        raise UserError(f"weights must be teacher or student, got {weights!r}")
    kept = {key: checkpoint[key] for key in _KEPT if key in checkpoint}
    return {**kept, "network_weights": networks[weights], "trainer_name": "nnUNetTrainer"}


def export_model(model_folder: Path, output_folder: Path, weights: str) -> list[Path]:
    """Write a plain nnU-Net model folder with the teacher or the student of each fold.

    Args:
        model_folder: ``nnUNet_results/DATASET/TRAINER__PLANS__CONFIGURATION``.
        output_folder: new folder; it appears whole or not at all.
        weights: "teacher" or "student".

    Returns:
        The checkpoints written.

    Raises:
        UserError: no trained fold in ``model_folder``, a damaged checkpoint, or ``output_folder`` exists.
    """
    checkpoints = sorted(model_folder.glob("fold_*/checkpoint_final.pth"))
    missing = [name for name in _COPIED[:2] if not (model_folder / name).is_file()]
    if missing or not checkpoints:
        raise UserError(
            f"{model_folder} is no trained model folder (it has no "
            f"{', '.join(missing) or 'fold_*/checkpoint_final.pth'}); give "
            "nnUNet_results/DATASET/TRAINER__PLANS__CONFIGURATION of a finished training"
        )
    if output_folder.exists():
        raise UserError(f"{output_folder} exists; choose another folder or remove it")
    output_folder.parent.mkdir(parents=True, exist_ok=True)
    with whole(output_folder) as folder:
        folder.mkdir()
        for name in _COPIED:
            if (model_folder / name).is_file():
                shutil.copy(model_folder / name, folder / name)
        for file in checkpoints:
            checkpoint = plain_checkpoint(load_checkpoint_file(file), weights)
            (folder / file.parent.name).mkdir()
            torch.save(checkpoint, folder / file.parent.name / file.name)
    return [output_folder / file.parent.name / file.name for file in checkpoints]

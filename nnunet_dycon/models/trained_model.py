"""A trained model folder as nnU-Net's predictor, with the weights of the network that does not predict."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor

from nnunet_dycon.errors import UserError
from nnunet_dycon.models.checkpoints import initialize_predictor, load_checkpoint_file
from nnunet_dycon.training.teacher import submodule_weights


@dataclass(frozen=True)
class Model:
    """nnU-Net's predictor of a trained model.

    Attributes:
        predictor: it has the weights that predict, of each fold.
        weights: those weights.
        other_weights: of a semi-supervised training, the student's if the teacher predicts and vice versa, of each
            fold; None for a plain nnU-Net model.
        record: what the predictions depend on, to tell whether a folder was predicted with the same model.
    """

    predictor: nnUNetPredictor
    weights: list[dict[str, torch.Tensor]]
    other_weights: list[dict[str, torch.Tensor]] | None
    record: dict[str, Any]

    @property
    def nonlinearity(self) -> str:
        """ "sigmoid" for regions, else "softmax"."""
        return "sigmoid" if self.predictor.label_manager.has_regions else "softmax"


def finished_folds(folder: Path, checkpoint_name: str = "checkpoint_final.pth") -> list[int | str]:
    """Folds of a model folder that have this checkpoint, "all" last."""
    names = [file.parent.name.removeprefix("fold_") for file in folder.glob(f"fold_*/{checkpoint_name}")]
    return [*sorted(int(name) for name in names if name.isdecimal()), *(name for name in names if name == "all")]


def load_model(
    folder: Path,
    folds: Sequence[int | str],
    *,
    checkpoint_name: str = "checkpoint_final.pth",
    device: torch.device,
    tile_step_size: float = 0.5,
    mirroring: bool = True,
) -> Model:
    """Load a model folder.

    Args:
        folder: ``nnUNet_results/DATASET/TRAINER__PLANS__CONFIGURATION``.
        folds: their logits are averaged, as nnU-Net does.
        checkpoint_name: file in the folds' folders.
        device: where to predict.
        tile_step_size: step of the sliding window in patches.
        mirroring: average over mirrored images where the training allows it.

    Raises:
        UserError: no such model, fold or checkpoint, or a damaged one; a cascade's second stage; a trainer that nnU-Net
            does not find.
    """
    files = _checkpoints(folder, folds, checkpoint_name)
    predictor = nnUNetPredictor(
        tile_step_size=tile_step_size,
        use_mirroring=mirroring,
        perform_everything_on_device=device.type == "cuda",
        device=device,
        allow_tqdm=False,
    )
    others = [_other_weights(load_checkpoint_file(file)) for file in files]
    initialize_predictor(predictor, folder, folds, checkpoint_name)
    if predictor.configuration_manager.previous_stage_name is not None:
        raise UserError(f"{folder} is the second stage of a cascade; predict with 3d_fullres or 3d_lowres instead")
    record = {
        "checkpoints": [[str(i.resolve()), i.stat().st_size, int(i.stat().st_mtime)] for i in files],
        "tile_step_size": tile_step_size,
        "mirroring": mirroring,
    }
    weights = predictor.list_of_parameters
    return Model(predictor, weights, None if None in others else others, record)  # type: ignore[arg-type]


def _checkpoints(folder: Path, folds: Sequence[int | str], checkpoint_name: str) -> list[Path]:
    missing = [name for name in ("plans.json", "dataset.json") if not (folder / name).is_file()]
    if missing:
        raise UserError(
            f"{folder} is no trained model folder (it has no {' and no '.join(missing)}); give "
            "nnUNet_results/DATASET/TRAINER__PLANS__CONFIGURATION"
        )
    files = [folder / f"fold_{fold}" / checkpoint_name for fold in folds]
    if absent := [str(file) for file in files if not file.is_file()]:
        there = sorted(str(file.relative_to(folder)) for file in folder.glob("fold_*/*.pth"))
        raise UserError(f"{absent[0]} does not exist; choose with -f and -chk among: {', '.join(there) or 'nothing'}")
    return files


def _other_weights(checkpoint: dict[str, Any]) -> dict[str, torch.Tensor] | None:
    """Weights of the network that does not predict; None for a model with one network."""
    if "semi_supervised" not in checkpoint:
        return None
    state = checkpoint["semi_supervised"]
    if state["settings"]["predict_with"] == "teacher":
        return state["student_weights"]
    return submodule_weights(state["teacher"]["module"], "network")

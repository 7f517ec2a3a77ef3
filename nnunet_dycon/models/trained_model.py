"""A trained model folder, opened once for all: checkpoints, curves, nnU-Net's predictor, a plain copy of it."""

from __future__ import annotations

import shlex
import shutil
from collections.abc import Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass
from functools import cached_property
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import torch
from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor

from nnunet_dycon.errors import UserError
from nnunet_dycon.files.json_files import read_json_object
from nnunet_dycon.files.whole_files import whole
from nnunet_dycon.models.checkpoints import OTHER_NETWORK, Weights, load_checkpoint_file, networks_of, stored_settings

CHECKPOINT = "checkpoint_final.pth"
_COPIED = ("dataset.json", "plans.json", "dataset_fingerprint.json")
_KEPT = ("init_args", "inference_allowed_mirroring_axes", "current_epoch", "_best_ema", "logging")
_FIX = "copy it from the preprocessed dataset, or train again"


@dataclass(frozen=True)
class TrainedModel:
    """A training's result. What is read from it is read when first asked for, and kept. ``open_model`` makes it.

    Attributes:
        folder: ``nnUNet_results/DATASET/TRAINER__PLANS__CONFIGURATION``.
        folds: the folds that predict together; their logits are averaged, as nnU-Net does.
        tile_step_size: step of the sliding window in patches.
        mirroring: average over mirrored images where the training allows it.
    """

    folder: Path
    folds: tuple[int | str, ...]
    checkpoint_name: str
    device: torch.device
    tile_step_size: float
    mirroring: bool

    @property
    def files(self) -> list[Path]:
        """The checkpoint of each fold."""
        return [self.folder / f"fold_{fold}" / self.checkpoint_name for fold in self.folds]

    @cached_property
    def checkpoints(self) -> list[dict[str, Any]]:
        """Content of the checkpoint of each fold, without the optimiser's state; a UserError for a damaged one."""
        contents = [load_checkpoint_file(file) for file in self.files]
        return [{key: value for key, value in i.items() if key != "optimizer_state"} for i in contents]

    @cached_property
    def dataset_json(self) -> dict[str, Any]:
        """The dataset.json that the model was trained with; a UserError for a broken one."""
        return read_json_object(self.folder / "dataset.json", _FIX)

    @cached_property
    def plans(self) -> dict[str, Any]:
        """The plans that the model was trained with; a UserError for broken ones."""
        return read_json_object(self.folder / "plans.json", _FIX)

    @cached_property
    def predictor(self) -> nnUNetPredictor:
        """nnU-Net's predictor, with the weights that predict.

        Raises:
            UserError: a damaged file, a trainer that nnU-Net does not find, or a cascade's second stage.
        """
        assert self.checkpoints and self.dataset_json and self.plans  # whose errors name the file
        try:
            with redirect_stdout(StringIO()):  # nnU-Net tells where it looks for the trainer
                predictor = nnUNetPredictor(
                    self.tile_step_size, use_mirroring=self.mirroring, device=self.device, allow_tqdm=False
                )
                predictor.initialize_from_trained_model_folder(str(self.folder), self.folds, self.checkpoint_name)
        except RuntimeError as error:
            raise UserError(f"{self.folder} cannot be loaded: {error}") from error
        if predictor.configuration_manager.previous_stage_name is not None:
            raise UserError(f"{self.folder} is a cascade's second stage; predict with 3d_fullres or 3d_lowres instead")
        return predictor

    @property
    def nonlinearity(self) -> str:
        """ "sigmoid" for regions, else "softmax"."""
        return "sigmoid" if self.predictor.label_manager.has_regions else "softmax"

    @property
    def weights(self) -> list[Weights]:
        """Weights that predict, of each fold."""
        return [i["network_weights"] for i in self.checkpoints]

    @property
    def other_weights(self) -> list[Weights] | None:
        """The student's where the teacher predicts and vice versa, of each fold; None for a model of one network."""
        if not all("semi_supervised" in i for i in self.checkpoints):
            return None
        predicts = [i["semi_supervised"]["settings"]["predict_with"] for i in self.checkpoints]
        return [networks_of(i)[OTHER_NETWORK[name]] for i, name in zip(self.checkpoints, predicts, strict=True)]

    @property
    def validated_on(self) -> str:
        """What the first fold's validation crops are of, as far as its checkpoint tells."""
        stored = self.checkpoints[0].get("semi_supervised", {}).get("validates_on_training_cases")
        if stored or self.folds[0] == "all":
            return "cases that are trained on"
        return "validation cases" if stored is False else "nnU-Net's validation crops"

    def curve(self, name: str) -> np.ndarray:
        """What the first fold's training logged under a name, by epoch; empty where it logged nothing."""
        values = np.asarray(self.checkpoints[0].get("logging", {}).get(name, []), dtype=float)
        return values if np.isfinite(values).any() else np.empty(0)


def open_model(
    folder: Path,
    folds: Sequence[int | str] | None = None,
    *,
    checkpoint_name: str = CHECKPOINT,
    device: torch.device | None = None,
    tile_step_size: float = 0.5,
    mirroring: bool = True,
) -> TrainedModel:
    """Find a trained model; the arguments are the attributes of ``TrainedModel``.

    Args:
        folder: ``fold_X`` in it may be given for the model of this fold alone.
        folds: None takes every numbered fold that has the checkpoint, else "all".
        device: None is the CPU.

    Raises:
        UserError: no such model, fold or checkpoint.
    """
    if folder.name.startswith("fold_"):
        own = folder.name.removeprefix("fold_")
        folder, folds = folder.parent, folds or [int(own) if own.isdecimal() else own]
    if missing := [name for name in ("plans.json", "dataset.json") if not (folder / name).is_file()]:
        raise UserError(
            f"{folder} is no trained model folder (it has no {' and no '.join(missing)}); give "
            "nnUNet_results/DATASET/TRAINER__PLANS__CONFIGURATION"
        )
    chosen = tuple(finished_folds(folder, checkpoint_name) if folds is None else folds)
    _check_folds(folder, chosen, checkpoint_name)
    return TrainedModel(folder, chosen, checkpoint_name, device or torch.device("cpu"), tile_step_size, mirroring)


def _check_folds(folder: Path, folds: Sequence[int | str], checkpoint_name: str) -> None:
    for fold in folds or ["*"]:
        if not (file := folder / f"fold_{fold}" / checkpoint_name).is_file():
            there = sorted(str(i.relative_to(folder)) for i in folder.glob("fold_*/*.pth"))
            raise UserError(f"{file} does not exist; choose with -f and -chk among: {', '.join(there) or 'nothing'}")


def finished_folds(folder: Path, checkpoint_name: str = CHECKPOINT) -> list[int | str]:
    """The numbered folds of a model folder that have the checkpoint; without any, "all" if that has it."""
    names = [file.parent.name.removeprefix("fold_") for file in folder.glob(f"fold_*/{checkpoint_name}")]
    return sorted(int(i) for i in names if i.isdecimal()) or [i for i in names if i == "all"]


# ---------------------------------------------------------------------------------- as a plain model of nnU-Net


def plain_checkpoint(checkpoint: dict[str, Any], weights: str) -> dict[str, Any]:
    """A checkpoint of this package as if ``nnUNetTrainer`` had written it; of two networks with the one named.

    Raises:
        UserError: a checkpoint of another trainer.
    """
    name, networks = str(checkpoint.get("trainer_name")), networks_of(checkpoint)
    if not (networks or stored_settings(checkpoint) or name.startswith("nnUNetTrainerSupervised")):
        raise UserError(
            f"the checkpoint was written by {name}, which has neither teacher nor student; nnU-Net predicts with it as "
            "it is"
        )
    kept = {key: checkpoint[key] for key in _KEPT if key in checkpoint}
    network = networks.get(weights, checkpoint["network_weights"])
    return {**kept, "network_weights": network, "trainer_name": "nnUNetTrainer"}


def export_model(model: TrainedModel, output_folder: Path, weights: str) -> dict[Path, str]:
    """Write a plain nnU-Net model folder, whole or not at all, with the teacher or the student of each fold.

    Returns:
        The checkpoints written, and what each holds: ``weights``, or of the control its network.

    Raises:
        UserError: a damaged checkpoint, a model of another trainer, or ``output_folder`` exists.
    """
    if output_folder.exists():
        raise UserError(f"{output_folder} exists; choose another folder or remove it")
    output_folder.parent.mkdir(parents=True, exist_ok=True)
    written = {}
    with whole(output_folder) as folder:
        folder.mkdir()
        for name in _COPIED:
            if (model.folder / name).is_file():
                shutil.copy(model.folder / name, folder / name)
        for file in model.files:
            checkpoint = load_checkpoint_file(file)
            (folder / file.parent.name).mkdir()
            torch.save(plain_checkpoint(checkpoint, weights), folder / file.parent.name / file.name)
            holds = weights if networks_of(checkpoint) else "network"
            written[output_folder / file.parent.name / file.name] = holds
    return written


def predict_command(model: TrainedModel, output_folder: Path) -> str:
    """nnU-Net's command that predicts with the exported model."""
    parts = ["nnUNetv2_predict_from_modelfolder", "-i", "IN", "-o", "OUT", "-m", str(output_folder)]
    parts += ["-f", *map(str, model.folds)]
    parts += [] if model.checkpoint_name == CHECKPOINT else ["-chk", model.checkpoint_name]
    return shlex.join(parts + ([] if torch.cuda.is_available() else ["-device", "cpu"]))

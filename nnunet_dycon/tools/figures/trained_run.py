"""A finished training as the figures need it: its checkpoint, settings, log and pictures."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from nnunetv2.paths import nnUNet_preprocessed

from nnunet_dycon.dataset.splits import read_splits, unlabeled_in_splits
from nnunet_dycon.dataset.unlabeled_scans import raw_unlabeled_folder
from nnunet_dycon.errors import UserError
from nnunet_dycon.models.checkpoints import load_checkpoint_file
from nnunet_dycon.trainers.dycon import DyCONSettings


@dataclass(frozen=True)
class TrainedRun:
    """A fold's output folder with what its checkpoint holds."""

    folder: Path
    checkpoint_name: str
    checkpoint: dict[str, Any]

    @classmethod
    def load(cls, folder: Path, checkpoint_name: str = "checkpoint_final.pth") -> TrainedRun:
        """Read the checkpoint.

        Raises:
            UserError: no fold's output folder, or no such checkpoint, or a damaged one.
        """
        file = folder / checkpoint_name
        if not file.is_file() or not folder.name.startswith("fold_"):
            inside = sorted(i.parent.name for i in folder.glob(f"fold_*/{checkpoint_name}"))
            advice = f"give one of its folders {', '.join(inside)}" if inside else "give TRAINER__PLANS__CONFIG/fold_X"
            raise UserError(f"{folder} is no output folder of a fold with {checkpoint_name}; {advice}")
        return cls(folder, checkpoint_name, load_checkpoint_file(file))

    @property
    def model_folder(self) -> Path:
        return self.folder.parent

    @property
    def fold(self) -> int | str:
        name = self.folder.name.removeprefix("fold_")
        return int(name) if name.isdecimal() else name

    @property
    def semi_supervised(self) -> dict[str, Any] | None:
        """What the semi-supervised trainers store; None for another trainer."""
        return self.checkpoint.get("semi_supervised")

    @property
    def settings(self) -> DyCONSettings | None:
        """Settings of the training, losses that it did not have with weight 0.

        Fields that a later version added have their defaults, removed ones are dropped.
        """
        state = self.semi_supervised
        if state is None:
            return None
        known = {field.name for field in dataclasses.fields(DyCONSettings)}
        return DyCONSettings(weight_uncl=0.0, weight_fecl=0.0).override(
            {name: value for name, value in state["settings"].items() if name in known}
        )

    def curve(self, name: str) -> np.ndarray:
        """A logged number by epoch; empty where it was not logged."""
        values = np.asarray(self.checkpoint["logging"].get(name, []), dtype=float)
        return values if np.isfinite(values).any() else np.empty(0)

    def progress(self) -> np.ndarray:
        """Share of the training that was done at each epoch's mean beta, or in its middle if beta did not change."""
        settings, beta = self.settings, self.curve("beta")
        if settings is None or settings.beta_max == settings.beta_min:
            return (np.arange(len(beta)) + 0.5) / len(beta)
        share = np.log(beta / settings.beta_max) / np.log(settings.beta_min / settings.beta_max)
        return np.clip(share, 0, 1)

    def refuse_unlabeled(self, cases: Iterable[str]) -> None:
        """Raise a UserError if a case is one of the unlabelled cases of this training: their masks stay closed."""
        arguments = self.checkpoint["init_args"]
        name = arguments["plans"]["dataset_name"]
        unlabeled: set[str] = set()
        if (folder := raw_unlabeled_folder(name)) is not None:
            ending = len(arguments["dataset_json"]["file_ending"]) + len("_0000")
            unlabeled |= {file.name[:-ending] for file in folder.iterdir()}
        if nnUNet_preprocessed.is_set():
            unlabeled |= set(unlabeled_in_splits(read_splits(Path(nnUNet_preprocessed) / name), self.fold))
        if seen := sorted(unlabeled & set(cases)):
            raise UserError(
                f"{', '.join(seen[:5])}: unlabelled in this training, so a reference mask of it is not opened; give "
                "test or validation cases with --cases"
            )

"""A finished training as the figures need it: its checkpoint, settings, log and pictures."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from nnunetv2.paths import nnUNet_preprocessed

from nnunet_dycon.data.splits import read_splits, unlabeled_in_splits
from nnunet_dycon.data.unlabeled_scans import raw_unlabeled_folder
from nnunet_dycon.errors import UserError
from nnunet_dycon.settings import Settings


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
            UserError: no fold's output folder, or no such checkpoint.
        """
        file = folder / checkpoint_name
        if not file.is_file() or not folder.name.startswith("fold_"):
            inside = sorted(i.parent.name for i in folder.glob(f"fold_*/{checkpoint_name}"))
            advice = f"give one of its folders {', '.join(inside)}" if inside else "give TRAINER__PLANS__CONFIG/fold_X"
            raise UserError(f"{folder} is no output folder of a fold with {checkpoint_name}; {advice}")
        return cls(folder, checkpoint_name, torch.load(file, map_location="cpu", weights_only=False))

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
    def settings(self) -> Settings | None:
        """Settings of the training; fields that a later version added have their defaults."""
        state = self.semi_supervised
        return None if state is None else Settings().override(state["settings"])

    def curve(self, name: str) -> np.ndarray:
        """A logged number by epoch; empty where it was not logged."""
        values = np.asarray(self.checkpoint["logging"].get(name, []), dtype=float)
        return values if np.isfinite(values).any() else np.empty(0)

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

"""nnU-Net's checkpoints and what a semi-supervised training adds to them, under ``semi_supervised``."""

from __future__ import annotations

import io
import pickle
from pathlib import Path
from typing import Any

import torch

from nnunet_dycon.errors import UserError
from nnunet_dycon.files.whole_files import whole

Weights = dict[str, torch.Tensor]
OTHER_NETWORK = {"teacher": "student", "student": "teacher"}

# What torch.load raises for damaged, truncated and foreign files: its zip reader a RuntimeError, the unpickler, which
# takes any byte for an instruction, what the instructions end in, down to an AssertionError of torch for tensors that
# are not there. OSError: the file cannot be read at all.
_UNREADABLE = (
    RuntimeError, pickle.UnpicklingError, EOFError, ImportError, AttributeError, LookupError, ValueError, TypeError,
    ArithmeticError, MemoryError, AssertionError, OSError,
)  # fmt: skip
_FIX = "copy it again, or remove it and continue the training with --c from the checkpoint before"


def load_checkpoint_file(file: Path, device: torch.device | str = "cpu") -> dict[str, Any]:
    """Content of a checkpoint. It is unpickled, so it must come from a source that you trust.

    Raises:
        UserError: the file cannot be read, or is no checkpoint of nnU-Net.
    """
    checkpoint = load_torch_file(file, _FIX, device)
    if not isinstance(checkpoint, dict) or "trainer_name" not in checkpoint:
        raise UserError(f"{file} is no checkpoint of nnU-Net, whose trainer it would name; {_FIX}")
    return checkpoint


def load_torch_file(file: Path, fix: str, device: torch.device | str = "cpu") -> Any:
    """What ``torch.save`` wrote; a UserError with this ``fix`` where the file cannot be read."""
    try:
        return torch.load(file, map_location=device, weights_only=False)
    except _UNREADABLE as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise UserError(f"{file} cannot be read as a checkpoint ({reason}); {fix}") from error


def save_checkpoint_file(file: Path, written: io.BytesIO, state: dict[str, Any]) -> None:
    """Write nnU-Net's checkpoint, whole or not at all, with a state added; its network is the one that predicts.

    Args:
        written: what nnU-Net has written, with the student's weights.
        state: among other things ``settings`` and ``teacher``, which get ``student_weights`` beside them. Without one
            the file is nnU-Net's.
    """
    if not state:
        with whole(file) as partial:
            partial.write_bytes(written.getbuffer())
        return
    written.seek(0)
    checkpoint = torch.load(written, map_location="cpu", weights_only=False)
    checkpoint["semi_supervised"] = state | {"student_weights": checkpoint["network_weights"]}
    checkpoint["network_weights"] = networks_of(checkpoint)[state["settings"]["predict_with"]]
    with whole(file) as partial:
        torch.save(checkpoint, str(partial))


def networks_of(checkpoint: dict[str, Any]) -> dict[str, Weights]:
    """Weights of "teacher" and "student"; empty for a model of one network."""
    if "semi_supervised" not in checkpoint:
        return {}
    state = checkpoint["semi_supervised"]
    teacher = state["teacher"]["module"].items()
    prefix = "network."  # beside "head."
    return {
        "teacher": {key.removeprefix(prefix): tensor for key, tensor in teacher if key.startswith(prefix)},
        "student": state["student_weights"],
    }


def stored_settings(checkpoint: dict[str, Any]) -> dict[str, Any]:
    """The settings in a checkpoint of a trainer of this package; empty where there are none."""
    return checkpoint.get("semi_supervised", checkpoint.get("init_args", {})).get("settings", {})

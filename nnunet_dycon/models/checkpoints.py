"""Reading nnU-Net's checkpoints, so that a broken one is named."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import torch

from nnunet_dycon.errors import UserError

# what torch.load raises for a file that is truncated, damaged, or no checkpoint
_READ_ERRORS = (
    OSError,
    RuntimeError,
    EOFError,
    ValueError,
    LookupError,
    TypeError,
    AttributeError,
    ImportError,
    pickle.UnpicklingError,
)
_FIX = "copy it again, or remove it and continue the training with --c from the checkpoint before"


def load_checkpoint_file(file: Path, device: torch.device | str = "cpu") -> dict[str, Any]:
    """Content of a checkpoint. It is unpickled, so it must come from a source that you trust.

    Raises:
        UserError: the file cannot be read, or is no checkpoint of nnU-Net.
    """
    try:
        checkpoint = torch.load(file, map_location=device, weights_only=False)
    except _READ_ERRORS as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise UserError(f"{file} cannot be read as a checkpoint ({reason}); {_FIX}") from error
    if not isinstance(checkpoint, dict) or "trainer_name" not in checkpoint:
        raise UserError(f"{file} is no checkpoint of nnU-Net, whose trainer it would name; {_FIX}")
    return checkpoint

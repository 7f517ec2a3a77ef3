"""Cases of the h5 distributions: arrays ``image`` and ``label``, no geometry."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import SimpleITK as sitk

from nnunet_dycon.errors import UserError
from nnunet_dycon.tools.convert.plan import CaseVolumes
from nnunet_dycon.tools.convert.volumes import check_finite, empty_mask_note, label_on_grid, spacing_text


def load_h5(path: Path, axes: str, foreground: Sequence[int], spacing_mm: Sequence[float]) -> CaseVolumes:
    """One h5 file as a case with the foreground 1, origin 0 and identity direction.

    Args:
        path: The file.
        axes: ``xyz`` or ``zyx``, the order of the stored axes.
        foreground: Label values that become 1; besides them only 0 is allowed.
        spacing_mm: (x, y, z).

    Raises:
        UserError: The file cannot be read, or its label holds other values.
    """
    image, label = read_h5(path)
    if axes == "xyz":
        image, label = image.transpose(2, 1, 0), label.transpose(2, 1, 0)
    scan = sitk.GetImageFromArray(np.ascontiguousarray(image, dtype=np.float32))
    scan.SetSpacing([float(value) for value in spacing_mm])
    mask = label_on_grid(label, {0: 0, **dict.fromkeys(foreground, 1)}, scan)
    return CaseVolumes([scan], mask, empty_mask_note(mask))


def h5_parameters(axes: str, foreground: Sequence[int], spacing_mm: Sequence[float]) -> dict[str, Any]:
    """``load_h5``'s parameters as JSON values."""
    return {"axes": axes, "foreground": list(foreground), "spacing_mm": [float(value) for value in spacing_mm]}


def read_h5(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """The arrays ``image`` and ``label``, axes as stored.

    Raises:
        UserError: The file cannot be read, lacks one of them, or they are not 3-D of one shape.
    """
    try:
        with h5py.File(path, "r") as file:
            missing = [key for key in ("image", "label") if key not in file]
            if missing:
                raise UserError(f"{path} has no {missing[0]!r} (but {', '.join(file) or 'nothing'}); download it again")
            image, label = file["image"][()], file["label"][()]
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error}); download it again") from error
    if image.ndim != 3 or image.shape != label.shape:
        raise UserError(
            f"{path}: image {image.shape} and label {label.shape} ought to be 3-D of one shape; download it again"
        )
    check_finite(image, path)
    return image, label


def no_geometry_note(spacing_mm: Sequence[float]) -> str:
    """Said of every h5 distribution."""
    return f"the h5 files hold no geometry: spacing {spacing_text(spacing_mm)} (--spacing), origin 0, no rotation"

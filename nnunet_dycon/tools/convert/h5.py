"""Cases of the h5 distributions, which hold no geometry."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import h5py
import numpy as np
import SimpleITK as sitk

from nnunet_dycon.errors import UserError
from nnunet_dycon.tools.convert.plan import CaseFile, CaseVolumes, DatasetPlan
from nnunet_dycon.tools.convert.volumes import check_finite, empty_mask_note, label_on_grid, spacing_text


def add_h5_cases(
    plan: DatasetPlan, files: Iterable[CaseFile], axes: str, values: Mapping[int, int], spacing_mm: Sequence[float]
) -> None:
    """Plan cases of one file of the kind ``path`` each, for ``load_h5``."""
    plan.add_cases(files, ("path",), load_h5, {"axes": axes, "values": values, "spacing_mm": [*spacing_mm]})
    plan.notes.append(
        f"the h5 files hold no geometry: spacing {spacing_text(spacing_mm)} (--spacing), origin 0, no rotation; there "
        "are no headers to compare"
    )


def load_h5(axes: str, values: Mapping[int, int], spacing_mm: Sequence[float], **paths: Path) -> CaseVolumes:
    """h5 files as a case with origin 0 and identity direction.

    Args:
        axes: Order of the stored axes: ``xyz`` or ``zyx`` of a file with all of it, ``yx`` of files of slices.
        values: As for ``load_images``.
        spacing_mm: (x, y, z).
        paths: The file, or those of the slices in order.

    Raises:
        UserError: A file cannot be read, its label holds other values, or slices differ in size.
    """
    pairs = [_read(path, len(axes)) for path in paths.values()]
    if len({image.shape for image, _ in pairs}) > 1:
        raise UserError(f"{next(iter(paths.values()))} and the other slices differ in size; download them again")
    image, label = (np.stack(arrays) if axes == "yx" else arrays[0] for arrays in zip(*pairs, strict=True))
    if axes == "xyz":
        image, label = image.T, label.T
    scan = sitk.GetImageFromArray(np.ascontiguousarray(image, dtype=np.float32))
    scan.SetSpacing([float(value) for value in spacing_mm])
    mask = label_on_grid(label, values, scan)
    return [mask, scan], empty_mask_note(mask)


def _read(path: Path, dimensions: int) -> tuple[np.ndarray, np.ndarray]:
    """The arrays ``image`` and ``label``, axes as stored."""
    try:
        with h5py.File(path, "r") as file:
            image, label = file["image"][()], file["label"][()]
    except (OSError, KeyError) as error:
        raise UserError(f"{path} cannot be read ({error}); download it again") from error
    if image.ndim != dimensions or image.shape != label.shape:
        raise UserError(
            f"{path}: image {image.shape} and label {label.shape} ought to be {dimensions}-D of one shape; download "
            "it again"
        )
    check_finite(image, path)
    return image, label

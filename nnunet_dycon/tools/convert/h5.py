"""Cases of the h5 distributions: arrays ``image`` and ``label``, no geometry. Imports what it needs when it reads."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from nnunet_dycon.errors import UserError
from nnunet_dycon.tools.convert.plan import CaseFile, CasePlan, CaseVolumes, plan_cases

if TYPE_CHECKING:
    import numpy as np


def plan_h5(
    files: Iterable[CaseFile], axes: str, values: Mapping[int, int], spacing_mm: Sequence[float]
) -> tuple[list[CasePlan], dict[str, str]]:
    """Plans for ``load_h5``, as ``plan_cases`` makes them, of files of any kind."""
    paths = [(name, "path", path) for name, _, path in files]
    return plan_cases(paths, ("path",), load_h5, {"axes": axes, "values": values, "spacing_mm": [*spacing_mm]})


def refuse_spacing(spacing_mm: Sequence[float] | None, files: str) -> None:
    """Raise a UserError where ``--spacing`` has no effect."""
    if spacing_mm is not None:
        raise UserError(f"--spacing is for h5 files; the {files} files have their own spacing: drop it")


def load_h5(path: Path, axes: str, values: Mapping[int, int], spacing_mm: Sequence[float]) -> CaseVolumes:
    """One h5 file as a case with origin 0 and identity direction.

    Args:
        path: The file.
        axes: ``xyz`` or ``zyx``, the order of the stored axes.
        values: Label value in the file to value in the converted dataset; there must be no others.
        spacing_mm: (x, y, z).

    Raises:
        UserError: The file cannot be read, or its label holds other values.
    """
    image, label = read_h5(path)
    if axes == "xyz":
        image, label = image.transpose(2, 1, 0), label.transpose(2, 1, 0)
    return _without_geometry(image, label, values, spacing_mm)


def load_h5_slices(values: Mapping[int, int], spacing_mm: Sequence[float], **slices: Path) -> CaseVolumes:
    """The h5 files of a volume's slices, (y, x) each, in order.

    Raises:
        UserError: As ``load_h5``, or the slices differ in size.
    """
    import numpy as np

    pairs = [read_h5(path, dimensions=2) for path in slices.values()]
    if len({image.shape for image, _ in pairs}) > 1:
        raise UserError(f"{next(iter(slices.values()))} and the other slices differ in size; download them again")
    image, label = (np.stack(arrays) for arrays in zip(*pairs, strict=True))
    return _without_geometry(image, label, values, spacing_mm)


def _without_geometry(
    image: np.ndarray, label: np.ndarray, values: Mapping[int, int], spacing_mm: Sequence[float]
) -> CaseVolumes:
    """Arrays (z, y, x) as a case."""
    import numpy as np
    import SimpleITK as sitk

    from nnunet_dycon.tools.convert.volumes import empty_mask_note, label_on_grid

    scan = sitk.GetImageFromArray(np.ascontiguousarray(image, dtype=np.float32))
    scan.SetSpacing([float(value) for value in spacing_mm])
    mask = label_on_grid(label, values, scan)
    return CaseVolumes([scan], mask, empty_mask_note(mask))


def read_h5(path: Path, dimensions: int = 3) -> tuple[np.ndarray, np.ndarray]:
    """The arrays ``image`` and ``label``, axes as stored.

    Raises:
        UserError: The file cannot be read, lacks one of them, or they are not of one shape with so many dimensions.
    """
    import h5py

    from nnunet_dycon.tools.convert.volumes import check_finite

    try:
        with h5py.File(path, "r") as file:
            missing = [key for key in ("image", "label") if key not in file]
            if missing:
                raise UserError(f"{path} has no {missing[0]!r} (but {', '.join(file) or 'nothing'}); download it again")
            image, label = file["image"][()], file["label"][()]
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error}); download it again") from error
    if image.ndim != dimensions or image.shape != label.shape:
        raise UserError(
            f"{path}: image {image.shape} and label {label.shape} ought to be {dimensions}-D of one shape; download "
            "it again"
        )
    check_finite(image, path)
    return image, label


def no_geometry_note(spacing_mm: Sequence[float]) -> str:
    """Said of every h5 distribution."""
    from nnunet_dycon.tools.convert.volumes import spacing_text

    return (
        f"the h5 files hold no geometry: spacing {spacing_text(spacing_mm)} (--spacing), origin 0, no rotation; there "
        "are no headers to compare"
    )

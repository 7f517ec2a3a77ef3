"""Label maps on disk: the cases of a folder, their grids and their voxels."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import SimpleITK

from nnunet_dycon.errors import UserError
from nnunet_dycon.tools.evaluate.classes import EvaluatedClasses

FILE_ENDINGS = (
    ".nii.gz",
    ".nii",
    ".nrrd",
    ".mha",
    ".mhd",
    ".gipl.gz",
    ".gipl",
    ".png",
    ".bmp",
    ".tiff",
    ".tif",
)

SPACING_TOLERANCE = 1e-4  # relative; headers keep float32 or a few decimals
ORIGIN_TOLERANCE_MM = 1e-3
DIRECTION_TOLERANCE = 1e-3


def list_cases(folder: Path) -> dict[str, Path]:
    """The label maps of a folder by case name (the file name without its ending), sorted.

    Raises:
        UserError: The folder does not exist, has no label map, or has two files of one case.
    """
    if not folder.is_dir():
        raise UserError(f"{folder} is no folder; give the folder that holds one label map a case")
    cases: dict[str, Path] = {}
    for path in sorted(folder.iterdir()):
        ending = next((i for i in FILE_ENDINGS if path.name.endswith(i)), None)
        if ending is None or path.name.startswith("."):
            continue
        case = path.name.removesuffix(ending)
        if case in cases:
            raise UserError(f"{folder} has case {case} twice: {cases[case].name}, {path.name}; remove one")
        cases[case] = path
    if not cases:
        raise UserError(f"{folder} has no label maps ({', '.join(FILE_ENDINGS[:3])}, ...); is it the right one?")
    return cases


def check_grids(case: str, prediction: Path, reference: Path, *, spacing_matters: bool) -> list[str]:
    """Compare the headers of a prediction and its reference.

    Returns:
        Warnings: another origin or direction; another spacing where it does not matter.

    Raises:
        UserError: Another number of voxels, or another spacing where it matters.
    """
    predicted, expected = _read_header(prediction), _read_header(reference)
    if predicted.GetSize() != expected.GetSize():
        raise UserError(
            f"case {case}: the prediction has {predicted.GetSize()} voxels, the reference "
            f"{expected.GetSize()}; predict the images that belong to these references, on their grid"
        )
    warnings = []
    if not np.allclose(predicted.GetSpacing(), expected.GetSpacing(), rtol=SPACING_TOLERANCE, atol=0):
        text = _differ(case, "spacing", predicted.GetSpacing(), expected.GetSpacing())
        if spacing_matters:
            raise UserError(f"{text}; correct the header that is wrong, or use --literature (no spacing)")
        warnings.append(text)
    if not np.allclose(predicted.GetOrigin(), expected.GetOrigin(), rtol=0, atol=ORIGIN_TOLERANCE_MM):
        warnings.append(_differ(case, "origin", predicted.GetOrigin(), expected.GetOrigin()))
    if not np.allclose(predicted.GetDirection(), expected.GetDirection(), rtol=0, atol=DIRECTION_TOLERANCE):
        warnings.append(f"case {case}: prediction and reference have different directions (is one flipped?)")
    return warnings


def read_label_map(path: Path) -> tuple[np.ndarray, tuple[float, ...]]:
    """Integer voxels in array order (z, y, x) and the spacing in mm in the same order.

    Raises:
        UserError: The file cannot be read, or holds values that are not whole numbers.
    """
    with _naming(path):
        image = SimpleITK.ReadImage(str(path))
    voxels = SimpleITK.GetArrayFromImage(image)
    if not np.issubdtype(voxels.dtype, np.integer):
        as_integers = np.nan_to_num(voxels).astype(np.int64)
        if not np.array_equal(as_integers, voxels):
            raise UserError(f"{path} holds values that are not whole numbers; write it as integers")
        voxels = as_integers
    return voxels, image.GetSpacing()[::-1]


def check_values(voxels: np.ndarray, path: Path, classes: EvaluatedClasses) -> None:
    """Refuse values that are no labels of the dataset: they would count as background silently.

    Raises:
        UserError: There are such values.
    """
    if classes.known_values is None:
        return
    unknown = sorted(set(np.unique(voxels).tolist()) - classes.known_values)
    if unknown:
        raise UserError(
            f"{path} holds the values {unknown[:5]}, which are no labels in {classes.source}; correct the "
            "file, or name the values to evaluate with --labels"
        )


def _differ(case: str, what: str, predicted: tuple[float, ...], expected: tuple[float, ...]) -> str:
    return f"case {case}: the prediction has {what} {predicted}, the reference {expected}"


def _read_header(path: Path) -> SimpleITK.ImageFileReader:
    reader = SimpleITK.ImageFileReader()
    reader.SetFileName(str(path))
    with _naming(path):
        reader.ReadImageInformation()
    if reader.GetNumberOfComponents() != 1:
        raise UserError(f"{path} has {reader.GetNumberOfComponents()} values a voxel; a label map has one")
    return reader


@contextmanager
def _naming(path: Path) -> Iterator[None]:
    """Turn SimpleITK's errors into one that names the file."""
    try:
        yield
    except RuntimeError as error:
        reason = str(error).strip().splitlines()[-1]
        raise UserError(f"{path} cannot be read ({reason}); write it again or remove it") from error

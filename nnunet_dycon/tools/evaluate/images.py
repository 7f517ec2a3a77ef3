"""Label maps on disk: the cases of a folder, their grids and their voxels."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from nnunet_dycon.dataset.pseudo_labels import predicted_masks
from nnunet_dycon.dataset.reading import read_header, read_image
from nnunet_dycon.errors import UserError

FILE_ENDINGS = (".nii.gz", ".nii", ".nrrd", ".mha", ".mhd", ".gipl.gz", ".gipl", ".png", ".bmp", ".tiff", ".tif")
# what nnU-Net and this package leave beside predictions, and nothing leaves beside references
PREDICTION_FILES = ("predict_from_raw_data_args.json", "plans.json", "dataset.json", "summary.json", "uncertainty.json")

SPACING_TOLERANCE = 1e-4  # relative; headers keep float32 or a few decimals
POSITION_TOLERANCE = 1e-3  # of the origin in mm, and of the direction


def list_cases(folder: Path) -> dict[str, Path]:
    """The label maps of a folder by case name (the file name without its ending, of any case), sorted.

    Raises:
        UserError: The folder does not exist, has no label map, or has two files of one case.
    """
    if not folder.is_dir():
        raise UserError(f"{folder} is no folder; give the folder that holds one label map a case")
    cases: dict[str, Path] = {}
    for path in sorted(folder.iterdir()):
        ending = next((i for i in FILE_ENDINGS if path.name.lower().endswith(i)), None)
        if ending is None or path.name.startswith("."):
            continue
        case = path.name[: -len(ending)]
        if case in cases:
            raise UserError(f"{folder} has case {case} twice: {cases[case].name}, {path.name}; remove one")
        cases[case] = path
    if not cases:
        raise UserError(f"{folder} has no label maps ({', '.join(FILE_ENDINGS[:3])}, ...); is it the right one?")
    return cases


def list_references(folder: Path) -> dict[str, Path]:
    """The label maps of a folder of references; masks that are said to be predictions are not among them.

    Raises:
        UserError: As ``list_cases``, or the folder holds predictions.
    """
    cases = list_cases(folder)
    if found := [name for name in PREDICTION_FILES if (folder / name).is_file()]:
        raise UserError(
            f"{folder} was given as the folder of references, but it holds predictions ({found[0]} lies there). Are "
            "the two folders the wrong way round? Write --references REFERENCES --predictions PREDICTIONS"
        )
    references = {case: path for case, path in cases.items() if case not in predicted_masks(folder)}
    if not references:
        raise UserError(f"all masks of {folder} are predictions (pseudo_labels.json says so); give drawn ones")
    return references


def check_grids(case: str, prediction: Path, reference: Path, *, spacing_matters: bool) -> list[str]:
    """Compare the headers of a prediction and its reference; warnings of another origin or direction.

    Raises:
        UserError: Another number of voxels, or another spacing, which is a warning where it does not matter.
    """
    predicted, expected = read_header(prediction), read_header(reference)
    if predicted.GetSize() != expected.GetSize():
        raise UserError(
            f"case {case}: the prediction has {predicted.GetSize()} voxels, the reference "
            f"{expected.GetSize()}; predict the images that belong to these references, on their grid"
        )
    warnings, differ = [], f"case {case}: the prediction has {{}} {{}}, the reference {{}}"
    spacings, origins = (predicted.GetSpacing(), expected.GetSpacing()), (predicted.GetOrigin(), expected.GetOrigin())
    if not np.allclose(*spacings, rtol=SPACING_TOLERANCE, atol=0):
        text = differ.format("spacing", *spacings)
        if spacing_matters:
            raise UserError(f"{text}; correct the header that is wrong, or use --literature (no spacing)")
        warnings.append(text)
    if not np.allclose(*origins, rtol=0, atol=POSITION_TOLERANCE):
        warnings.append(differ.format("origin", *origins))
    if not np.allclose(predicted.GetDirection(), expected.GetDirection(), rtol=0, atol=POSITION_TOLERANCE):
        warnings.append(f"case {case}: prediction and reference have different directions (is one flipped?)")
    return warnings


def read_label_map(path: Path) -> tuple[np.ndarray, tuple[float, ...]]:
    """Integer voxels in array order (z, y, x) and the spacing in mm in the same order.

    Raises:
        UserError: The file cannot be read, or holds values that are not whole numbers.
    """
    from SimpleITK import GetArrayFromImage

    image = read_image(path)
    voxels = GetArrayFromImage(image)
    if not np.issubdtype(voxels.dtype, np.integer):
        as_integers = np.nan_to_num(voxels).astype(np.int64)
        if not np.array_equal(as_integers, voxels):
            raise UserError(f"{path} holds values that are not whole numbers; write it as integers")
        voxels = as_integers
    return voxels, image.GetSpacing()[::-1]

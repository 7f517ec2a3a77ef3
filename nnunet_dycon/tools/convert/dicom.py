"""Pancreas-CT: slices in the order of InstanceNumber, Hounsfield units, geometry of the DICOM; does the mask fit?

The masks of Pancreas-CT belong to the slices in the order of InstanceNumber, which in some cases runs against their
position; hence no reader that sorts by position. The third axis then points down, as the direction matrix says.

Scan and mask are separate downloads whose headers disagree, so a mispaired case (a flipped mask, slices in the wrong
order, the mask of another patient) looks fine until training fails. Two measurements tell:

- the mean Hounsfield value under the mask, which is soft tissue for a pancreas;
- the contrast between the mask and a shell around it: the pancreas is brighter than the fat around it, while a mask
  in the wrong place has much the same values inside and outside. The mask as given is compared with its 7 mirror
  images.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pydicom
import SimpleITK as sitk
from pydicom.errors import InvalidDicomError
from scipy import ndimage

from nnunet_dycon.errors import UserError
from nnunet_dycon.tools.convert.plan import CaseVolumes
from nnunet_dycon.tools.convert.volumes import label_on_grid, read_image

_NEEDED = (
    "InstanceNumber", "SeriesInstanceUID", "RescaleSlope", "RescaleIntercept", "ImagePositionPatient",
    "ImageOrientationPatient", "PixelSpacing", "PixelData",
)  # fmt: skip
# Slices further off a regular stack than this part of the slice distance are mentioned.
_IRREGULAR = 0.1
# Cosine between slice normal and stacking direction: a tilted gantry cannot be written as a regular grid.
_MIN_COSINE = 0.999
SOFT_TISSUE_HU = (0.0, 200.0)
# Air and bone count as fat and contrast agent: a bowel bubble beside the mask must not decide.
CLIP_HU = (-150.0, 250.0)
SHELL_VOXELS = 3
# A mirror image has to beat the mask as given by this much. A choice between chance (a few HU) and the contrast of
# soft tissue (50 HU) to fat (-100 HU), not fitted to data.
MARGIN_HU = 30.0


def load_dicom(series: Path, label: Path, check: bool) -> CaseVolumes:
    """A case of TCIA: label voxel [x, y, k] belongs to pixel [y, x] of InstanceNumber k + 1.

    The label's header is ignored; it gets the geometry of the DICOM. ``check`` asks for ``check_pairing``.
    """
    scan, notes = read_series(series)
    mask = label_on_grid(sitk.GetArrayFromImage(read_image(label)), {0: 0, 1: 1}, scan)
    if check:
        check_pairing(sitk.GetArrayViewFromImage(scan), sitk.GetArrayViewFromImage(mask))
    else:
        notes = [*notes, "not checked against its label (--accept)"]
    return [mask, scan], notes


def read_series(folder: Path) -> tuple[sitk.Image, list[str]]:
    """The series in a folder in Hounsfield units, whose slice k is InstanceNumber k + 1, and notes.

    Raises:
        UserError: A file cannot be read, slices are missing or double, or they do not form one regular stack.
    """
    files = [path for path in folder.iterdir() if path.suffix.lower() == ".dcm" and not path.name.startswith("._")]
    read = sorted(map(_read_slice, files), key=lambda pair: int(pair[0].InstanceNumber))
    slices, planes = [item for item, _ in read], [plane for _, plane in read]
    _check_complete(slices, folder)
    if len({plane.shape for plane in planes}) > 1:
        raise UserError(f"{folder} holds slices of different size; download the series again")
    image = sitk.GetImageFromArray(np.stack(planes))
    return image, _set_geometry(image, slices, folder)


def _read_slice(path: Path) -> tuple[pydicom.Dataset, np.ndarray]:
    """A slice, and its (y, x) in Hounsfield units, int16 where they are whole numbers that fit, else float32."""
    try:
        item = pydicom.dcmread(path)
        if missing := [keyword for keyword in _NEEDED if item.get(keyword) is None]:
            raise AttributeError(f"it has no {missing[0]}")
        values = item.pixel_array * float(item.RescaleSlope) + float(item.RescaleIntercept)
    except (InvalidDicomError, OSError, EOFError, ValueError, RuntimeError, AttributeError) as error:
        raise UserError(f"{path} cannot be read ({error}); download the series again") from error
    whole = values.astype(np.int16)
    return item, whole if np.array_equal(whole, values) else values.astype(np.float32)


def _check_complete(slices: list[pydicom.Dataset], folder: Path) -> None:
    numbers = [int(item.InstanceNumber) for item in slices]
    if len({item.SeriesInstanceUID for item in slices}) > 1:
        raise UserError(f"{folder} holds several series; keep the one that the label belongs to")
    if numbers != [*range(1, len(numbers) + 1)]:
        raise UserError(
            f"{folder} holds {len(numbers)} slices, InstanceNumber {numbers[0]} to {numbers[-1]}, where 1 to "
            f"{len(numbers)} are expected, once each; download the series again, or remove copies"
        )


def _set_geometry(image: sitk.Image, slices: list[pydicom.Dataset], folder: Path) -> list[str]:
    """Put the DICOM's spacing, origin and direction into the image; notes on slices that are unevenly spaced."""
    orientations = np.array([item.ImageOrientationPatient for item in slices], dtype=float)
    positions = np.array([item.ImagePositionPatient for item in slices], dtype=float)
    along_x, along_y = orientations[0, :3], orientations[0, 3:]
    if len(slices) < 2 or not np.allclose(orientations, orientations[0], atol=1e-3):
        raise UserError(f"{folder} holds no stack of parallel slices; keep the axial series")
    step_mm = (positions[-1] - positions[0]) / (len(slices) - 1)
    normal = np.cross(along_x, along_y)
    distances_mm = np.diff(positions @ normal)
    mean_mm = float(np.linalg.norm(step_mm))
    if not (np.all(distances_mm > 0) or np.all(distances_mm < 0)):
        raise UserError(f"{folder}: InstanceNumber does not follow the position of the slices; download it again")
    if abs(float(step_mm @ normal)) < _MIN_COSINE * mean_mm:
        raise UserError(f"{folder}: the slices are sheared (tilted gantry), which nnU-Net's formats cannot express")
    row_mm, column_mm = (float(value) for value in slices[0].PixelSpacing)
    image.SetSpacing([column_mm, row_mm, mean_mm])
    image.SetOrigin(positions[0].tolist())
    image.SetDirection(np.stack([along_x, along_y, np.sign(distances_mm[0]) * normal], axis=1).ravel().tolist())
    if np.abs(np.abs(distances_mm) - mean_mm).max() > _IRREGULAR * mean_mm:
        return ["slices are unevenly spaced; their mean distance is used"]
    return []


def check_pairing(hounsfield_units: np.ndarray, mask: np.ndarray) -> None:
    """Refuse a mask (z, y, x), nonzero on the pancreas, that does not lie on it in the scan, which has the same shape.

    Raises:
        UserError: The mask is empty, lies on no soft tissue, or fits clearly better when flipped.
    """
    if not mask.any():
        raise UserError("the mask is empty, so that it cannot be checked against the scan; download the label again")
    foreground = mask > 0
    mean = float(hounsfield_units[foreground].mean())
    contrasts = contrasts_hu(hounsfield_units, foreground)
    best = max(contrasts, key=lambda axes: contrasts[axes])
    better_by = contrasts[best] - contrasts[()]
    low, high = SOFT_TISSUE_HU
    if better_by > MARGIN_HU:
        names = "".join("zyx"[axis] for axis in reversed(best))
        finding = (
            f"the mask stands out from its surroundings by {contrasts[()]:.0f} HU, flipped along {names} by "
            f"{contrasts[best]:.0f} HU"
        )
    elif not low <= mean <= high:
        finding = f"the mean value under the mask is {mean:.0f} HU, where soft tissue has {low:.0f} to {high:.0f}"
    else:
        return
    raise UserError(
        f"label and scan do not belong together: {finding}. Use label and DICOM of the TCIA download, unconverted; "
        "if you have seen that they fit, pass --accept with the case name"
    )


def contrasts_hu(hounsfield_units: np.ndarray, foreground: np.ndarray) -> dict[tuple[int, ...], float]:
    """Mean value inside the mask minus that of a shell of 3 voxels around it, values clipped to [-150, 250] HU.

    Both are (z, y, x), the mask not empty. By the axes along which the scan is flipped: none, each, each two, all.
    """
    (box,) = ndimage.find_objects(np.pad(foreground, SHELL_VOXELS).astype(np.uint8))
    # in the padded mask the box starts later by the shell, so that it is wider by it in the mask
    box = tuple(slice(max(0, part.start - 2 * SHELL_VOXELS), part.stop) for part in box)
    inside = foreground[box]
    shell = ndimage.binary_dilation(inside, iterations=SHELL_VOXELS) & ~inside
    contrasts = {}
    for axes in [(), (0,), (1,), (2,), (0, 1), (0, 2), (1, 2), (0, 1, 2)]:
        values = np.clip(np.flip(hounsfield_units, axes)[box], *CLIP_HU)
        contrasts[axes] = float(values[inside].mean() - values[shell].mean())
    return contrasts

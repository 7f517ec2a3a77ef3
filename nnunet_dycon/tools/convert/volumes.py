"""Reading image files and checking that they fit each other.

Arrays are (z, y, x) as SimpleITK has them; grids are SimpleITK images.
"""

from __future__ import annotations

import itertools
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from nnunet_dycon.dataset import reading
from nnunet_dycon.errors import UserError
from nnunet_dycon.tools.convert.plan import CaseVolumes

# A corner that lies further off than this means another grid, not a header that was rounded.
MAX_CORNER_OFFSET_VOXELS = 1.0
# An image that is resampled to another has to cover this part of it.
MIN_COVERED = 0.5
# Below this the headers agree: float32 affines of a 500 mm volume.
ROUNDING_VOXELS = 0.01


def load_images(
    mask: str, values: Mapping[int, int], check: bool, resampled: Collection[str] = (), **files: Path
) -> CaseVolumes:
    """A case of image files, as ``on_one_grid`` lays them on each other."""
    images = {name: read_image(path) for name, path in files.items()}
    return on_one_grid(images, mask, values, check=check, resampled=resampled)


def on_one_grid(
    images: dict[str, sitk.Image], mask: str, values: Mapping[int, int], *, check: bool, resampled: Collection[str] = ()
) -> CaseVolumes:
    """Lay a mask and images on the first image, voxel by voxel, once their headers agree.

    Args:
        images: By name; the first, whose header the case keeps, and the others are the channels in order.
        mask: Which of them is the mask.
        values: Value in the mask to value in the converted dataset; there must be no others.
        check: Whether headers have to agree.
        resampled: Which have a grid of their own.

    Raises:
        UserError: They do not fit each other, or the mask has other values.
    """
    first, *others = [name for name in images if name != mask]
    grid, notes = images[first], []
    for name in (mask, *others):
        if name in resampled:
            images[name], more = _resampled(images[name], grid, name, first, check)
        else:
            more = _differences(grid, images[name], first, name, check)
            images[name].CopyInformation(grid)
        notes += more
    label = label_on_grid(sitk.GetArrayViewFromImage(images[mask]), values, grid)
    notes = [*dict.fromkeys(notes + empty_mask_note(label))]
    return [label, *(images[name] for name in (first, *others))], notes


def read_image(path: Path) -> sitk.Image:
    """A scalar 3-D volume; a fourth axis of length 1 is dropped, float64 becomes float32, all that nnU-Net reads.

    Raises:
        UserError: The file cannot be read, is not a scalar 3-D volume, or holds NaN or infinity.
    """
    image = reading.read_image(path, "download it again")
    if image.GetDimension() == 4 and image.GetSize()[3] == 1:
        image = image[:, :, :, 0]
    if image.GetDimension() != 3:
        raise UserError(f"{path} is no 3-D volume (size {image.GetSize()}); give the original file")
    check_finite(sitk.GetArrayViewFromImage(image), path)
    return sitk.Cast(image, sitk.sitkFloat32) if image.GetPixelID() == sitk.sitkFloat64 else image


def check_finite(array: np.ndarray, path: Path) -> None:
    """nnU-Net refuses NaN later, without saying which file of the download it came from."""
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        raise UserError(f"{path} holds NaN or infinite values; download it again or leave the case out")


def label_on_grid(label: np.ndarray, values: Mapping[int, int], grid: sitk.Image) -> sitk.Image:
    """A label map (z, y, x) as uint8 on a grid, values as ``on_one_grid`` maps them; a UserError if they do not fit."""
    shape = grid.GetSize()[::-1]
    if label.shape != shape:
        raise UserError(
            f"the label has {label.shape[::-1]} voxels (x, y, z) and the image {shape[::-1]}; they do not belong "
            "together: download both again"
        )
    converted = np.zeros(label.shape, dtype=np.uint8)
    for old, new in values.items():
        converted[label == old] = new
    if wrong := np.unique(label[~np.isin(label, list(values))]).tolist():
        raise UserError(
            f"the label holds values that are no labels ({', '.join(f'{value:g}' for value in wrong[:5])}, ...; "
            f"expected {', '.join(map(str, sorted(values)))}): it was interpolated or belongs to another dataset; use "
            "the mask of the original download"
        )
    result = sitk.GetImageFromArray(converted)
    result.CopyInformation(grid)
    return result


def empty_mask_note(label: sitk.Image) -> list[str]:
    """Said of a case without foreground; it is kept."""
    return [] if sitk.GetArrayViewFromImage(label).any() else ["the mask is empty"]


def spacing_text(spacing_mm: Sequence[float]) -> str:
    """``0.625 x 0.625 x 0.625 mm``."""
    return " x ".join(f"{value:g}" for value in spacing_mm) + " mm"


def _differences(image: sitk.Image, other: sitk.Image, name: str, other_name: str, check: bool) -> list[str]:
    """Notes on two images that have to share a grid, the header of the first being kept; ``check`` refuses others."""
    if image.GetSize() != other.GetSize():
        raise UserError(
            f"{other_name} has {other.GetSize()} voxels (x, y, z) and {name} {image.GetSize()}; they ought to share "
            "a grid: download both again"
        )
    sheared = [i for each, i in ((image, name), (other, other_name)) if reading.is_sheared(each)]
    notes = [f"the header of {i} is sheared; the nearest rotation is used" for i in sheared]
    offset_voxels = _corner_offset_mm(image, other) / min(image.GetSpacing())
    if offset_voxels > MAX_CORNER_OFFSET_VOXELS:
        apart = f"the headers of {name} and {other_name} lie {offset_voxels:.1f} voxels apart ({_why(image, other)})"
        if check:
            raise UserError(
                f"{apart} though they ought to share a grid; check that both belong to this case, download them again. "
                "If you have seen that they fit voxel by voxel, pass --accept with the case name"
            )
        notes.append(f"{apart}; {other_name} is laid on {name} voxel by voxel (--accept)")
    elif offset_voxels > ROUNDING_VOXELS:
        notes.append(f"headers of {name} and {other_name} differ by less than a voxel; that of {name} is kept")
    return notes


def _corner_offset_mm(image: sitk.Image, other: sitk.Image) -> float:
    """Largest distance between corresponding corners."""
    corners = itertools.product(*((0, size - 1) for size in image.GetSize()))
    points = ([i.TransformIndexToPhysicalPoint(corner) for i in (image, other)] for corner in corners)
    return float(max(np.linalg.norm(np.subtract(*pair)) for pair in points))


def _why(image: sitk.Image, other: sitk.Image) -> str:
    """What differs between two headers, in words."""
    spacings = image.GetSpacing(), other.GetSpacing()
    words = []
    if not np.allclose(*spacings, rtol=1e-2):
        words.append(f"voxels of {spacing_text(spacings[0])} and {spacing_text(spacings[1])}")
    if not np.allclose(image.GetDirection(), other.GetDirection(), atol=1e-2):
        words.append("axes in other directions")
    return ", ".join(words) or "another origin"


def _resampled(
    image: sitk.Image, grid: sitk.Image, name: str, grid_name: str, check: bool
) -> tuple[sitk.Image, list[str]]:
    """An image on another grid, linearly by the headers, 0 where it does not reach, and notes."""
    identity = sitk.Transform(3, sitk.sitkIdentity)
    inside = sitk.Resample(sitk.Cast(image * 0 + 1, sitk.sitkUInt8), grid, identity, sitk.sitkNearestNeighbor)
    covered = float(sitk.GetArrayViewFromImage(inside).mean())
    notes = []
    if covered < MIN_COVERED:
        problem = f"by its header {name} covers {covered:.0%} of {grid_name}"
        if check:
            raise UserError(
                f"{problem}: the two do not lie on each other; download both again, leave {name} out, or pass --accept "
                "with the case name"
            )
        notes.append(f"{problem} (--accept)")
    return sitk.Resample(image, grid, identity, sitk.sitkLinear), notes

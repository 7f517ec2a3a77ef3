"""Cases with reference and prediction(s), read in radiological view, and what of them is shown."""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import SimpleITK as sitk
from skimage.util import map_array

from nnunet_dycon.dataset.reading import read_image, read_volume, reader_of
from nnunet_dycon.errors import UserError
from nnunet_dycon.files.json_files import read_json_object
from nnunet_dycon.files.text import few
from nnunet_dycon.pictures.canvas import Classes, Slice

FILE_ENDINGS = (".nii.gz", ".nii", ".nrrd", ".mha", ".png", ".bmp", ".tif", ".tiff")
MOST_CLASSES = 4
"""More classes than these have one mean Dice, and one common surface."""
_WITHOUT_HEADER = (".png", ".bmp", ".tif", ".tiff")
Window = tuple[slice, slice]
_PLANES = ("axial", "coronal", "sagittal")  # by the axis (Z, Y, X) that is cut
_COARSE = 1.5  # voxels so much longer than wide are cut across, as they were acquired


class CaseFiles(NamedTuple):
    """Where a case lies; channel 0 is enough."""

    name: str
    image: Path
    reference: Path
    predictions: tuple[Path, ...]


@dataclass(frozen=True)
class Case:
    """A case; arrays are (Z, Y, X) of one shape: label maps without ignored voxels, entropy in nats.

    Where the header tells directions, ``is_oriented``, X runs to the patient's left, Y to the back, Z to the head.
    """

    name: str
    image: np.ndarray
    reference: np.ndarray
    predictions: tuple[np.ndarray, ...]
    classes: Classes
    spacing_mm: tuple[float, ...] = (1.0, 1.0, 1.0)
    entropy: np.ndarray | None = None
    is_oriented: bool = True

    def __post_init__(self) -> None:
        for array in (self.reference, *self.predictions):
            if array.shape != self.image.shape:
                raise ValueError(f"{self.name}: mask {array.shape}, image {self.image.shape}")

    def values(self) -> list[int]:
        """All label values of the classes."""
        return sorted({value for values in self.classes.values() for value in values})

    def foreground(self, labels: np.ndarray) -> np.ndarray:
        """Voxels of any class in a label map."""
        return np.isin(labels, self.values())

    def segmented(self) -> np.ndarray:
        """Voxels of any class, in the reference or a prediction."""
        return np.any([self.foreground(i) for i in (self.reference, *self.predictions)], axis=0)

    def dice(self, number: int = 0) -> dict[str, float]:
        """Dice of each class over the whole volume; NaN if neither map has any of it. One pass for all classes."""
        values, scores = self.values(), {}
        size = len(values) + 1
        to_places = np.array(values, dtype=int), np.arange(1, size, dtype=np.int32)  # 0 for all other labels
        pairs = map_array(self.reference, *to_places) * size + map_array(self.predictions[number], *to_places)
        counts = np.bincount(pairs.ravel(), minlength=size * size).reshape(size, size)
        for name, own in self.classes.items():
            places = [values.index(value) + 1 for value in own]
            total = int(counts[places].sum() + counts[:, places].sum())
            scores[name] = 2.0 * int(counts[np.ix_(places, places)].sum()) / total if total else math.nan
        return scores

    def mean_dice(self, number: int = 0) -> float:
        """Mean of the classes that the reference or the prediction has; NaN without any."""
        defined = [score for score in self.dice(number).values() if not math.isnan(score)]
        return sum(defined) / len(defined) if defined else math.nan

    def dice_lines(self, number: int = 0) -> list[str]:
        """Dice of the only class, of each of a few classes, or the mean of many."""
        scores = self.dice(number)
        if len(scores) == 1:
            return [_dice_text(*scores.values())]
        if len(scores) <= MOST_CLASSES:
            return [f"{name} {_dice_text(score)}" for name, score in scores.items()]
        defined = sum(not math.isnan(score) for score in scores.values())
        return [f"mean {_dice_text(self.mean_dice(number))}", f"({defined} of {len(scores)} classes)"]

    # ------------------------------------------------------------------------------------------------------- slices

    @property
    def axis(self) -> int:
        """The axis that is cut: that of the coarse voxels, else Z."""
        longest = int(np.argmax(self.spacing_mm))
        is_flat = self.image.shape[0] == 1
        return longest if not is_flat and self.spacing_mm[longest] > _COARSE * sorted(self.spacing_mm)[-2] else 0

    def turned(self, array: np.ndarray) -> np.ndarray:
        """(slices, rows, columns): the cut axis first, the head up where the body is cut lengthwise."""
        return array if self.axis == 0 else np.moveaxis(array, self.axis, 0)[:, :: -1 if self.is_oriented else 1]

    @property
    def slice_mm(self) -> np.ndarray:
        """Height and width of a voxel of a slice."""
        return np.delete(self.spacing_mm, self.axis)

    def place(self, index: int) -> str:
        """Name of a slice; empty for a two-dimensional image."""
        if self.image.shape[self.axis] == 1:
            return ""
        return f"{_PLANES[self.axis]} slice {index}" if self.is_oriented else f"slice {index} of array axis {self.axis}"

    def view(self, index: int, window: Window, number: int = 0) -> Slice:
        """A slice with one of the predictions, inside the window."""
        arrays = (self.image, self.predictions[number], self.reference, self.entropy)
        image, prediction, reference, entropy = (None if i is None else self.turned(i)[index][window] for i in arrays)
        assert image is not None and prediction is not None
        height_mm, width_mm = self.slice_mm.tolist()
        return Slice(self.name, image, prediction, entropy, aspect=height_mm / width_mm, reference=reference)

    def fullest_slice(self) -> int:
        """Slice with most reference foreground; without any, with most predicted foreground, else the middle one."""
        for labels in (self.reference, *self.predictions):
            area = self.turned(self.foreground(labels)).sum(axis=(1, 2))
            if area.any():
                return int(area.argmax())
        return len(self.turned(self.image)) // 2

    def spread_slices(self, count: int) -> list[int]:
        """Slices spread evenly over the extent of reference and prediction, the outermost tenths left out."""
        segmented = self.turned(self.segmented())
        slices = np.flatnonzero(segmented.any(axis=(1, 2)))
        if not len(slices):
            return [len(segmented) // 2] * count
        shares = (np.arange(count) + 0.5) / count * 0.8 + 0.1
        return [int(slices[min(int(i * len(slices)), len(slices) - 1)]) for i in shares]

    def window(self, margin_mm: float | None, index: int | None = None) -> Window:
        """Rows and columns of a square, ``margin_mm`` wider than what is segmented in a slice, or in any.

        Without a margin, or where nothing is segmented, it is the whole slice.
        """
        segmented = self.turned(self.segmented())
        masks = segmented.any(axis=0) if index is None else segmented[index]
        if margin_mm is None or not masks.any():
            return slice(None), slice(None)
        corners = np.argwhere(masks)
        low, high = corners.min(axis=0), corners.max(axis=0) + 1
        half_voxels = np.ceil((((high - low) * self.slice_mm).max() / 2 + margin_mm) / self.slice_mm)
        start = np.maximum((low + high) / 2 - half_voxels, 0).astype(int)
        stop = np.minimum((low + high) / 2 + half_voxels, masks.shape).astype(int)
        return slice(start[0], stop[0]), slice(start[1], stop[1])


def _dice_text(score: float) -> str:
    return "both empty" if math.isnan(score) else f"Dice {score:.3f}"


# ------------------------------------------------------------------------------------------------------------ reading


def classes_of(dataset_json: dict[str, Any]) -> tuple[dict[str, tuple[int, ...]], int | None]:
    """Values of each foreground class or region of a dataset.json, and the ignore label."""
    labels = dataset_json["labels"].items()
    values = {name: tuple(value) if isinstance(value, list) else (int(value),) for name, value in labels}
    ignored = values.pop("ignore", (None,))[0]
    return {name: value for name, value in values.items() if value != (0,)}, ignored


def find_classes(predictions: Path, references: Path) -> tuple[Classes | None, int | None]:
    """``classes_of`` the dataset.json that nnU-Net writes beside predictions, or that beside the references' folder.

    Raises:
        UserError: a dataset.json that is broken.
    """
    folders = [i if i.is_dir() else i.resolve().parent for i in (predictions, references)]
    for file in (folders[0] / "dataset.json", folders[1].resolve().parent / "dataset.json"):
        if file.is_file() and "labels" in (content := read_json_object(file, "correct it, or move it away")):
            return classes_of(content)
    return None, None


def read_case(
    files: CaseFiles, classes: Classes | None = None, ignored: int | None = None, entropy_map: Path | None = None
) -> Case:
    """Read a case; voxels with the ignored label in the reference are background in all masks.

    Without ``classes`` all labels above 0 are one class.

    Raises:
        UserError: a file that cannot be read, has channels, or whose grid differs from the image's.
    """
    image, spacing_mm, is_oriented = _read(files.image)
    masks = files.reference, *files.predictions
    reference, *predictions = (np.rint(_on_grid(path, image.shape)).astype(np.int32) for path in masks)
    if ignored is not None:
        outside = reference == ignored
        for labels in (reference, *predictions):
            labels[outside] = 0
    if classes is None:
        values = {int(i) for labels in (reference, *predictions) for i in np.unique(labels)} - {0}
        classes = {"foreground": tuple(sorted(values))}
    entropy = None if entropy_map is None else _on_grid(entropy_map, image.shape)
    return Case(files.name, image, reference, tuple(predictions), classes, spacing_mm, entropy, is_oriented)


def _on_grid(path: Path, shape: tuple[int, ...]) -> np.ndarray:
    array = _read(path)[0]
    if array.shape != shape:
        raise UserError(f"{path}: {array.shape[::-1]} voxels, its image has {shape[::-1]}; give it on the image's grid")
    return array


def _read(path: Path) -> tuple[np.ndarray, tuple[float, ...], bool]:
    """Voxels (Z, Y, X), colours as their mean; spacing; whether the header tells directions."""
    ending = _ending(path)
    if ending in _WITHOUT_HEADER:
        with redirect_stdout(StringIO()):  # nnU-Net misses the spacing of an entropy map in .tif
            volume = read_volume(path, reader_of(path, {"file_ending": ending, "channel_names": {"0": ""}}))
        flat = volume.voxels.shape[1] == 1  # nnU-Net makes such a slice 999 times as thick as a pixel is wide
        return volume.voxels.mean(axis=0), (1.0 if flat else volume.spacing_mm[0], *volume.spacing_mm[1:]), False
    image = read_image(path)
    if image.GetDimension() == 2:
        image = sitk.JoinSeries(image)
    if image.GetDimension() != 3:
        raise UserError(f"{path}: not a volume with one channel, but {image.GetDimension()} axes")
    if is_oriented := _tells_directions(image):
        image = sitk.DICOMOrient(image, "LPS")  # rows run to the back, columns to the patient's left
    return sitk.GetArrayFromImage(image), image.GetSpacing()[::-1], is_oriented


def _tells_directions(image: sitk.Image) -> bool:
    """Whether the directions are the file's: a NIfTI header may have neither qform nor sform."""
    codes = [image.GetMetaData(key) for key in ("qform_code", "sform_code") if image.HasMetaDataKey(key)]
    return not codes or any(code not in ("", "0") for code in codes)


def _ending(path: Path) -> str:
    return next((i for i in FILE_ENDINGS if path.name.endswith(i)), "")


def find_cases(
    images: Path, references: Path, predictions: Sequence[Path], names: Sequence[str] = ()
) -> list[CaseFiles]:
    """The files of every case of the first prediction folder (or of ``names``); channel 0 of the images.

    If the paths are files, they are the one case.

    Raises:
        UserError: a missing file or folder, no ending of an image, or an empty prediction folder.
    """
    for path in (images, references, *predictions):
        if not path.exists():
            raise UserError(f"{path} does not exist: give the image, the reference and the prediction(s)")
        if path.is_dir() != images.is_dir():
            raise UserError(f"{images} and {path}: give either files only or folders only")
    if not images.is_dir():
        if not (ending := _ending(references)):
            raise UserError(f"{references}: not one of {', '.join(FILE_ENDINGS)}")
        return [CaseFiles(references.name.removesuffix(ending), images, references, tuple(predictions))]
    endings = _predicted(predictions[0], references)
    if unknown := sorted(set(names) - set(endings)):
        raise UserError(f"{predictions[0]}: no prediction of {few(unknown)}; there are {few(endings, 10)}")
    return [_case_in_folders(name, endings[name], images, references, predictions) for name in names or endings]


def _predicted(predictions: Path, references: Path) -> dict[str, str]:
    """File ending of each predicted case; pictures beside masks of another format are none."""
    used = {_ending(path) for path in references.iterdir()} - {""}
    found = {
        path.name.removesuffix(ending): ending
        for path in sorted(predictions.iterdir())
        if (ending := _ending(path)) in used and not path.name.startswith(".")
    }
    if not found:
        there = ", ".join(sorted(used)) or f"none of {', '.join(FILE_ENDINGS)}"
        raise UserError(f"{predictions}: no prediction there with the ending of {references} ({there})")
    return found


def _case_in_folders(name: str, ending: str, images: Path, references: Path, predictions: Sequence[Path]) -> CaseFiles:
    masks = tuple(folder / f"{name}{ending}" for folder in predictions)
    case = CaseFiles(name, images / f"{name}_0000{ending}", references / f"{name}{ending}", masks)
    for path in (case.image, case.reference, *case.predictions):
        if not path.is_file():
            raise UserError(f"case {name}: {path} does not exist; add it, or choose other cases with --cases")
    return case

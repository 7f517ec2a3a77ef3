"""The slice of a scan where the network is least sure, turned as a radiologist expects it where that is known."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from nnunet_dycon.tools.suggest.uncertainty import Prediction

_GREY_PERCENTILES = (0.5, 99.5)


@dataclass(frozen=True)
class ScanView:
    """What the contact sheet shows of a scan, each (rows, columns); 8 bits, so that views of all scans fit in memory.

    Attributes:
        image: grey values of the first channel.
        labels: predicted labels.
        entropy: 0 to 255 for the share 0 to 1 of the largest entropy.
        index: number of the slice along the first preprocessed axis, from 0.
        aspect: height of a voxel over its width.
    """

    image: np.ndarray
    labels: np.ndarray
    entropy: np.ndarray
    index: int
    aspect: float


@dataclass(frozen=True)
class Turn:
    """How slices along the first preprocessed axis are turned for display: transposed first, then flipped."""

    transpose: bool = False
    flip_rows: bool = False
    flip_columns: bool = False

    def __call__(self, pixels: np.ndarray) -> np.ndarray:
        pixels = pixels.T if self.transpose else pixels
        return pixels[:: -1 if self.flip_rows else 1, :: -1 if self.flip_columns else 1]


def view_of(image: np.ndarray, prediction: Prediction, plane_spacing: Sequence[float], turn: Turn) -> ScanView:
    """The slice with the largest sum of entropy in the region around the predicted foreground.

    Args:
        image: (channels, X, Y, Z), preprocessed.
        prediction: of the image.
        plane_spacing: spacing along Y and Z.
        turn: how to show the slice.
    """
    index = int((prediction.entropy * prediction.region).sum(axis=(1, 2)).argmax())
    height, width = reversed(plane_spacing) if turn.transpose else plane_spacing
    return ScanView(
        image=np.ascontiguousarray(turn(_grey(image[0, index]))),
        labels=np.ascontiguousarray(turn(prediction.labels[index].astype(np.uint8))),
        entropy=np.ascontiguousarray(turn(np.rint(255 * prediction.entropy[index].clip(0, 1)).astype(np.uint8))),
        index=index,
        aspect=float(height / width),
    )


def _grey(pixels: np.ndarray) -> np.ndarray:
    low, high = np.percentile(pixels, _GREY_PERCENTILES)
    return np.rint(255 * ((pixels - low) / max(high - low, 1e-6)).clip(0, 1)).astype(np.uint8)


def turn_of(file: Path, transpose_forward: Sequence[int]) -> Turn:
    """The turn that puts the front or the head up and the patient's left, or the back, to the right.

    Args:
        file: a scan in a format that stores directions; others are shown as they are.
        transpose_forward: nnU-Net's order of the axes (z, y, x).
    """
    reader = sitk.ImageFileReader()
    reader.SetFileName(str(file))
    try:
        reader.ReadImageInformation()
    except RuntimeError:
        return Turn()
    direction = reader.GetDirection()
    if len(direction) != 9:
        return Turn()
    # where the index grows to, for x, y, z; such as LPS
    code = sitk.DICOMOrientImageFilter.GetOrientationFromDirectionCosines(direction)
    rows, columns = (code[::-1][axis] for axis in transpose_forward[1:])
    transpose = columns in "SI" or (columns in "AP" and rows in "LR")
    if transpose:
        rows, columns = columns, rows
    return Turn(transpose, flip_rows=rows in "AS", flip_columns=columns in "RA")

"""Reading an image file with nnU-Net's reader, so that a broken one is named and never taken for whole."""

from __future__ import annotations

import gzip
import math
import zlib
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import tifffile
from nibabel.filebasedimages import ImageFileError
from nnunetv2.imageio.reader_writer_registry import determine_reader_writer_from_dataset_json
from nnunetv2.imageio.tif_reader_writer import Tiff3DIO

from nnunet_dycon.errors import UserError

_CHUNK_BYTES = 2**24
# what nnU-Net's readers raise for files they cannot read
_READ_ERRORS: tuple[type[Exception], ...] = (
    RuntimeError,
    OSError,
    ValueError,
    AssertionError,
    EOFError,
    IndexError,
    MemoryError,
    zlib.error,
    ImageFileError,
    tifffile.TiffFileError,
)


def reader_of(file: Path, dataset_json: dict[str, Any]) -> Any:
    """nnU-Net's reader for a file of a dataset, as planning chose it: TIFF files are 2D images or volumes."""
    if "overwrite_image_reader_writer" not in dataset_json and _is_tiff_volume(file):
        return Tiff3DIO()
    return determine_reader_writer_from_dataset_json(dataset_json, verbose=False)()


def _is_tiff_volume(file: Path) -> bool:
    if file.suffix not in (".tif", ".tiff"):
        return False
    try:
        with tifffile.TiffFile(file) as content:
            shape = content.series[0].shape
    except (OSError, ValueError, IndexError, tifffile.TiffFileError):
        return False  # the reader says what is wrong
    return len(shape) == 3 and shape[-1] not in (3, 4)  # else colours


def read_volume(file: Path, reader: Any, *, is_mask: bool = False) -> tuple[np.ndarray, dict[str, Any]]:
    """Voxels (channels, X, Y, Z) and properties of a file.

    Args:
        file: image or mask.
        reader: one of nnU-Net's readers.
        is_mask: read it as a mask.

    Raises:
        UserError: the file cannot be read, or ends too early.
    """
    try:
        _check_whole(file)
        return reader.read_seg(str(file)) if is_mask else reader.read_images((str(file),))
    except _READ_ERRORS as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[-1]
        raise UserError(f"{file} cannot be read ({reason}); copy or write it again") from error


def _check_whole(file: Path) -> None:
    """Read a .gz file to its end, and compare the size with a NIfTI header: SimpleITK fills up what is missing."""
    if file.suffix == ".gz":
        with gzip.open(file) as stream:
            size = sum(map(len, iter(lambda: stream.read(_CHUNK_BYTES), b"")))
    else:
        size = file.stat().st_size
    if file.name.endswith((".nii", ".nii.gz")):
        voxels: Any = nibabel.load(file).dataobj  # type: ignore[attr-defined]  # nibabel types the base class
        expected = voxels.offset + math.prod(voxels.shape) * voxels.dtype.itemsize
        if size < expected:
            raise EOFError(f"it has {size} bytes, its header promises {expected}")

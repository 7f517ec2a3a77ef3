"""Reading image files, so that a broken one is named and never taken for whole.

There are two readers: nnU-Net's own, for what training sees, and SimpleITK's, for what is evaluated, drawn, converted.
"""

from __future__ import annotations

import gzip
import math
import os
import struct
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

import nibabel
import numpy as np
import SimpleITK
import tifffile
from nnunetv2.imageio.reader_writer_registry import determine_reader_writer_from_dataset_json
from nnunetv2.imageio.simpleitk_reader_writer import SimpleITKIO
from nnunetv2.imageio.tif_reader_writer import Tiff3DIO
from PIL import Image

from nnunet_dycon.errors import UserError

ITK_REPAIR = "ITK_NIFTI_SFORM_PERMISSIVE"
_SHEARED_KEY = "ITK_sform_corrected"
_CHUNK_BYTES = 2**24
_GZIP = b"\x1f\x8b"  # how such a file begins
# What the readers raise for files that are missing, foreign or damaged. ITK has RuntimeError alone, TIFF and PNG files
# let theirs stumble over a wrong number, gzip's and nibabel's kinds have no common parent.
_DAMAGED = (
    OSError, EOFError, RuntimeError, ValueError, LookupError, TypeError, AssertionError, ArithmeticError, MemoryError,
    SyntaxError, struct.error, zlib.error, Image.DecompressionBombError, nibabel.filebasedimages.ImageFileError,
    nibabel.orientations.OrientationError, nibabel.spatialimages.HeaderDataError,
)  # fmt: skip


def reader_of(file: Path, dataset_json: dict[str, Any]) -> Any:
    """nnU-Net's reader for a file of a dataset, as planning chose it: TIFF files are 2D images or volumes."""
    if "overwrite_image_reader_writer" not in dataset_json and file.suffix in (".tif", ".tiff"):
        with suppress(*_DAMAGED), tifffile.TiffFile(file) as content:  # the reader says what is wrong
            shape = content.series[0].shape
            if len(shape) == 3 and shape[-1] not in (3, 4):  # else colours
                return Tiff3DIO()
    return determine_reader_writer_from_dataset_json(dataset_json, verbose=False)()


class Volume(NamedTuple):
    """A file as nnU-Net reads it; a sheared affine, which ITK refuses, is the nearest rotation."""

    file: Path
    voxels: np.ndarray
    """(channels, Z, Y, X)"""
    spacing_mm: tuple[float, ...]
    """(z, y, x)"""
    position: dict[str, np.ndarray]
    """Origin, direction, affine: what the reader knows of them."""
    is_sheared: bool


def read_volume(file: Path, reader: Any, *, is_mask: bool = False) -> Volume:
    """A file, by one of nnU-Net's readers.

    Raises:
        UserError: the file cannot be read, ends too early, or holds colours where its format has one value a voxel.
    """
    fix = "copy or write it again"
    with _naming(file, fix), sheared_affines_mended():
        _check_whole(file)
        sheared = isinstance(reader, SimpleITKIO) and is_sheared(read_header(file, fix))
        voxels, properties = reader.read_seg(str(file)) if is_mask else reader.read_images((str(file),))
        stored = properties.get("sitk_stuff", {}) | properties.get("nibabel_stuff", {})
        position = {key: np.asarray(stored[key]) for key in ("origin", "direction", "original_affine") if key in stored}
        return Volume(file, voxels, tuple(map(float, properties["spacing"])), position, sheared)


def read_image(file: Path, fix: str = "write it again or remove it") -> SimpleITK.Image:
    """A file as SimpleITK has it, one value a voxel; ``is_sheared`` says whether its affine had to be mended.

    Raises:
        UserError: it cannot be read, and what fixes that, or it has several values a voxel.
    """
    header = read_header(file, fix)
    with _naming(file, fix), sheared_affines_mended():
        if _is_other_size(file, header):
            _check_whole(file)
        return header.Execute()


def read_header(file: Path, fix: str = "write it again or remove it") -> SimpleITK.ImageFileReader:
    """Size, spacing, origin and direction of a file, as ``read_image`` has them, without its voxels."""
    header = SimpleITK.ImageFileReader()
    header.SetFileName(str(file))
    with _naming(file, fix), sheared_affines_mended():
        header.ReadImageInformation()
    if (number := header.GetNumberOfComponents()) != 1:
        raise UserError(
            f"{file} has {number} values a voxel, as colours or vectors have; write each to a file of its own with "
            "one value a voxel (CASE_0000, CASE_0001, ...)"
        )
    return header


def is_sheared(image: SimpleITK.Image | SimpleITK.ImageFileReader) -> bool:
    """Whether the affine of what was read is a nearest rotation, not the file's own."""
    return image.HasMetaDataKey(_SHEARED_KEY) and image.GetMetaData(_SHEARED_KEY) == "YES"


@contextmanager
def sheared_affines_mended() -> Iterator[None]:
    """ITK refuses affines that are slightly sheared, unless it is told to take the nearest rotation, then it warns."""
    before, warns = os.environ.get(ITK_REPAIR), SimpleITK.ProcessObject.GetGlobalWarningDisplay()
    os.environ[ITK_REPAIR] = "1"
    SimpleITK.ProcessObject.SetGlobalWarningDisplay(False)
    try:
        yield
    finally:
        SimpleITK.ProcessObject.SetGlobalWarningDisplay(warns)
        if before is None:
            del os.environ[ITK_REPAIR]
        else:
            os.environ[ITK_REPAIR] = before


@contextmanager
def _naming(file: Path, fix: str) -> Iterator[None]:
    """Let the error of a reader name the file, in one line."""
    try:
        yield
    except UserError:
        raise
    except _DAMAGED as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[-1]
        raise UserError(f"{file} cannot be read ({reason}); {fix}") from error


def _is_other_size(file: Path, header: SimpleITK.ImageFileReader) -> bool:
    """Whether a NIfTI file seems to have other bytes than its header promises; a packed one ends with their number."""
    if not header.HasMetaDataKey("bitpix"):
        return False
    bits, offset = (float(header.GetMetaData(key)) for key in ("bitpix", "vox_offset"))
    size = file.stat().st_size
    with file.open("rb") as stream:
        if stream.read(2) == _GZIP:
            stream.seek(-4, os.SEEK_END)
            size = int.from_bytes(stream.read(), "little")
    return (size - int(offset) - math.prod(header.GetSize()) * int(bits) // 8) % 2**32 != 0


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

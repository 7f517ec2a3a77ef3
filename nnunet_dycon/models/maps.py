"""Real-valued maps on the grid of a case, in the format of its dataset; nnU-Net itself writes label maps only."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import SimpleITK as sitk
import tifffile
from nnunetv2.imageio.base_reader_writer import BaseReaderWriter
from nnunetv2.imageio.natural_image_reader_writer import NaturalImage2DIO
from nnunetv2.imageio.nibabel_reader_writer import NibabelIOWithReorient
from nnunetv2.imageio.simpleitk_reader_writer import SimpleITKIOWithReorient
from nnunetv2.imageio.tif_reader_writer import Tiff3DIO


def map_ending(reader: type[BaseReaderWriter], file_ending: str) -> str:
    """Ending of a map's file: the dataset's, but .tif where that format holds no real numbers."""
    return ".tif" if issubclass(reader, NaturalImage2DIO) else file_ending


def write_map(values: np.ndarray, file: Path, segmentation_file: Path, reader: type[BaseReaderWriter]) -> None:
    """Write a map on the grid of a segmentation that nnU-Net has written.

    ``values`` are (Z, Y, X) as nnU-Net orders its arrays, which some readers turn to a common orientation; the file's
    name ends in ``map_ending``.
    """
    if issubclass(reader, (Tiff3DIO, NaturalImage2DIO)):
        tifffile.imwrite(file, values.astype(np.float32), photometric="minisblack", compression="zlib")
        return
    grid = sitk.ReadImage(str(segmentation_file))
    array = values[0] if grid.GetDimension() == 2 else values
    turned = issubclass(reader, (SimpleITKIOWithReorient, NibabelIOWithReorient))
    reference = sitk.DICOMOrient(grid, "RAS") if turned else grid
    image = sitk.GetImageFromArray(array.astype(np.float32))
    image.CopyInformation(reference)
    if turned:
        code = sitk.DICOMOrientImageFilter_GetOrientationFromDirectionCosines(grid.GetDirection())
        image = sitk.DICOMOrient(image, code)
    sitk.WriteImage(image, str(file), True)

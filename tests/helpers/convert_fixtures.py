"""Tiny downloads with the traps of the real ones. Arrays are (z, y, x) unless said otherwise."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import h5py
import numpy as np
import pydicom
import SimpleITK as sitk
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid

from nnunet_dycon.tools.convert.run import Conversion

LA_IDS = ("06SR5RBREL16DQ6M8LWS", "0RZDK210BSMWAA6467LU", "1D7CUD1955YZPGK8XHJX")  # of la/train.list
SHAPE = (4, 5, 6)  # three different lengths: a transposed axis changes the shape


def numbered(shape: Sequence[int] = SHAPE, dtype: str = "uint8") -> np.ndarray:
    """Every voxel has its own value."""
    return np.arange(np.prod(shape)).reshape(shape).astype(dtype)


def corner_label(shape: Sequence[int] = SHAPE, value: int = 1, dtype: str = "uint8") -> np.ndarray:
    """A box in the corner at index 0, so that any flip shows."""
    label = np.zeros(shape, dtype=dtype)
    label[:2, :2, :2] = value
    return label


def write_volume(
    path: Path,
    array: np.ndarray,
    spacing_mm: Sequence[float] = (1, 1, 1),
    origin_mm: Sequence[float] = (0, 0, 0),
    direction: Sequence[float] = (1, 0, 0, 0, 1, 0, 0, 0, 1),
) -> None:
    """NIfTI or NRRD by the ending."""
    image = sitk.GetImageFromArray(array)
    image.SetSpacing([float(value) for value in spacing_mm])
    image.SetOrigin([float(value) for value in origin_mm])
    image.SetDirection([float(value) for value in direction])
    path.parent.mkdir(parents=True, exist_ok=True)
    sitk.WriteImage(image, str(path))


def write_h5(path: Path, **arrays: np.ndarray) -> None:
    """Arrays with their axes as they are."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with h5py.File(path, "w") as file:
        for name, array in arrays.items():
            file.create_dataset(name, data=array, compression="gzip")


def truncate(path: Path) -> None:
    """Keep the first half of a file, as an interrupted download does."""
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])


def read(path: Path) -> tuple[np.ndarray, sitk.Image]:
    """(array, image) of a converted file."""
    image = sitk.ReadImage(str(path))
    return sitk.GetArrayFromImage(image), image


def converted(report: Conversion, name: str, channel: int = 0) -> tuple[np.ndarray, np.ndarray, sitk.Image]:
    """(image array, label array, image) of a converted case; the label shares the image's grid."""
    array, image = read(report.folder / "imagesTr" / f"{name}_{channel:04d}.nii.gz")
    label, label_image = read(report.folder / "labelsTr" / f"{name}.nii.gz")
    assert label.dtype == np.uint8
    np.testing.assert_allclose(label_image.GetSpacing(), image.GetSpacing(), rtol=1e-6)
    np.testing.assert_allclose(label_image.GetOrigin(), image.GetOrigin(), rtol=1e-6)
    np.testing.assert_allclose(label_image.GetDirection(), image.GetDirection(), atol=1e-6)
    return array, label, image


def la_nrrd(root: Path, case_id: str, label_value: int = 255, spacing_mm: Sequence[float] = (1, 1, 1)) -> Path:
    """A case folder of the challenge, with the stray file that some of them have."""
    folder = root / "Training Set" / case_id
    write_volume(folder / "lgemri.nrrd", numbered(), spacing_mm)
    write_volume(folder / "laendo.nrrd", corner_label(value=label_value), spacing_mm)
    (folder / "desktop.ini").write_text("[ViewState]")
    return folder


def la_h5(root: Path, case_id: str) -> Path:
    """A case of the h5 distribution: axes (x, y, z)."""
    path = root / "2018LA_Seg_Training Set" / case_id / "mri_norm2.h5"
    image = numbered(dtype="float32").transpose(2, 1, 0) / 10 - 3
    write_h5(path, image=image, label=corner_label().transpose(2, 1, 0))
    return path


def abdomen() -> tuple[np.ndarray, np.ndarray]:
    """(Hounsfield units, pancreas mask): air, a body of fat with liver, spine and a pancreas off every centre."""
    shape = (16, 32, 40)
    z, y, x = np.indices(shape)
    hounsfield_units = np.full(shape, -1000, dtype=np.int16)
    hounsfield_units[((y - 15.5) / 15) ** 2 + ((x - 19.5) / 19) ** 2 < 1] = -100
    hounsfield_units[((y - 14) / 9) ** 2 + ((x - 10) / 7) ** 2 < 1] = 110
    hounsfield_units[((y - 26) / 3) ** 2 + ((x - 20) / 3) ** 2 < 1] = 400
    pancreas = ((z - 5) / 4) ** 2 + ((y - 12) / 3) ** 2 + ((x - 26) / 6) ** 2 < 1
    hounsfield_units[pancreas] = 80 + (z + x)[pancreas] % 7
    return hounsfield_units, pancreas.astype(np.uint8)


def dicom_series(
    folder: Path,
    hounsfield_units: np.ndarray,
    first_position_mm: float = 300.0,
    step_mm: float = -1.0,
    pixel_spacing_mm: tuple[float, float] = (0.8, 0.7),
) -> None:
    """A CT series with intercept -1024 whose file names are shuffled; plane k is InstanceNumber k + 1.

    ``step_mm`` below 0: InstanceNumber runs against the position. ``pixel_spacing_mm``: (rows, columns) as in DICOM.
    """
    folder.mkdir(parents=True, exist_ok=True)
    series = generate_uid()
    names = np.random.default_rng(0).permutation(len(hounsfield_units))
    for k, plane in enumerate(hounsfield_units):
        dataset = pydicom.Dataset()
        dataset.file_meta = pydicom.dataset.FileMetaDataset()
        dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        dataset.SOPClassUID = CTImageStorage
        dataset.SOPInstanceUID = generate_uid()
        dataset.SeriesInstanceUID = series
        dataset.InstanceNumber = k + 1
        dataset.ImagePositionPatient = [-150.0, -140.0, first_position_mm + k * step_mm]
        dataset.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
        dataset.PixelSpacing = list(pixel_spacing_mm)
        dataset.RescaleSlope, dataset.RescaleIntercept = 1, -1024
        dataset.Rows, dataset.Columns = plane.shape
        dataset.BitsAllocated = dataset.BitsStored = 16
        dataset.HighBit, dataset.PixelRepresentation = 15, 1
        dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
        dataset.PixelData = (plane.astype(np.int16) + 1024).tobytes()
        dataset.save_as(folder / f"1-{names[k] + 1:03d}.dcm", enforce_file_format=True)


def pancreas_case(root: Path, number: int, mask: np.ndarray | None = None) -> tuple[Path, Path]:
    """(series folder, label file) below an NBIA manifest; the label's header says something else than the DICOM."""
    hounsfield_units, pancreas = abdomen()
    series = root / "manifest-1599750808610" / "Pancreas-CT" / f"PANCREAS_{number:04d}" / "study" / "series"
    dicom_series(series, hounsfield_units)
    label = pancreas_label(root, number, pancreas if mask is None else mask)
    return series, label


def pancreas_label(root: Path, number: int, mask: np.ndarray) -> Path:
    """A label file; RAI-like header with flipped axes and another spacing."""
    path = root / "TCIA_pancreas_labels-02-05-2017" / f"label{number:04d}.nii.gz"
    write_volume(path, mask, (0.7, 0.8, 2.5), (10, 20, 30), (-1, 0, 0, 0, -1, 0, 0, 0, 1))
    return path


BRATS_SEG = np.array([0, 1, 2, 4], dtype=np.int16)


def brats_case(folder: Path, name: str, ending: str = ".nii.gz", seg: np.ndarray | None = None) -> Path:
    """Four modalities, told apart by their values, and a seg with all labels; the folder has the case's name."""
    for offset, kind in enumerate(("flair", "t1", "t1ce", "t2")):
        write_volume(
            folder / name / f"{name}_{kind}{ending}", numbered(dtype="int16") + 1000 * offset, origin_mm=(0, -239, 0)
        )
    if seg is None:
        seg = BRATS_SEG[numbered() % 4]
    write_volume(folder / name / f"{name}_seg{ending}", seg, origin_mm=(0, -239, 0))
    return folder / name


ISLES_GRID = {"spacing_mm": (2.0, 2.0, 2.5), "origin_mm": (-118.7, 79.1, -57.7)}


def isles_case(root: Path, number: int, layout: str, mask: np.ndarray | None = None) -> None:
    """Layout "A" (subfolders, ``_FLAIR``) or "B" (``rawdata``, flat, ``_flair``); FLAIR has its own finer grid."""
    case = f"sub-strokecase{number:04d}"
    name = f"{case}_ses-0001"
    session = (root / "ISLES-2022" if layout == "A" else root / "rawdata") / case / "ses-0001"
    derivatives = (root / "ISLES-2022" if layout == "A" else root) / "derivatives" / case / "ses-0001"
    diffusion, anatomy = (session / "dwi", session / "anat") if layout == "A" else (session, session)
    flair = "FLAIR" if layout == "A" else "flair"
    write_volume(diffusion / f"{name}_dwi.nii.gz", numbered(dtype="float64"), **ISLES_GRID)
    write_volume(diffusion / f"{name}_adc.nii.gz", numbered(dtype="float64") * 2, **ISLES_GRID)
    write_volume(anatomy / f"{name}_{flair}.nii.gz", np.full((3, 10, 12), 7.0), (1.0, 1.0, 5.0), (-119.2, 78.6, -57.7))
    if mask is None:
        mask = corner_label(dtype="uint16")
    write_volume(derivatives / f"{name}_msk.nii.gz", mask, **ISLES_GRID)

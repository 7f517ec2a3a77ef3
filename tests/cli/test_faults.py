"""Faults in raw datasets, one a row: each is refused by name, nothing is half-written, and no other case is lost.

Damaged preprocessed folders, splits, plans and settings are in ``test_faults_of_training.py``.
"""

import errno
import gzip
import json
import os
import re
import shutil
import struct
from pathlib import Path

import nibabel
import numpy as np
import pytest
import SimpleITK as sitk
from nnunetv2.preprocessing.preprocessors.default_preprocessor import DefaultPreprocessor

from nnunet_dycon.cli import main
from nnunet_dycon.dataset import reading
from nnunet_dycon.dataset.unlabeled_preprocessing import preprocess_unlabeled
from nnunet_dycon.errors import UserError
from nnunet_dycon.files import whole_files
from tests.conftest import UNLABELED, blob, write_image

BAD = UNLABELED[1]
OTHERS = [UNLABELED[0], UNLABELED[2]]
IMAGE, MASK = blob(1)


@pytest.fixture(autouse=True)
def nothing_preprocessed(dataset):
    shutil.rmtree(unlabeled_folder(dataset))


def unlabeled_folder(dataset):
    return dataset.preprocessed / "nnUNetPlans_3d_fullres_unlabeled"


def preprocess(dataset, num_channels=1, **changes_of_plans):
    plans = json.loads((dataset.preprocessed / "nnUNetPlans.json").read_text()) | changes_of_plans
    intensities = plans["foreground_intensity_properties_per_channel"]
    intensities.update({str(i): intensities["0"] for i in range(num_channels)})
    configuration = plans["configurations"]["3d_fullres"]
    configuration["normalization_schemes"] *= num_channels
    configuration["use_mask_for_norm"] *= num_channels
    dataset_json = json.loads((dataset.preprocessed / "dataset.json").read_text())
    dataset_json["channel_names"] = {str(i): "MRI" for i in range(num_channels)}
    options = {"num_processes": 1, "progress": False}
    return [*preprocess_unlabeled(dataset.dataset, "3d_fullres", plans, dataset_json, dataset.images, **options)]


def assert_only_whole_cases(dataset, cases):
    files = {i.name for i in unlabeled_folder(dataset).iterdir()}
    assert files == {f"{case}{ending}" for case in cases for ending in (".b2nd", ".json")}


# ------------------------------------------------------------------------------------------------- one bad scan


def edit_header(offset, layout, *values):
    """A scan whose NIfTI header has other values at a place."""

    def edit(file: Path) -> None:
        content = bytearray(gzip.decompress(file.read_bytes()))
        struct.pack_into(layout, content, offset, *values)
        file.write_bytes(gzip.compress(bytes(content)))

    return edit


def replace_by(image):
    """Another image in place of the scan: an array (X, Y, Z) or a SimpleITK image."""

    def replace(file: Path) -> None:
        image_of_itk = image if isinstance(image, sitk.Image) else sitk.GetImageFromArray(image.T)
        sitk.WriteImage(image_of_itk, str(file))

    return replace


def cut(start, end, inside=False):
    """Remove bytes of the file, or of what is compressed in it."""

    def remove(file: Path) -> None:
        content = bytearray(gzip.decompress(file.read_bytes()) if inside else file.read_bytes())
        del content[start:end]
        file.write_bytes(gzip.compress(content) if inside else content)

    return remove


def link_to(target):
    def link(file: Path) -> None:
        file.unlink()
        file.symlink_to(target or file)

    return link


def with_voxel(value):
    image = IMAGE.copy()
    image[3, 4, 5] = value
    return replace_by(image)


def with_spacing(*spacing):
    image = sitk.GetImageFromArray(IMAGE.T)
    image.SetSpacing(spacing)
    return replace_by(image)


def four_dimensional(file: Path) -> None:
    nibabel.save(nibabel.Nifti1Image(np.stack([IMAGE, IMAGE], -1), np.eye(4)), file)


BAD_SCANS = {
    "empty file": (lambda file: file.write_bytes(b""), r"cannot be read"),
    "no image": (lambda file: file.write_bytes(b"no image"), r"cannot be read"),
    "truncated": (cut(2000, None), r"cannot be read \(Compressed file ended"),
    "last bytes missing": (cut(-20, None), r"cannot be read \(Compressed file ended"),
    "bytes missing in the middle": (cut(9000, 9200), r"cannot be read"),
    "fewer voxels than the header says": (cut(5000, None, inside=True), r"it has 5000 bytes, its header promises"),
    "not compressed": (lambda file: file.write_bytes(gzip.decompress(file.read_bytes())), r"Not a gzipped file"),
    "no voxels": (edit_header(40, "<8h", 3, 0, 24, 24, 1, 1, 1, 1), r"cannot be read"),
    "negative size": (edit_header(40, "<8h", 3, -4, 24, 24, 1, 1, 1, 1), r"cannot be read"),
    "larger than any memory": (edit_header(40, "<8h", 3, 32000, 32000, 32000, 1, 1, 1, 1), r"its header promises"),
    "2D image": (replace_by(sitk.GetImageFromArray(IMAGE[0])), r"fewer axes than the 3D configuration"),
    "single voxel": (replace_by(IMAGE[:1, :1, :1]), r"fewer axes than the 3D configuration"),
    "several volumes": (four_dimensional, r"2 channels, dataset.json names 1"),
    "colour image": (
        replace_by(sitk.GetImageFromArray(np.stack([IMAGE] * 3, -1), isVector=True)),
        r"has 3 values a voxel, as colours",  # colours are read as a fourth axis
    ),
    "same value everywhere": (replace_by(np.full_like(IMAGE, 5)), r"same value in all voxels.*remove it"),
    "mask in place of the image": (replace_by(MASK), r"nothing but label values or very few others"),
    "mask of 0 and 255": (replace_by(255 * MASK), r"label values or very few others"),
    "spacing of nothing": (with_spacing(1e-6, 1, 1), r"correct the spacing in its header"),
    "spacing in micrometres": (with_spacing(1000, 1000, 1000), r"\(24000, 24000, 24000\) voxels .*correct the spacing"),
}


@pytest.mark.parametrize("fault", BAD_SCANS)
def test_a_bad_scan_is_named_and_the_others_are_kept(dataset, in_process, fault):
    make, message = BAD_SCANS[fault]
    file = dataset.raw / "imagesUn" / f"{BAD}_0000.nii.gz"
    make(file)
    with pytest.raises(UserError, match=rf"1 of 3 unlabelled cases[\s\S]*\n{BAD}: ") as caught:
        preprocess(dataset)
    assert str(file) in str(caught.value) and re.search(message, str(caught.value))
    assert_only_whole_cases(dataset, OTHERS)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_voxels_that_are_not_finite_are_refused(dataset, in_process, value):
    with_voxel(value)(dataset.raw / "imagesUn" / f"{BAD}_0000.nii.gz")
    with pytest.raises(UserError, match=rf"{BAD}: .*{BAD}_0000.nii.gz has voxels that are NaN or infinite; replace"):
        preprocess(dataset, image_reader_writer="NibabelIO")  # SimpleITK reads 0 in their place
    assert_only_whole_cases(dataset, OTHERS)


@pytest.mark.parametrize(
    ("second", "message"),
    [
        (replace_by(IMAGE[:20]), r"_0001.nii.gz has shape \(24, 24, 20\).*resample the file to the grid"),
        (with_spacing(1, 1, 2), r"_0001.nii.gz has spacing \(2.0, 1.0, 1.0\).*resample the file to the grid"),
        (four_dimensional, r"has 3 channels, dataset.json names 2"),
    ],
    ids=["size", "spacing", "channels"],
)
def test_channels_that_do_not_fit_together_are_refused(dataset, in_process, second, message):
    for case in UNLABELED:
        write_image(IMAGE, dataset.raw / "imagesUn" / f"{case}_0001.nii.gz")
    second(dataset.raw / "imagesUn" / f"{BAD}_0001.nii.gz")
    with pytest.raises(UserError, match=rf"{BAD}: .*{message}"):
        preprocess(dataset, num_channels=2)
    assert_only_whole_cases(dataset, OTHERS)


def test_masks_are_accepted_as_images_where_the_labelled_images_look_like_them(dataset, in_process):
    replace_by(MASK)(dataset.raw / "imagesUn" / f"{BAD}_0000.nii.gz")
    for file in (dataset.raw / "imagesTr").iterdir():
        replace_by(MASK)(file)
    assert preprocess(dataset) == UNLABELED


# ------------------------------------------------------------------------------------- what stands in imagesUn


def make_folder(file):
    file.unlink()
    file.mkdir()


BAD_CONTENT = {
    "dangling link": (BAD, "_0000.nii.gz", link_to("/nowhere/at/all"), r"broken links .*: scan_01_0000.nii.gz"),
    "link to itself": (BAD, "_0000.nii.gz", link_to(None), r"broken links .*: scan_01_0000.nii.gz"),
    "folder": (BAD, "_0000.nii.gz", make_folder, r"folders or broken links .*: scan_01_0000.nii.gz"),
    "no channel number": ("odd", ".nii.gz", Path.touch, r"not named CASE_0000.nii.gz: odd.nii.gz"),
    "other ending": ("odd", "_0000.nrrd", Path.touch, r"not named CASE_0000.nii.gz: odd_0000.nrrd"),
    "superfluous channel": (BAD, "_0001.nii.gz", Path.touch, rf"1 channel file\(s\).*{BAD}"),
    "first channel missing": ("odd", "_0001.nii.gz", Path.touch, r"1 channel file\(s\).*odd. Add or remove"),
}


@pytest.mark.parametrize("fault", BAD_CONTENT)
def test_wrong_content_of_images_un_is_named_before_anything_is_done(dataset, fault):
    case, ending, make, message = BAD_CONTENT[fault]
    make(dataset.raw / "imagesUn" / f"{case}{ending}")
    with pytest.raises(UserError, match=message):
        preprocess(dataset)
    assert not unlabeled_folder(dataset).exists()


@pytest.mark.parametrize("make", [Path.touch, lambda file: file.symlink_to(file)], ids=["file", "link to itself"])
def test_images_un_must_be_a_folder(dataset, make):
    shutil.rmtree(dataset.raw / "imagesUn")
    make(dataset.raw / "imagesUn")
    with pytest.raises(UserError, match=r"imagesUn is no folder"):
        preprocess(dataset)


def test_an_empty_images_un_is_refused_by_the_command(dataset, capsys):
    for file in (dataset.raw / "imagesUn").iterdir():
        file.unlink()
    assert main(["preprocess", "-d", "901"]) == 2
    assert f"no scan in {dataset.raw / 'imagesUn'}" in capsys.readouterr().err


# ----------------------------------------------------------------------------- permissions, disk, memory


def test_a_scan_without_permission_is_named(dataset, in_process, monkeypatch):
    def deny(file, real=gzip.open):  # a mode of the file would not stop root
        if BAD in str(file):
            raise PermissionError(errno.EACCES, "Permission denied", str(file))
        return real(file)

    monkeypatch.setattr(reading.gzip, "open", deny)
    with pytest.raises(UserError, match=rf"{BAD}: .*{BAD}_0000.nii.gz cannot be read .*Permission denied"):
        preprocess(dataset)
    assert_only_whole_cases(dataset, OTHERS)


def test_images_un_without_permission_is_named(dataset, monkeypatch):
    def deny(folder):
        raise PermissionError(errno.EACCES, "Permission denied", str(folder))

    monkeypatch.setattr(Path, "iterdir", deny)
    with pytest.raises(UserError, match=r"imagesUn cannot be read \(Permission denied\); see to its permissions"):
        preprocess(dataset)


def fail_for_bad_case(monkeypatch, owner, name, error, before=False):
    """Let a method that gets a path write half of its file and fail, for the case BAD."""
    real = getattr(owner, name)

    def write(*args, **kwargs):
        if any(f".{BAD}." in str(i) for i in args):
            if not before:
                real(*args, **kwargs)
            raise error
        return real(*args, **kwargs)

    monkeypatch.setattr(owner, name, write)


@pytest.mark.parametrize(
    ("owner", "name", "error"),
    [
        (DefaultPreprocessor, "run_case_save", OSError(errno.ENOSPC, "No space left on device")),
        (DefaultPreprocessor, "run_case_save", OSError(errno.EDQUOT, "Disk quota exceeded")),
        (Path, "write_text", OSError(errno.ENOSPC, "No space left on device")),
        (os, "replace", OSError(errno.ENOSPC, "No space left on device")),
    ],
    ids=["image", "quota", "record", "move"],
)
def test_a_full_disk_leaves_nothing_half_written(dataset, in_process, monkeypatch, owner, name, error):
    fail_for_bad_case(monkeypatch, owner, name, error, before=owner is os)
    with pytest.raises(UserError, match=rf"{BAD}: the disk of .*_unlabeled is full; make room there"):
        preprocess(dataset)
    assert_only_whole_cases(dataset, OTHERS)


def test_a_full_disk_that_blosc2_hides_is_recognised(dataset, in_process, monkeypatch):
    fail_for_bad_case(
        monkeypatch, DefaultPreprocessor, "run_case_save", RuntimeError("Error while creating the NDArray")
    )
    usage = shutil.disk_usage(dataset.root)._replace(free=0)
    monkeypatch.setattr(whole_files.shutil, "disk_usage", lambda folder: usage)
    with pytest.raises(UserError, match=rf"{BAD}: the disk of .* is full"):
        preprocess(dataset)
    assert_only_whole_cases(dataset, OTHERS)


def test_a_half_written_image_is_never_taken_for_whole(dataset, in_process, monkeypatch):
    def truncate(self, target, *args, real=DefaultPreprocessor.run_case_save):
        real(self, target, *args)
        if BAD in target:
            os.truncate(f"{target}.b2nd", 500)

    monkeypatch.setattr(DefaultPreprocessor, "run_case_save", truncate)
    with pytest.raises(UserError, match=rf"{BAD}: .*{BAD}.b2nd cannot be read"):
        preprocess(dataset)
    assert_only_whole_cases(dataset, OTHERS)


def test_a_repaired_dataset_continues_with_what_is_missing(dataset, in_process):
    file = dataset.raw / "imagesUn" / f"{BAD}_0000.nii.gz"
    content = file.read_bytes()
    file.write_bytes(b"")
    with pytest.raises(UserError):
        preprocess(dataset)
    times = {i: (unlabeled_folder(dataset) / f"{i}.b2nd").stat().st_mtime_ns for i in OTHERS}
    file.write_bytes(content)
    assert preprocess(dataset) == UNLABELED
    assert times == {i: (unlabeled_folder(dataset) / f"{i}.b2nd").stat().st_mtime_ns for i in OTHERS}
    assert_only_whole_cases(dataset, UNLABELED)

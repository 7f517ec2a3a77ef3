from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from nnunet_dycon.tools.convert.datasets import acdc
from nnunet_dycon.tools.convert.run import Conversion, convert
from tests.helpers.convert_fixtures import converted, numbered, read, write_h5, write_volume

LABEL = numbered() % 4
GRID = {"spacing_mm": (1.5, 1.5, 10.0)}
NAMES = ["patient001_frame01", "patient001_frame02"]


def _convert(source: Path) -> Conversion:
    return convert(acdc.plan(source), source.parent / "Dataset005_ACDC")


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A patient of the challenge, with files to ignore."""
    folder = tmp_path / "ACDC" / "training" / "patient001"
    for offset, frame in ((0, "01"), (10, "12")):
        write_volume(folder / f"patient001_frame{frame}.nii.gz", numbered() + offset, **GRID)
        write_volume(folder / f"patient001_frame{frame}_gt.nii.gz", LABEL, **GRID)
    write_volume(folder / "patient001_4d.nii.gz", numbered(), **GRID)
    (folder / "Info.cfg").write_text("ED: 1\nES: 12\n")
    return tmp_path / "ACDC"


def test_nifti(source: Path) -> None:
    report = _convert(source)
    assert report.written == NAMES and not report.failures and not report.case_notes
    for name, offset in zip(NAMES, (0, 10), strict=True):
        image, label, grid = converted(report, name)
        np.testing.assert_array_equal(image, numbered() + offset)
        np.testing.assert_array_equal(label, LABEL)
        assert grid.GetSpacing() == GRID["spacing_mm"]
    dataset_json = json.loads((report.folder / "dataset.json").read_text())
    assert list(dataset_json["labels"]) == ["background", "right ventricle", "myocardium", "left ventricle"]


def test_what_is_incomplete_or_of_the_testing_set(source: Path) -> None:
    training = source / "training"
    shutil.copytree(training / "patient001", training / "patient002")
    for path in [*(training / "patient002").iterdir()]:
        path.rename(path.with_name(path.name.replace("001", "002")))
    (training / "patient002" / "patient002_frame12_gt.nii.gz").unlink()
    write_volume(training / "patient003" / "patient003_frame01.nii.gz", numbered(), **GRID)
    write_volume(source / "testing" / "patient101" / "patient101_frame01.nii.gz", numbered(), **GRID)
    turned = training / "patient001" / "patient001_frame12_gt.nii.gz"
    write_volume(turned, LABEL, direction=(-1, 0, 0, 0, -1, 0, 0, 0, 1), **GRID)
    report = _convert(source)
    assert report.written == ["patient001_frame01", "patient002_frame01"]
    assert "axes in other directions" in report.failures["patient001_frame02"]
    assert "gt is missing" in report.failures["patient002_frame02"]
    for frame in ("01", "02"):
        assert "two frames of a patient are expected, found frame 1:" in report.failures[f"patient003_frame{frame}"]
    assert list(report.plan.skipped) == ["patient101"]


def test_h5_volumes_and_slices(tmp_path: Path) -> None:
    source = tmp_path / "ACDC"
    image = numbered(dtype="float32") / 120
    write_h5(source / "data" / f"{NAMES[0]}.h5", image=image, label=LABEL)
    for name in NAMES:
        for k, (plane, mask) in enumerate(zip(image, LABEL, strict=True)):
            write_h5(source / "data" / "slices" / f"{name}_slice_{k}.h5", image=plane, label=mask, scribble=mask)
    report = _convert(source)
    assert report.written == NAMES
    for name in NAMES:
        array, label, grid = converted(report, name)
        np.testing.assert_array_equal(array, image)
        np.testing.assert_array_equal(label, LABEL)
        assert grid.GetSpacing() == (1.5, 1.5, 10.0)
    assert "the h5 files hold no geometry: spacing 1.5 x 1.5 x 10 mm" in report.summary()


def test_a_gap_in_the_slices_is_refused(tmp_path: Path) -> None:
    source = tmp_path / "slices"
    for name, numbers in zip(NAMES, ((1, 2, 10), (1, 2, 3)), strict=True):
        for k in numbers:
            write_h5(source / f"{name}_slice_{k}.h5", image=numbered()[0], label=LABEL[0])
    report = _convert(source)
    assert report.written == NAMES[1:]
    assert "numbered without gaps" in report.failures[NAMES[0]] and "1, 2, 10" in report.failures[NAMES[0]]


@pytest.mark.shared_data
def test_real_volumes(tmp_path: Path, shared_data: Path) -> None:
    """The volumes of a patient, given the names of the challenge."""
    folder = tmp_path / "ACDC" / "training" / "patient002"
    folder.mkdir(parents=True)
    originals = shared_data / "acdc"
    for frame, number in (("01", "01"), ("02", "12")):
        shutil.copy(
            originals / "images" / f"patient002_frame{frame}.nii.gz", folder / f"patient002_frame{number}.nii.gz"
        )
        shutil.copy(
            originals / "labels" / f"patient002_frame{frame}.nii.gz", folder / f"patient002_frame{number}_gt.nii.gz"
        )
    report = _convert(tmp_path / "ACDC")
    assert report.written == ["patient002_frame01", "patient002_frame02"] and not report.case_notes
    for name in report.written:
        image, label, grid = converted(report, name)
        np.testing.assert_array_equal(image, read(originals / "images" / f"{name}.nii.gz")[0])
        np.testing.assert_array_equal(label, read(originals / "labels" / f"{name}.nii.gz")[0])
        assert grid.GetSpacing() == pytest.approx((3, 3, 10))

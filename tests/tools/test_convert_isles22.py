from __future__ import annotations

import json
from pathlib import Path

import nibabel
import numpy as np
import pytest

from nnunet_dycon.errors import UserError
from nnunet_dycon.tools.convert.datasets import isles22
from nnunet_dycon.tools.convert.run import Conversion, convert
from tests.helpers.convert_fixtures import ISLES_GRID, converted, corner_label, isles_case, numbered, read, write_volume

NAME = "sub-strokecase0009"


def _convert(source: Path, **options: object) -> Conversion:
    return convert(isles22.plan(source, **options), source.parent / "Dataset004_ISLES22")  # type: ignore[arg-type]


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return tmp_path / "download"


@pytest.mark.parametrize("layout", ["A", "B"])
def test_both_layouts(source: Path, layout: str) -> None:
    isles_case(source, 9, layout)
    report = _convert(source)
    assert report.written == [NAME] and not report.failures
    assert json.loads((report.folder / "dataset.json").read_text())["channel_names"] == {"0": "DWI"}
    report = convert(isles22.plan(source, channels=("flair", "adc", "dwi")), source.parent / "Dataset005_ISLES22")
    image, label, grid = converted(report, NAME)
    np.testing.assert_array_equal(image, numbered())
    assert image.dtype == np.float32  # double as distributed
    np.testing.assert_array_equal(label, corner_label())
    np.testing.assert_allclose(grid.GetSpacing(), ISLES_GRID["spacing_mm"])
    np.testing.assert_allclose(grid.GetOrigin(), ISLES_GRID["origin_mm"], rtol=1e-6)
    np.testing.assert_array_equal(converted(report, NAME, 1)[0], numbered() * 2)
    flair, _, flair_grid = converted(report, NAME, 2)
    assert flair.shape == image.shape and flair_grid.GetSpacing() == grid.GetSpacing()
    assert set(np.unique(flair)) <= {0, 7} and (flair == 7).mean() > 0.5  # constant 7, and 0 outside of it
    assert "FLAIR is resampled" in report.summary()


def test_a_flair_that_lies_elsewhere_is_refused(source: Path) -> None:
    isles_case(source, 9, "A")
    path = _file(source / "ISLES-2022", 9, "FLAIR")
    write_volume(path, np.full((3, 10, 12), 7.0), (1, 1, 5), (-119.2, 78.6, -57.7), (-1, 0, 0, 0, -1, 0, 0, 0, 1))
    report = _convert(source, channels=("dwi", "flair"))
    assert "by its header flair covers 3% of dwi" in report.failures[NAME]
    plan = isles22.plan(source, channels=("dwi", "flair")).accepting([NAME])
    report = convert(plan, source.parent / "Dataset004_ISLES22")
    assert "covers 3% of dwi (--accept)" in report.case_notes[NAME][0]


def test_empty_masks_are_kept_and_named(source: Path) -> None:
    isles_case(source, 150, "A", np.zeros((4, 5, 6), dtype=np.uint16))
    report = _convert(source)
    assert report.written == ["sub-strokecase0150"]
    assert "note: the mask is empty: sub-strokecase0150" in report.summary()


def test_bad_cases_fail_alone(source: Path) -> None:
    for number in range(1, 6):
        isles_case(source, number, "B")
    folder, masks = source / "rawdata", source / "derivatives"
    _file(masks, 1, "msk").unlink()
    write_volume(_file(masks, 2, "msk"), corner_label() * 0.5, **ISLES_GRID)
    write_volume(_file(masks, 3, "msk"), corner_label((4, 5, 7)), **ISLES_GRID)
    write_volume(_file(masks, 4, "msk"), corner_label(), (2, 2, 2.5), (-118.7, 85.1, -57.7))
    _file(folder, 5, "adc").unlink()
    report = _convert(source, channels=("dwi", "adc"))
    failures = {int(name[-4:]): reason for name, reason in report.failures.items()}
    assert sorted(failures) == [1, 2, 3, 4, 5] and not report.written
    assert "msk is missing" in failures[1]
    assert "no labels (0.5, ...; expected 0, 1)" in failures[2]
    assert "msk has (7, 5, 4) voxels (x, y, z) and dwi (6, 5, 4)" in failures[3]
    assert "headers of dwi and msk lie 3.0 voxels apart" in failures[4]
    assert "adc is missing" in failures[5]
    assert "sub-strokecase0005" in [case.name for case in isles22.plan(source).cases]  # DWI alone


def test_a_slightly_different_header_is_mentioned(source: Path) -> None:
    isles_case(source, 9, "A")
    spacing_mm = ISLES_GRID["spacing_mm"]
    root = source / "ISLES-2022"
    write_volume(_file(root / "derivatives", 9, "msk"), corner_label(), spacing_mm, (-118.7, 79.4, -57.7))
    write_volume(_file(root, 9, "adc"), numbered(), spacing_mm, (-118.7, 79.1, -57.4))
    report = _convert(source, channels=("dwi", "adc"))
    assert report.case_notes[NAME] == [
        f"headers of dwi and {other} differ by less than a voxel; that of dwi is kept" for other in ("msk", "adc")
    ]
    for channel in range(2):  # one grid, that of DWI
        _, _, grid = converted(report, NAME, channel)
        np.testing.assert_allclose(grid.GetOrigin(), ISLES_GRID["origin_mm"], rtol=1e-6)


def test_a_sheared_header_is_repaired(source: Path) -> None:
    """ITK alone refuses an affine whose columns are not quite perpendicular, where only the sform is set."""
    isles_case(source, 9, "A")
    mask = _file(source / "ISLES-2022" / "derivatives", 9, "msk")
    affine = np.diag([-2, -2, 2.5, 1])
    affine[:3, 3] = 118.7, -79.1, -57.7
    affine[0, 1] = 0.01
    label = nibabel.Nifti1Image(corner_label().transpose(2, 1, 0), affine)
    label.set_sform(affine, 2)
    label.set_qform(None, 0)
    nibabel.save(label, mask)
    with pytest.raises(RuntimeError, match="orthonormal"):
        read(mask)
    report = _convert(source)
    assert report.case_notes[NAME][0] == "the header of msk is sheared; the nearest rotation is used"
    np.testing.assert_array_equal(converted(report, NAME)[1], corner_label())


def test_dwi_is_needed(source: Path) -> None:
    isles_case(source, 9, "A")
    with pytest.raises(UserError, match="--channels adc: the masks lie on the grid of dwi; choose it as well"):
        isles22.plan(source, channels=("adc",))


@pytest.mark.shared_data
def test_real_case(tmp_path: Path, shared_data: Path) -> None:
    source = shared_data / "isles22_case"
    report = convert(isles22.plan(source, channels=("dwi", "adc")), tmp_path / "Dataset004_ISLES22")
    assert report.written == [NAME] and not report.failures and not report.case_notes
    session = source / "rawdata" / NAME / "ses-0001"
    for channel, kind in enumerate(("dwi", "adc")):
        original, original_grid = read(session / f"{NAME}_ses-0001_{kind}.nii.gz")
        image, label, grid = converted(report, NAME, channel)
        np.testing.assert_array_equal(image, original.astype(np.float32))
        np.testing.assert_allclose(grid.GetOrigin(), original_grid.GetOrigin(), rtol=1e-5)
        np.testing.assert_allclose(grid.GetDirection(), original_grid.GetDirection(), atol=1e-5)
        np.testing.assert_allclose(grid.GetSpacing(), original_grid.GetSpacing(), rtol=1e-6)
    assert label.sum() == 523


def _file(folder: Path, number: int, kind: str) -> Path:
    return next(folder.rglob(f"sub-strokecase{number:04d}_ses-0001_{kind}.nii.gz"))

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import ndimage

from nnunet_dycon.errors import UserError
from nnunet_dycon.tools.convert.datasets import la
from nnunet_dycon.tools.convert.run import convert
from tests.helpers.convert_fixtures import (
    LA_IDS,
    converted,
    corner_label,
    la_h5,
    la_nrrd,
    numbered,
    read,
    truncate,
    write_h5,
    write_volume,
)

NAMES = [f"LA_{case_id}" for case_id in LA_IDS]


def test_nrrd(tmp_path: Path) -> None:
    la_nrrd(tmp_path, LA_IDS[0])
    report = convert(la.plan(tmp_path), tmp_path / "Dataset001_LA")
    assert report.written == [NAMES[0]] and not report.failures and not report.plan.skipped
    image, label, grid = converted(report, NAMES[0])
    np.testing.assert_array_equal(image, numbered())
    np.testing.assert_array_equal(label, corner_label())  # 255 became 1
    assert grid.GetSpacing() == (0.625, 0.625, 0.625)  # the header said 1, 1, 1
    assert report.case_notes == {
        NAMES[0]: ["the header says 1 x 1 x 1 mm; 0.625 x 0.625 x 0.625 mm (--spacing) is used"]
    }


def test_nrrd_header_is_kept_where_it_says_something_else_the_option_counts(tmp_path: Path) -> None:
    la_nrrd(tmp_path, LA_IDS[0], spacing_mm=(0.5, 0.5, 2.0))
    la_nrrd(tmp_path, LA_IDS[1])
    report = convert(la.plan(tmp_path), tmp_path / "Dataset001_LA")
    assert converted(report, NAMES[0])[2].GetSpacing() == (0.5, 0.5, 2.0)
    assert NAMES[0] not in report.case_notes
    report = convert(la.plan(tmp_path, spacing_mm=(0.5, 0.75, 1.25)), tmp_path / "Dataset001_LA")
    assert converted(report, NAMES[0])[2].GetSpacing() == (0.5, 0.5, 2.0)
    assert "--spacing has no effect" in report.case_notes[NAMES[0]][0]
    assert converted(report, NAMES[1])[2].GetSpacing() == (0.5, 0.75, 1.25)


def test_h5_axes_are_xyz(tmp_path: Path) -> None:
    la_h5(tmp_path, LA_IDS[0])
    plan = la.plan(tmp_path)
    report = convert(plan, tmp_path / "Dataset001_LA")
    image, label, grid = converted(report, NAMES[0])
    np.testing.assert_allclose(image, numbered(dtype="float32") / 10 - 3)
    np.testing.assert_array_equal(label, corner_label())
    assert grid.GetSpacing() == (0.625, 0.625, 0.625) and grid.GetOrigin() == (0, 0, 0)
    assert report.plan.notes[0].startswith("the h5 files hold no geometry: spacing 0.625 x 0.625 x 0.625 mm")


HALF_TURN = (-1, 0, 0, 0, -1, 0, 0, 0, 1)


@pytest.mark.parametrize(
    ("header", "reason"),
    [
        ({"direction": HALF_TURN}, "axes in other directions"),
        ({"direction": (0, 1, 0, 1, 0, 0, 0, 0, 1)}, "axes in other directions"),
        ({"spacing_mm": (1.25, 1.25, 1.25)}, "voxels of 0.625 x 0.625 x 0.625 mm and 1.25 x 1.25 x 1.25 mm"),
        ({"origin_mm": (0, 0, 30)}, "another origin"),
        # the same place in space, but every voxel mirrored
        ({"direction": HALF_TURN, "origin_mm": (3.125, 2.5, 0)}, "axes in other directions"),
    ],
)
def test_a_label_header_that_disagrees_is_refused(tmp_path: Path, header: dict[str, Any], reason: str) -> None:
    folder = la_nrrd(tmp_path, LA_IDS[0], spacing_mm=(0.625,) * 3)
    write_volume(folder / "laendo.nrrd", corner_label(value=255), **{"spacing_mm": (0.625,) * 3, **header})
    plan, target = la.plan(tmp_path), tmp_path / "Dataset001_LA"
    failure = convert(plan, target).failures[NAMES[0]]
    assert reason in failure and "pass --accept" in failure
    report = convert(plan.accepting(["all"]), target)
    assert "laid on lgemri voxel by voxel (--accept)" in report.case_notes[NAMES[0]][0]
    np.testing.assert_array_equal(converted(report, NAMES[0])[1], corner_label())


@pytest.mark.parametrize("without", ["lgemri", "laendo"])
def test_a_header_without_spacing_does_not_disagree(tmp_path: Path, without: str) -> None:
    folder = la_nrrd(tmp_path, LA_IDS[0], spacing_mm=(0.625,) * 3)
    array = numbered() if without == "lgemri" else corner_label(value=255)
    write_volume(folder / f"{without}.nrrd", array)
    report = convert(la.plan(tmp_path), tmp_path / "Dataset001_LA")
    assert converted(report, NAMES[0])[2].GetSpacing() == (0.625,) * 3 and not report.failures


def test_a_case_without_one_file_fails_alone(tmp_path: Path) -> None:
    la_nrrd(tmp_path, LA_IDS[0])
    for case_id, missing in zip(LA_IDS[1:], ("laendo", "lgemri"), strict=True):
        (la_nrrd(tmp_path, case_id) / f"{missing}.nrrd").unlink()
    report = convert(la.plan(tmp_path), tmp_path / "Dataset001_LA")
    assert report.written == [NAMES[0]]
    for name, missing in zip(NAMES[1:], ("laendo", "lgemri"), strict=True):
        assert f"{missing} is missing" in report.failures[name]
        assert "unpack the download again" in report.failures[name] and name in report.summary()


def test_bad_cases_fail_alone_and_leave_nothing(tmp_path: Path) -> None:
    la_nrrd(tmp_path, LA_IDS[0], label_value=128)
    write_volume(la_nrrd(tmp_path, LA_IDS[1]) / "laendo.nrrd", corner_label((4, 5, 7), 255))
    truncate(la_nrrd(tmp_path, LA_IDS[2]) / "lgemri.nrrd")
    la_nrrd(tmp_path, "23X6SY44VT9KFHR7S7OC")
    report = convert(la.plan(tmp_path), tmp_path / "Dataset001_LA")
    assert report.written == ["LA_23X6SY44VT9KFHR7S7OC"]
    assert "no labels (128, ...; expected 0, 1, 255)" in report.failures[NAMES[0]]
    assert "laendo has (7, 5, 4) voxels (x, y, z) and lgemri (6, 5, 4)" in report.failures[NAMES[1]]
    assert "lgemri.nrrd cannot be read" in report.failures[NAMES[2]]
    written = sorted(path.name for path in report.folder.rglob("*.nii.gz"))
    assert written == ["LA_23X6SY44VT9KFHR7S7OC.nii.gz", "LA_23X6SY44VT9KFHR7S7OC_0000.nii.gz"]


def test_bad_h5_files(tmp_path: Path) -> None:
    truncate(la_h5(tmp_path, LA_IDS[0]))
    write_h5(la_h5(tmp_path, LA_IDS[1]), image=numbered(dtype="float32"))
    image = numbered(dtype="float32")
    image[0, 0, 0] = np.nan
    write_h5(la_h5(tmp_path, LA_IDS[2]), image=image, label=corner_label())
    write_h5(la_h5(tmp_path, "23X6SY44VT9KFHR7S7OC"), image=image[1:], label=corner_label())
    failures = convert(la.plan(tmp_path), tmp_path / "Dataset001_LA").failures
    assert "cannot be read" in failures[NAMES[0]]
    assert "'label' doesn't exist" in failures[NAMES[1]]
    assert "NaN" in failures[NAMES[2]]
    assert "image (3, 5, 6) and label (4, 5, 6)" in failures["LA_23X6SY44VT9KFHR7S7OC"]


def test_the_testing_set_and_other_folders_are_skipped(tmp_path: Path) -> None:
    la_nrrd(tmp_path, LA_IDS[0])
    (tmp_path / "Testing Set").mkdir()
    la_nrrd(tmp_path, LA_IDS[1]).rename(tmp_path / "Testing Set" / LA_IDS[1])
    la_nrrd(tmp_path, "example")
    report = convert(la.plan(tmp_path), tmp_path / "Dataset001_LA")
    assert report.written == [NAMES[0]]
    assert "testing set" in report.plan.skipped[NAMES[1]]
    assert any(key.endswith("example") for key in report.plan.skipped)


def test_one_id_twice(tmp_path: Path) -> None:
    la_nrrd(tmp_path / "first", LA_IDS[0])
    la_nrrd(tmp_path / "second", LA_IDS[0])
    plan = la.plan(tmp_path)
    assert not plan.cases and "is there 2 times" in plan.failures[NAMES[0]]


def test_two_distributions_are_not_mixed(tmp_path: Path) -> None:
    la_nrrd(tmp_path, LA_IDS[0])
    la_h5(tmp_path, LA_IDS[0])
    with pytest.raises(UserError, match=r"NRRD and mri_norm2\.h5 files; .*give the folder of one"):
        la.plan(tmp_path)


def test_wrong_folder(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"does not exist; give the folder of the download"):
        la.plan(tmp_path / "absent")
    (tmp_path / "LA.zip").write_bytes(b"")
    with pytest.raises(UserError, match=r"holds no LA data: expected <ID>/lgemri\.nrrd .* unpack LA\.zip first"):
        la.plan(tmp_path)
    with pytest.raises(UserError, match=r"is a file; unpack it"):
        la.plan(tmp_path / "LA.zip")


@pytest.mark.shared_data
def test_a_real_case_matches_its_half_resolution_copy(tmp_path: Path, shared_data: Path) -> None:
    """The copy: smoothed with sigma 0.7 voxels, halved (linear, cell-centred), brought to uint8 by a linear map."""
    source = shared_data / "la_h5" / "2018LA_Seg_Training Set" / LA_IDS[0]
    report = convert(la.plan(source), tmp_path / "Dataset001_LA")
    image, label, grid = converted(report, NAMES[0])
    copy, copy_grid = read(shared_data / "la" / "images" / f"{NAMES[0]}.nii.gz")
    copy_label, _ = read(shared_data / "la" / "labels" / f"{NAMES[0]}.nii.gz")
    size_mm = np.array(grid.GetSize()) * grid.GetSpacing()
    np.testing.assert_allclose(size_mm, np.array(copy_grid.GetSize()) * copy_grid.GetSpacing(), rtol=1e-5)

    halved = _halve(image, copy.shape)
    slope, offset = np.polyfit(halved.ravel(), copy.ravel().astype(float), 1)
    assert np.abs(slope * halved + offset - copy).max() <= 1.05  # measured 1.00; rounding alone is 0.5
    halved_label = _halve(label.astype(float), copy.shape) > 0.5
    dice = 2 * np.sum(halved_label & (copy_label > 0)) / (halved_label.sum() + (copy_label > 0).sum())
    assert dice > 0.99  # measured 0.992; mirrored along any axis 0.68 at most


def _halve(array: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    factors = [new / old for new, old in zip(shape, array.shape, strict=True)]
    smooth = ndimage.gaussian_filter(array, 0.7)
    return ndimage.zoom(smooth, factors, order=1, mode="nearest", grid_mode=True)

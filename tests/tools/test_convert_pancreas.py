from __future__ import annotations

from pathlib import Path

import numpy as np
import pydicom
import pytest
import SimpleITK as sitk

from nnunet_dycon.errors import UserError
from nnunet_dycon.tools.convert.datasets import pancreas
from nnunet_dycon.tools.convert.dicom import check_pairing, contrasts_hu, read_series
from nnunet_dycon.tools.convert.run import Conversion, convert
from tests.helpers.convert_fixtures import (
    abdomen,
    converted,
    corner_label,
    dicom_series,
    numbered,
    pancreas_case,
    pancreas_label,
    truncate,
    write_h5,
    write_volume,
)


def _convert(source: Path, **options: object) -> Conversion:
    return convert(pancreas.plan(source, **options), source.parent / "Dataset002_Pancreas")  # type: ignore[arg-type]


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return tmp_path / "download"


def test_dicom(source: Path) -> None:
    """Shuffled file names, InstanceNumber against position, intercept -1024, a label header that disagrees."""
    pancreas_case(source, 1)
    report = _convert(source)
    assert report.written == ["pancreas_0001"] and not report.failures
    assert "headers of the label files are not read" in report.summary()
    image, label, grid = converted(report, "pancreas_0001")
    hounsfield_units, mask = abdomen()
    np.testing.assert_array_equal(image, hounsfield_units)
    assert image.dtype == np.int16
    np.testing.assert_array_equal(label, mask)
    np.testing.assert_allclose(grid.GetSpacing(), (0.7, 0.8, 1.0), rtol=1e-6)  # columns, rows, slices
    np.testing.assert_allclose(grid.GetOrigin(), (-150, -140, 300), rtol=1e-6)
    # plane 15 is 15 mm below plane 0
    np.testing.assert_allclose(grid.TransformIndexToPhysicalPoint((0, 0, 15)), (-150, -140, 285), rtol=1e-6)


def test_fractional_hounsfield_units_are_kept(tmp_path: Path) -> None:
    dicom_series(tmp_path, abdomen()[0])
    for k in range(16):
        _edit(tmp_path, k + 1, RescaleSlope=0.5)
    image, _ = read_series(tmp_path)
    values = (abdomen()[0].astype(float) + 1024) / 2 - 1024
    np.testing.assert_array_equal(sitk.GetArrayFromImage(image), values)


def test_dicom_in_the_order_of_position(tmp_path: Path) -> None:
    dicom_series(tmp_path, abdomen()[0], first_position_mm=-50, step_mm=0.5)
    image, notes = read_series(tmp_path)
    np.testing.assert_allclose(image.TransformIndexToPhysicalPoint((0, 0, 4)), (-150, -140, -48), rtol=1e-6)
    assert not notes


def test_withdrawn_cases_are_skipped(source: Path) -> None:
    pancreas_case(source, 1)
    pancreas_label(source, 25, abdomen()[1])
    pancreas_case(source, 70)
    report = _convert(source)
    assert report.written == ["pancreas_0001"] and not report.failures
    assert sorted(report.plan.skipped) == ["pancreas_0025", "pancreas_0070"]
    assert "withdrawn by TCIA" in report.summary()
    assert not {*pancreas.WITHDRAWN} & {*report.missing}
    kept = pancreas.plan(source, keep_withdrawn=True)
    assert [case.name for case in kept.cases] == ["pancreas_0001", "pancreas_0070"]
    assert "series is missing" in kept.failures["pancreas_0025"]


def test_incomplete_cases_fail_alone(source: Path) -> None:
    pancreas_case(source, 1)
    pancreas_case(source, 2)[1].unlink()
    pancreas_label(source, 3, abdomen()[1])
    dicom_series(source / "PANCREAS_0004" / "a", abdomen()[0])
    dicom_series(source / "PANCREAS_0004" / "b", abdomen()[0])
    pancreas_label(source, 4, abdomen()[1])
    plan = pancreas.plan(source)
    assert [case.name for case in plan.cases] == ["pancreas_0001"]
    assert "label is missing" in plan.failures["pancreas_0002"] and "--labels" in plan.failures["pancreas_0002"]
    assert "series is missing" in plan.failures["pancreas_0003"]
    assert "series is there 2 times" in plan.failures["pancreas_0004"]


def test_shadow_files_of_a_mac_archive_are_ignored(source: Path) -> None:
    series, _ = pancreas_case(source, 1)
    shadow = source / "__MACOSX" / series.relative_to(source)
    for folder in (shadow, series):
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "._1-001.dcm").write_bytes(b"Mac OS X")
    assert _convert(source).written == ["pancreas_0001"]


def test_labels_in_a_linked_folder(source: Path, tmp_path: Path) -> None:
    _, label = pancreas_case(source, 1)
    label.parent.rename(tmp_path / "elsewhere")
    (source / "labels").symlink_to(tmp_path / "elsewhere")
    assert _convert(source).written == ["pancreas_0001"]


def test_labels_in_another_folder(source: Path, tmp_path: Path) -> None:
    _, label = pancreas_case(source, 1)
    label.rename(tmp_path / label.name)
    report = _convert(source, labels=tmp_path)
    assert report.written == ["pancreas_0001"]
    with pytest.raises(UserError, match=r"--labels .*none does not exist"):
        pancreas.plan(source, labels=tmp_path / "none")


def test_bad_series(source: Path) -> None:
    first, _ = pancreas_case(source, 1)
    sorted(first.iterdir())[3].unlink()
    second, _ = pancreas_case(source, 2)
    _edit(second, 4, InstanceNumber=9)
    third, _ = pancreas_case(source, 3)
    truncate(_slice(third, 7))
    fourth, _ = pancreas_case(source, 4)
    _slice(fourth, 7).write_bytes(b"<html>not found</html>")
    fifth, _ = pancreas_case(source, 5)
    _edit(fifth, 2, RescaleIntercept=None)
    sixth, _ = pancreas_case(source, 6)
    _edit(sixth, 2, SeriesInstanceUID="1.2.3")
    seventh, _ = pancreas_case(source, 7)
    _edit(seventh, 6, ImagePositionPatient=[-150, -140, 310])
    write_volume(pancreas_case(source, 8)[1], abdomen()[1][:-1])
    report = _convert(source)
    assert not report.written and len(report.failures) == 8
    reasons = [report.failures[f"pancreas_{number:04d}"] for number in range(1, 9)]
    expected = [
        "15 slices, InstanceNumber 1 to 16",
        "16 slices, InstanceNumber 1 to 16, where 1 to 16 are expected, once each",
        "cannot be read",
        "cannot be read",
        "has no RescaleIntercept",
        "several series",
        "InstanceNumber does not follow the position",
        "the label has (40, 32, 15) voxels (x, y, z) and the image (40, 32, 16)",
    ]
    for reason, text in zip(reasons, expected, strict=True):
        assert text in reason


def test_uneven_slices_are_mentioned(source: Path) -> None:
    series, _ = pancreas_case(source, 1)
    _edit(series, 3, ImagePositionPatient=[-150, -140, 300 - 2.3])
    report = _convert(source)
    assert report.case_notes == {"pancreas_0001": ["slices are unevenly spaced; their mean distance is used"]}


def test_a_tilted_gantry_is_refused(tmp_path: Path) -> None:
    dicom_series(tmp_path, abdomen()[0])
    for k in range(16):
        _edit(tmp_path, k + 1, ImagePositionPatient=[-150, -140 + 0.3 * k, 300 - k])
    with pytest.raises(UserError, match="sheared"):
        read_series(tmp_path)


def test_a_flipped_mask_is_refused(source: Path) -> None:
    pancreas_case(source, 1, np.flip(abdomen()[1], 0))
    pancreas_case(source, 2)
    report = _convert(source)
    assert report.written == ["pancreas_0002"]
    assert "label and scan do not belong together" in report.failures["pancreas_0001"]
    for axes in (0, 1, 2, (0, 1), (0, 2), (1, 2), (0, 1, 2)):
        flipped = "".join("zyx"[axis] for axis in reversed(np.atleast_1d(axes)))
        with pytest.raises(UserError, match=f"flipped along {flipped} by"):
            check_pairing(abdomen()[0], np.flip(abdomen()[1], axes))


def test_a_mask_on_no_soft_tissue_is_refused() -> None:
    hounsfield_units, mask = abdomen()
    check_pairing(hounsfield_units, mask)
    with pytest.raises(UserError, match="mean value under the mask is -100 HU, where soft tissue has 0 to 200"):
        check_pairing(np.full_like(hounsfield_units, -100), mask)
    with pytest.raises(UserError, match=r"mean value under the mask is -1000 HU"):
        check_pairing(hounsfield_units, corner_label(mask.shape))
    with pytest.raises(UserError, match="the mask is empty"):
        check_pairing(hounsfield_units, np.zeros_like(mask))


def test_contrast_by_hand() -> None:
    """One voxel of 100 HU in air, which counts as -150 HU."""
    hounsfield_units = np.full((9, 9, 9), -1000)
    hounsfield_units[4, 4, 4] = 100
    mask = hounsfield_units == 100
    contrasts = contrasts_hu(hounsfield_units, mask)
    assert len(contrasts) == 8 and set(contrasts.values()) == {250}  # in the centre: the same however it is flipped


def test_accept_overrules_the_guard(source: Path) -> None:
    pancreas_case(source, 1, np.flip(abdomen()[1], 0))
    report = convert(pancreas.plan(source).accepting(["pancreas_0001"]), source.parent / "Dataset002_Pancreas")
    assert report.written == ["pancreas_0001"]
    assert report.case_notes["pancreas_0001"] == ["not checked against its label (--accept)"]
    with pytest.raises(UserError, match="--accept pancreas_0007"):
        pancreas.plan(source).accepting(["pancreas_0007"])


@pytest.mark.parametrize(
    ("name", "channel"), [("image{}_norm.h5", "CT window z-scored"), ("{}.h5", "CT window 0 to 1")]
)
def test_h5(source: Path, name: str, channel: str) -> None:
    for number in ("0002", "0025"):
        image = numbered(dtype="float64").transpose(2, 1, 0) / 120
        write_h5(source / "Pancreas_h5" / name.format(number), image=image, label=corner_label().transpose(2, 1, 0))
    report = _convert(source)
    assert report.written == ["pancreas_0002"] and list(report.plan.skipped) == ["pancreas_0025"]
    assert "pancreas_0070" not in report.missing
    image, label, grid = converted(report, "pancreas_0002")
    np.testing.assert_allclose(image, numbered() / 120, rtol=1e-6)
    assert image.dtype == np.float32
    np.testing.assert_array_equal(label, corner_label())
    assert grid.GetSpacing() == (1, 1, 1)
    assert pancreas.plan(source).channel_names == [channel]  # not "CT", which nnU-Net would normalise again
    assert len(pancreas.plan(source, keep_withdrawn=True).cases) == 2


def test_distributions_are_not_mixed(source: Path) -> None:
    for name in ("image0002_norm.h5", "0003.h5"):
        write_h5(source / name, image=numbered(dtype="float32"), label=corner_label())
    with pytest.raises(UserError, match=r"image00XX_norm\.h5 and 00XX\.h5 files; they are preprocessed differently"):
        pancreas.plan(source)


def test_options_that_have_no_effect_on_h5_files_are_refused(source: Path) -> None:
    write_h5(source.parent / "h5" / "0003.h5", image=numbered(dtype="float32"), label=corner_label())
    with pytest.raises(UserError, match="--labels is for the DICOM download"):
        pancreas.plan(source.parent / "h5", labels=source)
    with pytest.raises(UserError, match=r"--accept all: .* \(00XX\.h5\)"):
        pancreas.plan(source.parent / "h5").accepting(["all"])


def test_wrong_folder(source: Path) -> None:
    dicom_series(source / "patient1", abdomen()[0])
    with pytest.raises(UserError, match="in no folder called PANCREAS_00XX"):
        pancreas.plan(source)


def _slice(series: Path, number: int) -> Path:
    """The file with this InstanceNumber."""
    return next(path for path in series.iterdir() if pydicom.dcmread(path).InstanceNumber == number)


def _edit(series: Path, number: int, **tags: object) -> None:
    """Change tags of one slice; None removes the tag."""
    path = _slice(series, number)
    dataset = pydicom.dcmread(path)
    for keyword, value in tags.items():
        if value is None:
            delattr(dataset, keyword)
        else:
            setattr(dataset, keyword, value)
    dataset.save_as(path)

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from nnunet_dycon.errors import UserError
from nnunet_dycon.tools.convert.datasets import brats19
from nnunet_dycon.tools.convert.run import Conversion, convert
from tests.helpers.convert_fixtures import (
    BRATS_SEG,
    brats_case,
    converted,
    corner_label,
    numbered,
    write_h5,
    write_volume,
)

ALL = ("all",)
FIRST, SECOND = "BraTS19_2013_10_1", "BraTS19_CBICA_AAP_1"


def _convert(source: Path, **options: object) -> Conversion:
    return convert(brats19.plan(source, **options), source.parent / "Dataset003_BraTS19")  # type: ignore[arg-type]


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """HGG and LGG, ``.nii.gz`` and ``.nii``, CSV files beside them."""
    folder = tmp_path / "MICCAI_BraTS_2019_Data_Training"
    brats_case(folder / "HGG", FIRST)
    brats_case(folder / "LGG", SECOND, ".nii")
    (folder / "name_mapping.csv").write_text("Grade,BraTS_2019_subject_ID\r\n")
    return folder


def test_default_is_flair_and_whole_tumour(source: Path) -> None:
    report = _convert(source)
    assert report.written == [FIRST, SECOND] and not report.failures and not report.plan.skipped
    for name in report.written:
        image, label, grid = converted(report, name)
        np.testing.assert_array_equal(image, numbered())
        np.testing.assert_array_equal(label, numbered() % 4 > 0)  # 0, 1, 2, 4 in turn
        assert grid.GetOrigin() == (0, -239, 0)
    assert len(list((report.folder / "imagesTr").iterdir())) == 2
    dataset_json = json.loads((report.folder / "dataset.json").read_text())
    assert dataset_json["channel_names"] == {"0": "FLAIR"}
    assert dataset_json["labels"] == {"background": 0, "whole tumor": 1}


def test_all_modalities_with_regions(source: Path) -> None:
    report = _convert(source, channels=ALL, regions=True)
    for channel in range(4):
        image, label, _ = converted(report, SECOND, channel)
        np.testing.assert_array_equal(image, numbered(dtype="int16") + 1000 * channel)
    # necrosis 1 -> 2, oedema 2 -> 1, enhancing 4 -> 3
    np.testing.assert_array_equal(label, np.array([0, 2, 1, 3])[numbered() % 4])
    dataset_json = json.loads((report.folder / "dataset.json").read_text())
    assert dataset_json["channel_names"] == {"0": "FLAIR", "1": "T1", "2": "T1ce", "3": "T2"}
    regions = dataset_json["labels"]
    assert regions == {"background": 0, "whole tumor": [1, 2, 3], "tumor core": [2, 3], "enhancing tumor": 3}
    assert dataset_json["regions_class_order"] == [1, 2, 3]


def test_modalities_keep_one_order(source: Path) -> None:
    assert brats19.plan(source, channels=("t2", "flair")).channel_names == ["FLAIR", "T2"]
    with pytest.raises(UserError, match="--channels flair,t3: choose from flair, t1, t1ce, t2, or all"):
        brats19.plan(source, channels=("flair", "t3"))


def test_flat_folder(tmp_path: Path) -> None:
    for path in list(brats_case(tmp_path / "HGG", FIRST).iterdir()):
        path.rename(tmp_path / path.name)
    assert [case.name for case in brats19.plan(tmp_path).cases] == [FIRST]


def test_bad_cases_fail_alone(source: Path) -> None:
    brats_case(source / "HGG", "BraTS19_2013_11_1", seg=np.where(numbered() == 5, 3, BRATS_SEG[numbered() % 4]))
    (brats_case(source / "HGG", "BraTS19_2013_12_1") / "BraTS19_2013_12_1_seg.nii.gz").unlink()
    (brats_case(source / "HGG", "BraTS19_2013_13_1") / "BraTS19_2013_13_1_t1ce.nii.gz").unlink()
    shifted = brats_case(source / "HGG", "BraTS19_2013_14_1") / "BraTS19_2013_14_1_t2.nii.gz"
    write_volume(shifted, numbered(), origin_mm=(0, -200, 0))
    report = _convert(source, channels=ALL)
    assert report.written == [FIRST, SECOND]
    assert "no labels (3, ...; expected 0, 1, 2, 4)" in report.failures["BraTS19_2013_11_1"]
    assert "seg is missing" in report.failures["BraTS19_2013_12_1"]
    assert "t1ce is missing" in report.failures["BraTS19_2013_13_1"]
    assert "headers of flair and t2 lie 39.0 voxels apart" in report.failures["BraTS19_2013_14_1"]
    flair_alone = brats19.plan(source)
    assert list(flair_alone.failures) == ["BraTS19_2013_12_1"]  # T1ce is not needed


def test_a_case_in_both_grades(source: Path) -> None:
    brats_case(source / "LGG", FIRST, ".nii")
    assert "flair is there 2 times" in brats19.plan(source).failures[FIRST]


def test_the_validation_set_is_skipped(source: Path) -> None:
    name = "BraTS19_CBICA_AAM_1"
    (brats_case(source / "MICCAI_BraTS_2019_Data_Validation", name) / f"{name}_seg.nii.gz").unlink()
    plan = brats19.plan(source)
    assert "validation set" in plan.skipped[name] and not plan.failures


def test_h5_axes_are_zyx(tmp_path: Path) -> None:
    source = tmp_path / "data"
    write_h5(source / f"{FIRST}.h5", image=numbered(dtype="float32"), label=corner_label())
    (source / "train.txt").write_bytes(f"{FIRST}\r\n".encode())
    report = _convert(source)
    image, label, grid = converted(report, FIRST)
    np.testing.assert_array_equal(image, numbered())
    np.testing.assert_array_equal(label, corner_label())
    assert grid.GetSpacing() == (1, 1, 1)
    with pytest.raises(UserError, match="FLAIR and the whole tumour alone"):
        brats19.plan(source, channels=ALL)
    brats_case(source, SECOND)
    with pytest.raises(UserError, match="NIfTI and h5 files"):
        brats19.plan(source)


@pytest.mark.shared_data
def test_the_real_case_with_an_interpolated_seg_is_refused(tmp_path: Path, shared_data: Path) -> None:
    plan = brats19.plan(shared_data / "brats19_case", channels=ALL)  # T1ce is named t1post
    report = convert(plan, tmp_path / "Dataset003_BraTS19")
    assert not report.written and not list(tmp_path.rglob("*.nii.gz"))
    assert "expected 0, 1, 2, 4): it was interpolated" in report.failures[FIRST]
    assert "-0.778621" in report.failures[FIRST]

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nnunet_dycon import cli
from nnunet_dycon.errors import UserError
from nnunet_dycon.tools.convert import plan as plans
from nnunet_dycon.tools.convert.datasets import brats19, la
from nnunet_dycon.tools.convert.plan import CasePlan, CaseVolumes, DatasetPlan
from nnunet_dycon.tools.convert.run import convert
from tests.helpers.convert_fixtures import LA_IDS, brats_case, converted, isles_case, la_nrrd, numbered, write_volume

NAMES = [f"LA_{case_id}" for case_id in LA_IDS]


@pytest.fixture
def source(tmp_path: Path) -> Path:
    for case_id in LA_IDS[:2]:
        la_nrrd(tmp_path / "download", case_id)
    return tmp_path / "download"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "raw" / "Dataset001_LA"


def _times(folder: Path) -> dict[str, int]:
    return {path.name: path.stat().st_mtime_ns for path in folder.rglob("*.nii.gz")}


def _record(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "conversion.json").read_text())


def test_a_finished_case_is_not_converted_again(source: Path, folder: Path) -> None:
    convert(la.plan(source), folder)
    before = _times(folder)
    la_nrrd(source, LA_IDS[2])
    report = convert(la.plan(source), folder)
    assert report.unchanged == NAMES[:2] and report.written == NAMES[2:]
    assert {name: _times(folder)[name] for name in before} == before
    assert report.case_notes.keys() == {*NAMES}  # said again of the unchanged ones
    assert json.loads((folder / "dataset.json").read_text())["numTraining"] == 3


def test_what_changed_is_converted_again(source: Path, folder: Path) -> None:
    convert(la.plan(source), folder)
    write_volume(source / "Training Set" / LA_IDS[0] / "lgemri.nrrd", numbered() + 1)
    (folder / "labelsTr" / f"{NAMES[1]}.nii.gz").unlink()
    report = convert(la.plan(source), folder)
    assert report.written == NAMES[:2]
    np.testing.assert_array_equal(converted(report, NAMES[0])[0], numbered() + 1)
    assert convert(la.plan(source, spacing_mm=(1, 1, 2)), folder).written == NAMES[:2]
    assert convert(la.plan(source, spacing_mm=(1, 1, 2)), folder).unchanged == NAMES[:2]


def test_a_case_that_went_bad_does_not_stay(source: Path, folder: Path) -> None:
    convert(la.plan(source), folder)
    write_volume(source / "Training Set" / LA_IDS[0] / "laendo.nrrd", numbered())
    (source / "Training Set" / LA_IDS[1] / "laendo.nrrd").unlink()
    report = convert(la.plan(source), folder)
    assert sorted(report.failures) == NAMES[:2] and not _times(folder)
    assert not _record(folder)["cases"]


def test_a_case_no_longer_in_the_download_is_kept(source: Path, folder: Path) -> None:
    convert(la.plan(source), folder)
    (source / "Training Set" / LA_IDS[0]).rename(source.parent / "elsewhere")
    report = convert(la.plan(source), folder)
    assert report.kept == NAMES[:1] and report.unchanged == NAMES[1:2] and len(report.cases) == 2
    assert f"no longer in the download: {NAMES[0]}" in report.summary()
    assert NAMES[0] not in report.missing
    assert json.loads((folder / "dataset.json").read_text())["numTraining"] == 2


def test_resuming_after_a_kill(source: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The second case is cut off between its label and its image."""
    replace = os.replace

    def killed(old: Any, new: Any) -> None:
        if str(new).endswith(f"{NAMES[1]}_0000.nii.gz"):
            raise KeyboardInterrupt
        replace(old, new)

    monkeypatch.setattr("os.replace", killed)
    with pytest.raises(KeyboardInterrupt):
        convert(la.plan(source), folder)
    assert not (folder / "dataset.json").exists() and list(_record(folder)["cases"]) == NAMES[:1]
    monkeypatch.undo()
    report = convert(la.plan(source), folder)
    assert report.unchanged == NAMES[:1] and report.written == NAMES[1:2]
    assert sorted(path.name for path in folder.iterdir()) == [
        "conversion.json",
        "dataset.json",
        "imagesTr",
        "labelsTr",
    ]


def test_two_processes(source: Path, folder: Path) -> None:
    la_nrrd(source, LA_IDS[2], label_value=7)
    report = convert(la.plan(source), folder, num_processes=2)
    assert sorted(report.written) == NAMES[:2] and list(report.failures) == NAMES[2:]
    np.testing.assert_array_equal(converted(report, NAMES[1])[0], numbered())


def _die() -> CaseVolumes:
    os._exit(1)


def test_a_killed_process_is_a_failure_not_a_crash(tmp_path: Path, folder: Path) -> None:
    cases = [CasePlan(name, _die, {}) for name in NAMES[:2]]
    labels = {"background": 0, "left atrium": 1}
    plan = DatasetPlan(
        benchmark=la.BENCHMARK, layout="NRRD", source=tmp_path, channel_names=["MRI"], labels=labels,
        cases=cases,
    )  # fmt: skip
    report = convert(plan, folder, num_processes=2)
    assert sorted(report.failures) == NAMES[:2]
    assert "a worker process was killed" in report.failures[NAMES[0]]


def test_another_dataset_in_the_folder(source: Path, folder: Path, tmp_path: Path) -> None:
    (folder / "imagesTr").mkdir(parents=True)
    with pytest.raises(UserError, match="was not made by 'nnunet-dycon convert'"):
        convert(la.plan(source), folder)
    tumours = tmp_path / "brats"
    brats_case(tumours, "BraTS19_2013_10_1")
    target = tmp_path / "raw" / "Dataset002_BraTS19"
    convert(brats19.plan(tumours), target)
    with pytest.raises(UserError, match=r"was converted with channels \{'0': 'FLAIR'\}, now it is"):
        convert(brats19.plan(tumours, channels=("flair", "t2")), target)


def test_cases_of_the_lists_that_are_missing(source: Path, folder: Path) -> None:
    report = convert(la.plan(source), folder)
    assert len(report.missing) == 98 and not {*NAMES[:2]} & {*report.missing}
    assert report.missing["LA_UPT6DX9IQY9JAZ7HJKA7"] == "in the list la/test.txt but not in the download"
    assert _record(folder)["missing"] == report.missing
    lines = [line for line in report.summary().splitlines() if line.startswith("MISSING")]
    assert len(lines) == 2 and "and 70 more" in lines[0] and "and 12 more" in lines[1]


def test_lists_may_have_windows_line_ends(source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    entries = [f"{case_id}.h5\r\n" for case_id in LA_IDS]
    monkeypatch.setattr(plans, "load_list", lambda name: entries)
    assert list(la.plan(source).missing()) == NAMES[2:]


def test_stock_nnunet_accepts_the_dataset(tmp_path: Path) -> None:
    """Regions, four channels; the checks are those of nnU-Net's --verify_dataset_integrity, without its processes."""
    from nnunetv2.experiment_planning.verify_dataset_integrity import check_cases, verify_labels
    from nnunetv2.imageio.simpleitk_reader_writer import SimpleITKIO
    from nnunetv2.utilities.label_handling.label_handling import LabelManager
    from nnunetv2.utilities.utils import get_filenames_of_train_images_and_targets

    for number in (10, 11):
        brats_case(tmp_path / "download", f"BraTS19_2013_{number}_1")
    folder = tmp_path / "Dataset003_BraTS19"
    convert(brats19.plan(tmp_path / "download", channels=("all",), regions=True), folder)
    dataset_json = json.loads((folder / "dataset.json").read_text())
    cases = get_filenames_of_train_images_and_targets(str(folder), dataset_json)
    assert list(cases) == ["BraTS19_2013_10_1", "BraTS19_2013_11_1"] and dataset_json["numTraining"] == 2
    labels = LabelManager(dataset_json["labels"], regions_class_order=dataset_json["regions_class_order"])
    assert labels.foreground_regions == [(1, 2, 3), (2, 3), 3]
    for case in cases.values():
        assert check_cases(case["images"], case["label"], 4, SimpleITKIO)
        assert verify_labels(case["label"], SimpleITKIO, labels.all_labels)


@pytest.fixture
def raw(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("raw", "preprocessed", "results"):
        monkeypatch.setenv(f"nnUNet_{name}", str(tmp_path / name))
    return tmp_path / "raw"


def _main(*arguments: object) -> int:
    return cli.main(["convert", *map(str, arguments)])


def test_command(source: Path, raw: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ("la", "--source", source, "-d", 1, "-np", 1)
    assert _main(*arguments) == 1  # 98 cases of the lists are missing
    output = capsys.readouterr().out
    assert "2 cases found: 2 written, 0 already up to date, 0 skipped, 0 failed, 98 missing" in output
    assert "pass --allow-missing" in output and "can be split by number" in output
    assert _main(*arguments, "--allow-missing") == 0
    output = capsys.readouterr().out
    assert "0 written, 2 already up to date" in output
    last = output.splitlines()[-1]
    assert f"{raw / 'Dataset001_LA'} has 2 labelled cases" in last
    assert "0 are incomplete, 98 of the published lists are not in the download" in output.splitlines()[0]
    command = last.partition("Next: nnunet-dycon ")[2].split()
    assert cli.main(command) == 0  # not la-10, which lacks cases


def test_command_options(tmp_path: Path, raw: Path, capsys: pytest.CaptureFixture[str]) -> None:
    isles_case(tmp_path / "isles", 9, "B")
    brats_case(tmp_path / "brats", "BraTS19_2013_10_1")
    common = ("--allow-missing", "-np", 1)
    assert _main("isles22", "--source", tmp_path / "isles", "-d", 4, "--channels", "DWI,adc", *common) == 0
    options = ("--modalities", "all", "--regions", "--name", "Tumour")
    assert _main("brats19", "--source", tmp_path / "brats", "-d", 3, *options, *common) == 0
    assert len(list((raw / "Dataset004_ISLES22" / "imagesTr").iterdir())) == 2
    assert len(list((raw / "Dataset003_Tumour" / "imagesTr").iterdir())) == 4


def test_command_errors(source: Path, raw: Path, capsys: pytest.CaptureFixture[str]) -> None:
    common = ("la", "--source", source, "-d")
    (raw / "Dataset007_Heart").mkdir(parents=True)
    for arguments, text in [
        ((*common, 7), "-d 7 is in use by Dataset007_Heart"),
        ((*common, 1000), "nnU-Net takes 1 to 999"),
        ((*common, 1, "--name", "a/b"), "use letters, digits"),
        ((*common, 1, "-np", 0), "give at least 1"),
        (("isles22", "--source", source, "-d", 1), "holds no ISLES22 data"),
    ]:
        assert _main(*arguments) == 2
        assert text in capsys.readouterr().err
    assert _main(*common, 1, "--spacing", "1", "1", "0") == 2
    assert "0 is no voxel size" in capsys.readouterr().err
    brats_case(source / "brats", "BraTS19_2013_10_1")
    assert _main("brats19", "--source", source / "brats", "-d", 1, "--spacing", "1", "1", "2") == 2
    assert "--spacing has no effect: NIfTI files say theirs" in capsys.readouterr().err


def test_command_without_any_good_case(source: Path, raw: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for case_id in LA_IDS[:2]:
        (source / "Training Set" / case_id / "laendo.nrrd").unlink()
    assert _main("la", "--source", source, "-d", 1) == 2
    captured = capsys.readouterr()
    assert "no case was converted" in captured.err and NAMES[0] in captured.out
    assert not (raw / "Dataset001_LA" / "dataset.json").exists()


def test_nnunet_raw_has_to_be_set(
    source: Path, raw: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("nnUNet_raw")
    assert _main("la", "--source", source, "-d", 1) == 2
    assert "export nnUNet_raw=FOLDER" in capsys.readouterr().err

"""Splits into labelled and unlabelled cases, as new datasets and in place."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from nnunet_dycon.cli import split as split_cli
from nnunet_dycon.dataset.raw_dataset import open_raw_dataset
from nnunet_dycon.dataset.splits import check_disjoint, held_out_in_place, read_splits, unlabeled_in_splits
from nnunet_dycon.errors import UserError
from nnunet_dycon.tools.audit.roles import uses_of
from nnunet_dycon.tools.convert.datasets import get_protocol
from nnunet_dycon.tools.split import report, run
from nnunet_dycon.tools.split.division import CasePool, SplitOptions, count_of, divide
from nnunet_dycon.tools.split.run import split_in_place, split_into_new_dataset

CASES = [f"case_{i:02d}" for i in range(10)]


@pytest.fixture
def roots(tmp_path, monkeypatch):
    """Empty nnUNet_raw and nnUNet_preprocessed; masks are files of text, and taken to have foreground."""
    monkeypatch.setattr(report, "mask_content", lambda mask, dataset_json: (frozenset({0, 1}), False))
    folders = {}
    for name in ("nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results"):
        folders[name] = tmp_path / name
        folders[name].mkdir()
        monkeypatch.setenv(name, str(folders[name]))
    return folders


def make_raw(roots, name="Dataset500_Toy", training=CASES, test=(), ending=".nii.gz", channels=1, masks=True) -> Path:
    """A raw dataset of text files that say what they are: splitting must not need to open them."""
    folder = roots["nnUNet_raw"] / name
    for part, cases in (("Tr", training), ("Ts", test)):
        for kind in ("images", "labels") if cases else ():
            (folder / f"{kind}{part}").mkdir(parents=True)
        for case in cases:
            for channel in range(channels):
                (folder / f"images{part}" / f"{case}_{channel:04d}{ending}").write_text(f"image {case} {channel}")
            if masks:
                (folder / f"labels{part}" / f"{case}{ending}").write_text(f"mask {case}")
    write_dataset_json(folder, ending=ending, channels=channels, n=len(training))
    return folder


def write_dataset_json(folder: Path, ending=".nii.gz", channels=1, n=10, channel="MRI") -> None:
    content = {
        "channel_names": {str(i): channel for i in range(channels)},
        "labels": {"background": 0, "lesion": 1},
        "numTraining": n,
        "file_ending": ending,
        "reference": "kept",
    }
    (folder / "dataset.json").write_text(json.dumps(content))


def make_preprocessed(roots, name="Dataset500_Toy", cases=CASES, channel="MRI", splits=None) -> Path:
    folder = roots["nnUNet_preprocessed"] / name
    (folder / "gt_segmentations").mkdir(parents=True)
    for case in cases:
        (folder / "gt_segmentations" / f"{case}.nii.gz").write_text("mask")
    write_dataset_json(folder, channel=channel)
    if splits is not None:
        (folder / "splits_final.json").write_text(json.dumps(splits))
    return folder


def case_names(folder: Path) -> list[str]:
    return sorted({file.name.removesuffix(".nii.gz").removesuffix("_0000") for file in folder.glob("*")})


def pool(training=CASES, **kwargs) -> CasePool:
    return CasePool("Dataset500_Toy", list(training), **kwargs)


# --- amounts and options


@pytest.mark.parametrize(
    ("amount", "total", "count"),
    # 10 % of 80 is 8 (LA), 20 % of 62 is 12 (Pancreas), 5 % of 200 is 10 (ISLES); halves go up, at least one
    [("8", 80, 8), ("10%", 80, 8), ("20%", 62, 12), ("5%", 200, 10), ("12.5 %", 20, 3), ("1%", 10, 1), ("100%", 7, 7)],
)
def test_count_of_amounts(amount, total, count):
    assert count_of(amount, total, "--labeled") == count


@pytest.mark.parametrize("amount", ["0", "11", "0%", "101%", "-1", "2.5", "few", "nan%", "1e1"])
def test_impossible_amounts_are_refused(amount):
    with pytest.raises(UserError, match="--labeled"):
        count_of(amount, 10, "--labeled")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"protocol": get_protocol("la-10"), "test": "3"}, "--test contradicts --protocol"),
        ({"labeled_list": Path("a"), "seed": 1}, "--seed has no effect"),
        ({"labeled_list": Path("a"), "seed": 1, "test": "b.txt"}, "--seed has no effect"),
        ({"labeled": "3", "seed": -1}, "--seed -1"),
        ({"labeled": "3", "folds": 1}, "--folds 1: give 2 or more"),
        ({"protocol": get_protocol("acdc-7"), "folds": 5}, "acdc-7, which has 20 validation cases"),
    ],
)
def test_contradicting_options_are_refused(options, message):
    with pytest.raises(UserError, match=message):
        SplitOptions(**options)


# --- the division


def test_without_seed_the_first_are_labelled_and_the_last_tested():
    division = divide(pool(), SplitOptions(labeled="2", test="3"))
    assert division.labeled == CASES[:2]
    assert division.unlabeled == CASES[2:7]
    assert division.test == CASES[7:]
    assert division.left_out == []


def test_share_counts_the_cases_that_are_left_after_the_test_cases():
    division = divide(pool(), SplitOptions(labeled="50%", test="60%"))
    assert (len(division.labeled), len(division.unlabeled), len(division.test)) == (2, 2, 6)


def test_seed_draws_reproducibly_and_fewer_are_a_subset_of_more():
    four = divide(pool(), SplitOptions(labeled="4", seed=3)).labeled
    # golden: numpy promises that RandomState never changes
    assert four == ["case_00", "case_01", "case_08", "case_09"]
    assert set(divide(pool(), SplitOptions(labeled="2", seed=3)).labeled) < set(four)
    assert divide(pool(), SplitOptions(labeled="4", seed=5)).labeled != four


def test_test_cases_of_the_source_stay_test_cases():
    division = divide(pool(CASES[:6], test=CASES[6:]), SplitOptions(labeled="2", seed=0))
    assert division.test == CASES[6:]
    with pytest.raises(UserError, match="imagesTs already"):
        divide(pool(CASES[:6], test=CASES[6:]), SplitOptions(labeled="2", test="2"))


def test_listed_test_cases_replace_those_of_the_source_which_are_never_trained_on(tmp_path):
    (tmp_path / "test.txt").write_text("case_00\ncase_09\n")
    division = divide(pool(CASES[:6], test=CASES[6:]), SplitOptions(labeled="2", test=str(tmp_path / "test.txt")))
    assert division.test == ["case_00", "case_09"]
    assert division.labeled + division.unlabeled == CASES[1:6]
    assert division.left_out == ["case_06", "case_07", "case_08"]


def test_labelled_list_with_windows_line_ends(tmp_path):
    file = tmp_path / "labeled.txt"
    file.write_bytes(b"case_09\r\ncase_03\r\n\r\n")
    division = divide(pool(), SplitOptions(labeled_list=file, test="2"))
    assert division.labeled == ["case_09", "case_03"]
    assert division.test == ["case_07", "case_08"]  # the last that are not listed
    assert len(division.unlabeled) == 6


@pytest.mark.parametrize(
    ("labeled", "test", "message"),
    [
        ("case_00\ncase_0X\n", None, "lacks 1 of the 2 cases .*case_0X .did you mean case_0"),
        ("case_06\n", None, "names test cases: case_06"),
        ("case_00\n", "case_00\n", "names test cases: case_00"),
        ("case_07\n", "case_00\n", "in imagesTs only"),
    ],
)
def test_wrong_case_lists_are_refused(tmp_path, labeled, test, message):
    (tmp_path / "labeled.txt").write_text(labeled)
    options = {"labeled_list": tmp_path / "labeled.txt"}
    if test:
        (tmp_path / "test.txt").write_text(test)
        options["test"] = str(tmp_path / "test.txt")
    with pytest.raises(UserError, match=message):
        divide(pool(CASES[:6], test=CASES[6:]), SplitOptions(**options))


def test_more_labelled_than_cases_and_a_test_set_of_everything_are_refused():
    with pytest.raises(UserError, match="there are only 10 cases"):
        divide(pool(), SplitOptions(labeled="11"))
    with pytest.raises(UserError, match="leaves no case to train on"):
        divide(pool(), SplitOptions(labeled="1", test="100%"))


# --- a new dataset


def test_new_dataset_has_no_mask_of_an_unlabelled_case(roots):
    make_raw(roots, channels=2)
    report = split_into_new_dataset(500, 501, SplitOptions(labeled="2", test="3"))
    folder = roots["nnUNet_raw"] / "Dataset501_Toy_2labeled"
    assert report.dataset_name == folder.name
    assert case_names(folder / "labelsTr") == CASES[:2]
    assert case_names(folder / "labelsTs") == CASES[7:]
    assert {file.name for file in (folder / "imagesUn").iterdir()} == {
        f"{case}_{channel:04d}.nii.gz" for case in CASES[2:7] for channel in (0, 1)
    }
    texts = {file.read_text() for file in folder.rglob("*.nii.gz")}
    assert {text for text in texts if text.startswith("mask")} == {f"mask {i}" for i in [*CASES[:2], *CASES[7:]]}
    assert {text for text in texts if text.startswith("image")} == {f"image {i} {c}" for i in CASES for c in (0, 1)}


def test_new_dataset_is_described_for_nnunet_and_for_the_record(roots):
    make_raw(roots)
    report = split_into_new_dataset(
        "Dataset500_Toy", 501, SplitOptions(labeled="20%", test="3", seed=5), target_name="X"
    )
    folder = roots["nnUNet_raw"] / "Dataset501_X"
    dataset_json = json.loads((folder / "dataset.json").read_text())
    assert (dataset_json["numTraining"], dataset_json["name"], dataset_json["reference"]) == (1, "X", "kept")
    labeled = report.division.labeled
    splits = json.loads((roots["nnUNet_preprocessed"] / "Dataset501_X" / "splits_final.json").read_text())
    assert splits == [{"train": labeled, "val": labeled}]
    record = json.loads((folder / "split.json").read_text())
    assert record["source"] == "Dataset500_Toy"
    assert record["options"]["seed"] == 5
    assert record["cases"]["test"] == report.division.test
    assert "labelled cases, never on test cases" in report.notes[0]


def test_files_are_hard_links_also_behind_symbolic_links(roots):
    folder = make_raw(roots)
    image = folder / "imagesTr" / "case_09_0000.nii.gz"
    real = image.rename(folder.parent / "elsewhere.nii.gz")
    image.symlink_to(real)
    split_into_new_dataset(500, 501, SplitOptions(labeled="2"))
    new = roots["nnUNet_raw"] / "Dataset501_Toy_2labeled" / "imagesUn" / "case_09_0000.nii.gz"
    assert new.samefile(real)
    assert not new.is_symlink()


def test_spacing_files_of_tiff_images_go_along_but_never_those_of_masks(roots):
    folder = make_raw(roots, ending=".tif")
    for kind in ("imagesTr", "labelsTr"):
        for case in CASES:
            (folder / kind / f"{case}.json").write_text('{"spacing": [1, 1, 1]}')
    split_into_new_dataset(500, 501, SplitOptions(labeled="2"))
    new = roots["nnUNet_raw"] / "Dataset501_Toy_2labeled"
    assert len(list((new / "imagesUn").glob("*.json"))) == 8
    assert sorted(file.name for file in (new / "labelsTr").glob("*.json")) == ["case_00.json", "case_01.json"]


def test_protocol_with_validation_cases(roots):
    protocol = get_protocol("isles22-5")
    training, validation, test = protocol.train, protocol.validation, protocol.test
    make_raw(roots, training=[*training, *validation, "sub-strokecase9999"], test=test)
    report = split_into_new_dataset(500, 501, SplitOptions(protocol=get_protocol("isles22-5")))
    folder = roots["nnUNet_raw"] / "Dataset501_Toy_10labeled"
    assert case_names(folder / "labelsTr") == sorted([*training[:10], *validation])
    assert case_names(folder / "imagesUn") == training[10:]
    splits = json.loads(report.splits_final_file.read_text())
    assert splits == [{"train": training[:10], "val": validation}]
    assert json.loads((folder / "dataset.json").read_text())["numTraining"] == 35
    assert report.division.left_out == ["sub-strokecase9999"]
    assert any("Train fold 0 only" in note for note in report.notes)


def test_seed_draws_among_the_training_cases_of_a_protocol():
    protocol = get_protocol("isles22-5")
    everyone = [*protocol.train, *protocol.validation, *protocol.test]
    division = divide(pool(everyone), SplitOptions(protocol=get_protocol("isles22-5"), seed=1))
    assert len(division.labeled) == 10
    assert division.labeled != protocol.train[:10]
    assert set(division.labeled) <= set(protocol.train)


def test_mcnet_protocol_warns(roots):
    protocol = get_protocol("pancreas-mcnet-20")
    make_raw(roots, training=[*protocol.train, *protocol.test])
    report = split_into_new_dataset(500, 501, SplitOptions(protocol=get_protocol("pancreas-mcnet-20")))
    assert "pancreas_0070" in report.warnings[0]
    assert json.loads(report.split_file.read_text())["warnings"] == report.warnings


def test_all_labelled_gives_a_reference_without_imagesun(roots):
    make_raw(roots)
    report = split_into_new_dataset(500, 501, SplitOptions(labeled="100%", test="2"))
    assert not (report.split_file.parent / "imagesUn").exists()
    assert any("fully supervised" in note for note in report.notes)


def test_test_cases_without_masks_are_kept_and_counted(roots):
    folder = make_raw(roots, training=CASES[:6], test=CASES[6:])
    (folder / "labelsTs" / "case_08.nii.gz").unlink()
    report = split_into_new_dataset(500, 501, SplitOptions(labeled="2"))
    assert any(note.startswith("1 test cases have no mask") for note in report.notes)


def add(file: Path) -> None:
    file.parent.mkdir(exist_ok=True)
    file.write_text("image")


def _nothing_written(roots) -> bool:
    """Only the source is there, no partial folder either."""
    return [i.name for i in roots["nnUNet_raw"].iterdir()] == ["Dataset500_Toy"] and not any(
        roots["nnUNet_preprocessed"].iterdir()
    )


@pytest.mark.parametrize(
    ("prepare", "options", "target_id", "message"),
    [
        (lambda raw: (raw / "imagesUn").mkdir(), {"labeled": "11"}, 501, "only 10 cases"),
        (lambda raw: (raw / "labelsTr" / "case_01.nii.gz").unlink(), {"labeled": "2"}, 501, "case case_01 has no mask"),
        (lambda raw: (raw / "dataset.json").unlink(), {"labeled": "2"}, 501, "dataset.json does not exist"),
        (lambda raw: (raw / "dataset.json").write_text("{"), {"labeled": "2"}, 501, "no valid JSON"),
        (lambda raw: (raw / "dataset.json").write_text("{}"), {"labeled": "2"}, 501, "lacks labels and file_ending"),
        (lambda raw: add(raw / "imagesUn" / "case_77_0000.nii.gz"), {"labeled": "2"}, 501, "imagesUn already"),
        (
            lambda raw: add(raw / "imagesTs" / "case_03_0000.nii.gz"),
            {"labeled": "2"},
            501,
            "case_03 in imagesTr and in imagesTs",
        ),
        (lambda raw: None, {"labeled": "2"}, 500, "-t 500 is in use by Dataset500_Toy"),
        (lambda raw: None, {"labeled": "2"}, 1000, "no dataset ID"),
        (lambda raw: None, {"protocol": get_protocol("la-10")}, 501, "lacks 100 of the 100 cases of protocol la-10"),
    ],
)
def test_impossible_splits_write_nothing(roots, prepare, options, target_id, message):
    prepare(make_raw(roots))
    with pytest.raises(UserError, match=message):
        split_into_new_dataset(500, target_id, SplitOptions(**options))
    assert _nothing_written(roots)


def test_unlabelled_cases_need_no_mask(roots):
    folder = make_raw(roots)
    (folder / "labelsTr" / "case_05.nii.gz").unlink()
    report = split_into_new_dataset(500, 501, SplitOptions(labeled="2"))
    assert "case_05" in report.division.unlabeled


def test_failure_while_writing_leaves_nothing(roots, monkeypatch):
    make_raw(roots)
    write_json = run.write_json

    def fails(content, file):
        if file.name == "splits_final.json":
            raise OSError("broken")
        write_json(content, file)

    monkeypatch.setattr(run, "write_json", fails)
    with pytest.raises(OSError, match="broken"):
        split_into_new_dataset(500, 501, SplitOptions(labeled="2"))
    assert _nothing_written(roots)


@pytest.mark.parametrize("variable", ["nnUNet_raw", "nnUNet_preprocessed"])
def test_what_cannot_be_written_is_told_before_masks_are_read(roots, monkeypatch, variable):
    make_raw(roots)
    root = roots[variable]

    def check_writable(folder):
        if folder == root:
            raise UserError(f"{folder} cannot be written")

    monkeypatch.setattr(run, "check_writable", check_writable)
    monkeypatch.setattr(report, "mask_content", lambda *args, **kwargs: pytest.fail("masks were read"))
    with pytest.raises(UserError, match="cannot be written"):
        split_into_new_dataset(500, 501, SplitOptions(labeled="2"))
    assert _nothing_written(roots)


def test_missing_environment_is_named(roots, monkeypatch):
    make_raw(roots)
    monkeypatch.delenv("nnUNet_preprocessed")
    with pytest.raises(UserError, match="nnUNet_preprocessed is not set"):
        split_into_new_dataset(500, 501, SplitOptions(labeled="2"))


def test_unknown_source_or_an_id_that_is_preprocessed_is_refused(roots):
    make_raw(roots)
    (roots["nnUNet_preprocessed"] / "Dataset501_Old").mkdir()
    for dataset, target, message in (
        (777, 502, "no dataset"),
        ("LA", 502, "is no dataset"),
        (500, 501, "in use by Dataset501_Old"),
    ):
        with pytest.raises(UserError, match=message):
            split_into_new_dataset(dataset, target, SplitOptions(labeled="2"))


# --- masks of labelled cases


@pytest.fixture
def with_masks(roots, monkeypatch):
    """A raw dataset whose masks hold these values by case, in files that are read; others are empty."""
    monkeypatch.undo()
    for name, folder in roots.items():
        monkeypatch.setenv(name, str(folder))

    def make(labels=None, shape=(4, 4, 4), **values):
        folder = make_raw(roots)
        content = json.loads((folder / "dataset.json").read_text())
        content["labels"] = labels or content["labels"]
        (folder / "dataset.json").write_text(json.dumps(content))
        for case in CASES:
            mask = np.zeros(shape, np.uint8)
            mask.flat[: len(values.get(case, []))] = values.get(case, [])
            sitk.WriteImage(sitk.GetImageFromArray(mask), str(folder / "labelsTr" / f"{case}.nii.gz"))
        return folder

    return make


def test_labelled_masks_without_any_foreground_are_refused(roots, with_masks):
    with_masks(case_05=[1])
    with pytest.raises(UserError, match=r"no mask of the 2 labelled cases of fold 0 has foreground \(case_00, case_01"):
        split_into_new_dataset(500, 501, SplitOptions(labeled="2"))
    assert _nothing_written(roots)


def test_values_that_dataset_json_does_not_know_are_no_foreground(roots, with_masks):
    with_masks(case_00=[255])
    with pytest.raises(UserError, match=r"they hold 0, 255, dataset.json's labels are 1"):
        split_into_new_dataset(500, 501, SplitOptions(labeled="2"))


def test_one_labelled_mask_with_foreground_is_enough_and_no_more_are_read(with_masks, monkeypatch):
    folder = with_masks(case_00=[1])
    (folder / "labelsTr" / "case_01.nii.gz").write_text("not read")
    assert not split_into_new_dataset(500, 501, SplitOptions(labeled="2")).warnings


def test_a_class_that_no_labelled_mask_has_is_named(with_masks):
    labels = {"background": 0, "organ": [1, 2, 3], "tumour": [2, 3], "core": 3, "ignore": 4}
    with_masks(labels, case_00=[1], case_01=[1, 2, 4])
    (warning,) = split_into_new_dataset(500, 501, SplitOptions(labeled="2")).warnings
    assert warning == "no mask of the labelled cases of fold 0 has core: it cannot be learned"


def test_a_fold_without_foreground_is_refused(roots, with_masks):
    with_masks(case_00=[1])
    with pytest.raises(UserError, match=r"no mask of the 1 labelled cases of fold [01] has foreground"):
        split_into_new_dataset(500, 501, SplitOptions(labeled="2", folds=2))
    assert _nothing_written(roots)


def test_masks_of_unlabelled_and_test_cases_are_not_read(with_masks):
    folder = with_masks(case_01=[1])
    for case in CASES[2:]:
        (folder / "labelsTr" / f"{case}.nii.gz").write_text("not read")
    split_into_new_dataset(500, 501, SplitOptions(labeled="2", test="2"))


def test_slices_are_for_the_2d_configuration(with_masks):
    with_masks(case_00=[1], shape=(1, 4, 4))
    assert split_into_new_dataset(500, 501, SplitOptions(labeled="2")).configuration == "2d"


def test_in_place_refuses_labelled_masks_without_foreground(roots, with_masks):
    masks_folder = with_masks(case_05=[1]) / "labelsTr"
    folder = make_preprocessed(roots)
    for mask in masks_folder.iterdir():
        mask.rename(folder / "gt_segmentations" / mask.name)
    with pytest.raises(UserError, match=r"no mask of the 2 labelled cases of fold 0 has foreground"):
        split_in_place(500, SplitOptions(labeled="2"))
    assert not (folder / "splits_final.json").exists()


# --- folds


def test_five_folds_over_the_labelled_cases(roots):
    make_raw(roots)
    report = split_into_new_dataset(500, 501, SplitOptions(labeled="6", test="2", folds=5))
    folds = json.loads(report.splits_final_file.read_text())
    assert len(folds) == 5 and all("unlabeled" not in fold for fold in folds)  # imagesUn counts for every fold
    assert sorted(case for fold in folds for case in fold["val"]) == CASES[:6]
    assert all(sorted(fold["train"] + fold["val"]) == CASES[:6] and len(fold["val"]) < 3 for fold in folds)
    record = json.loads(report.split_file.read_text())
    assert [fold["unlabeled"] for fold in record["folds"]] == [CASES[6:8]] * 5
    assert record["validated_on"] == "its part of the labeled cases"
    assert folds == division_of_nnunet(CASES[:6])


def division_of_nnunet(cases):
    """What nnU-Net writes itself where there is no splits_final.json."""
    from nnunetv2.utilities.crossval_split import generate_crossval_split

    return json.loads(json.dumps(generate_crossval_split(cases, seed=12345, n_splits=5), default=str))


@pytest.mark.parametrize("labeled", ["1", "4"])
def test_fewer_labelled_cases_than_folds_are_refused(roots, labeled):
    make_raw(roots)
    with pytest.raises(UserError, match=f"--folds 5: {labeled} labelled cases cannot be held out in 5 folds"):
        split_into_new_dataset(500, 501, SplitOptions(labeled=labeled, folds=5))
    assert _nothing_written(roots)


def test_five_folds_in_place(roots):
    folder = make_preprocessed(roots, splits=[{"train": CASES, "val": CASES}])
    with pytest.raises(UserError, match="would change; give --overwrite"):
        split_in_place(500, SplitOptions(labeled="5", folds=5))
    report = split_in_place(500, SplitOptions(labeled="5", test="2", folds=5), overwrite=True)
    splits = read_splits(folder)
    assert len(splits) == 5 and all(fold["unlabeled"] == CASES[5:8] for fold in splits)
    for fold in range(5):
        assert unlabeled_in_splits(splits, fold) == CASES[5:8]
        check_disjoint(splits[fold]["train"], splits[fold]["val"], splits[fold]["unlabeled"])
    assert report.notes == [] and json.loads((folder / "split.json").read_text())["fold"] is None


def test_patients_are_drawn_whole():
    protocol = get_protocol("acdc-3")
    everyone = [*protocol.train, *protocol.validation, *protocol.test]
    division = divide(pool(everyone), SplitOptions(protocol=protocol, seed=1))
    patients = [case.split("_")[0] for case in division.labeled]
    assert len(patients) == 6 and patients[::2] == patients[1::2] and len(set(patients)) == 3
    assert set(division.labeled) != set(protocol.train[:6])


# --- in place


def test_in_place_without_splits_divides_all_cases(roots):
    folder = make_preprocessed(roots)
    report = split_in_place(500, SplitOptions(labeled="30%"))
    splits = read_splits(folder)
    assert splits == [{"train": CASES[:3], "val": CASES[:3], "unlabeled": CASES[3:]}]
    assert unlabeled_in_splits(splits, 0) == CASES[3:]
    check_disjoint(splits[0]["train"], splits[0]["val"], splits[0]["unlabeled"])
    assert "planned with all its masks" in report.warnings[0]
    record = json.loads((folder / "split.json").read_text())
    assert (record["in_place"], record["fold"], record["cases"]["unlabeled"]) == (True, 0, CASES[3:])


def test_in_place_divides_one_fold_and_keeps_its_validation_cases_and_the_other_folds(roots):
    splits = [{"train": CASES[2:], "val": CASES[:2]}, {"train": CASES[:8], "val": CASES[8:]}]
    folder = make_preprocessed(roots, splits=splits)
    with pytest.raises(UserError, match="--overwrite"):
        split_in_place(500, SplitOptions(labeled="2"), fold=1)
    assert read_splits(folder) == splits
    assert not (folder / "split.json").exists()
    split_in_place(500, SplitOptions(labeled="2"), fold=1, overwrite=True)
    assert read_splits(folder) == [splits[0], {"train": CASES[:2], "val": CASES[8:], "unlabeled": CASES[2:8]}]


def test_in_place_names_a_case_of_the_fold_that_has_no_mask(roots):
    make_preprocessed(roots, splits=[{"train": ["absent", *CASES], "val": CASES[:1]}])
    with pytest.raises(UserError, match=r"case absent has no mask; add absent\.nii\.gz"):
        split_in_place(500, SplitOptions(labeled="1"), overwrite=True)


def test_in_place_again_gives_the_same_and_needs_no_overwrite(roots):
    folder = make_preprocessed(roots)
    split_in_place(500, SplitOptions(labeled="4", test="2"))
    before = read_splits(folder)
    assert before == [{"train": CASES[:4], "val": CASES[:4], "unlabeled": CASES[4:8]}]
    split_in_place(500, SplitOptions(labeled="4", test="2"))
    assert read_splits(folder) == before
    # without --test the former test cases do not become training cases
    split_in_place(500, SplitOptions(labeled="1"), overwrite=True)
    assert read_splits(folder) == [{"train": CASES[:1], "val": CASES[:1], "unlabeled": CASES[1:8]}]


@pytest.mark.parametrize(
    ("options", "fold", "test", "left_out"),
    [
        ({"labeled": "3"}, 0, CASES[8:], []),
        ({"labeled": "6", "folds": 2}, 0, CASES[8:], []),
        ({"labeled": "1"}, 1, CASES[8:], ["case_06", "case_07"]),  # the other fold, to which two cases were unknown
        ({"labeled": "2", "test": "3"}, 0, CASES[7:], []),
        ({"labeled": "2", "test": "1"}, 0, CASES[9:], []),
    ],
    ids=["again", "folds", "other fold", "more tests", "fewer tests"],
)
def test_a_second_split_in_place_forgets_no_case(roots, options, fold, test, left_out):
    """Fold "all" leaves out what split.json calls test or left_out, whatever the split was before."""
    folder = make_preprocessed(roots)
    split_in_place(500, SplitOptions(labeled="4", test="2"))
    splits = [*(read_splits(folder) or []), {"train": [*CASES[:5], CASES[9]], "val": [CASES[5], CASES[8]]}]
    (folder / "splits_final.json").write_text(json.dumps(splits))
    report = split_in_place(500, SplitOptions(**options), fold=fold, overwrite=True)
    cases = json.loads((folder / "split.json").read_text())["cases"]
    assert (cases["test"], cases["left_out"]) == (test, left_out)
    assert sorted(case for of_role in cases.values() for case in of_role) == CASES
    held_out = {*held_out_in_place(folder, read_splits(folder), "all")}
    assert held_out == {*test, *left_out} and not held_out & {j for i in report.folds for k in i.values() for j in k}
    assert any("2 test cases of the split before" in i for i in report.notes) == ("test" not in options)


def test_cases_that_an_own_fold_does_not_name_are_left_out(roots):
    folder = make_preprocessed(roots, splits=[{"train": CASES[:4], "val": CASES[4:6]}])
    split_in_place(500, SplitOptions(labeled="2"), overwrite=True)
    assert json.loads((folder / "split.json").read_text())["cases"]["left_out"] == CASES[6:]


@pytest.mark.parametrize("options", [{"labeled": "2"}, {"labeled": "2", "test": "3"}, {"labeled": "5", "folds": 5}])
def test_in_place_and_audit_count_cases_alike(roots, options):
    make_raw(roots, test=["case_90", "case_91"])
    folder = make_preprocessed(roots)
    report = split_in_place(500, SplitOptions(**options))
    counts = {"labelled": 0, "unlabelled": len(report.division.unlabeled), "test": len(report.division.test)}
    assert counts["test"] == (5 if "test" in options else 2)
    for use, fold in zip(uses_of(open_raw_dataset(500), folder), report.folds, strict=True):
        assert {key: len(use.cases[key]) for key in counts} == counts | {"labelled": len(fold["train"])}


def test_in_place_protocol_uses_its_cases_only(roots):
    protocol = get_protocol("isles22-5")
    everyone = [*protocol.train, *protocol.validation, *protocol.test]
    folder = make_preprocessed(roots, cases=everyone)
    split_in_place(500, SplitOptions(protocol=get_protocol("isles22-5")))
    (fold,) = read_splits(folder) or []
    assert fold["val"] == protocol.validation
    assert fold["train"] + fold["unlabeled"] == protocol.train


def test_in_place_refuses_what_it_cannot_do(roots):
    with pytest.raises(UserError, match="no dataset"):
        split_in_place(500, SplitOptions(labeled="2"))
    raw = make_raw(roots)
    with pytest.raises(UserError, match="no preprocessed dataset"):
        split_in_place(500, SplitOptions(labeled="2"))
    make_preprocessed(roots)
    with pytest.raises(UserError, match="-f 1"):
        split_in_place(500, SplitOptions(labeled="2"), fold=1)
    (raw / "imagesUn").mkdir()
    with pytest.raises(UserError, match="imagesUn already"):
        split_in_place(500, SplitOptions(labeled="2"))


# --- predicted masks


def mark_predicted(folder: Path, cases) -> None:
    """As ``pseudo-label`` does it, and nnU-Net's planning, which copies dataset.json."""
    content = json.loads((folder / "dataset.json").read_text())
    (folder / "dataset.json").write_text(json.dumps(content | {"pseudo_labels": {"cases": list(cases)}}))


@pytest.mark.parametrize("seed", [None, 1, 2])
def test_a_predicted_mask_becomes_no_reference(roots, seed):
    """Neither the first cases nor the last, and none that is drawn."""
    predicted = {*CASES[:2], *CASES[7:]}
    mark_predicted(make_raw(roots), predicted)
    mark_predicted(make_preprocessed(roots), predicted)
    options = SplitOptions(labeled="2", test="3", seed=seed)
    for split in (split_into_new_dataset(500, 501, options), split_in_place(500, options)):
        assert predicted <= {*split.division.unlabeled}
        assert (len(split.division.labeled), len(split.division.test)) == (2, 3)
        assert any("5 cases whose masks are predictions are unlabelled: case_00" in note for note in split.notes)
    new = open_raw_dataset(501)
    assert not predicted & {*new.labels("Tr"), *new.labels("Ts")}
    assert "pseudo_labels" not in new.dataset_json and "pseudo_labels" in open_raw_dataset(500).dataset_json
    with pytest.raises(UserError, match="--labeled 6: there are only 5 cases"):
        split_into_new_dataset(500, 502, SplitOptions(labeled="6"))


@pytest.mark.parametrize("role", ["labeled_list", "test", "validation", "protocol", "labelsTs"])
def test_a_predicted_mask_that_is_named_as_a_reference_is_refused(roots, tmp_path, role):
    protocol = get_protocol("isles22-5")
    cases = [*protocol.train, *protocol.validation, *protocol.test] if role == "protocol" else CASES
    predicted = protocol.validation[0] if role == "protocol" else CASES[9]
    test = [predicted] if role == "labelsTs" else []
    mark_predicted(make_raw(roots, training=[i for i in cases if i not in test], test=test), [predicted])
    mark_predicted(make_preprocessed(roots, cases=cases, splits=[{"train": CASES[:9], "val": CASES[9:]}]), [predicted])
    file = tmp_path / "list.txt"
    file.write_text(f"{CASES[0]}\n{predicted}\n")
    options = {
        "labeled_list": {"labeled_list": file},
        "test": {"labeled": "1", "test": str(file)},
        "protocol": {"protocol": protocol},
    }.get(role, {"labeled": "2"})
    match = f"{predicted}: labelled, validation or test cases, but .* their masks are predictions"
    if role not in ("validation", "labelsTs"):
        (roots["nnUNet_preprocessed"] / "Dataset500_Toy" / "splits_final.json").unlink()
    if role != "validation":
        with pytest.raises(UserError, match=match):
            split_into_new_dataset(500, 501, SplitOptions(**options))
        assert not list(roots["nnUNet_raw"].glob("*501*"))
    if role != "labelsTs":
        with pytest.raises(UserError, match=match):
            split_in_place(500, SplitOptions(**options), overwrite=True)


# --- the command


def command(*arguments: str) -> None:
    parser = argparse.ArgumentParser()
    split_cli.add_arguments(parser)
    split_cli.run(parser.parse_args(arguments))


def test_command_says_what_was_written_and_what_comes_next(roots, capsys):
    make_raw(roots)
    command("-d", "500", "-t", "501", "--labeled", "20%", "--test", "3", "--seed", "1")
    printed = capsys.readouterr().out
    assert "Dataset501_Toy_1labeled: 1 labelled, 6 unlabelled, 0 validation, 3 test cases" in printed
    assert printed.splitlines()[-1].startswith("next: nnunet-dycon audit -d 501; nnUNetv2_plan_and_preprocess -d 501")


def test_command_says_what_the_folds_hold(roots, capsys):
    make_raw(roots)
    command("-d", "500", "-t", "501", "--labeled", "5", "--folds", "5")
    printed = capsys.readouterr().out
    assert "folds 0 to 4 train and validate on 4 and 1, 4 and 1, 4 and 1, 4 and 1, 4 and 1 of the labelled" in printed
    assert printed.splitlines()[-1].endswith(
        "for fold in 0 1 2 3 4; do nnUNetv2_train 501 3d_fullres $fold -tr nnUNetTrainerDyCON --npz; done"
    )


def test_command_in_place_warns_on_stderr(roots, capsys):
    make_preprocessed(roots)
    (roots["nnUNet_preprocessed"] / "Dataset500_Toy" / "nnUNetPlans_2d").mkdir()
    command("-d", "500", "--in-place", "--labeled", "2")
    printed = capsys.readouterr()
    assert "warning: the dataset was planned with all its masks" in printed.err
    assert printed.out.splitlines()[-1].endswith("nnUNetv2_train 500 2d 0 -tr nnUNetTrainerDyCON")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--labeled", "2"], "give -t"),
        (["--labeled", "2", "--in-place", "-t", "501"], "makes no new dataset"),
        (["--labeled", "2", "-t", "501", "--overwrite"], "with --in-place only"),
        (["--labeled", "2", "-t", "501", "-f", "0"], "with --in-place only"),
        (["--labeled", "2", "-t", "501", "--name", "../x"], "no part of a folder name"),
        (["--labeled", "2", "--in-place", "--folds", "2", "-f", "1"], "--folds writes all folds"),
        (["--protocol", "la-11", "-t", "501"], "unknown protocol"),
    ],
)
def test_command_refuses_options_without_effect(roots, arguments, message):
    make_raw(roots)
    with pytest.raises(UserError, match=message):
        command("-d", "500", *arguments)


def test_help_is_printed(capsys):
    with pytest.raises(SystemExit):
        command("--help")
    assert "pancreas-mcnet-20" in capsys.readouterr().out.replace("\n", "").replace(" ", "")

"""The audit: what it must find, and what it must not complain about."""

from __future__ import annotations

import argparse
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from scipy import ndimage

from nnunet_dycon.cli import audit as audit_cli
from nnunet_dycon.errors import UserError
from nnunet_dycon.tools.audit.run import AuditReport, audit_dataset
from nnunet_dycon.tools.audit.similarity import aligned_correlation, signature_of
from nnunet_dycon.tools.split.division import SplitOptions
from nnunet_dycon.tools.split.run import split_in_place, split_into_new_dataset

LA = Path(__file__).parents[2].parent / "shared" / "data" / "la"
SHAPE = (16, 20, 24)


def scan(seed: int, shape=SHAPE) -> np.ndarray:
    """Texture that no two seeds share."""
    return ndimage.gaussian_filter(np.random.default_rng(seed).normal(size=shape), 1.0).astype(np.float32) * 100


def mask(seed: int, shape=SHAPE) -> np.ndarray:
    """A few voxels at random places."""
    return (np.random.default_rng(1000 + seed).random(shape) > 0.99).astype(np.uint8)


class Raw:
    """A raw dataset that is written file by file."""

    def __init__(self, root: Path, name="Dataset500_Toy", labels=None, channels=1, ending=".nii.gz"):
        self.folder, self.ending = root / name, ending
        self.folder.mkdir(parents=True)
        content = {
            "channel_names": {str(i): "MRI" for i in range(channels)},
            "labels": labels or {"background": 0, "lesion": 1},
            "numTraining": 0,
            "file_ending": ending,
        }
        (self.folder / "dataset.json").write_text(json.dumps(content))

    def put(self, name: str, voxels: np.ndarray, spacing=(1.0, 1.0, 1.0), origin=(0.0, 0.0, 0.0)) -> Path:
        """Write a volume; spacing and origin as (x, y, z)."""
        path = self.folder / f"{name}{self.ending}"
        path.parent.mkdir(exist_ok=True)
        image = sitk.GetImageFromArray(voxels)
        image.SetSpacing(spacing)
        image.SetOrigin(origin)
        sitk.WriteImage(image, str(path))
        return path

    def add(self, part: str, case: str, seed: int) -> None:
        """A scan; with its mask unless it is unlabelled."""
        self.put(f"images{part}/{case}_0000", scan(seed))
        if part != "Un":
            self.put(f"labels{part}/{case}", mask(seed))


@pytest.fixture
def roots(tmp_path, monkeypatch):
    for name in ("nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results"):
        (tmp_path / name).mkdir()
        monkeypatch.setenv(name, str(tmp_path / name))
    return tmp_path


@pytest.fixture
def raw(roots) -> Raw:
    """2 labelled, 2 unlabelled, 2 test cases, all different."""
    dataset = Raw(roots / "nnUNet_raw")
    for seed, (part, case) in enumerate(
        [("Tr", "lab1"), ("Tr", "lab2"), ("Un", "unl1"), ("Un", "unl2"), ("Ts", "tst1"), ("Ts", "tst2")]
    ):
        dataset.add(part, case, seed)
    return dataset


def write_splits(roots: Path, *folds: dict) -> Path:
    folder = roots / "nnUNet_preprocessed" / "Dataset500_Toy"
    folder.mkdir(exist_ok=True)
    (folder / "splits_final.json").write_text(json.dumps(list(folds)))
    return folder


def found(report: AuditReport) -> list[tuple[str, str, list[str]]]:
    """Findings without notes."""
    return [(i.severity, i.code, sorted(i.cases)) for i in report.findings if i.severity != "note"]


# --- sound datasets


def test_sound_dataset_has_no_finding(raw, roots):
    write_splits(roots, {"train": ["lab1"], "val": ["lab2"]})
    report = audit_dataset(500)
    assert report.sound
    assert found(report) == []
    assert report.counts == {"fold 0": {"labelled": 1, "unlabelled": 2, "validation": 1, "test": 2}}


def test_no_preprocessed_folder_is_needed(raw, monkeypatch):
    monkeypatch.delenv("nnUNet_preprocessed")
    monkeypatch.delenv("nnUNet_results")
    report = audit_dataset("Dataset500_Toy")
    assert report.sound
    assert report.findings[-1].code == "not-preprocessed"


def test_dataset_made_by_split_is_sound(roots):
    source = Raw(roots / "nnUNet_raw")
    for seed in range(6):
        source.add("Tr", f"case{seed}", seed)
    split_into_new_dataset(500, 501, SplitOptions(labeled="2", test="2"))
    report = audit_dataset(501)
    assert found(report) == []
    assert [i.code for i in report.findings if i.code.startswith("validation")] == ["validation-on-training"]
    assert report.counts == {"fold 0": {"labelled": 2, "unlabelled": 2, "validation": 0, "test": 2}}


def test_two_processes_find_the_same_as_one(raw):
    raw.put("imagesTs/tst3_0000", scan(0))
    assert audit_dataset(500, num_processes=2) == audit_dataset(500, num_processes=1)


# --- names


@pytest.mark.parametrize(("one", "other"), [("Tr", "Un"), ("Tr", "Ts"), ("Un", "Ts")])
def test_name_in_two_folders_is_a_leak(raw, one, other):
    raw.add(one, "twin", 50)
    raw.put(f"images{other}/twin_0000", scan(51))
    assert ("leak", "name-overlap", ["twin"]) in found(audit_dataset(500))


@pytest.mark.parametrize(
    "fold",
    [
        {"train": ["lab1", "unl1"], "val": ["lab2"]},  # imagesUn
        {"train": ["lab1"], "val": ["lab2", "unl1"]},
        {"train": ["lab1", "lab2"], "val": ["lab2"], "unlabeled": ["lab1"]},
    ],
)
def test_unlabelled_case_in_train_or_val_is_a_leak(raw, roots, fold):
    write_splits(roots, fold)
    report = audit_dataset(500)
    assert not report.sound
    assert "name-overlap" in [finding.code for finding in report.findings]


def test_test_case_in_a_fold_is_a_leak(raw, roots):
    write_splits(roots, {"train": ["lab1", "tst1"], "val": ["lab2"]}, {"train": ["lab1"], "val": ["tst2"]})
    leaks = [finding for finding in audit_dataset(500).findings if finding.severity == "leak"]
    assert [(leak.code, leak.cases) for leak in leaks] == [("name-overlap", ["tst1"]), ("name-overlap", ["tst2"])]
    assert "fold 1 cases are validation and test" in leaks[1].message


def test_validation_that_shares_some_cases_with_training_is_a_leak_but_not_if_it_is_all_of_them(raw, roots):
    write_splits(roots, {"train": ["lab1"], "val": ["lab1", "lab2"]})
    assert found(audit_dataset(500)) == [("leak", "name-overlap", ["lab1"])]
    write_splits(roots, {"train": ["lab1", "lab2"], "val": ["lab1", "lab2"]})
    assert audit_dataset(500).sound


def test_case_of_a_fold_without_images_is_an_error(raw, roots):
    write_splits(roots, {"train": ["lab1", "gone"], "val": ["lab2"]})
    assert found(audit_dataset(500)) == [("error", "unknown-case", ["gone"])]


def test_validation_cases_of_split_json_count_without_preprocessed_folder(raw, monkeypatch):
    monkeypatch.delenv("nnUNet_preprocessed")
    raw.put("imagesTr/lab2_0000", scan(2))  # the image of unl1
    cases = {"labeled": ["lab1"], "unlabeled": ["unl1", "unl2"], "validation": ["lab2"], "test": ["tst1", "tst2"]}
    (raw.folder / "split.json").write_text(json.dumps({"cases": cases}))
    report = audit_dataset(500)
    assert found(report) == [("leak", "shared-content", ["lab2", "unl1"])]
    assert report.counts["split.json"]["validation"] == 1


@pytest.mark.parametrize("content", ["{", "[]", '{"cases": {"labeled": 1}}'])
def test_broken_split_json_is_named(raw, content):
    (raw.folder / "split.json").write_text(content)
    with pytest.raises(UserError, match=r"split\.json"):
        audit_dataset(500)


# --- content


@pytest.mark.parametrize(
    ("part", "severity"), [("Tr", "warning"), ("Un", "warning"), ("Ts", "leak")], ids=["labelled", "unlabelled", "test"]
)
@pytest.mark.parametrize("twin_of", ["labelled", "unlabelled"])
def test_identical_image_is_a_leak_across_training_and_test_only(raw, part, severity, twin_of):
    raw.add(part, "twin", 60)
    raw.put(f"images{part}/twin_0000", scan({"labelled": 0, "unlabelled": 2}[twin_of]))
    original = {"labelled": "lab1", "unlabelled": "unl1"}[twin_of]
    assert found(audit_dataset(500)) == [(severity, "shared-content", sorted([original, "twin"]))]


def test_identical_image_in_another_voxel_type_and_header_is_found(raw):
    voxels = np.round(scan(70)).astype(np.int16)
    raw.put("imagesUn/unl3_0000", voxels)
    raw.put("imagesTs/tst3_0000", voxels.astype(np.float64), spacing=(2.0, 1.0, 3.0))
    report = audit_dataset(500)
    assert found(report) == [("leak", "shared-content", ["tst3", "unl3"])]
    assert "have the same image" in report.findings[0].message


def test_one_identical_channel_is_enough_unless_it_is_constant(roots):
    dataset = Raw(roots / "nnUNet_raw", channels=2)
    for i, (part, case) in enumerate([("Tr", "lab1"), ("Ts", "tst1"), ("Ts", "tst2")]):
        dataset.add(part, case, i)
    for part, case, second in (("Tr", "lab1", scan(80)), ("Ts", "tst1", scan(80)), ("Ts", "tst2", scan(81))):
        dataset.put(f"images{part}/{case}_0001", second)
    assert found(audit_dataset(500)) == [("leak", "shared-content", ["lab1", "tst1"])]
    for part, case in (("Tr", "lab1"), ("Ts", "tst1"), ("Ts", "tst2")):
        dataset.put(f"images{part}/{case}_0001", np.zeros(SHAPE, np.float32))
    assert found(audit_dataset(500)) == []


def test_identical_mask_under_another_name_is_a_leak_and_with_the_image_one_finding(raw):
    raw.put("labelsTs/tst1", mask(0))
    (finding,) = audit_dataset(500).findings[:1]
    assert (finding.code, finding.cases) == ("shared-content", ["lab1", "tst1"])
    assert "have the same mask" in finding.message
    raw.put("imagesTs/tst1_0000", scan(0))
    report = audit_dataset(500)
    assert found(report) == [("leak", "shared-content", ["lab1", "tst1"])]
    assert "the same image and the same mask" in report.findings[0].message


def test_identical_masks_without_foreground_are_not_shared_content(raw):
    for case in ("tst1", "tst2"):
        raw.put(f"labelsTs/{case}", np.zeros(SHAPE, np.uint8))
    assert found(audit_dataset(500)) == []


def test_near_duplicate_is_a_leak_in_those_folds_that_separate_it(raw, roots):
    noise = np.random.default_rng(5).normal(0, 3, SHAPE).astype(np.float32)
    raw.put("imagesTr/lab2_0000", 2.5 * scan(0) + noise + 400)
    write_splits(roots, {"train": ["lab1", "lab2"], "val": ["lab1", "lab2"]}, {"train": ["lab1"], "val": ["lab2"]})
    report = audit_dataset(500)
    assert [i for i in found(report) if i[0] == "leak"] == [("leak", "shared-content", ["lab1", "lab2"])]
    assert "nearly the same image" in report.findings[0].message
    assert report.findings[0].message.endswith(", in fold 1")


def copies() -> dict[str, tuple[np.ndarray, tuple[float, ...]]]:
    """What may happen to a scan between two distributions of it: voxels and spacing (z, y, x)."""
    one = scan(7, (40, 48, 56)) + 200
    coarser = ndimage.zoom(one, 0.8, order=1, grid_mode=True, mode="nearest")
    return {
        "cropped": (one[4:, 5:-2, 7:-3], (1, 1, 1)),
        "noisy": (one + np.random.default_rng(1).normal(0, 0.3 * one.std(), one.shape), (1, 1, 1)),
        "windowed and scaled": (np.clip(one, *np.quantile(one, [0.05, 0.95])) / 1000 - 1, (1, 1, 1)),
        "biased": (one * np.linspace(0.7, 1.3, one.shape[2]), (1, 1, 1)),
        "resampled": (coarser, tuple(np.array(one.shape) / coarser.shape)),
    }


def fine(voxels: np.ndarray, target_mm: float, spacing_mm=(1.0, 1.0, 1.0)) -> np.ndarray:
    signature = signature_of(voxels, spacing_mm, target_mm)
    assert signature is not None
    return signature.fine


@pytest.mark.parametrize("name", copies())
def test_copies_of_a_scan_correlate_and_other_scans_do_not(name):
    target_mm = 56 / 96
    voxels, spacing_mm = copies()[name]
    original = fine(scan(7, (40, 48, 56)) + 200, target_mm)
    copy = fine(voxels.astype(np.float32), target_mm, spacing_mm)
    other = fine(scan(8, (40, 48, 56)), target_mm)
    assert aligned_correlation(original, copy) > 0.95
    assert abs(aligned_correlation(other, copy)) < 0.3


def test_correlation_of_a_scan_with_itself_is_one_and_of_flat_scans_is_undefined():
    one = fine(scan(3), 0.25)
    assert aligned_correlation(one, one) == pytest.approx(1, abs=1e-3)
    assert signature_of(np.full(SHAPE, 7, np.float32), (1, 1, 1), 0.25) is None


def test_shift_that_leaves_a_small_overlap_is_no_likeness():
    one, other = scan(1, (30, 30, 30)), scan(2, (30, 30, 30))
    other[:8, :8, :8] = one[-8:, -8:, -8:] * 20  # the same corner, so bright that the correlation peaks there
    assert aligned_correlation(fine(one, 1.0), fine(other, 1.0)) == 0


def test_flat_images_are_compared_as_2d(roots):
    dataset = Raw(roots / "nnUNet_raw")
    for i in range(4):
        dataset.put(f"imagesTr/slice{i}_0000", scan(i, (1, 60, 70)))
        dataset.put(f"labelsTr/slice{i}", mask(i, (1, 60, 70)))
    dataset.put("imagesTs/copy_0000", scan(2, (1, 60, 70))[:, 3:, 5:] * 3 + 1)
    assert found(audit_dataset(500)) == [("leak", "shared-content", ["copy", "slice2"])]


def test_threshold_decides(raw):
    raw.put("imagesUn/unl2_0000", scan(0) + 0.5 * scan(3))
    assert found(audit_dataset(500)) == []
    assert found(audit_dataset(500, threshold=0.7)) == [("warning", "shared-content", ["lab1", "unl2"])]
    with pytest.raises(UserError, match="threshold"):
        audit_dataset(500, threshold=1.5)


# --- masks of unlabelled cases


RAW, PREPROCESSED = "nnUNet_raw/Dataset500_Toy", "nnUNet_preprocessed/Dataset500_Toy"


@pytest.mark.parametrize(
    ("place", "leaks"),
    [
        (f"{RAW}/labelsTr/unl1.nii.gz", True),
        (f"{RAW}/labelsUn/unl1.nii.gz", True),
        (f"{RAW}/labelsUn/site_a/unl1.nii.gz", True),
        (f"{RAW}/labelsTs/unl1.nii.gz", True),
        (f"{RAW}/unl1.nii.gz", True),
        (f"{PREPROCESSED}/gt_segmentations/unl1.nii.gz", True),
        (f"{PREPROCESSED}/nnUNetPlans_3d_fullres/unl1_seg.b2nd", True),
        (f"{PREPROCESSED}/nnUNetPlans_3d_fullres_unlabeled/unl1_seg.npy", True),
        (f"{PREPROCESSED}/nnUNetPlans_2d/unl1.npz", True),
        (f"{PREPROCESSED}/nnUNetPlans_2d/unl1.pkl", True),
        (f"{PREPROCESSED}/nnUNetPlans_3d_fullres_unlabeled/unl1.b2nd", False),
        (f"{PREPROCESSED}/nnUNetPlans_3d_fullres_unlabeled/unl1.pkl", False),
        (f"{PREPROCESSED}/nnUNetPlans_3d_fullres/lab1_seg.b2nd", False),
        (f"{PREPROCESSED}/gt_segmentations/lab1.nii.gz", False),
    ],
)
def test_a_mask_of_an_unlabelled_case_is_a_leak_wherever_it_lies_and_nothing_else_is(raw, roots, place, leaks):
    file = roots / place
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("mask")
    report = audit_dataset(500)
    assert report.sound is not leaks
    if leaks:
        assert ("leak", "mask-of-unlabeled", ["unl1"]) in found(report) and file.name in report.findings[0].message
    else:
        assert found(report) == []


@pytest.mark.parametrize("file", ["1.2.840.7_seg.b2nd", "1.2.840.7.pkl"])
def test_a_name_with_dots_hides_no_mask(raw, roots, file):
    raw.add("Un", "1.2.840.7", 60)
    folder = write_splits(roots, {"train": ["lab1"], "val": ["lab2"]}) / "nnUNetPlans_2d"
    folder.mkdir()
    (folder / file).write_text("mask")
    assert found(audit_dataset(500)) == [("leak", "mask-of-unlabeled", ["1.2.840.7"])]


def test_what_is_preprocessed_of_a_later_test_case_is_a_leak(raw, roots):
    folder = write_splits(roots, {"train": ["lab1"], "val": ["lab2"]}) / "gt_segmentations"
    folder.mkdir()
    for case in ("lab1", "tst1"):
        (folder / f"{case}.nii.gz").write_text("mask")
    assert found(audit_dataset(500)) == [("leak", "mask-of-test", ["tst1"])]


@pytest.fixture
def in_place(roots) -> Raw:
    """5 cases: 2 labelled, 3 unlabelled in place."""
    dataset = Raw(roots / "nnUNet_raw")
    for seed in range(5):
        dataset.add("Tr", f"case{seed}", seed)
    preprocessed = roots / "nnUNet_preprocessed" / "Dataset500_Toy"
    shutil.copytree(dataset.folder / "labelsTr", preprocessed / "gt_segmentations")
    shutil.copy(dataset.folder / "dataset.json", preprocessed)
    return dataset


def test_in_place_split_is_sound_with_a_warning(in_place):
    split_in_place(500, SplitOptions(labeled="2"))
    in_place.put("labelsTr/case4", np.zeros(SHAPE, np.uint8))  # what an unlabelled case's mask holds does not matter
    report = audit_dataset(500)
    assert report.sound
    assert found(report) == [("warning", "in-place", ["case2", "case3", "case4"])]
    assert report.counts == {"fold 0": {"labelled": 2, "unlabelled": 3, "validation": 0, "test": 0}}


def test_test_cases_of_an_in_place_split_are_compared_with_its_training_cases(in_place):
    split_in_place(500, SplitOptions(labeled="2", test="1"))
    in_place.put("imagesTr/case4_0000", scan(3))
    report = audit_dataset(500)
    assert ("leak", "shared-content", ["case3", "case4"]) in found(report)
    assert "case3 (unlabelled) and case4 (test)" in report.findings[0].message


# --- single scans


def test_training_mask_without_foreground_is_a_warning(raw):
    raw.put("labelsTr/lab1", np.zeros(SHAPE, np.uint8))
    report = audit_dataset(500)
    assert report.sound
    assert found(report) == [("warning", "empty-mask", ["lab1"])]


def test_ignored_voxels_are_no_foreground_and_regions_are(roots):
    labels = {"background": 0, "whole": [1, 2], "core": [2], "ignore": 3}
    dataset = Raw(roots / "nnUNet_raw", labels=labels)
    dataset.add("Tr", "lab1", 0)
    dataset.add("Tr", "lab2", 1)
    dataset.put("labelsTr/lab1", 3 * mask(0))
    dataset.put("labelsTr/lab2", 2 * mask(1))
    assert found(audit_dataset(500)) == [("warning", "empty-mask", ["lab1"])]


def test_training_case_without_mask_is_an_error_and_test_case_without_mask_is_not(raw):
    (raw.folder / "labelsTr" / "lab1.nii.gz").unlink()
    (raw.folder / "labelsTs" / "tst1.nii.gz").unlink()
    assert found(audit_dataset(500)) == [("error", "no-mask", ["lab1"])]


@pytest.mark.parametrize(
    ("name", "voxels", "header", "severity", "code"),
    [
        ("labelsTr/lab1", mask(0)[:-1], {}, "error", "grid"),
        ("labelsTr/lab1", mask(0), {"spacing": (1.0, 1.0, 2.0)}, "error", "grid"),
        ("labelsTr/lab1", mask(0), {"origin": (5.0, 0.0, 0.0)}, "warning", "grid-position"),
        ("labelsTs/tst1", mask(4)[:-1], {}, "error", "grid"),
    ],
)
def test_mask_on_another_grid(raw, name, voxels, header, severity, code):
    raw.put(name, voxels, **header)
    case = name.split("/")[1]
    assert found(audit_dataset(500)) == [(severity, code, [case])]


def test_unlabelled_scan_with_another_grid_or_number_of_channels_is_an_error(roots):
    dataset = Raw(roots / "nnUNet_raw", channels=2)
    for channel in (0, 1):
        dataset.put(f"imagesUn/good_000{channel}", scan(channel))
        dataset.put(f"imagesUn/grid_000{channel}", scan(10 + channel, (16, 20, 24 + channel)))
    dataset.put("imagesUn/single_0000", scan(20))
    report = audit_dataset(500)
    assert sorted(found(report)) == [("error", "channels", ["single"]), ("error", "grid", ["grid"])]


@pytest.mark.parametrize("broken", [lambda data: data[:-200], lambda data: b"no image", lambda data: b""])
def test_truncated_and_other_unreadable_files_are_errors_and_the_others_are_still_checked(raw, broken):
    path = raw.folder / "imagesUn" / "unl1_0000.nii.gz"
    path.write_bytes(broken(path.read_bytes()))
    raw.put("imagesTs/tst1_0000", scan(1))
    report = audit_dataset(500)
    assert found(report) == [("leak", "shared-content", ["lab2", "tst1"]), ("error", "unreadable", ["unl1"])]
    assert "unl1_0000.nii.gz" in report.findings[1].message


def test_scan_that_is_not_finite_is_an_error(roots):
    dataset = Raw(roots / "nnUNet_raw", ending=".mha")  # SimpleITK reads NaN as 0 from NIfTI files
    voxels = scan(3)
    voxels[2, 3, 4] = np.nan
    dataset.put("imagesUn/unl1_0000", voxels)
    dataset.put("imagesUn/unl2_0000", scan(4))
    assert found(audit_dataset(500)) == [("error", "not-finite", ["unl1"])]


def test_missing_dataset_is_named(raw):
    with pytest.raises(UserError, match="777"):
        audit_dataset(777)


# --- the command


def command(*arguments: str) -> int:
    parser = argparse.ArgumentParser()
    audit_cli.add_arguments(parser)
    return audit_cli.run(parser.parse_args(["-np", "1", *arguments]))


def test_command_exits_with_1_on_a_leak_and_writes_json(raw, tmp_path, capsys):
    assert command("-d", "500") == 0
    assert capsys.readouterr().out.splitlines()[-1] == "Dataset500_Toy is sound: 0 leaks, 0 errors, 0 warnings"
    raw.put("imagesTs/tst1_0000", scan(0))
    assert command("-d", "500", "-o", str(tmp_path / "audit.json")) == 1
    printed = capsys.readouterr().out
    assert "LEAK [shared-content] lab1 (labelled) and tst1 (test) have the same image" in printed
    assert printed.splitlines()[-1] == "Dataset500_Toy is NOT sound: 1 leak, 0 errors, 0 warnings"
    written = json.loads((tmp_path / "audit.json").read_text())
    assert written["sound"] is False
    assert written["findings"][0]["cases"] == ["lab1", "tst1"]
    assert written["findings"][0]["fix"]


# --- real data

# the near-duplicates, two pairs that look like two visits of one patient, and others
_LA_CASES = [
    "0RZDK210BSMWAA6467LU",
    "CMPXO4J23G58J53Q98SZ",
    "1D7CUD1955YZPGK8XHJX",
    "Q7J0WYM695R9MA285ZW0",
    "8GYK8A9MBRC9TV0FVSRA",
    "9DQYTIU00I4JC0OEOKQQ",
    "06SR5RBREL16DQ6M8LWS",
    "UZUZZT2W9IUSHL6ASOX3",
]


@pytest.mark.shared_data
@pytest.mark.parametrize(("part", "severity"), [("Un", "warning"), ("Ts", "leak")])
def test_near_duplicate_of_la_is_found_and_no_other_pair(roots, part, severity):
    if not LA.is_dir():
        pytest.skip(f"{LA} is missing")
    dataset = Raw(roots / "nnUNet_raw", labels={"background": 0, "left atrium": 1})
    for case in _LA_CASES:
        case_part = part if case.startswith("CMPX") else "Tr"
        for kind, suffix in (("images", "_0000"), ("labels", "")):
            if kind == "images" or case_part != "Un":
                target = dataset.folder / f"{kind}{case_part}" / f"LA_{case}{suffix}.nii.gz"
                target.parent.mkdir(exist_ok=True)
                target.symlink_to(LA / kind / f"LA_{case}.nii.gz")
    report = audit_dataset(500)
    assert found(report) == [(severity, "shared-content", ["LA_0RZDK210BSMWAA6467LU", "LA_CMPXO4J23G58J53Q98SZ"])]
    assert report.sound is (severity == "warning")


# --- labelled against unlabelled scans


def test_unlabelled_scans_of_another_kind_are_told_in_a_table(roots):
    raw = Raw(roots / "nnUNet_raw")
    for site in ("site_bright", "site_coarse"):
        (raw.folder / "imagesUn" / site).mkdir(parents=True)
    for seed in range(2):
        raw.add("Tr", f"lab{seed}", seed)
        raw.add("Un", f"a{seed}", 10 + seed)
        raw.put(f"imagesUn/site_bright/b{seed}_0000", scan(20 + seed) + 9000)
        raw.put(f"imagesUn/site_coarse/c{seed}_0000", scan(30 + seed), spacing=(3, 3, 3))
    report = audit_dataset(500)
    messages = [i.message for i in report.findings if i.code == "unlike-labeled"]
    assert len(messages) == 3 and report.sound
    assert any(i.startswith("site_coarse") and "voxels of 3 x 3 x 3 mm, not 1 x 1 x 1" in i for i in messages)
    assert any(i.startswith("site_coarse") and "Crop them to the region" in i for i in messages)
    assert any(i.startswith("site_bright") and "intensities of channel MRI" in i for i in messages)
    assert [line.split()[0] for line in report.comparison.splitlines()[2:]] == [
        "labelled", "imagesUn", "site_bright", "site_coarse"
    ]  # fmt: skip
    assert report.comparison.splitlines()[2] in report.as_text()
    assert report.as_json()["counts"]["the image folders"]["unlabeled"] == 6


def test_a_case_of_two_sources_is_refused(raw):
    for site in ("site_a", "site_b"):
        (raw.folder / "imagesUn" / site).mkdir()
        shutil.copy(raw.folder / "imagesUn/unl1_0000.nii.gz", raw.folder / "imagesUn" / site / "twice_0000.nii.gz")
    with pytest.raises(UserError, match=r"several folders in .*imagesUn have files of twice; name every scan"):
        audit_dataset(500)


def test_masks_among_unlabelled_scans_are_found_unless_all_scans_are_like_masks(raw):
    ball = np.zeros(SHAPE, np.uint8)
    ball[4:12, 4:12, 4:12] = 255
    raw.put("imagesUn/unl1_0000", ball)
    several = ball.copy()
    several[5:10, 5:10, 5:10] = 100
    raw.put("imagesUn/unl2_0000", several)
    report = audit_dataset(500)
    assert ("error", "mask-as-scan", ["unl1"]) in found(report)
    assert ("warning", "mask-as-scan", ["unl2"]) in found(report)
    for case in ("lab1", "lab2"):
        raw.put(f"imagesTr/{case}_0000", ball)
    assert "mask-as-scan" not in {i.code for i in audit_dataset(500).findings}


def test_labelled_cases_without_any_foreground_are_an_error(raw):
    for case in ("lab1", "lab2"):
        raw.put(f"labelsTr/{case}", np.zeros(SHAPE, np.uint8))
    report = audit_dataset(500)
    assert not report.sound and ("error", "no-foreground", ["lab1", "lab2"]) in found(report)


def test_a_dataset_without_unlabelled_cases_is_called_so(raw):
    shutil.rmtree(raw.folder / "imagesUn")
    finding = next(i for i in audit_dataset(500).findings if i.code == "no-unlabeled")
    assert str(raw.folder / "imagesUn") in finding.message and "nnUNetTrainerSupervised" in finding.fix


def test_files_that_nnunet_does_not_see_are_named(raw):
    for name in ("imagesTr/lab3_0000.NII.GZ", "imagesUn/._unl1_0000.nii.gz", "imagesUn/odd.nii.gz"):
        (raw.folder / name).touch()
    assert [i[:2] for i in found(audit_dataset(500))] == [("error", "file-name"), ("warning", "file-name")]

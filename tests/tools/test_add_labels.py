"""Newly labelled cases: checked all, moved all or none, and named in the right places afterwards."""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from nnunetv2.preprocessing.preprocessors.default_preprocessor import DefaultPreprocessor
from nnunetv2.run.run_training import get_trainer_from_args
from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

from nnunet_dycon.cli import main
from nnunet_dycon.dataset.raw_dataset import label_values
from nnunet_dycon.errors import UserError
from nnunet_dycon.tools import add_labels as run
from nnunet_dycon.tools.add_labels import add_labels, preprocessing_commands, splits_with
from tests.conftest import LABELED as BALLS
from tests.conftest import blob, write_image

LABELED, UNLABELED = ("case_a", "case_b"), ("scan_1", "scan_2", "scan_3")
SHAPE = (4, 5, 6)


@dataclass(frozen=True)
class Toy:
    """A raw dataset, its preprocessed folder and a folder for new masks."""

    root: Path
    ending: str = ".nii.gz"
    channels: int = 1

    @property
    def raw(self) -> Path:
        return self.root / "raw" / "Dataset700_Toy"

    @property
    def preprocessed(self) -> Path:
        return self.root / "preprocessed" / "Dataset700_Toy"

    @property
    def masks(self) -> Path:
        return self.root / "masks"

    def image(self, part: str, case: str, channel: int = 0) -> Path:
        return self.raw / f"images{part}" / f"{case}_{channel:04d}{self.ending}"

    def label(self, case: str) -> Path:
        return self.raw / "labelsTr" / f"{case}{self.ending}"

    def mask(self, case: str, **changes) -> Path:
        """Write a mask for a case, right but for the changes."""
        file = self.masks / f"{case}{self.ending}"
        write(file, mask_voxels(), **changes)
        return file

    def add(self):
        return add_labels(700, self.masks)

    def state(self) -> dict[str, bytes]:
        """Every file with its content."""
        return {str(i.relative_to(self.root)): i.read_bytes() for i in sorted(self.root.rglob("*")) if i.is_file()}


def mask_voxels() -> np.ndarray:
    voxels = np.zeros(SHAPE, np.uint8)
    voxels[1:3, 1:4, 2:4] = 1
    return voxels


def write(file, voxels, spacing=(1.0, 1.5, 2.0), origin=(3.0, -4.0, 5.0), direction=(1, 0, 0, 0, 1, 0, 0, 0, 1)):
    file.parent.mkdir(parents=True, exist_ok=True)
    image = sitk.GetImageFromArray(voxels)
    image.SetSpacing(spacing)
    image.SetOrigin(origin)
    image.SetDirection([float(i) for i in direction])
    sitk.WriteImage(image, str(file))


def make(root: Path, ending: str = ".nii.gz", channels: int = 1, labels=None) -> Toy:
    toy = Toy(root, ending, channels)
    rng = np.random.default_rng(0)
    for part, cases in (("Tr", LABELED), ("Un", UNLABELED), ("Ts", ("test_1",))):
        for case in cases:
            for channel in range(channels):
                write(toy.image(part, case, channel), rng.normal(100, 10, SHAPE).astype(np.float32))
    for case in LABELED:
        write(toy.label(case), mask_voxels())
    content = {
        "channel_names": {str(i): "MRI" for i in range(channels)},
        "labels": labels or {"background": 0, "lesion": 1},
        "numTraining": len(LABELED),
        "file_ending": ending,
        "licence": "kept",
    }
    (toy.raw / "dataset.json").write_text(json.dumps(content))
    unlabeled = toy.preprocessed / "nnUNetPlans_3d_fullres_unlabeled"
    unlabeled.mkdir(parents=True)
    for case in UNLABELED:
        (unlabeled / f"{case}.b2nd").write_text("image")
        (unlabeled / f"{case}.json").write_text("{}")
    toy.masks.mkdir()
    return toy


@pytest.fixture
def toy(tmp_path, monkeypatch) -> Toy:
    for name in ("raw", "preprocessed", "results"):
        monkeypatch.setenv(f"nnUNet_{name}", str(tmp_path / name))
    return make(tmp_path)


@pytest.mark.parametrize(("ending", "channels"), [(".nii.gz", 1), (".nrrd", 3), (".mha", 2)])
def test_images_move_masks_are_copied_and_the_books_are_kept(tmp_path, monkeypatch, ending, channels):
    for name in ("raw", "preprocessed", "results"):
        monkeypatch.setenv(f"nnUNet_{name}", str(tmp_path / "in" / name))
    toy = make(tmp_path / "in", ending, channels)
    before = {(case, i): toy.image("Un", case, i).read_bytes() for case in UNLABELED for i in range(channels)}
    mask = toy.mask("scan_2")
    report = toy.add()
    assert (report.cases, report.warnings) == (["scan_2"], [])
    for i in range(channels):
        assert toy.image("Tr", "scan_2", i).read_bytes() == before["scan_2", i]
        assert not toy.image("Un", "scan_2", i).exists()
        assert toy.image("Un", "scan_1", i).read_bytes() == before["scan_1", i]
    assert toy.label("scan_2").read_bytes() == mask.read_bytes()
    content = json.loads((toy.raw / "dataset.json").read_text())
    assert content["numTraining"] == 3 and content["licence"] == "kept"
    left = sorted(i.name for i in (toy.preprocessed / "nnUNetPlans_3d_fullres_unlabeled").iterdir())
    assert left == ["scan_1.b2nd", "scan_1.json", "scan_3.b2nd", "scan_3.json"]
    assert not [i for i in toy.raw.rglob(".*") if i.is_file()], "no temporary file stays"


def test_hard_links_stay_and_a_later_change_of_the_users_mask_does_not_reach_the_dataset(toy):
    original = toy.root / "download.nii.gz"
    os.link(toy.image("Un", "scan_1"), original)
    mask = toy.mask("scan_1")
    expected = mask.read_bytes()
    toy.add()
    assert toy.image("Tr", "scan_1").samefile(original)
    mask.write_bytes(b"changed in place")
    assert toy.label("scan_1").read_bytes() == expected


def test_a_relative_symbolic_link_still_points_to_its_file(toy):
    target = toy.root / "elsewhere.nii.gz"
    toy.image("Un", "scan_1").rename(target)
    toy.image("Un", "scan_1").symlink_to(os.path.relpath(target, toy.raw / "imagesUn"))
    toy.mask("scan_1")
    toy.add()
    assert toy.image("Tr", "scan_1").is_symlink() and toy.image("Tr", "scan_1").samefile(target)


TURNED = (0, -1, 0, 1, 0, 0, 0, 0, 1)


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        (lambda toy: toy.mask("scan_2", origin=(3.0, -4.0, 5.4)), "masks/scan_2.nii.gz has another origin"),
        (lambda toy: toy.mask("scan_2", direction=TURNED), "masks/scan_2.nii.gz has another direction"),
        (lambda toy: toy.mask("scan_2", spacing=(1.0, 1.5, 2.1)), "masks/scan_2.nii.gz has spacing"),
        (lambda toy: write(toy.masks / "scan_2.nii.gz", mask_voxels()[1:]), "masks/scan_2.nii.gz has shape"),
        (
            lambda toy: write(toy.masks / "scan_2.nii.gz", 2 * mask_voxels()),
            "has the values 2; dataset.json names 0, 1",
        ),
        (
            lambda toy: write(toy.masks / "scan_2.nii.gz", 0.5 * mask_voxels().astype(np.float32)),
            "has the values 0.5; dataset.json names 0, 1",
        ),
        (lambda toy: (toy.masks / "scan_2.nii.gz").write_bytes(b"no image"), "scan_2.nii.gz cannot be read"),
        (lambda toy: cut_off(toy.mask("scan_2")), "scan_2.nii.gz cannot be read"),
        (lambda toy: toy.mask("scan_4"), r"imagesUn has no case scan_4 \(did you mean scan_"),
        (lambda toy: toy.mask("scan_2_0000"), r"imagesUn has no case scan_2_0000 \(did you mean scan_2\?\)"),
        (lambda toy: write(toy.masks / "case_a.nii.gz", 0 * mask_voxels()), r"case_a is labelled already \(imagesTr\)"),
        (lambda toy: toy.mask("test_1"), r"test_1 is a test case \(imagesTs\)"),
        (lambda toy: write(toy.masks / "scan_2.nrrd", mask_voxels()), r"scan_2.nrrd is no mask CASE.nii.gz"),
        (
            lambda toy: (toy.mask("scan_2"), write(toy.label("scan_2"), 0 * mask_voxels())),
            "labelsTr/scan_2.nii.gz exists",
        ),
        (
            lambda toy: (toy.mask("scan_2"), toy.image("Un", "scan_2").rename(toy.image("Un", "scan_2", 1))),
            "scan_2_0001.nii.gz; number them from 0000",
        ),
        (
            lambda toy: (toy.mask("scan_2"), write(toy.image("Un", "scan_2", 1), np.ones(SHAPE, np.float32))),
            "has 2 channels, dataset.json names 1",
        ),
        (lambda toy: (toy.mask("scan_2"), splits(toy, unlabeled=["scan_2"])), "'unlabeled' in fold 0"),
    ],
)
def test_a_fault_in_one_case_leaves_all_files_where_they_were(toy, fault, message):
    toy.mask("scan_1")
    toy.mask("scan_3")
    fault(toy)
    before = toy.state()
    with pytest.raises(UserError, match=message) as error:
        toy.add()
    assert "nothing was moved" in str(error.value)
    assert toy.state() == before


def cut_off(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-20])


def splits(toy: Toy, unlabeled=()) -> Path:
    file = toy.preprocessed / "splits_final.json"
    file.write_text(json.dumps([{"train": ["case_a"], "val": ["case_b"], "unlabeled": list(unlabeled)}]))
    return file


def test_all_faults_are_named_at_once(toy):
    toy.mask("scan_1", origin=(0.0, 0.0, 0.0))
    toy.mask("scan_2", spacing=(9.0, 9.0, 9.0))
    with pytest.raises(UserError) as error:
        toy.add()
    assert "scan_1.nii.gz has another origin" in str(error.value) and "scan_2.nii.gz has spacing" in str(error.value)


@pytest.mark.parametrize(
    ("folder", "message"),
    [("nowhere", "is no folder"), ("empty", "no mask named CASE.nii.gz"), (None, "no folder outside")],
)
def test_wrong_folders(toy, folder, message):
    (toy.root / "empty").mkdir()
    with pytest.raises(UserError, match=message):
        add_labels(700, toy.root / folder if folder else toy.raw / "labelsTr")


def test_files_that_nnunet_leaves_beside_predictions_are_no_masks(toy):
    toy.mask("scan_1")
    (toy.masks / "plans.json").write_text("{}")
    (toy.masks / ".DS_Store").write_text("")
    assert toy.add().cases == ["scan_1"]


def test_a_mask_without_foreground_is_taken_with_a_warning(toy):
    write(toy.masks / "scan_1.nii.gz", np.zeros(SHAPE, np.uint8))
    report = toy.add()
    assert report.cases == ["scan_1"] and "has no foreground" in report.warnings[0]


def test_regions_and_ignore_label_count_as_known_values():
    labels = {"background": 0, "whole": [1, 2, 3], "core": [2, 3], "enhancing": 3, "ignore": 4}
    assert label_values({"labels": labels}) == [0, 1, 2, 3, 4]


@pytest.mark.parametrize(
    ("step", "call"),
    [
        (step, call)
        for step, calls in (
            ("_copy_mask", 2),
            ("_forget_unlabeled", 1),
            ("write_json", 2),
            ("_move_images", 2),
            ("move", 4),
        )
        for call in range(1, calls + 1)
    ],
)
def test_an_interrupted_run_is_finished_by_the_same_command(tmp_path, monkeypatch, step, call):
    """Stopped before a call of each step; in the end all is as if it had never been stopped."""
    for name in ("raw", "preprocessed", "results"):
        monkeypatch.setenv(f"nnUNet_{name}", str(tmp_path / name))
    toy = make(tmp_path, channels=2)
    splits(toy)
    toy.mask("scan_1")
    toy.mask("scan_2")
    place = shutil if step == "move" else run
    original, calls = getattr(place, step), []

    def stops(*args, **kwargs):
        calls.append(args)
        if len(calls) == call:
            raise KeyboardInterrupt
        return original(*args, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(place, step, stops)
        with pytest.raises(KeyboardInterrupt):
            toy.add()
    assert toy.add().cases == ["scan_1", "scan_2"]
    check_both_added(toy)


def check_both_added(toy: Toy) -> None:
    assert {i.name[:6] for i in (toy.raw / "imagesUn").iterdir()} == {"scan_3"}
    for case in ("scan_1", "scan_2"):
        assert all(toy.image("Tr", case, i).is_file() for i in range(toy.channels)) and toy.label(case).is_file()
    assert json.loads((toy.raw / "dataset.json").read_text())["numTraining"] == 4
    fold = json.loads((toy.preprocessed / "splits_final.json").read_text())[0]
    assert fold["train"] == ["case_a", "scan_1", "scan_2"] and fold["val"] == ["case_b"]


def test_a_file_that_cannot_be_written_is_explained_and_the_run_can_be_finished(toy, monkeypatch):
    toy.mask("scan_1")
    with monkeypatch.context() as patch:
        patch.setattr("shutil.move", lambda *_: (_ for _ in ()).throw(OSError(28, "No space left on device")))
        with pytest.raises(UserError, match=r"No space left on device.*repeat the same command"):
            toy.add()
    assert toy.image("Un", "scan_1").is_file()
    toy.mask("scan_2")
    report = toy.add()
    assert (report.resumed, report.cases) == (["scan_1"], ["scan_1", "scan_2"])
    assert toy.add().cases == ["scan_1", "scan_2"]  # once more is no fault


def test_moving_to_another_file_system_copies_then_deletes(toy, monkeypatch):
    content = toy.image("Un", "scan_1").read_bytes()
    monkeypatch.setattr(os, "rename", lambda *_: (_ for _ in ()).throw(OSError(18, "Invalid cross-device link")))
    toy.mask("scan_1")
    toy.add()
    assert toy.image("Tr", "scan_1").read_bytes() == content and not toy.image("Un", "scan_1").exists()


def test_new_cases_train_in_every_fold_and_validate_in_none():
    folds = [{"train": ["a", "b"], "val": ["c"]}, {"train": ["a"], "val": ["a"]}, {"train": ["a"], "val": ["new"]}]
    new = splits_with(folds, ["new"])
    assert [i["train"] for i in new] == [["a", "b", "new"], ["a", "new"], ["a"]]
    assert [i["val"] for i in new] == [["c"], ["a"], ["new"]]


def test_without_splits_none_is_made(toy):
    toy.mask("scan_1")
    report = toy.add()
    assert not (toy.preprocessed / "splits_final.json").exists()
    assert "there is no splits_final.json" in report.notes[0]


def test_the_record_of_the_split_names_the_added_labels(toy):
    cases = {"labeled": list(LABELED), "unlabeled": list(UNLABELED), "validation": [], "test": ["test_1"]}
    (toy.raw / "split.json").write_text(json.dumps({"cases": cases}))
    toy.mask("scan_2")
    toy.add()
    record = json.loads((toy.raw / "split.json").read_text())
    assert record["cases"]["labeled"] == [*LABELED, "scan_2"]
    assert record["cases"]["unlabeled"] == ["scan_1", "scan_3"] and record["labels_added"] == ["scan_2"]


def test_next_command_names_each_preprocessed_configuration_once(tmp_path):
    for name in ("nnUNetPlans", "nnUNetPlansSmall"):
        configurations = {"2d": {"data_identifier": "p_2d"}, "3d_fullres": {"data_identifier": "p_3d"}}
        (tmp_path / f"{name}.json").write_text(json.dumps({"configurations": configurations}))
    assert "nnUNetv2_plan_and_preprocess -d 7 " in preprocessing_commands(tmp_path, "Dataset007_A")
    (tmp_path / "p_3d").mkdir()
    assert preprocessing_commands(tmp_path, "Dataset007_A") == "nnUNetv2_preprocess -d 7 -c 3d_fullres"


def test_command_on_a_planned_dataset_then_the_new_case_trains(dataset, tmp_path, capsys):
    folds = [{"train": BALLS[:4], "val": BALLS[4:]}]
    (dataset.preprocessed / "splits_final.json").write_text(json.dumps(folds))
    write_image(blob(len(BALLS))[1], tmp_path / "new" / "scan_00.nii.gz")
    assert main(["add-labels", "-d", "901", str(tmp_path / "new"), "-np", "1"]) == 0
    last = capsys.readouterr().out.splitlines()[-1]
    assert "7 labelled, 2 unlabelled. Next: nnUNetv2_preprocess -d 901 -c 3d_fullres" in last
    preprocess_case(dataset, "scan_00")
    trainer = get_trainer_from_args(
        "901", "3d_fullres", 0, "nnUNetTrainerDyCON", "nnUNetPlans", device=torch.device("cpu")
    )
    assert trainer.do_split() == ([*BALLS[:4], "scan_00"], BALLS[4:])
    assert trainer.get_unlabeled_dataset().identifiers == ["scan_01", "scan_02"]
    assert main(["add-labels", "-d", "901", str(tmp_path / "new")]) == 0
    assert "begun or done by an earlier run: scan_00" in capsys.readouterr().out


def preprocess_case(dataset, case: str) -> None:
    """What nnUNetv2_preprocess does, for one labelled case and without worker processes."""
    plans = PlansManager(str(dataset.preprocessed / "nnUNetPlans.json"))
    dataset_json = json.loads((dataset.raw / "dataset.json").read_text())
    DefaultPreprocessor(verbose=False).run_case_save(
        str(dataset.images / case), [str(dataset.raw / "imagesTr" / f"{case}_0000.nii.gz")],
        str(dataset.raw / "labelsTr" / f"{case}.nii.gz"), plans, plans.get_configuration("3d_fullres"), dataset_json,
    )  # fmt: skip

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from nnunetv2.experiment_planning.verify_dataset_integrity import verify_dataset_integrity
from scipy import ndimage

from nnunet_dycon.cli import phantom as cli
from nnunet_dycon.errors import UserError
from nnunet_dycon.tools import phantom
from nnunet_dycon.tools.phantom import MIN_FOREGROUND_VOXELS, PhantomCase, make_case, write_dataset

SIZE = 32


@pytest.fixture(scope="module")
def cases() -> list[PhantomCase]:
    return [make_case(3, index, pool="test", size_voxels=SIZE) for index in range(6)]


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    with pytest.MonkeyPatch.context() as patch:
        raw = tmp_path_factory.mktemp("raw")
        patch.setenv("nnUNet_raw", str(raw))
        patch.delenv("nnUNet_preprocessed", raising=False)
        patch.delenv("nnUNet_results", raising=False)
        return write_dataset(raw, 901, labeled=2, unlabeled=2, test=1, size_voxels=SIZE)


@pytest.fixture
def raw_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("nnUNet_raw", str(tmp_path))
    monkeypatch.setenv("nnUNet_preprocessed", str(tmp_path / "preprocessed"))
    monkeypatch.setenv("nnUNet_results", str(tmp_path / "results"))
    return tmp_path


def read(path: Path) -> np.ndarray:
    return sitk.GetArrayFromImage(sitk.ReadImage(str(path)))


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_case_depends_on_seed_pool_and_index_alone(cases: list[PhantomCase]) -> None:
    again = make_case(3, 0, pool="test", size_voxels=SIZE)
    for first, second in zip(cases[0], again, strict=True):
        np.testing.assert_array_equal(first, second)
    for other in (
        make_case(4, 0, pool="test", size_voxels=SIZE),
        make_case(3, 0, pool="train", size_voxels=SIZE),
        cases[1],
    ):
        assert not np.array_equal(other.segmentation, again.segmentation)


def test_every_case_has_lesions_and_they_lie_in_tissue(cases: list[PhantomCase]) -> None:
    for case in cases:
        assert case.image.dtype == np.int16
        assert set(np.unique(case.segmentation)) == {0, 1}
        assert case.segmentation.sum() >= MIN_FOREGROUND_VOXELS
        assert not case.segmentation[~case.tissue].any()
        assert 0.1 < case.tissue.mean() < 0.6  # there is air around the body


def test_no_threshold_solves_it(cases: list[PhantomCase]) -> None:
    def best_dice(case: PhantomCase) -> float:
        image, lesion = ndimage.gaussian_filter(case.image.astype(float), 0.7), case.segmentation > 0
        masks = [image > level for level in np.percentile(image[case.tissue], range(70, 100))]
        return max(2 * (mask & lesion).sum() / (mask.sum() + lesion.sum()) for mask in masks)

    assert np.mean([best_dice(case) for case in cases]) < 0.7  # even with the best threshold of each case


def test_folders_hold_what_a_semi_supervised_dataset_needs(dataset: Path) -> None:
    assert dataset.name == "Dataset901_Phantom"
    assert names(dataset) == ["dataset.json", "imagesTr", "imagesTs", "imagesUn", "labelsTr", "labelsTs"]
    assert names(dataset / "imagesTr") == ["train_000_0000.nii.gz", "train_001_0000.nii.gz"]
    assert names(dataset / "labelsTr") == ["train_000.nii.gz", "train_001.nii.gz"]
    assert names(dataset / "imagesUn") == ["train_002_0000.nii.gz", "train_003_0000.nii.gz"]
    assert names(dataset / "imagesTs") == ["test_000_0000.nii.gz"]
    assert names(dataset / "labelsTs") == ["test_000.nii.gz"]
    verify_dataset_integrity(str(dataset), num_processes=1)


def test_no_file_holds_the_mask_of_an_unlabelled_case(dataset: Path) -> None:
    masks = [make_case(0, index, size_voxels=SIZE).segmentation for index in (2, 3)]
    files = list(dataset.rglob("*.nii.gz"))
    assert len(files) == 8
    assert not any(np.array_equal(read(path), mask) for path in files for mask in masks)


def test_the_scans_are_the_same_whatever_the_counts(dataset: Path, raw_folder: Path) -> None:
    other = write_dataset(raw_folder, 902, labeled=3, unlabeled=0, test=1, size_voxels=SIZE)
    first = read(dataset / "imagesUn" / "train_002_0000.nii.gz")
    np.testing.assert_array_equal(first, read(other / "imagesTr" / "train_002_0000.nii.gz"))
    case = make_case(0, 2, size_voxels=SIZE)
    np.testing.assert_array_equal(first, case.image)
    np.testing.assert_array_equal(read(other / "labelsTr" / "train_002.nii.gz"), case.segmentation)
    assert sitk.ReadImage(str(other / "imagesTr" / "train_002_0000.nii.gz")).GetSpacing() == (1, 1, 1)
    test_scan = "imagesTs/test_000_0000.nii.gz"
    np.testing.assert_array_equal(read(dataset / test_scan), read(other / test_scan))


def test_an_interrupted_run_leaves_no_dataset_and_can_be_repeated(
    raw_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    options = {"labeled": 1, "unlabeled": 1, "test": 0, "size_voxels": SIZE}
    with monkeypatch.context() as patch:
        patch.setattr(phantom, "generate_dataset_json", interrupted)
        with pytest.raises(KeyboardInterrupt):
            write_dataset(raw_folder, 901, **options)
    assert not list(raw_folder.glob("Dataset*"))
    assert names(write_dataset(raw_folder, 901, **options) / "imagesUn") == ["train_001_0000.nii.gz"]
    assert names(raw_folder) == ["Dataset901_Phantom"]


@pytest.mark.parametrize(
    ("number", "name", "message"),
    [
        (901, "Phantom", "-d 901 is in use by Dataset901_Phantom"),
        (902, "Phantom", "-d 902 is in use by Dataset902_Liver"),
        (0, "Phantom", "no dataset ID"),
        (1000, "Phantom", "no dataset ID"),
        (903, "a/b", "--name 'a/b'"),
    ],
)
def test_what_can_be_no_new_dataset_is_refused(raw_folder: Path, number: int, name: str, message: str) -> None:
    (raw_folder / "Dataset901_Phantom").mkdir()
    (raw_folder / "preprocessed" / "Dataset902_Liver").mkdir(parents=True)
    with pytest.raises(UserError, match=message):
        write_dataset(raw_folder, number, name=name)
    assert names(raw_folder) == ["Dataset901_Phantom", "preprocessed"]


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [
        ("labeled", 0, "--labeled 0: give 1 or more"),
        ("unlabeled", -1, "--unlabeled -1: give 0 or more"),
        ("size_voxels", 16, "--size 16: give 32 or more"),
        ("seed", -1, "--seed -1"),
    ],
)
def test_bad_options_are_named(raw_folder: Path, option: str, value: int, message: str) -> None:
    with pytest.raises(UserError, match=message):
        write_dataset(raw_folder, 901, **{option: value})
    assert not names(raw_folder)


def test_command_line(raw_folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture) -> None:
    parser = argparse.ArgumentParser()
    cli.add_arguments(parser)
    options = ["-d", "7", "--labeled", "1", "--unlabeled", "1", "--test", "0", "--size", "32"]
    cli.run(parser.parse_args(options))
    assert names(raw_folder / "Dataset007_Phantom" / "labelsTr") == ["train_000.nii.gz"]
    assert "Next: nnUNetv2_plan_and_preprocess -d 7" in capsys.readouterr().out
    monkeypatch.delenv("nnUNet_raw")
    with pytest.raises(UserError, match="nnUNet_raw"):
        cli.run(parser.parse_args(options))

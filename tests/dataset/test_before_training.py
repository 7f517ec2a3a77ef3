"""What names and small files tell is told before a scan is preprocessed; odd scans are told for what they are."""

import errno
import json
import pickle
import shutil

import nibabel
import numpy as np
import pytest

from nnunet_dycon.cli import main
from nnunet_dycon.data.unlabeled_dataset import nnUNetDatasetUnlabeled
from nnunet_dycon.dataset.comparison import LABELED as LABELED_GROUP
from nnunet_dycon.dataset.comparison import Comparison, ScanFacts, copies
from nnunet_dycon.files import whole_files
from tests.conftest import LABELED, UNLABELED, blob


@pytest.fixture
def folder(dataset):
    """Of the preprocessed unlabelled cases, removed."""
    folder = dataset.preprocessed / "nnUNetPlans_3d_fullres_unlabeled"
    shutil.rmtree(folder)
    return folder


def preprocess():
    return main(["preprocess", "-d", "901", "-c", "3d_fullres", "-np", "1"])


def write_splits(dataset, train=LABELED, val=LABELED[:1], **more):
    content = [{"train": list(train), "val": list(val)} | more]
    (dataset.preprocessed / "splits_final.json").write_text(json.dumps(content))


def empty_masks(dataset):
    for case in LABELED:
        file = dataset.images / f"{case}.pkl"
        content = np.load(file, allow_pickle=True)
        content["class_locations"] = {1: []}
        file.write_bytes(pickle.dumps(content))
    write_splits(dataset)


FAULTS = {
    "a case in imagesTr and imagesUn": (
        lambda d: shutil.copy(d.raw / f"imagesTr/{LABELED[0]}_0000.nii.gz", d.raw / "imagesUn"),
        f"unlabelled cases are also labelled for training: {LABELED[0]}",
    ),
    "an unlabelled case that validates": (lambda d: write_splits(d, val=UNLABELED[:1]), "also a validation case"),
    "no validation case": (lambda d: write_splits(d, val=[]), "fold 0 has no validation case"),
    "no training case": (lambda d: write_splits(d, train=[]), "fold 0 has no training case"),
    "a misspelt name": (
        lambda d: write_splits(d, val=[f"{LABELED[0]}0"]),
        f"names {LABELED[0]}0 under 'val', but there is no such labelled case (did you mean ",
    ),
    "no unlabelled case": (
        lambda d: [i.unlink() for i in (d.raw / "imagesUn").iterdir()],
        "Put scans without masks there, or train on the labelled cases alone with -tr nnUNetTrainerSupervised",
    ),
    "a folder that is almost called imagesUn": (
        lambda d: (d.raw / "imagesUn").rename(d.raw / "imagesUN"),
        "no scan in {raw}/imagesUn (nothing reads imagesUN there), nor a fold",
    ),
    "no foreground": (empty_masks, "has foreground, so there is nothing to learn"),
    "two sources": (
        lambda d: shutil.copytree(d.raw / "imagesUn", d.raw / "imagesUn" / "site_a"),
        f"have files of {UNLABELED[0]}, ",
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_what_training_would_refuse_is_told_before_anything_is_preprocessed(dataset, folder, capsys, fault):
    make, message = FAULTS[fault]
    make(dataset)
    assert preprocess() == 2
    assert message.format(raw=dataset.raw) in capsys.readouterr().err
    assert not folder.exists()


def test_a_folder_that_cannot_be_written_is_told_once(dataset, folder, capsys, monkeypatch):
    def refuse(*args, **kwargs):
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr(whole_files.tempfile, "mkdtemp", refuse)
    assert preprocess() == 2
    assert capsys.readouterr().err.count("Read-only file system") == 1


def test_sheared_and_hidden_files_are_no_faults_and_sources_are_named(dataset, folder, capsys):
    source = dataset.raw / "imagesUn" / "site_a"
    source.mkdir()
    (dataset.raw / "imagesUn" / f"._{UNLABELED[0]}_0000.nii.gz").write_bytes(b"Mac OS X")
    affine = np.eye(4)
    affine[0, 1] = 0.02
    nibabel.save(nibabel.Nifti1Image(blob(50)[0], affine), source / "sheared_0000.nii.gz")
    assert preprocess() == 0
    output, error = capsys.readouterr()
    assert "4 unlabelled cases from 2 sources: imagesUn (3), site_a (1) are ready" in output
    assert "warning: sheared: the affine in the header is sheared" in error and "orthonormal" not in error
    assert "site_a scans differ from the labelled ones: orientation RAS, not LPS" in error
    files = {case: folder / f"{case}.b2nd" for case in ("sheared", UNLABELED[0])}
    assert nnUNetDatasetUnlabeled(files).sources == {"sheared": "site_a", UNLABELED[0]: ""}
    (source / "sheared_0000.nii.gz").rename(dataset.raw / "imagesUn" / "sheared_0000.nii.gz")
    time = files["sheared"].stat().st_mtime_ns
    assert preprocess() == 0
    assert nnUNetDatasetUnlabeled(files).sources["sheared"] == "" and files["sheared"].stat().st_mtime_ns == time


def test_a_scan_that_lies_elsewhere_under_another_name_is_told(dataset, folder, in_process, capsys):
    for part, case, name in (("Tr", LABELED[0], "twin"), ("Ts", "test_00", "again")):
        shutil.copy(dataset.raw / f"images{part}" / f"{case}_0000.nii.gz", dataset.raw / f"imagesUn/{name}_0000.nii.gz")
    assert preprocess() == 0
    told = [line for line in capsys.readouterr().err.splitlines() if "another name" in line]
    named = f"again is test_00 of imagesTs, twin is {LABELED[0]} of imagesTr. Leave"
    assert len(told) == 1 and f"warning: the same file under another name: {named}" in told[0]
    assert preprocess() == 0 and "another name" not in capsys.readouterr().err  # of new scans only


def test_only_whole_files_are_copies(tmp_path):
    files = {}
    for name, content in (("a", b"x" * 200_000), ("b", b"x" * 200_000), ("c", b"x" * 199_999 + b"y"), ("d", b"")):
        files[name] = tmp_path / name
        files[name].write_bytes(content)
    others = {"a": files["a"], "gone": tmp_path / "gone"}
    assert copies({i: files[i] for i in "bcd"} | {"missing": tmp_path / "missing"}, others) == {"b": "a"}


def facts(spacing=(1.0, 1.0, 1.0), shape=(50, 50, 50), orientation="LPS", scale=1.0):
    return ScanFacts(spacing, shape, orientation, scale * np.array([[10.0, 50.0, 100.0]]))


@pytest.mark.parametrize(
    ("other", "name", "message"),
    [
        (facts(), "MRI", None),
        (facts(spacing=(3.0, 1.0, 1.0), shape=(17, 50, 50)), "MRI", "voxels of 3 x 1 x 1 mm, not 1 x 1 x 1 mm"),
        (facts(shape=(150, 50, 50)), "MRI", "they show 150 x 50 x 50 mm, not 50 x 50 x 50 mm. Crop"),
        (facts(orientation="RAS"), "MRI", "DICOMOrient(image, 'LPS')"),
        (
            facts(scale=10),
            "MRI",
            "intensities of channel MRI (1 to 99 %) 100 to 1000, not 10 to 100. nnU-Net's z",
        ),
        (facts(scale=10), "CT", "bring them to Hounsfield units"),
    ],
)
def test_each_difference_is_told_with_what_to_do(other, name, message):
    comparison = Comparison({LABELED_GROUP: [facts()], "imagesUn": [other]}, {"channel_names": {"0": name}})
    assert len(comparison.warnings()) == (message is not None)
    assert message is None or message in comparison.warnings()[0]
    assert comparison.table().splitlines()[2].split()[:7] == ["labelled", "1", "1", "x", "1", "x", "1"]

"""Faults that a user can correct, one a row, in what the commands read: each ends with one line that names the file.

Faults of raw datasets are in ``test_faults.py``, those of what a training reads in ``test_faults_of_training.py``.
"""

from __future__ import annotations

import errno
import json

import numpy as np
import pytest
import torch

from nnunet_dycon.cli import main
from nnunet_dycon.errors import UserError
from nnunet_dycon.models import uncertainty
from tests.cli.test_faults import cut, four_dimensional, with_voxel
from tests.conftest import blob, write_image
from tests.helpers.trained_model import write_model
from tests.helpers.training import make_trainer
from tests.tools.test_add_labels import toy  # noqa: F401

# ------------------------------------------------------------------------------------------------- checkpoints


def rewritten(content):
    return lambda file: torch.save(content, file)


BAD_CHECKPOINTS = {
    "truncated": (lambda file: file.write_bytes(file.read_bytes()[: file.stat().st_size // 2]), "cannot be read"),
    "empty": (lambda file: file.write_bytes(b""), "cannot be read"),
    "no checkpoint": (lambda file: file.write_text("no checkpoint"), "cannot be read"),
    "a class that is gone": (lambda file: file.write_bytes(b"cnowhere\nNothing\n."), "cannot be read"),
    "bare weights": (rewritten({"a": torch.zeros(1)}), "is no checkpoint of nnU-Net"),
    "a list": (rewritten([1]), "is no checkpoint of nnU-Net"),
}


@pytest.fixture
def model(dataset):
    write_image(blob(98)[0], dataset.raw / "imagesTs" / "test_01_0000.nii.gz")
    return write_model(dataset)


def predict(dataset, model, *options):
    images, out = str(dataset.raw / "imagesTs"), str(dataset.root / "out")
    quick = ["-device", "cpu", "-step_size", "1", "--disable_tta", "--no-disagreement"]
    return main(["predict-uncertainty", "-i", images, "-o", out, "-m", str(model), *quick, *options])


def readers_of_a_checkpoint(dataset, model):
    """Each command that reads one, by name."""
    out = str(dataset.root / "out")
    return {
        "export": lambda: main(["export", "-m", str(model), "-o", out]),
        "figures": lambda: main(["figures", "-m", str(model / "fold_0"), "-o", out]),
        "predict-uncertainty": lambda: predict(dataset, model),
    }


def test_a_damaged_checkpoint_is_named_by_every_command(dataset, model, capsys):
    file = model / "fold_0" / "checkpoint_final.pth"
    whole = file.read_bytes()
    trainer = make_trainer(dataset)
    for fault, (damage, message) in BAD_CHECKPOINTS.items():
        file.write_bytes(whole)
        damage(file)
        for command, run in readers_of_a_checkpoint(dataset, model).items():
            assert run() == 2, (fault, command)
            error = capsys.readouterr().err
            assert f"{file} {message}" in error and "copy it again, or remove it" in error, (fault, command, error)
        with pytest.raises(UserError, match=rf"checkpoint_final.pth {message}"):
            trainer.load_checkpoint(str(file))
        assert not (dataset.root / "out").exists()


def test_a_broken_model_folder_is_named(dataset, model, capsys):
    file = model / "fold_0" / "checkpoint_final.pth"
    torch.save(torch.load(file, weights_only=False) | {"trainer_name": "nnUNetTrainerOfAFriend"}, file)
    assert predict(dataset, model) == 2
    assert "cannot be loaded: Could not find requested nnunet trainer nnUNetTrainerOfAF" in capsys.readouterr().err
    (model / "plans.json").write_text("{")
    assert predict(dataset, model) == 2
    assert f"{model / 'plans.json'} is no valid JSON" in capsys.readouterr().err


# ---------------------------------------------------------------------------------------- predict-uncertainty

BAD_SCANS = {
    "no image": ("SimpleITKIO", lambda file: file.write_bytes(b"no image"), "cannot be read"),
    "truncated": ("SimpleITKIO", cut(2000, None), "cannot be read (Compressed file ended"),
    "several volumes": ("SimpleITKIO", four_dimensional, "has 2 channels, dataset.json names 1"),
    "not a number": ("NibabelIO", with_voxel(np.nan), "has voxels that are NaN or infinite"),  # SimpleITK reads 0
}


def test_a_damaged_scan_is_named_in_the_end_and_the_others_are_predicted(dataset, model, capsys):
    plans = json.loads((model / "plans.json").read_text())
    out, bad = dataset.root / "out", dataset.raw / "imagesTs" / "test_00_0000.nii.gz"
    whole = bad.read_bytes()
    for reader, damage, message in BAD_SCANS.values():
        (model / "plans.json").write_text(json.dumps(plans | {"image_reader_writer": reader}))
        bad.write_bytes(whole)
        damage(bad)
        assert predict(dataset, model) == 2
        error = capsys.readouterr().err
        assert "1 of 2 scans could not be predicted. Correct what follows, or remove the scans" in error
        assert f"\ntest_00: {bad} " in error and message in error
        assert sorted(i.name for i in out.glob("*.nii.gz")) == ["test_01.nii.gz"]
    bad.write_bytes(whole)
    first = (out / "test_01.nii.gz").stat().st_mtime_ns
    assert predict(dataset, model) == 0
    assert (out / "test_00.nii.gz").is_file() and (out / "test_01.nii.gz").stat().st_mtime_ns == first


def test_a_full_disk_ends_the_prediction(dataset, model, capsys, monkeypatch):
    def full(*args):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(uncertainty, "write_map", full)
    assert predict(dataset, model) == 2
    assert f"the disk of {dataset.root / 'out' / 'entropy'} is full; make room there" in capsys.readouterr().err
    assert sorted(i.name for i in (dataset.root / "out").iterdir()) == ["dataset.json", "entropy", "uncertainty.json"]


HEADER = "case,mean_entropy_nats,boundary_entropy_nats,foreground_ml,student_teacher_disagreement"
BAD_RECORDS = {
    "no JSON": ("uncertainty.json", b"{", "is no valid JSON"),
    "no text": ("uncertainty.json", b"\xff\xfe", "is no valid JSON"),
    "no number": ("uncertainty.csv", f"{HEADER}\ntest_00,a lot,,,\n".encode(), "is damaged (could not convert"),
    "another table": ("uncertainty.csv", b"a,b", "has the columns ['a', 'b']"),
    "empty table": ("uncertainty.csv", b"", "is damaged ("),
    "table of bytes": ("uncertainty.csv", b"\xff\xfe\x00", "is damaged ("),
}


def test_damaged_records_of_a_prediction_are_named_and_replaced_if_wanted(dataset, model, capsys):
    assert predict(dataset, model) == 0
    for name, content, message in BAD_RECORDS.values():
        file = dataset.root / "out" / name
        whole = file.read_bytes()
        file.write_bytes(content)
        assert predict(dataset, model) == 2
        assert f"{file} {message}" in capsys.readouterr().err
        if name == "uncertainty.json":
            assert predict(dataset, model, "--overwrite") == 0
        assert file.write_bytes(whole)
    assert predict(dataset, model) == 0


# -------------------------------------------------------------------------------------------- add-labels, preprocess

BAD_BOOKS = {
    "split.json": ("raw", "{", "is no valid JSON"),
    "split.json of a list": ("raw", "[]", "holds a list and no JSON object"),
    "nnUNetPlans.json": ("preprocessed", "{", "is no valid JSON"),
    "splits_final.json": ("preprocessed", "{", "is no valid JSON"),
}


@pytest.mark.parametrize("fault", BAD_BOOKS)
def test_damaged_books_are_named_before_anything_is_moved(toy, capsys, fault):  # noqa: F811
    side, content, message = BAD_BOOKS[fault]
    file = getattr(toy, side) / fault.partition(" ")[0]
    file.write_text(content)
    toy.mask("scan_1")
    before = toy.state()
    assert main(["add-labels", "-d", "700", str(toy.masks)]) == 2
    assert f"{file} {message}" in capsys.readouterr().err
    assert toy.state() == before


def test_preprocess_without_its_folder_is_explained(dataset, capsys, monkeypatch):
    monkeypatch.delenv("nnUNet_preprocessed")
    assert main(["preprocess", "-d", "901"]) == 2
    assert "nnUNet_preprocessed is not set; export nnUNet_preprocessed=FOLDER" in capsys.readouterr().err

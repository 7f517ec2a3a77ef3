"""Faults in preprocessed folders, splits, plans and dataset.json: each is named before training starts."""

import json
import os
import shutil

import blosc2
import numpy as np
import pytest

from nnunet_dycon.cli import main
from nnunet_dycon.dataset.raw_dataset import read_dataset_json
from nnunet_dycon.dataset.splits import read_splits
from nnunet_dycon.errors import UserError
from nnunet_dycon.startup.nnunet_process import show_error
from nnunet_dycon.trainers import nnUNetTrainerDyCON, nnUNetTrainerSupervised
from tests.conftest import LABELED, UNLABELED
from tests.helpers.training import make_trainer, without_plots  # noqa: F401

BAD = LABELED[1]


def start(dataset):
    trainer = make_trainer(dataset)
    trainer.initialize()
    return trainer.get_dataloaders()[0]


def write_splits(dataset, **fold):
    fold = {"train": LABELED[:3], "val": LABELED[3:4]} | fold
    (dataset.preprocessed / "splits_final.json").write_text(json.dumps([fold]))


def unlabeled_folder(dataset):
    return dataset.preprocessed / "nnUNetPlans_3d_fullres_unlabeled"


def overwrite(file, change):
    """Change the voxels of a preprocessed image."""
    voxels = blosc2.open(str(file))[:]
    blosc2.asarray(change(voxels), urlpath=str(file), mode="w")


# ------------------------------------------------------------------------------------------- preprocessed files


def truncate(file):
    os.truncate(file, file.stat().st_size // 2)


def make_folder(file):
    file.unlink()
    file.mkdir()


LABELED_FAULTS = {
    "image truncated": ("{}.b2nd", truncate, r"{}.b2nd cannot be read"),
    "image empty": ("{}.b2nd", lambda file: file.write_bytes(b""), r"{}.b2nd cannot be read"),
    "image is another file": ("{}.b2nd", lambda file: file.write_bytes(b"text" * 99), r"{}.b2nd cannot be read"),
    "segmentation truncated": ("{}_seg.b2nd", truncate, r"{}_seg.b2nd cannot be read"),
    "segmentation missing": ("{}_seg.b2nd", os.unlink, r"{}_seg.b2nd is missing"),
    "segmentation of another size": (
        "{}_seg.b2nd",
        lambda file: overwrite(file, lambda voxels: voxels[:, :10]),
        r"{}_seg.b2nd has \(10, 24, 24\) voxels, the preprocessed image \(24, 24, 24\)",
    ),
    "properties missing": ("{}.pkl", os.unlink, r"{}.pkl is missing or empty"),
    "properties empty": ("{}.pkl", lambda file: file.write_bytes(b""), r"{}.pkl is missing or empty"),
    "properties a folder": ("{}.pkl", make_folder, r"{}.pkl is missing or empty"),
}


@pytest.mark.parametrize("fault", LABELED_FAULTS)
def test_a_damaged_labelled_case_is_named_before_training(dataset, fault):
    name, damage, message = LABELED_FAULTS[fault]
    write_splits(dataset)
    damage(dataset.images / name.format(BAD))
    with pytest.raises(UserError, match=rf"run nnUNetv2_preprocess again:\n.*{message.format(BAD)}"):
        start(dataset)


def test_all_damaged_cases_are_counted(dataset):
    for case in LABELED:
        truncate(dataset.images / f"{case}.b2nd")
    write_splits(dataset, train=LABELED)
    with pytest.raises(UserError, match=r"(.*cannot be read\n){4}.*cannot be read and 1 more"):
        start(dataset)


def test_a_case_of_the_split_that_was_never_preprocessed_is_named(dataset):
    write_splits(dataset, train=[*LABELED[:3], "case_77"])
    with pytest.raises(UserError, match=r"names case_77 under 'train', but there is no such labelled case"):
        start(dataset)


def test_a_missing_preprocessed_folder_is_named(dataset):
    shutil.rmtree(dataset.images)
    with pytest.raises(UserError, match="3d_fullres is missing; run nnUNetv2_preprocess -d 901 -c 3d_fullres first"):
        start(dataset)


@pytest.mark.parametrize("damage", [truncate, os.unlink], ids=["truncated", "missing"])
def test_a_damaged_unlabelled_case_of_the_split_is_named(dataset, damage):
    write_splits(dataset, unlabeled=LABELED[4:])
    damage(dataset.images / f"{LABELED[5]}.b2nd")
    with pytest.raises(UserError, match=rf"missing or truncated, first .*{LABELED[5]}.b2nd. Run nnUNetv2_preprocess"):
        start(dataset)


RECORDS = {"no JSON": b"{", "no text": b"\xff\xfe\x00", "no object": b"[]"}


@pytest.mark.parametrize("fault", ["truncated", *RECORDS])
def test_a_damaged_case_of_images_un_is_preprocessed_again(dataset, in_process, fault):
    image = unlabeled_folder(dataset) / f"{UNLABELED[0]}.b2nd"
    whole = blosc2.open(str(image))[:]
    if fault == "truncated":
        truncate(image)
    else:
        image.with_suffix(".json").write_bytes(RECORDS[fault])
    start(dataset)
    np.testing.assert_array_equal(blosc2.open(str(image))[:], whole)
    assert json.loads(image.with_suffix(".json").read_text())["plans"]


def test_a_damaged_case_whose_raw_image_is_not_here_is_named(dataset, monkeypatch):
    monkeypatch.delenv("nnUNet_raw")
    truncate(unlabeled_folder(dataset) / f"{UNLABELED[0]}.b2nd")
    with pytest.raises(UserError, match=rf"first .*{UNLABELED[0]}.b2nd. Run .* nnunet-dycon preprocess"):
        start(dataset)


def test_images_of_other_plans_are_not_used_where_the_raw_images_are_not(dataset, monkeypatch):
    monkeypatch.delenv("nnUNet_raw")
    file = dataset.preprocessed / "nnUNetPlans.json"
    plans = json.loads(file.read_text())
    plans["configurations"]["3d_fullres"]["spacing"] = [2.0, 2.0, 2.0]
    file.write_text(json.dumps(plans))
    with pytest.raises(UserError, match=rf"3 cases .* with other plans, first {UNLABELED[0]}.* where imagesUn is"):
        start(dataset)


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("labeled", [True, False], ids=["labelled", "unlabelled"])
def test_voxels_that_are_not_finite_are_found_in_the_first_batch(dataset, labeled, value):
    folder, cases = (dataset.images, LABELED) if labeled else (unlabeled_folder(dataset), UNLABELED)
    for case in cases:
        overwrite(folder / f"{case}.b2nd", lambda voxels: np.full_like(voxels, value))
    with pytest.raises(UserError, match=rf"crops of {cases[0][:4]}_0.* NaN or infinite; .*preprocess them again"):
        start(dataset)


def test_a_damaged_block_is_named_when_it_is_read(dataset):
    for case in UNLABELED:
        file = unlabeled_folder(dataset) / f"{case}.b2nd"
        content = bytearray(file.read_bytes())
        content[1000:-1000] = bytes(len(content) - 2000)
        file.write_bytes(content)
    with pytest.raises(UserError, match=r"the preprocessed image of scan_0\d is damaged; delete it"):
        start(dataset)


# ------------------------------------------------------------------------------------------------------- splits


@pytest.mark.parametrize("key", ["unlabelled", "Unlabeled", "unlabeled_cases"])
def test_a_misspelt_key_does_not_open_masks(tmp_path, key):
    (tmp_path / "splits_final.json").write_text(json.dumps([{"train": ["a"], "val": ["b"], "note": [], key: ["c"]}]))
    with pytest.raises(UserError, match=rf"splits_final.json, fold 0, has the key '{key}', .* write 'unlabeled'"):
        read_splits(tmp_path)


ESCAPES = ["../../outside", "/etc/passwd", "..", "a/b", "a\\b", "C:x", "", "a\0b", 7, None]

SPLITS = {
    "no JSON": (b"[{", r"is no valid JSON"),
    "no text": (b"\xff\xfe\x00\x01", r"is no valid JSON"),
    "endless brackets": (b"[" * 200_000, r"is no valid JSON"),
    "an object": (b'{"train": [], "val": []}', r"must be a list of folds"),
    "a number": (b"5", r"must be a list of folds"),
    "folds that are lists": (b"[[1], [2]]", r"must be a list of folds"),
    "fold without val": (b'[{"train": []}]', r"must be a list of folds"),
    "cases that are no list": (b'[{"train": "case_00", "val": []}]', r"must be a list of folds"),
    "unlabelled cases that are no list": (
        b'[{"train": [], "val": [], "unlabeled": {"a": 1}}]',
        r"must be a list of folds",
    ),
}


@pytest.mark.parametrize("fault", SPLITS)
def test_a_broken_split_is_named(tmp_path, fault):
    content, message = SPLITS[fault]
    (tmp_path / "splits_final.json").write_bytes(content)
    with pytest.raises(UserError, match=rf"splits_final.json {message}"):
        read_splits(tmp_path)


@pytest.mark.parametrize("key", ["train", "val", "unlabeled"])
@pytest.mark.parametrize("name", ESCAPES)
def test_names_in_a_split_cannot_leave_their_folder(tmp_path, key, name):
    fold = {"train": ["a"], "val": ["b"]} | {key: ["fine", name]}
    (tmp_path / "splits_final.json").write_text(json.dumps([{"train": ["a"], "val": ["b"]}, fold]))
    with pytest.raises(UserError, match=rf"splits_final.json, fold 1, {key} has .* for the name of a case; give the"):
        read_splits(tmp_path)


def test_an_unlabelled_name_with_a_path_opens_no_file(dataset, monkeypatch):
    secret = dataset.root / "secret.b2nd"
    shutil.copy(dataset.images / f"{LABELED[0]}.b2nd", secret)
    write_splits(dataset, unlabeled=["../../../secret"])
    opened, real = [], blosc2.open
    monkeypatch.setattr(blosc2, "open", lambda urlpath, *a, **k: opened.append(urlpath) or real(urlpath, *a, **k))
    with pytest.raises(UserError, match=r"'../../../secret' for the name of a case"):
        start(dataset)
    assert not any("secret" in str(i) for i in opened)


def test_ordinary_names_are_accepted(tmp_path):
    names = ["LA_001", "patient 7", "Ünïcode", "..dots", "a.b", "CON1", "a-con"]
    (tmp_path / "splits_final.json").write_text(json.dumps([{"train": names, "val": names}]))
    assert read_splits(tmp_path)[0]["train"] == names


# ---------------------------------------------------------------------------------- dataset.json, plans

DATASETS = {
    "no JSON": ("{", r"is no valid JSON"),
    "a list": ("[]", r"holds a list and no JSON object"),
    "no labels": ('{"file_ending": ".nii.gz"}', r"lacks labels"),
    "labels a list": ('{"labels": ["a"], "file_ending": ".nii.gz"}', r"has labels that are not like"),
    "label a text": ('{"labels": {"a": "1"}, "file_ending": ".nii.gz"}', r"has labels that are not like"),
    "ending a number": ('{"labels": {}, "file_ending": 5}', r"has the file_ending 5"),
    "ending a path": ('{"labels": {}, "file_ending": "/../x.nii.gz"}', r"has the file_ending '/../x.nii.gz'"),
}


@pytest.mark.parametrize("fault", [*DATASETS, "missing"])
def test_a_broken_dataset_json_is_named(tmp_path, fault):
    content, message = DATASETS.get(fault, (None, "does not exist"))
    if content is not None:
        (tmp_path / "dataset.json").write_text(content)
    with pytest.raises(UserError, match=rf"dataset.json {message}"):
        read_dataset_json(tmp_path)


@pytest.mark.parametrize(
    ("content", "message"),
    [("{", r"is no valid JSON"), ("[]", r"holds a list"), ('{"plans_name": "a"}', r"lacks configurations and")],
)
def test_broken_plans_are_named_by_the_command(dataset, capsys, content, message):
    (dataset.preprocessed / "nnUNetPlans.json").write_text(content)
    assert main(["preprocess", "-d", "901"]) == 2
    error = capsys.readouterr().err
    assert f"nnUNetPlans.json {message}" in error and "run nnUNetv2_plan_and_preprocess -d 901" in error


# ------------------------------------------------------------------------------------------------------ security


def test_the_package_unpickles_nothing_but_checkpoints(dataset, in_process, monkeypatch):
    """Preparing a training with unlabelled cases alone reads their images as blosc2 and their records as JSON."""
    from nnunet_dycon.data.unlabeled_dataset import nnUNetDatasetUnlabeled

    shutil.rmtree(unlabeled_folder(dataset))
    monkeypatch.setattr("pickle.load", _refuse)
    monkeypatch.setattr("pickle.loads", _refuse)
    cases = make_trainer(dataset).unlabeled_cases.preprocess("3d_fullres")
    loaded = nnUNetDatasetUnlabeled({case: unlabeled_folder(dataset) / f"{case}.b2nd" for case in cases})
    assert loaded.load_image(UNLABELED[0])[:].shape == (1, 24, 24, 24)
    endings = {i.suffix for i in unlabeled_folder(dataset).iterdir()}
    assert endings == {".b2nd", ".json"}


def _refuse(*args, **kwargs):
    raise AssertionError("something was unpickled")


# ---------------------------------------------------------------------------------------------- other networks


def change_plans(dataset):
    file = dataset.preprocessed / "nnUNetPlans.json"
    plans = json.loads(file.read_text())
    plans["configurations"]["3d_fullres"]["architecture"]["arch_kwargs"]["features_per_stage"] = [4, 6, 8]
    file.write_text(json.dumps(plans))


@pytest.mark.parametrize("trainer", [nnUNetTrainerDyCON, nnUNetTrainerSupervised])
def test_a_checkpoint_of_other_plans_is_told_in_one_sentence(dataset, tmp_path, trainer):
    first = make_trainer(dataset, trainer)
    first.initialize()
    first.save_checkpoint(str(tmp_path / "checkpoint.pth"))
    change_plans(dataset)
    with pytest.raises(
        UserError,
        match=r"checkpoint.pth does not fit: size mismatch for encoder\S+ copying a param with shape .*\[8, 4",
    ) as told:
        make_trainer(dataset, trainer).load_checkpoint(str(tmp_path / "checkpoint.pth"))
    assert ". Plans, channels or labels have changed since" in str(told.value)
    assert len(str(told.value)) < 550


def test_a_head_that_comes_or_goes_on_resume_is_told(dataset, tmp_path, monkeypatch):
    trainer = make_trainer(dataset)
    trainer.initialize()
    trainer.save_checkpoint(str(tmp_path / "checkpoint.pth"))
    monkeypatch.setenv("nnUNet_dycon", "weight_fecl=0,change_on_resume=true")
    with pytest.raises(UserError, match=r"without projection head, unlike here \(weight_fecl\)"):
        make_trainer(dataset).load_checkpoint(str(tmp_path / "checkpoint.pth"))


def test_pretrained_weights_of_another_network_are_told_in_one_sentence(dataset, tmp_path, capsys):
    from nnunetv2.run.load_pretrained_weights import load_pretrained_weights

    first = make_trainer(dataset)
    first.initialize()
    first.save_checkpoint(str(tmp_path / "checkpoint.pth"))
    change_plans(dataset)
    second = make_trainer(dataset)
    second.initialize()
    try:
        load_pretrained_weights(second.network, str(tmp_path / "checkpoint.pth"))
    except AssertionError as error:
        show_error(type(error), error, error.__traceback__)
    told = capsys.readouterr().err
    assert "error: -pretrained_weights: encoder" in told and "same number of channels" in told and len(told) < 400

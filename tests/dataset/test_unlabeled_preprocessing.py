import json
import os
import shutil

import blosc2
import numpy as np
import pytest
from nnunetv2.preprocessing.preprocessors.default_preprocessor import DefaultPreprocessor
from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

from nnunet_dycon.cli import main
from nnunet_dycon.dataset.unlabeled_preprocessing import preprocess_unlabeled
from nnunet_dycon.errors import UserError
from tests.conftest import UNLABELED, blob, write_image


@pytest.fixture(autouse=True)
def nothing_preprocessed(dataset):
    shutil.rmtree(unlabeled_folder(dataset))


def preprocess(dataset, **changes_of_plans):
    plans = json.loads((dataset.preprocessed / "nnUNetPlans.json").read_text())
    plans["configurations"]["3d_fullres"].update(changes_of_plans)
    dataset_json = json.loads((dataset.preprocessed / "dataset.json").read_text())
    options = {"num_processes": 1, "progress": False}
    return [*preprocess_unlabeled(dataset.dataset, "3d_fullres", plans, dataset_json, dataset.images, **options)]


def unlabeled_folder(dataset):
    return dataset.preprocessed / "nnUNetPlans_3d_fullres_unlabeled"


def test_command_preprocesses_with_workers_and_says_what_is_next(dataset, capsys):
    assert main(["preprocess", "-d", "901", "-c", "3d_fullres", "-np", "2"]) == 0
    out = capsys.readouterr().out
    assert "3 unlabelled cases are ready" in out and "nnUNetv2_train 901" in out
    assert sorted(i.name for i in unlabeled_folder(dataset).glob("*.b2nd")) == [f"{i}.b2nd" for i in UNLABELED]


def test_images_equal_nnunets_own_and_nothing_else_is_written(dataset, in_process):
    assert preprocess(dataset) == UNLABELED
    plans = PlansManager(str(dataset.preprocessed / "nnUNetPlans.json"))
    file = dataset.raw / "imagesUn" / f"{UNLABELED[0]}_0000.nii.gz"
    expected, _, _ = DefaultPreprocessor(verbose=False).run_case(
        [str(file)], None, plans, plans.get_configuration("3d_fullres"), str(dataset.raw / "dataset.json")
    )
    image = blosc2.open(str(unlabeled_folder(dataset) / f"{UNLABELED[0]}.b2nd"))[:]
    np.testing.assert_array_equal(image, expected)
    expected_files = {f"{i}{end}" for i in UNLABELED for end in (".b2nd", ".json")}
    assert {i.name for i in unlabeled_folder(dataset).iterdir()} == expected_files


def test_only_missing_replaced_and_unfinished_cases_are_done_again(dataset, in_process):
    preprocess(dataset)
    files = {i: unlabeled_folder(dataset) / f"{i}.b2nd" for i in UNLABELED}
    times = {i: f.stat().st_mtime_ns for i, f in files.items()}

    def redone():
        preprocess(dataset)
        new = {i: f.stat().st_mtime_ns for i, f in files.items()}
        changed = [i for i in UNLABELED if new[i] != times[i]]
        times.update(new)
        return changed

    assert redone() == []
    (unlabeled_folder(dataset) / f"{UNLABELED[0]}.json").unlink()  # as an interruption leaves it
    assert redone() == [UNLABELED[0]]
    (unlabeled_folder(dataset) / f"{UNLABELED[0]}.json").write_text('{"plans": "tru')
    assert redone() == [UNLABELED[0]]
    files[UNLABELED[1]].unlink()
    assert redone() == [UNLABELED[1]]
    write_image(blob(77)[0], dataset.raw / "imagesUn" / f"{UNLABELED[2]}_0000.nii.gz")
    assert redone() == [UNLABELED[2]]


def test_other_plans_make_the_images_stale_but_another_network_does_not(dataset, in_process):
    preprocess(dataset)
    record = unlabeled_folder(dataset) / f"{UNLABELED[0]}.json"
    before = record.read_text()
    preprocess(dataset, batch_size=7, patch_size=[8, 8, 8])
    assert record.read_text() == before
    preprocess(dataset, spacing=[2.0, 2.0, 2.0])
    assert record.read_text() != before
    assert blosc2.open(str(record.with_suffix(".b2nd"))).shape == (1, 12, 12, 12)


def test_without_raw_images_the_preprocessed_ones_are_taken(dataset, in_process, monkeypatch):
    preprocess(dataset)
    monkeypatch.delenv("nnUNet_raw")
    assert preprocess(dataset) == UNLABELED
    with pytest.raises(UserError, match=f"3 cases in .* preprocessed with other plans, first {UNLABELED[0]}"):
        preprocess(dataset, spacing=[2.0, 2.0, 2.0])


def test_an_unreadable_scan_is_named_and_the_others_are_kept(dataset, in_process):
    (dataset.raw / "imagesUn" / f"{UNLABELED[1]}_0000.nii.gz").write_bytes(b"no image")
    with pytest.raises(UserError, match=rf"1 of 3 unlabelled cases[\s\S]*{UNLABELED[1]}: "):
        preprocess(dataset)
    assert sorted(i.stem for i in unlabeled_folder(dataset).iterdir() if i.suffix == ".b2nd") == [
        UNLABELED[0],
        UNLABELED[2],
    ]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["-d", "902"], "902"),
        (["-d", "901", "-p", "nnUNetOther"], "nnUNetOther.json is missing; run nnUNetv2_plan_and_preprocess"),
        (["-d", "901", "-c", "3d_lowres"], "no configuration '3d_lowres'; they have"),
    ],
)
def test_command_with_wrong_arguments(dataset, capsys, arguments, message):
    assert main(["preprocess", *arguments]) == 2
    assert message in capsys.readouterr().err


def test_command_without_unlabelled_scans(dataset, capsys):
    os.rename(dataset.raw / "imagesUn", dataset.raw / "elsewhere")
    assert main(["preprocess", "-d", "901"]) == 2
    error = capsys.readouterr().err
    assert f"no scan in {dataset.raw / 'imagesUn'}" in error and "nnUNetTrainerSupervised" in error

"""A dataset with predictions for masks: what is in it, how it is marked, what is refused."""

from __future__ import annotations

import json

import numpy as np
import pytest
import SimpleITK as sitk

from nnunet_dycon.cli import main
from nnunet_dycon.dataset import pseudo_labels, raw_dataset
from nnunet_dycon.dataset.pseudo_labels import predicted_cases, predicted_masks
from nnunet_dycon.dataset.raw_dataset import RawDataset
from nnunet_dycon.errors import UserError
from nnunet_dycon.tools import pseudo_label as tool
from nnunet_dycon.tools.audit.run import audit_dataset
from nnunet_dycon.tools.evaluate.folder import evaluate_folder
from nnunet_dycon.tools.pseudo_label import _ignore_unsure
from nnunet_dycon.trainers import nnUNetTrainerDyCON
from tests.conftest import LABELED, UNLABELED, blob, write_image
from tests.helpers.trained_model import write_model


@pytest.fixture
def model(dataset):
    return write_model(dataset, nnUNetTrainerDyCON)


def pseudo_label(model, *arguments: object) -> int:
    command = ["pseudo-label", "-m", model, "-s", "901", "-t", "902", "-device", "cpu", "--disable_tta", *arguments]
    return main([str(i) for i in command])


def voxels(file) -> np.ndarray:
    return sitk.GetArrayFromImage(sitk.ReadImage(str(file)))


def test_unlabeled_scans_get_predictions_that_are_marked(dataset, model, capsys):
    before = {file: file.read_bytes() for file in dataset.raw.rglob("*.nii.gz")}
    assert pseudo_label(model) == 0
    assert "next: nnUNetv2_plan_and_preprocess -d 902 -c 3d_fullres; nnUNetv2_train 902" in capsys.readouterr().out
    new = dataset.raw.parent / "Dataset902_Balls_pseudo"
    content = json.loads((new / "dataset.json").read_text())
    assert (content["numTraining"], content["labels"]) == (9, {"background": 0, "ball": 1})
    assert content["pseudo_labels"]["cases"] == UNLABELED
    assert content["pseudo_labels"] == json.loads((new / "labelsTr" / "pseudo_labels.json").read_text())
    assert {i.name for i in (new / "labelsTr").glob("*.nii.gz")} == {f"{i}.nii.gz" for i in LABELED + UNLABELED}
    assert not (new / "imagesUn").exists() and (new / "imagesTs" / "test_00_0000.nii.gz").is_file()
    scan, mask = (sitk.ReadImage(str(new / i)) for i in ("imagesTr/scan_00_0000.nii.gz", "labelsTr/scan_00.nii.gz"))
    assert scan.GetSize() == mask.GetSize() and set(np.unique(sitk.GetArrayFromImage(mask))) <= {0, 1}
    assert {file: file.read_bytes() for file in before} == before
    splits = json.loads((dataset.preprocessed.parent / new.name / "splits_final.json").read_text())
    assert len(splits) == 5
    for fold in splits:
        assert set(fold["val"]) < set(LABELED) and set(fold["train"]) == set(LABELED + UNLABELED) - set(fold["val"])


def test_unsure_voxels_are_ignored(dataset, model, capsys):
    scans = dataset.root / "scans"
    write_image(blob(50)[0], scans / "other_0000.nii.gz")
    assert pseudo_label(model, "-i", scans, "--min-confidence", "0.999999", "--name", "Sure") == 0
    assert "unsure voxels have the label 2 (ignore)" in capsys.readouterr().out
    new = dataset.raw.parent / "Dataset902_Sure"
    assert json.loads((new / "dataset.json").read_text())["labels"] == {"background": 0, "ball": 1, "ignore": 2}
    assert (voxels(new / "labelsTr" / "other.nii.gz") == 2).all()
    assert (voxels(new / "labelsTr" / "case_00.nii.gz") == voxels(dataset.raw / "labelsTr" / "case_00.nii.gz")).all()
    assert len(list((new / "imagesUn").iterdir())) == 3


def test_cases_without_a_role_in_training_keep_theirs(dataset, model):
    """Unlabelled and test cases of a split in place, whose masks lie in labelsTr."""
    fold = {"train": LABELED[:2], "val": LABELED[2:3], "unlabeled": LABELED[3:5]}
    (dataset.preprocessed / "splits_final.json").write_text(json.dumps([fold]))
    (dataset.preprocessed / "split.json").write_text(json.dumps({"test": LABELED[5:]}))
    assert pseudo_label(model) == 0
    new = dataset.preprocessed.parent / "Dataset902_Balls_pseudo"
    assert json.loads((new / "splits_final.json").read_text()) == [fold | {"train": LABELED[:2] + UNLABELED}]
    assert json.loads((new / "split.json").read_text()) == {"test": LABELED[5:]}


def test_confidence_of_classes_and_of_regions():
    """Three voxels. Classes: 0.6 and 0.9 are the largest; regions: the least sure one decides."""
    mask = np.array([[[1, 1, 0]]], np.uint8)
    classes = np.array([[0.4, 0.1, 0.5], [0.6, 0.9, 0.5]]).reshape(2, 1, 1, 3)
    options = {"ignore_label": 3, "min_confidence": 0.8}
    assert _ignore_unsure(mask, classes, **options, regions=False).ravel().tolist() == [3, 1, 3]
    regions = np.array([[0.95, 0.9, 0.1], [0.5, 0.1, 0.05]]).reshape(2, 1, 1, 3)
    assert _ignore_unsure(mask, regions, **options, regions=True).ravel().tolist() == [3, 1, 0]


def test_audit_knows_predictions_and_wants_none_validated(dataset, model):
    assert pseudo_label(model) == 0
    report = audit_dataset(902)
    assert {i.code for i in report.findings if "predict" in i.code} == {"predicted-masks"}
    file = dataset.preprocessed.parent / "Dataset902_Balls_pseudo" / "splits_final.json"
    file.write_text(json.dumps([{"train": LABELED, "val": UNLABELED}]))
    (finding,) = [i for i in audit_dataset(902).findings if i.code == "prediction-as-reference"]
    assert finding.cases == UNLABELED


def test_corrected_masks_are_references_again(dataset, model):
    assert pseudo_label(model) == 0
    labels = dataset.raw.parent / "Dataset902_Balls_pseudo" / "labelsTr"
    assert predicted_masks(labels) == set(UNLABELED)
    for file in (labels / "pseudo_labels.json", labels.parent / "dataset.json"):
        content = json.loads(file.read_text())
        content.get("pseudo_labels", content)["cases"] = UNLABELED[1:]
        file.write_text(json.dumps(content))
    assert predicted_masks(labels) == set(UNLABELED[1:])


@pytest.mark.parametrize("name", ["dataset.json", "splits_final.json"])
def test_dataset_and_folds_are_written_together_or_not_at_all(dataset, model, monkeypatch, name):
    write_json = pseudo_labels.write_json

    def fails(content, file):
        if file.name == name:
            raise KeyboardInterrupt
        write_json(content, file)

    with monkeypatch.context() as patch:
        for module in (pseudo_labels, raw_dataset, tool):
            patch.setattr(module, "write_json", fails)
        with pytest.raises(KeyboardInterrupt):
            pseudo_label(model)
    for root in (dataset.raw.parent, dataset.preprocessed.parent):
        assert [i.name for i in root.iterdir()] == ["Dataset901_Balls"]
    assert pseudo_label(model) == 0  # the ID is not in use


def test_a_folder_that_cannot_be_written_is_told_before_anything_is_predicted(dataset, model, monkeypatch, capsys):
    def check_writable(folder):
        raise UserError(f"{folder} cannot be written")

    monkeypatch.setattr(tool, "check_writable", check_writable)
    monkeypatch.setattr(tool, "segment_scans", lambda *args, **kwargs: pytest.fail("predicted"))
    assert pseudo_label(model) == 2
    assert f"{dataset.preprocessed.parent} cannot be written" in capsys.readouterr().err


@pytest.mark.parametrize("has_it", ["model", "source", "both"])
def test_a_second_round_may_differ_by_the_ignore_label(dataset, model, has_it):
    """A model of a dataset that --min-confidence made, for the scans of the first one, and the other way round."""
    folders = {"model": [model], "source": [dataset.raw], "both": [model, dataset.raw]}[has_it]
    for folder in folders:
        content = json.loads((folder / "dataset.json").read_text())
        content["labels"]["ignore"] = 2
        (folder / "dataset.json").write_text(json.dumps(content))
    assert pseudo_label(model, "--min-confidence", "0.999999") == 0
    new = dataset.raw.parent / "Dataset902_Balls_pseudo"
    assert json.loads((new / "dataset.json").read_text())["labels"] == {"background": 0, "ball": 1, "ignore": 2}
    assert (voxels(new / "labelsTr" / "scan_00.nii.gz") == 2).all()


@pytest.mark.parametrize("folder", ["labelsTr", "labelsTs", "gt_segmentations"])
def test_predictions_are_known_wherever_their_masks_lie(tmp_path, folder):
    """What a split has made of them, and what nnU-Net's preprocessing copies, which copies dataset.json as well."""
    content = {"labels": {"a": 1}, "file_ending": ".nii.gz", "pseudo_labels": {"cases": ["a", "gone"]}}
    (tmp_path / "dataset.json").write_text(json.dumps(content))
    for case in ("a", "b"):
        write_image(np.ones((3, 3, 3), np.uint8), tmp_path / folder / f"{case}.nii.gz")
        write_image(np.ones((3, 3, 3), np.uint8), tmp_path / "predictions" / f"{case}.nii.gz")
    assert predicted_masks(tmp_path / folder) == {"a", "gone"} and not predicted_masks(tmp_path / "predictions")
    assert predicted_cases(RawDataset(tmp_path, content)) == ({"a"} if folder.startswith("labels") else set())
    evaluation = evaluate_folder(tmp_path / "predictions", tmp_path / folder)
    assert {*evaluation.cases["case"]} == {"b"}


def test_audit_finds_a_test_case_whose_mask_is_a_prediction(dataset):
    content = json.loads((dataset.raw / "dataset.json").read_text()) | {"pseudo_labels": {"cases": ["test_00"]}}
    (dataset.raw / "dataset.json").write_text(json.dumps(content))
    write_image(blob(99)[1], dataset.raw / "labelsTs" / "test_00.nii.gz")
    (finding,) = [i for i in audit_dataset(901).findings if i.code == "prediction-as-reference"]
    assert finding.cases == ["test_00"]


def test_what_cannot_be_is_refused_and_nothing_written(dataset, model, capsys):
    def refuse(message: str, *arguments: object) -> None:
        assert pseudo_label(model, *arguments) == 2
        assert message in capsys.readouterr().err
        assert [i.name for i in dataset.raw.parent.iterdir()] == ["Dataset901_Balls"]

    refuse("in use", "-t", "901")
    refuse("from 0 to below 1", "--min-confidence", "1")
    refuse("imagesTr and a labelled case", "-i", dataset.raw / "imagesTr")
    refuse("no folder", "-i", dataset.raw / "nowhere")
    content = json.loads((dataset.raw / "dataset.json").read_text())
    content["labels"]["core"] = 2
    (dataset.raw / "dataset.json").write_text(json.dumps(content))
    refuse("take a model of the same classes")


@pytest.mark.parametrize(
    ("change", "has"),
    [
        ({"file_ending": ".nrrd"}, "1 channel(s) in .nrrd"),
        ({"channel_names": {"0": "a", "1": "b"}}, "2 channel(s) in .nii.gz"),
    ],
    ids=["format", "channels"],
)
def test_a_dataset_that_is_not_like_the_models_is_refused_before_anything_is_predicted(
    dataset, model, capsys, change, has
):
    content = json.loads((dataset.raw / "dataset.json").read_text())
    (dataset.raw / "dataset.json").write_text(json.dumps(content | change))
    write_image(blob(50)[0], (scans := dataset.root / "scans") / "other_0000.nii.gz")  # as the model wants it
    for arguments in ((), ("-i", scans)):
        assert pseudo_label(model, *arguments) == 2
        message = f"on 1 channel(s) in .nii.gz files, Dataset901_Balls has {has} files; convert"
        assert message in capsys.readouterr().err
        assert [i.name for i in dataset.raw.parent.iterdir()] == ["Dataset901_Balls"]


def test_scans_of_another_format_than_the_models_are_named(dataset, model, capsys):
    write_image(blob(50)[0], (scans := dataset.root / "scans") / "other_0000.nrrd")
    commands = (["pseudo-label", "-s", "901", "-t", "902"], ["predict-uncertainty", "-o", str(dataset.root / "out")])
    for command in commands:
        assert main([*command, "-m", str(model), "-device", "cpu", "-i", str(scans)]) == 2
        assert "holds files that are not named CASE_0000.nii.gz: other_0000.nrrd. Rename" in capsys.readouterr().err
    assert not (dataset.root / "out").exists() and not list(dataset.raw.parent.glob("Dataset902*"))


def test_folders_in_imagesun_are_looked_into_and_kept(dataset, model):
    """All scans of all sources are predicted; those that are not keep their folder, by which crops are drawn."""
    unlabeled = dataset.raw / "imagesUn"
    for case, site in (("scan_00", "site_a"), ("scan_01", "site_b")):
        (unlabeled / site).mkdir()
        (unlabeled / f"{case}_0000.nii.gz").rename(unlabeled / site / f"{case}_0000.nii.gz")
    out, common = dataset.root / "out", ["-m", str(model), "-device", "cpu", "--disable_tta"]
    assert main(["predict-uncertainty", "-i", str(unlabeled), "-o", str(out), "--no-disagreement", *common]) == 0
    assert sorted(i.name for i in out.glob("*.nii.gz")) == [f"{case}.nii.gz" for case in UNLABELED]
    assert pseudo_label(model) == 0
    new = dataset.raw.parent / "Dataset902_Balls_pseudo"
    assert {i.name for i in (new / "labelsTr").glob("scan*")} == {f"{case}.nii.gz" for case in UNLABELED}
    assert pseudo_label(model, "-t", "903", "-i", unlabeled / "site_a") == 0
    left = dataset.raw.parent / "Dataset903_Balls_pseudo" / "imagesUn"
    assert {str(i.relative_to(left)) for i in left.rglob("*.nii.gz")} == {
        "scan_02_0000.nii.gz",
        "site_b/scan_01_0000.nii.gz",
    }

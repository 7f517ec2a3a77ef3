"""Uncertainty of predictions: the numbers by hand, maps on the scan's grid, and the folder that is written."""

import json
import math
import shutil

import numpy as np
import pandas as pd
import pytest
import SimpleITK as sitk
import torch
from nnunetv2.imageio.natural_image_reader_writer import NaturalImage2DIO
from nnunetv2.imageio.nibabel_reader_writer import NibabelIO, NibabelIOWithReorient
from nnunetv2.imageio.simpleitk_reader_writer import SimpleITKIO, SimpleITKIOWithReorient
from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor
from PIL import Image
from scipy import ndimage

from nnunet_dycon.cli import main
from nnunet_dycon.errors import UserError
from nnunet_dycon.losses.entropy import entropy, entropy_of_probabilities
from nnunet_dycon.models import uncertainty
from nnunet_dycon.models.trained_model import finished_folds, open_model
from nnunet_dycon.models.uncertainty import COLUMNS, predict_folder, ranked, read_table, uncertainty_table, write_table
from nnunet_dycon.trainers import nnUNetTrainerSupervised
from tests.conftest import blob, write_image
from tests.helpers.trained_model import write_model
from tests.helpers.training import make_trainer

CPU = torch.device("cpu")

# ------------------------------------------------------------------------------------------------- numbers


def test_entropy_by_hand_and_as_in_the_losses():
    np.testing.assert_allclose(entropy_of_probabilities(torch.full((4, 1, 1, 1), 0.25), "softmax"), math.log(4))
    half = torch.tensor([0.5, 1.0, 0.0]).reshape(3, 1, 1, 1)
    np.testing.assert_allclose(entropy_of_probabilities(half, "sigmoid"), math.log(2), rtol=1e-6)
    logits = torch.randn((1, 3, 4, 5, 6), generator=torch.Generator().manual_seed(0)) * 3
    for nonlinearity, function in (("softmax", lambda x: x.softmax(1)), ("sigmoid", torch.sigmoid)):
        actual = entropy_of_probabilities(function(logits)[0], nonlinearity)
        torch.testing.assert_close(actual, entropy(logits, nonlinearity)[0], atol=1e-5, rtol=1e-5)
    with pytest.raises(ValueError, match="nonlinearity"):
        entropy_of_probabilities(half, "relu")


def test_boundary_has_both_sides_of_every_border():
    labels = np.zeros((6, 6, 6), dtype=np.uint8)
    labels[2:4, 2:4, 2:4] = 1
    cross = ndimage.generate_binary_structure(3, 1)
    border = ndimage.binary_dilation(labels, cross)
    border[2:4, 2:4, 2:4] = True
    ramp = np.random.default_rng(0).random(labels.shape)
    assert border.sum() == 8 + 6 * 4
    assert uncertainty.boundary_entropy(ramp, labels) == pytest.approx(ramp[border].mean())
    labels[2:4, 2:4, 3] = 2  # two classes that touch: no voxel more
    assert uncertainty.boundary_entropy(ramp, labels) == pytest.approx(ramp[border].mean())
    assert math.isnan(uncertainty.boundary_entropy(ramp, np.zeros_like(labels)))


def test_volume_and_disagreement_by_hand():
    first = np.array([[[0, 1, 1, 2, 2, 2]]])
    second = np.array([[[0, 1, 0, 2, 2, 0]]])
    assert uncertainty.foreground_ml(first, (1.0, 2.0, 50.0)) == pytest.approx(0.5)
    dice = 2 * 1 / 3, 2 * 2 / 5
    assert uncertainty.disagreement(first, second, [1, 2, 3]) == pytest.approx(1 - sum(dice) / 2)  # nobody has class 3
    assert uncertainty.disagreement(first, second, [(1, 2)]) == pytest.approx(1 - 2 * 3 / 8)
    assert uncertainty.disagreement(first, first, [1, 2]) == 0.0
    assert uncertainty.disagreement(first * 0, first * 0, [1, 2]) == 0.0
    assert uncertainty.disagreement(first, first * 0, [1, 2]) == 1.0


# ---------------------------------------------------------------------------------------------------- maps

FLIPPED = (-1, 0, 0, 0, 0, 1, 0, -1, 0)
OBLIQUE = (0.8, -0.6, 0, 0.6, 0.8, 0, 0, 0, 1)


@pytest.mark.parametrize("reader", [SimpleITKIO, SimpleITKIOWithReorient, NibabelIO, NibabelIOWithReorient])
@pytest.mark.parametrize("direction", [FLIPPED, OBLIQUE])
def test_maps_lie_on_the_grid_of_the_scan(reader, direction, tmp_path):
    scan = sitk.GetImageFromArray(np.random.default_rng(0).random((4, 5, 6)).astype(np.float32))
    scan.SetSpacing((1.0, 2.0, 3.0))
    scan.SetOrigin((-7.0, 8.0, 9.0))
    scan.SetDirection(direction)
    sitk.WriteImage(scan, str(tmp_path / "a_0000.nii.gz"))
    image, properties = reader().read_images([str(tmp_path / "a_0000.nii.gz")])
    reader().write_seg((image[0] > 0.5).astype(np.uint8), str(tmp_path / "a.nii.gz"), properties)
    uncertainty.write_map(image[0], tmp_path / "a_entropy.nii.gz", tmp_path / "a.nii.gz", reader)
    written = sitk.ReadImage(str(tmp_path / "a_entropy.nii.gz"))
    np.testing.assert_allclose(sitk.GetArrayFromImage(written), sitk.GetArrayFromImage(scan), atol=1e-6)
    for name in ("GetSpacing", "GetOrigin", "GetDirection"):
        np.testing.assert_allclose(getattr(written, name)(), getattr(scan, name)(), atol=1e-5)
    np.testing.assert_allclose(reader().read_images([str(tmp_path / "a_entropy.nii.gz")])[0], image, atol=1e-6)


def test_maps_of_formats_without_real_numbers_are_tif(tmp_path):
    import tifffile

    assert (
        uncertainty.map_ending(NaturalImage2DIO, ".png") == ".tif"
        and uncertainty.map_ending(SimpleITKIO, ".nrrd") == ".nrrd"
    )
    values = np.random.default_rng(0).random((1, 3, 4)).astype(np.float32)
    uncertainty.write_map(values, tmp_path / "a.tif", tmp_path / "a.png", NaturalImage2DIO)
    np.testing.assert_array_equal(tifffile.imread(tmp_path / "a.tif"), values)


# --------------------------------------------------------------------------------------------------- table


def test_table_is_written_read_and_ranked(tmp_path):
    rows = [("sure", 0.1, 0.2, 3.0, math.nan), ("empty", 0.1, math.nan, 0.0, math.nan), ("NA", 0.1, 0.4, 3, math.nan)]
    table = pd.DataFrame(rows, columns=COLUMNS)
    write_table(table.to_dict("records"), tmp_path / "t.csv")
    read = read_table(tmp_path / "t.csv")
    assert list(read["case"]) == list(ranked(table)["case"]) == ["empty", "NA", "sure"]
    assert math.isnan(read["boundary_entropy_nats"][0]) and read["boundary_entropy_nats"][1] == 0.4
    assert read["foreground_ml"][0] == 0
    lines = uncertainty_table(table).splitlines()
    assert [line.split()[:2] for line in lines[2:]] == [["1", "empty"], ["2", "NA"], ["3", "sure"]]
    assert "disagreement" not in lines[0] and "boundary_entropy_nats" in lines[0]
    (tmp_path / "t.csv").write_text("a,b\n")
    with pytest.raises(UserError, match="columns"):
        read_table(tmp_path / "t.csv")


# -------------------------------------------------------------------------------------------------- folder


@pytest.fixture
def images(dataset):
    write_image(blob(98)[0], dataset.raw / "imagesTs" / "test_01_0000.nii.gz")
    return dataset.raw / "imagesTs"


def load(folder, **options):
    return open_model(folder, [0], device=CPU, tile_step_size=1.0, mirroring=False, **options)


def test_folder_holds_nnunets_segmentation_and_its_entropy(dataset, images, tmp_path):
    folder, out = write_model(dataset), tmp_path / "out"
    rows = {row.case: row for row in predict_folder(images, out, load(folder)).itertuples()}
    assert sorted(i.name for i in out.iterdir()) == sorted(
        ["test_00.nii.gz", "test_01.nii.gz", "entropy", "uncertainty.csv", "uncertainty.json", "dataset.json"]
    )
    stock = nnUNetPredictor(1.0, use_mirroring=False, device=CPU, allow_tqdm=False)
    stock.initialize_from_trained_model_folder(str(folder), [0])
    image, properties = SimpleITKIO().read_images([str(images / "test_01_0000.nii.gz")])
    labels, probabilities = stock.predict_single_npy_array(image, properties, save_or_return_probabilities=True)
    written = sitk.ReadImage(str(out / "test_01.nii.gz"))
    np.testing.assert_array_equal(sitk.GetArrayFromImage(written), labels)
    entropy_map = sitk.GetArrayFromImage(sitk.ReadImage(str(out / "entropy" / "test_01_entropy.nii.gz")))
    expected = -(probabilities * np.log(np.maximum(probabilities, 1e-30))).sum(0)
    np.testing.assert_allclose(entropy_map, expected, atol=1e-5)
    row = rows["test_01"]
    assert row.mean_entropy_nats == pytest.approx(expected.mean(), rel=1e-4)
    assert row.foreground_ml == pytest.approx(labels.astype(bool).sum() / 1000)
    assert row.student_teacher_disagreement > 0
    assert {*read_table(out / "uncertainty.csv")["case"]} == {"test_00", "test_01"}


def test_equal_networks_agree(dataset, images, tmp_path):
    rows = predict_folder(images, tmp_path, load(write_model(dataset, student_differs=False)), cases=["test_00"])
    assert list(rows["student_teacher_disagreement"]) == [0.0]


def test_a_second_call_continues(dataset, images, tmp_path, monkeypatch):
    model = load(write_model(dataset))
    predicted, preprocess = [], uncertainty.preprocessed

    def counted(model, files):
        predicted.append(files[0].name[: -len("_0000.nii.gz")])
        return preprocess(model, files)

    monkeypatch.setattr(uncertainty, "preprocessed", counted)
    first = predict_folder(images, tmp_path / "out", model, cases=["test_00"])
    assert predict_folder(images, tmp_path / "out", model)["case"][0] == first["case"][0]
    assert predicted == ["test_00", "test_01"]
    (tmp_path / "out" / "entropy" / "test_00_entropy.nii.gz").unlink()
    predict_folder(images, tmp_path / "out", model)
    assert predicted == ["test_00", "test_01", "test_00"]
    predict_folder(images, tmp_path / "out", model, overwrite=True)
    assert predicted[3:] == ["test_00", "test_01"]
    with pytest.raises(UserError, match="predictions of another model"):
        predict_folder(images, tmp_path / "out", model, with_disagreement=False)


def test_an_interrupted_case_leaves_nothing(dataset, images, tmp_path, monkeypatch):
    def full(*args):
        raise OSError("disk full")

    model = load(write_model(dataset))
    monkeypatch.setattr(uncertainty, "write_map", full)
    with pytest.raises(OSError, match="disk full"):
        predict_folder(images, tmp_path / "out", model)
    names = {i.name for i in (tmp_path / "out").rglob("*")}
    assert names == {"entropy", "dataset.json", "uncertainty.json"}


def test_command_with_a_plain_model(dataset, images, tmp_path, capsys):
    folder = write_model(dataset, nnUNetTrainerSupervised, student_differs=False)
    arguments = ["predict-uncertainty", "-i", str(images), "-o", str(tmp_path / "out"), "-m", str(folder)]
    assert main([*arguments, "-device", "cpu", "-step_size", "1", "--disable_tta"]) == 0
    out = capsys.readouterr().out
    assert "disagreement" not in out and "2 segmentation(s)" in out and "nnunet-dycon evaluate" in out
    assert "perform_everything_on_device" not in out and "rank" in out
    with Image.open(tmp_path / "out" / "entropy" / "least_sure.png") as picture:
        assert np.asarray(picture.convert("L")).std() > 20
    rows = read_table(tmp_path / "out" / "uncertainty.csv")
    assert rows["student_teacher_disagreement"].isna().all()


def test_the_student_may_be_the_network_that_predicts(dataset, monkeypatch):
    monkeypatch.setenv("nnUNet_dycon", "max_patches=512,predict_with=student")
    model = load(write_model(dataset))
    state = torch.load(
        next((dataset.results).rglob("checkpoint_final.pth")), weights_only=False
    )["semi_supervised"]  # fmt: skip
    key = "encoder.stages.0.0.convs.0.conv.weight"
    assert torch.equal(model.weights[0][key], state["student_weights"][key])
    assert torch.equal(model.other_weights[0][key], state["teacher"]["module"][f"network.{key}"])
    assert not torch.equal(model.weights[0][key], model.other_weights[0][key])


def test_errors_say_what_to_give(dataset, images, tmp_path):
    with pytest.raises(UserError, match=r"no trained model folder \(it has no plans.json and no dataset.json\)"):
        load(tmp_path)
    folder = write_model(dataset)
    with pytest.raises(UserError, match=r"fold_3.checkpoint_final.pth does not exist; .*fold_0.checkpoint_final.pth"):
        open_model(folder, [3], device=CPU)
    with pytest.raises(UserError, match=r"checkpoint_best\.pth does not exist"):
        load(folder, checkpoint_name="checkpoint_best.pth")
    model = load(folder)
    with pytest.raises(UserError, match="nowhere is no folder"):
        predict_folder(tmp_path / "nowhere", tmp_path / "out", model)
    with pytest.raises(UserError, match="no scan of test_07; it has test_00, test_01"):
        predict_folder(images, tmp_path / "out", model, cases=["test_07"])
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match=r"holds no scan; name the scans CASE_0000\.nii\.gz"):
        predict_folder(tmp_path / "empty", tmp_path / "out", model)
    assert not (tmp_path / "out").exists()


def test_trainers_that_nnunet_does_not_find_are_named(dataset, monkeypatch):
    folder = write_model(dataset)
    file = folder / "fold_0" / "checkpoint_final.pth"
    checkpoint = torch.load(file, weights_only=False)
    checkpoint["trainer_name"] = "nnUNetTrainerOfAFriend"
    torch.save(checkpoint, file)
    with pytest.raises(UserError, match="cannot be loaded: Could not find requested nnunet trainer nnUNetTrainerOfA"):
        assert load(folder).predictor


def test_regions_have_binary_entropies(dataset, images, tmp_path):
    file = dataset.preprocessed / "dataset.json"
    regions = {"background": 0, "whole": [1, 2], "core": 2}
    file.write_text(json.dumps(json.loads(file.read_text()) | {"labels": regions, "regions_class_order": [1, 2]}))
    model = load(write_model(dataset))
    assert model.nonlinearity == "sigmoid"
    scan = images / "test_01_0000.nii.gz"
    table = predict_folder(images, tmp_path / "out", model, cases=["test_01"])
    entropy_map = sitk.ReadImage(str(tmp_path / "out" / "entropy" / "test_01_entropy.nii.gz"))
    image, properties = SimpleITKIO().read_images([str(scan)])
    model.predictor.list_of_parameters = model.weights
    _, p = model.predictor.predict_single_npy_array(image, properties, save_or_return_probabilities=True)
    assert p.shape == (2, 24, 24, 24)
    expected = -(p * np.log(p) + (1 - p) * np.log1p(-p)).sum(0)
    np.testing.assert_allclose(sitk.GetArrayFromImage(entropy_map), expected, atol=1e-4)
    assert 0 < table["student_teacher_disagreement"].item() <= 1


def test_two_folds_are_averaged(dataset, images, tmp_path):
    folder = write_model(dataset)
    other = make_trainer(dataset, fold=1, seed=3)
    other.initialize()
    other.save_checkpoint(str(folder / "fold_1" / "checkpoint_final.pth"))
    model = open_model(folder, [0, 1], device=CPU, tile_step_size=1.0, mirroring=False)
    assert len(model.weights) == len(model.other_weights) == 2
    both = predict_folder(images, tmp_path / "both", model, cases=["test_00"])
    one = predict_folder(images, tmp_path / "one", load(folder), cases=["test_00"])
    assert both["mean_entropy_nats"].item() != one["mean_entropy_nats"].item()


def test_a_model_is_found_by_its_folder_or_that_of_a_fold(dataset):
    folder = write_model(dataset)
    model = open_model(folder)
    assert model.folds == (0,) and open_model(folder / "fold_0") == model
    assert (
        set(model.checkpoints[0]) >= {"trainer_name", "semi_supervised"}
        and "optimizer_state" not in model.checkpoints[0]
    )
    assert model.curve("student_entropy").tolist() == [0.5, 0.25] and not len(model.curve("nothing"))
    for fold in ("all", 3, 12):
        shutil.copytree(folder / "fold_0", folder / f"fold_{fold}")
    assert finished_folds(folder) == [0, 3, 12]
    for fold in (0, 3, 12):
        shutil.rmtree(folder / f"fold_{fold}")
    assert finished_folds(folder) == ["all"] == list(open_model(folder).folds)

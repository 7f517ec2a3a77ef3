"""Suggestions: uncertain first, no copies, no mask opened, files whole."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path
from types import SimpleNamespace

import blosc2
import numpy as np
import pytest
import SimpleITK as sitk
import torch
from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor
from nnunetv2.run.run_training import get_trainer_from_args
from nnunetv2.utilities.label_handling.label_handling import LabelManager
from nnunetv2.utilities.plans_handling.plans_handler import PlansManager
from torch import nn

from nnunet_dycon.cli import main
from nnunet_dycon.errors import UserError
from nnunet_dycon.tools.suggest import Pick, TrainedModel, rank_cases, suggest_cases
from nnunet_dycon.tools.suggest.assess import ScanAssessor
from nnunet_dycon.tools.suggest.cases import labeled_images
from nnunet_dycon.tools.suggest.contact_sheet import contact_sheet
from nnunet_dycon.tools.suggest.features import PoolingTap
from nnunet_dycon.tools.suggest.scan_view import Turn, turn_of, view_of
from nnunet_dycon.tools.suggest.uncertainty import prediction_of, region_around
from tests.conftest import LABELED, UNLABELED, blob, write_image

TRAINER = "nnUNetTrainerSupervised"


# --------------------------------------------------------------------------------------------------- the order of cases


def order(picks: list[Pick]) -> list[str]:
    return [pick.case for pick in picks]


def points(**values: float) -> dict[str, np.ndarray]:
    return {case: np.array([value, 0.0]) for case, value in values.items()}


def test_a_copy_of_an_uncertain_case_comes_after_all_others():
    unsure = {"a": 0.9, "copy_of_a": 0.9, "b": 0.2, "c": 0.15}
    picks = rank_cases(unsure, points(a=5, copy_of_a=5, b=3, c=-4), points(labelled=0))
    assert order(picks) == ["a", "c", "b", "copy_of_a"]
    assert picks[-1].distance == 0 and picks[-1].nearest == "a"


def test_a_copy_of_a_labelled_case_comes_last_however_uncertain():
    picks = rank_cases({"a": 0.1, "copy": 0.9}, points(a=1, copy=0), points(labelled=0))
    assert order(picks) == ["a", "copy"] and picks[1].nearest == "labelled"


def test_first_picks_by_hand():
    # products with the distance to the labelled case: 2, 3, 2.5; then, with b picked, a is 1 and c is 1 away
    picks = rank_cases({"a": 1.0, "b": 1.0, "c": 0.625}, points(a=2, b=3, c=4), points(labelled=0))
    assert [(i.case, i.distance, i.nearest) for i in picks] == [("b", 3, "labelled"), ("a", 1, "b"), ("c", 1, "b")]


def test_without_labelled_cases_the_most_uncertain_is_first_then_distance_counts():
    picks = rank_cases({"a": 0.5, "b": 0.6, "c": 0.4}, points(a=0.1, b=0, c=9), {})
    assert order(picks) == ["b", "c", "a"] and np.isnan(picks[0].distance) and picks[0].nearest == ""


@pytest.mark.parametrize("factor", [1e-3, 1.0, 50.0])
def test_the_order_knows_no_scale(factor):
    rng = np.random.default_rng(0)
    unsure = {f"{i}": float(u) for i, u in enumerate(rng.uniform(0.1, 1, 12))}
    features = {case: rng.normal(size=3) for case in unsure}
    labeled = {"labelled": rng.normal(size=3)}
    expected = order(rank_cases(unsure, features, labeled))
    assert sorted(expected) == sorted(unsure)
    scaled = [{case: factor * i for case, i in values.items()} for values in (unsure, features, labeled)]
    assert order(rank_cases(*scaled)) == expected
    backwards = [dict(reversed(values.items())) for values in (unsure, features, labeled)]
    assert order(rank_cases(*backwards)) == expected


def test_diversity_zero_is_the_order_of_uncertainty_and_larger_is_farther():
    unsure, features = {"a": 0.5, "b": 0.45, "c": 0.4}, points(a=1, b=1.1, c=2)
    assert order(rank_cases(unsure, features, points(labelled=0), diversity=0)) == ["a", "b", "c"]
    assert order(rank_cases(unsure, features, points(labelled=0), diversity=3))[0] == "c"


def test_ties_go_to_the_name_and_certain_cases_are_ranked_too():
    assert order(rank_cases({"b": 0.0, "a": 0.0}, points(a=1, b=1), points(labelled=0))) == ["a", "b"]
    assert rank_cases({}, {}, {}) == []


def test_rank_cases_refuses_what_does_not_match():
    with pytest.raises(ValueError, match="features of"):
        rank_cases({"a": 0.1}, points(b=1), {})
    with pytest.raises(ValueError, match="diversity"):
        rank_cases({"a": 0.1}, points(a=1), {}, diversity=-1)


# ---------------------------------------------------------------------------------------------- uncertainty of one scan

CLASSES = LabelManager({"background": 0, "ball": 1}, None)
REGIONS = LabelManager({"background": 0, "whole": [1, 2], "core": 2}, [1, 2])


def test_uncertainty_by_hand():
    logits = torch.full((2, 7, 7, 7), -10.0)
    logits[0] = 10.0
    logits[:, 3, 3, 3] = torch.tensor([0.0, 1e-4])  # foreground, as unsure as can be
    prediction = prediction_of(logits, CLASSES)
    assert prediction.labels.sum() == 1 and prediction.region.sum() == 25  # two steps along faces
    assert prediction.uncertainty == pytest.approx(1 / 25, abs=1e-6)
    assert prediction.volume_entropy == pytest.approx(1 / 343, abs=1e-6)


def test_more_background_does_not_change_the_uncertainty():
    logits = torch.full((2, 6, 6, 6), -3.0)
    logits[0] = 3.0
    logits[1, 2:4, 2:4, 2:4] = 3.5
    wide = torch.nn.functional.pad(logits, (6,) * 6, value=-10.0)
    wide[0] = torch.nn.functional.pad(logits[0], (6,) * 6, value=10.0)
    one, other = prediction_of(logits, CLASSES), prediction_of(wide, CLASSES)
    assert other.uncertainty == pytest.approx(one.uncertainty, rel=0.02)
    assert other.volume_entropy < 0.1 * one.volume_entropy


def test_an_empty_prediction_is_judged_around_its_likeliest_voxel():
    probability = np.zeros((5, 5, 5))
    probability[1, 2, 3] = 0.4
    region = region_around(probability > 0.5, probability, border_voxels=1)
    assert region.sum() == 7 and region[1, 2, 3]


def test_regions_have_foreground_and_entropy_too():
    logits = torch.full((2, 5, 5, 5), -9.0)
    logits[:, 2, 2, 2] = torch.tensor([9.0, 0.0])  # whole, and core undecided: half of the largest entropy
    prediction = prediction_of(logits.half(), REGIONS)
    assert prediction.labels[2, 2, 2] == 1 and prediction.labels.sum() == 1
    assert prediction.entropy[2, 2, 2] == pytest.approx(0.5, abs=1e-3)


# -------------------------------------------------------------------------------------- the network, seen by the tool


class Threshold(nn.Module):
    """Foreground where an intensity is above 0, the surer the farther; the encoder sees the intensities."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = ThresholdEncoder()

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        skips = self.encoder(images)
        return torch.cat([-4 * skips[0], 4 * skips[0]], dim=1)


class ThresholdEncoder(nn.Module):
    def forward(self, images: torch.Tensor) -> list[torch.Tensor]:
        deepest = torch.cat([images, images.abs()], dim=1)
        return [images, nn.functional.avg_pool3d(deepest, 2)]


def test_tap_averages_over_passes_and_only_inside_active():
    network = Threshold()
    tap = PoolingTap(network)
    network(torch.full((1, 1, 4, 4, 4), 99.0))
    with tap.active():
        network(torch.full((1, 1, 4, 4, 4), 1.0))
        network(torch.tensor([2.0, -6.0]).view(2, 1, 1, 1, 1).expand(2, 1, 4, 4, 4))
    np.testing.assert_allclose(tap.take_mean(), [-1.0, 3.0])
    with pytest.raises(RuntimeError, match="no forward pass"):
        tap.take_mean()
    with pytest.raises(UserError, match="Linear has no encoder"):
        PoolingTap(nn.Linear(1, 1))


@pytest.fixture
def toy_model(dataset) -> TrainedModel:
    """The threshold network in nnU-Net's predictor, on the dataset of balls."""
    plans = PlansManager(str(dataset.preprocessed / "nnUNetPlans.json"))
    dataset_json = json.loads((dataset.preprocessed / "dataset.json").read_text())
    predictor = nnUNetPredictor(device=torch.device("cpu"), perform_everything_on_device=False, allow_tqdm=False)
    network = Threshold()
    predictor.manual_initialization(
        network, plans, plans.get_configuration("3d_fullres"), [network.state_dict()], dataset_json, TRAINER, (0, 1, 2)
    )
    return TrainedModel(dataset.results / "toy", dataset.dataset, "3d_fullres", ("all",), predictor)


def sure_and_unsure_scans(dataset) -> None:
    """scan_00 is sure; scan_01 has a faint ball; scan_02 is a copy of it with an even fainter corner."""
    folder = dataset.preprocessed / "nnUNetPlans_3d_fullres_unlabeled"
    ball = blob(0)[1] > 0
    for case, height in zip(UNLABELED, (5.0, 0.1, 0.1), strict=True):
        image = np.where(ball, height, -5.0)[None].astype(np.float32)
        blosc2.asarray(image, urlpath=str(folder / f"{case}.b2nd"), mode="w")


def test_the_case_the_network_is_unsure_of_is_first_and_its_copy_last(dataset, toy_model, tmp_path):
    sure_and_unsure_scans(dataset)
    report = suggest_cases(toy_model, 2, tmp_path / "out")
    assert order(report.picks) == ["scan_01", "scan_00", "scan_02"]
    assert report.picks[0].uncertainty > 10 * report.picks[1].uncertainty
    assert report.picks[2].distance == 0 and report.n_labeled == len(LABELED)
    assert order(report.suggested) == ["scan_01", "scan_00"]


def test_the_same_result_twice_and_only_whole_files(dataset, toy_model, tmp_path, monkeypatch):
    sure_and_unsure_scans(dataset)
    one = suggest_cases(toy_model, 3, tmp_path / "out")
    table, sheet = one.table.read_bytes(), one.sheet.read_bytes()
    assert suggest_cases(toy_model, 3, tmp_path / "out").picks[1:] == one.picks[1:]
    assert (one.table.read_bytes(), one.sheet.read_bytes()) == (table, sheet)
    rows = list(csv.DictReader(one.table.read_text().splitlines()))
    assert [(row["rank"], row["case"], row["suggested"]) for row in rows][:2] == [
        ("1", "scan_01", "yes"), ("2", "scan_00", "yes"),
    ]  # fmt: skip

    def fails(*args):
        raise RuntimeError("no picture")

    monkeypatch.setattr("nnunet_dycon.tools.suggest.run.contact_sheet", fails)
    with pytest.raises(RuntimeError, match="no picture"):
        suggest_cases(toy_model, 1, tmp_path / "out")
    with pytest.raises(RuntimeError, match="no picture"):
        suggest_cases(toy_model, 1, tmp_path / "new")
    assert sorted(i.name for i in (tmp_path / "out").iterdir()) == ["contact_sheet.png", "suggestions.csv"]
    assert one.table.read_bytes() == table and list((tmp_path / "new").iterdir()) == []


def test_labelled_cases_are_those_the_fold_trains_on(dataset, toy_model):
    assert list(labeled_images(toy_model)) == LABELED
    folds = [{"train": LABELED[:2], "val": LABELED[2:3], "unlabeled": LABELED[3:]}]
    (dataset.preprocessed / "splits_final.json").write_text(json.dumps(folds))
    assert list(labeled_images(SimpleNamespace(**{**vars(toy_model), "folds": (0,)}))) == LABELED[:2]
    assert list(labeled_images(toy_model)) == LABELED[:3]  # fold all
    shutil.rmtree(dataset.images)
    assert labeled_images(toy_model) == {}


def test_no_mask_is_opened(dataset, toy_model, tmp_path):
    """With every mask gone, preprocessed or raw, the suggestion is the same."""
    expected = suggest_cases(toy_model, 1, tmp_path / "one").picks
    for file in [*dataset.root.rglob("labels*/*"), *dataset.images.glob("*_seg.b2nd"), *dataset.images.glob("*.pkl")]:
        file.unlink()
    shutil.rmtree(dataset.preprocessed / "gt_segmentations")
    assert order(suggest_cases(toy_model, 1, tmp_path / "two").picks) == order(expected)


def test_labelled_cases_that_are_not_preprocessed_are_named(dataset, toy_model, tmp_path):
    assert suggest_cases(toy_model, 1, tmp_path / "out").warnings == []
    (dataset.images / f"{LABELED[2]}.b2nd").unlink()
    report = suggest_cases(toy_model, 1, tmp_path / "out")
    assert f"1 labelled cases are not preprocessed ({LABELED[2]})" in report.warnings[0]
    assert report.n_labeled == len(LABELED) - 1


@pytest.mark.parametrize(("n", "message"), [(4, "has 3 unlabelled cases; give at most"), (0, "give at least 1")])
def test_wrong_numbers(dataset, toy_model, tmp_path, n, message):
    with pytest.raises(UserError, match=message):
        suggest_cases(toy_model, n, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_no_unlabelled_case(dataset, toy_model, tmp_path):
    for file in (dataset.raw / "imagesUn").iterdir():
        file.unlink()
    with pytest.raises(UserError, match="no unlabelled case to choose from: put scans without masks into imagesUn"):
        suggest_cases(toy_model, 1, tmp_path / "out")


# ------------------------------------------------------------------------------------------------------- the picture


def view(height: int = 6, width: int = 8):
    image = np.random.default_rng(0).normal(size=(1, 4, height, width))
    logits = torch.full((2, 4, height, width), -5.0)
    logits[0] = 5.0
    logits[:, 2, 2:4, 3:6] = 0.1 * torch.tensor([-1.0, 1.0]).view(2, 1, 1)
    return view_of(image, prediction_of(logits, CLASSES), (1.0, 2.0), Turn())


def test_view_shows_the_slice_with_most_entropy():
    shown = view()
    assert shown.index == 2 and shown.aspect == 0.5 and shown.labels.sum() == 6
    assert shown.entropy[2, 3] > 250 and shown.entropy[0, 0] < 5 and shown.image.max() == 255


@pytest.mark.parametrize(
    ("code", "transpose_forward", "expected"),
    [
        ("LPS", (0, 1, 2), Turn()),
        ("RAI", (0, 1, 2), Turn(flip_rows=True, flip_columns=True)),
        ("LPS", (2, 0, 1), Turn(flip_rows=True)),  # sagittal slices: head up, back to the right
        ("LPS", (2, 1, 0), Turn(transpose=True, flip_rows=True)),
        ("PSR", (0, 1, 2), Turn(flip_rows=True)),  # stored as sagittal slices
    ],
)
def test_slices_are_turned_front_or_head_up(tmp_path, code, transpose_forward, expected):
    image = sitk.GetImageFromArray(np.zeros((2, 3, 4), np.uint8))
    filter_ = sitk.DICOMOrientImageFilter()
    image.SetDirection(filter_.GetDirectionCosinesFromOrientation(code))
    sitk.WriteImage(image, str(tmp_path / "scan.nii.gz"))
    assert turn_of(tmp_path / "scan.nii.gz", transpose_forward) == expected
    assert turn_of(tmp_path / "missing.nii.gz", transpose_forward) == Turn()


def test_turn_by_hand():
    np.testing.assert_array_equal(Turn(True, True, False)(np.array([[1, 2], [3, 4]])), [[2, 4], [1, 3]])


@pytest.mark.parametrize("n", [1, 3])
def test_sheet_has_two_panels_a_case_and_a_scale(n):
    picks = [Pick(f"case_{i}" * 9, 0.2, float("nan"), "") for i in range(n)]
    figure = contact_sheet(picks, [view()] * n, "title")
    assert len(figure.axes) == 2 * n + 1
    titles = [text.get_text() for axis in figure.axes for text in axis.texts]
    assert sum("uncertainty 0.20, slice 2" in title for title in titles) == n
    with pytest.raises(ValueError, match="give one view a pick"):
        contact_sheet(picks, [], "title")


# ------------------------------------------------------------------------------------------------------- the command


@pytest.fixture
def trained(dataset) -> Path:
    """A checkpoint as a training leaves it, of a network that has learned nothing."""
    torch.manual_seed(0)
    trainer = get_trainer_from_args("901", "3d_fullres", 0, TRAINER, "nnUNetPlans", device=torch.device("cpu"))
    trainer.initialize()
    fold = Path(trainer.output_folder)
    trainer.save_checkpoint(str(fold / "checkpoint_final.pth"))
    shutil.copy(dataset.preprocessed / "nnUNetPlans.json", fold.parent / "plans.json")
    shutil.copy(dataset.preprocessed / "dataset.json", fold.parent / "dataset.json")
    return fold.parent


def test_command_writes_table_and_sheet_and_says_what_is_next(dataset, trained, capsys):
    command = ["suggest", "-d", "901", "--n", "2", "-tr", TRAINER, "-device", "cpu", "-np", "1"]
    assert main(command) == 0
    out = capsys.readouterr().out.splitlines()
    assert "nnunet-dycon add-labels -d 901 MASKS" in out[-1] and str(trained / "suggestions") in out[-1]
    assert len((trained / "suggestions" / "suggestions.csv").read_text().splitlines()) == 1 + len(UNLABELED)
    assert (trained / "suggestions" / "contact_sheet.png").read_bytes().startswith(b"\x89PNG")
    assert "ranked 3 unlabelled cases; 6 labelled ones were kept away from" in out[-2]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["-tr", "nnUNetTrainerDyCON"], f"there is {TRAINER}__nnUNetPlans__3d_fullres: choose by -tr"),
        (["-tr", TRAINER, "-f", "3"], "no finished training of fold 3 (checkpoint_final.pth); finished: 0"),
        (["-tr", TRAINER, "-f", "x"], "'x' is no fold; give a number, or all"),
        (["-tr", TRAINER, "-device", "abacus"], "invalid choice: 'abacus' (choose from"),
        (["-tr", TRAINER, "--count", "0"], "0: give at least 1"),
        (["-tr", TRAINER, "--diversity", "-1"], "--diversity -1.0: give 0 or more"),
    ],
)
def test_wrong_options(dataset, trained, capsys, options, message):
    assert main(["suggest", "-d", "901", "-device", "cpu", *options]) == 2
    assert message in capsys.readouterr().err


def test_without_any_model(dataset, capsys):
    assert main(["suggest", "-d", "901", "-device", "cpu"]) == 2
    assert "holds no finished training (fold_*/checkpoint_final.pth); train a model first" in capsys.readouterr().err


def test_assessor_sees_the_mean_of_windows(dataset, toy_model):
    write_image(np.zeros((2, 2, 2)), dataset.root / "unused.nii.gz")  # assess takes arrays, no files
    image = np.full((1, 16, 16, 32), 2.0, np.float32)
    image[..., 16:] = -2.0
    found = ScanAssessor(toy_model).assess(image, Turn())
    np.testing.assert_allclose(found.features, [0.0, 2.0], atol=1e-6)
    assert found.foreground_voxels == 16 * 16 * 16

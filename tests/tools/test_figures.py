"""Figures of a finished training."""

import json
import math
import os
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from matplotlib.colors import to_hex
from PIL import Image

from nnunet_dycon.cli import main
from nnunet_dycon.errors import UserError
from nnunet_dycon.losses.patches import patch_labels
from nnunet_dycon.models.trained_model import open_model
from nnunet_dycon.pictures import style as look
from nnunet_dycon.pictures.drawing import film_strip_figure
from nnunet_dycon.pictures.overlay import CaseFiles, dice
from nnunet_dycon.pictures.training import FOLDER
from nnunet_dycon.pictures.views import Picture, View
from nnunet_dycon.tools.evaluate.classes import classes_from_labels
from nnunet_dycon.tools.figures import make
from nnunet_dycon.tools.figures.entropy import entropy_figure
from nnunet_dycon.tools.figures.segmentation import (
    SegmentedCase,
    read_segmented_case,
    segmentation_figure,
    shown_slices,
    shown_window,
)
from nnunet_dycon.tools.figures.similarities import (
    BINS,
    Similarities,
    _patch_classes,
    pair_similarities,
    similarities,
    similarity_figure,
)
from nnunet_dycon.tools.figures.surface import surface, surface_figure
from nnunet_dycon.tools.figures.trained_run import TrainedRun
from nnunet_dycon.tools.figures.uncl_gradient import gradient_magnitude, gradient_of_a_difference, uncl_gradient_figure
from nnunet_dycon.trainers import nnUNetTrainerSupervised
from nnunet_dycon.trainers.dycon import DyCONSettings
from tests.conftest import UNLABELED, blob, write_image
from tests.helpers.trained_model import make_trainer, write_model

# ------------------------------------------------------------------------------------------------ gradient


def test_gradient_of_uncl_in_closed_form():
    """Two classes: the loss is 2 d^2 / (e^(b H_s) + e^(b H_t)) + w b H_s, with d = p_s - p_t and H binary entropies."""
    student, teacher, beta, weight = np.array([0.2, 0.6, 0.95]), 0.9, 1.7, 0.4

    def binary_entropy(p):
        return -p * np.log(p) - (1 - p) * np.log(1 - p)

    def loss(p):
        denominator = np.exp(beta * binary_entropy(p)) + np.exp(beta * binary_entropy(teacher))
        return 2 * (p - teacher) ** 2 / denominator + weight * beta * binary_entropy(p)

    step = 1e-6
    slope = (loss(student + step) - loss(student - step)) / (2 * step) * student * (1 - student)
    actual = gradient_magnitude(student, teacher, beta, entropy_weight=weight)
    np.testing.assert_allclose(actual, math.sqrt(2) * np.abs(slope), rtol=1e-5)


def test_gradient_of_a_difference_is_the_slope_at_fixed_entropies():
    student, teacher, beta = np.array([0.1, 0.6]), np.array([0.2, 0.3]), np.array([5.0, 0.5])
    difference = torch.ones(2, dtype=torch.float64, requires_grad=True)
    weight = torch.from_numpy(1 / (np.exp(beta * student) + np.exp(beta * teacher)))
    (weight * difference**2).sum().backward()
    np.testing.assert_allclose(gradient_of_a_difference(student, teacher, beta), difference.grad)
    assert gradient_of_a_difference(student, teacher, np.asarray(0.0)).tolist() == [1, 1]


def run_with_log(**log):
    state = {"settings": DyCONSettings(entropy_weight=0.0).to_dict() | {"removed_setting": 3}}
    return TrainedRun(Path("fold_0"), "checkpoint_final.pth", {"semi_supervised": state, "logging": log})


def test_gradient_figure_draws_a_line_a_beta():
    log = {"beta": [4.0, 2.0, 1.0], "student_entropy": [0.3, 0.2, 0.1], "teacher_entropy": [0.4, 0.1, 0.0]}
    figure = uncl_gradient_figure(run_with_log(**log), betas=(0.5, 2.0))
    first, second, over_time = figure.axes
    curves = [line.get_ydata() for line in first.lines[:2]]
    assert len(curves[0]) == 499 and curves[0].max() > curves[1].max()  # a higher beta damps
    np.testing.assert_allclose(second.lines[0].get_ydata(), curves[0])  # no entropy term, no difference
    assert [line.get_label() for line in over_time.lines] == ["beta 0.5", "beta 2", "this training: 5 to 0.5"]
    progress = [math.log(5 / beta, 10) for beta in log["beta"]]  # beta falls from 5 to 0.5
    expected = [2 / (math.exp(b * s) + math.exp(b * t)) for b, s, t in zip(*log.values(), strict=True)]
    np.testing.assert_allclose(over_time.lines[2].get_ydata(), expected)
    np.testing.assert_allclose(over_time.lines[1].get_ydata()[1], expected[1])  # beta is 2 there
    for line in over_time.lines:
        np.testing.assert_allclose(line.get_xdata(), progress)


def test_progress_of_a_constant_beta_is_the_middle_of_the_epochs():
    run = run_with_log(beta=[2.0, 2.0])
    run.semi_supervised["settings"] |= {"beta_max": 2.0, "beta_min": 2.0}
    assert run.progress().tolist() == [0.25, 0.75]
    assert uncl_gradient_figure(run) is None  # no entropies


# -------------------------------------------------------------------------------------------- similarities


def test_pairs_of_patches_by_hand():
    x, y = [1.0, 0.0], [0.0, 1.0]
    embeddings = torch.tensor([[x, x, y, y], [x, y, x, x]])
    labels = torch.tensor([[0, 0, 1, -1], [1, 0, -1, -1]])  # pairs between crops do not count
    found = pair_similarities(embeddings, labels)
    assert found.positive.sum() == 1 and found.positive[-1] == 1
    assert found.negative.sum() == 3 and found.negative[BINS // 2] == 3
    assert found.separation() == 1.0
    assert Similarities(found.negative, found.positive).separation() == 0.0
    assert Similarities(found.negative, found.negative).separation() == 0.5
    titles = [axis.get_title() for axis in similarity_figure(found, found).axes]
    assert titles == ["untrained network (AUC 1.00)", "trained network (AUC 1.00)"]


@pytest.mark.parametrize("ignore", [False, True])
def test_patch_classes_are_those_of_the_training(dataset, ignore):
    """Label 1 lies in the first region alone, which is exported as label 2; label 2 in both, exported as 1."""
    labels = {"background": 0, "all": [1, 2], "core": 2} | ({"ignore": 3} if ignore else {})
    file = dataset.preprocessed / "dataset.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"labels": labels, "regions_class_order": [2, 1]}))
    trainer = make_trainer(dataset)
    trainer.initialize()
    reference = torch.from_numpy(np.random.default_rng(0).choice([0, 1, 2, 2 + ignore], (2, 4, 4, 4)))
    manager = trainer.label_manager
    target = [torch.isin(reference, torch.tensor(region)) for region in manager.foreground_regions]
    target = torch.stack([*target, *[reference == 3] * ignore], dim=1)
    trained = patch_labels(trainer._true_labels(target, [2, 1]), [0, 2, 1], (2, 2, 2), min_purity=0.4)
    found = _patch_classes(reference, (2, 2, 2), DyCONSettings(patch_min_purity=0.4), manager)
    assert torch.equal(found, trained) and found.unique().tolist()[-2:] == [1, 2]
    single = _patch_classes(torch.full((1, 2, 2, 2), 1), (1, 1, 1), DyCONSettings(), manager)
    assert single.tolist() == [[2]]


# ------------------------------------------------------------------------------------ slices and surfaces


def ball_case(radius_mm=8.0, spacing_mm=(2.0, 1.0, 1.0), shift=0.0, empty=False, classes=None):
    """A ball of label 1 in a scan, the inner half of its radius of label 2 where there are classes."""
    grid = np.stack(
        np.meshgrid(*[np.arange(n) * s for n, s in zip((14, 28, 28), spacing_mm, strict=True)], indexing="ij")
    )
    masks = []
    for move in (0.0, shift):
        distance = np.linalg.norm(grid - 13.0 - move, axis=0)
        inner = distance <= (radius_mm / 2 if classes else -1)
        masks.append((distance <= radius_mm).astype(int) + inner)
    reference, prediction = masks
    prediction[:] *= not empty
    entropy = np.full(reference.shape, 0.3)
    return SegmentedCase("a", grid[0], reference, prediction, classes or {"ball": (1,)}, spacing_mm, entropy)


def test_surface_is_in_millimetres_and_seen_from_the_front():
    case = ball_case()
    vertices, faces = surface(case.reference > 0, case.spacing_mm)
    np.testing.assert_allclose(np.linalg.norm(vertices - 13.0, axis=1), 8.0, atol=1.2)
    assert faces.max() == len(vertices) - 1
    single = np.zeros((9, 9, 9), dtype=bool)
    single[2, 4, 6] = True
    vertices, _ = surface(single, (1.0, 2.0, 3.0))
    np.testing.assert_allclose(vertices.mean(axis=0), (6 * 3, 4 * 2, 2 * 1), atol=0.05)  # x, y, z
    assert len(surface(single & False, (1, 1, 1))[0]) == 0


def test_surface_figure_colours_by_distance_and_bears_empty_masks():
    figure = surface_figure([ball_case(shift=2.0), ball_case(empty=True)])
    assert [axis.get_title() for axis in figure.axes[:4]] == [
        "a: reference", figure.axes[1].get_title(), "a: reference", "prediction, Dice 0.000",
    ]  # fmt: skip
    assert [len(axis.collections) for axis in figure.axes[:4]] == [1, 1, 1, 0]
    colours = figure.axes[1].collections[0].get_facecolor()
    assert len(np.unique(colours.round(2), axis=0)) > 20


def test_slices_cover_the_segmented_part():
    case = ball_case()
    segmented = np.flatnonzero(case.reference.any(axis=(1, 2)))
    slices = shown_slices(case, 3)
    assert slices == sorted(set(slices)) and slices[0] >= segmented[0] and slices[-1] <= segmented[-1]
    assert abs(slices[1] - (segmented[0] + segmented[-1]) / 2) <= 1
    assert shown_window(case) == (slice(0, 28), slice(0, 28))
    nothing = replace(case, reference=case.reference * 0, prediction=case.prediction * 0)
    assert shown_slices(nothing, 2) == [7, 7] and shown_window(nothing) == (slice(None), slice(None))


def test_segmentation_figure_has_both_contours_and_the_entropy():
    figure = segmentation_figure([ball_case(shift=3.0)], slices=2, highest_entropy=0.7)
    assert len(figure.axes) == 2 + 1 + 1  # slices, entropy, scale
    assert [len(axis.collections) for axis in figure.axes[:3]] == [2, 2, 0]
    assert figure.axes[2].images[0].get_clim() == (0, 0.7)
    without = replace(ball_case(), entropy=None)
    assert len(segmentation_figure([without], slices=2).axes) == 2
    with pytest.raises(ValueError, match="no case"):
        segmentation_figure([])


REGIONS = {"whole": (1, 2), "core": (2,)}


def texts(figure):
    return [text.get_text() for text in figure.legends[0].get_texts()]


def test_classes_and_regions_have_a_contour_and_a_dice_each():
    case = ball_case(shift=2.0, classes=REGIONS)
    figure = segmentation_figure([case], slices=1)
    contours = figure.axes[0].collections
    assert [i.get_linestyle()[0][1] is None for i in contours] == [True, False, True, False]  # prediction, reference
    colours = [to_hex(i.get_edgecolor()[0]) for i in contours]
    assert colours[0] == colours[1] != colours[2] == colours[3]
    assert texts(figure) == ["reference", "prediction", "whole", "core"]
    whole, core = (dice(*(np.isin(i, v) for i in (case.reference, case.prediction))) for v in REGIONS.values())
    assert figure.axes[0].get_ylabel() == f"a\nwhole {whole:.3f}\ncore {core:.3f}" and core < whole
    surfaces = surface_figure([case])
    assert [axis.get_title() for axis in surfaces.axes[:4]] == [
        "a\nwhole: reference", f"prediction, Dice {whole:.3f}", "a\ncore: reference", f"prediction, Dice {core:.3f}",
    ]  # fmt: skip


def test_many_classes_have_a_mean_dice_and_one_surface_that_says_so():
    case = ball_case(classes={f"class {i}": (i,) for i in range(1, 6)})
    figure = segmentation_figure([case], slices=1)
    assert figure.axes[0].get_ylabel() == "a\nmean Dice 1.000\n(2 of 5 classes)"  # three are in neither mask
    assert texts(figure)[2:] == list(case.classes)
    assert surface_figure([case]).axes[0].get_title() == "a\nall 5 classes together: reference"


def test_ignored_voxels_do_not_count(tmp_path):
    reference, prediction = np.zeros((2, 8, 8, 8), dtype=np.uint8)
    reference[2:4], reference[4:6], prediction[2:6] = 1, 3, 1
    for name, array in (("image", reference), ("reference", reference), ("prediction", prediction)):
        write_image(array, tmp_path / f"{name}.nii.gz")
    files = CaseFiles(
        "a", *(tmp_path / f"{i}.nii.gz" for i in ("image", "reference")), (tmp_path / "prediction.nii.gz",)
    )
    classes = classes_from_labels({"background": 0, "ball": 1, "ignore": 3}, "test")
    case = read_segmented_case(files, None, classes)
    assert case.dice_text("ball") == "1.000" and case.foreground().sum() == 2 * 8 * 8


# ------------------------------------------------------------------------------------------ a trained run


@pytest.fixture
def references(dataset):
    write_image(blob(99)[1], dataset.raw / "labelsTs" / "test_00.nii.gz")
    return dataset.raw / "labelsTs"


def test_command_draws_everything_a_run_allows(dataset, references, tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(look._PARAMETERS, "figure.dpi", 40)
    run = write_model(dataset) / "fold_0"
    cases = ["--images", str(dataset.raw / "imagesTs"), "--references", str(references), "-device", "cpu"]
    assert main(["figures", str(run), "-o", str(tmp_path / "out"), *cases]) == 0
    out = capsys.readouterr().out
    assert "not drawn: film_strip: the training drew no pictures" in out
    names = ("entropy", "uncl_gradient", "segmentation", "surface", "similarities")
    files = {f"{name}.{ending}" for name in names for ending in ("pdf", "png")}
    assert {i.name for i in (tmp_path / "out").iterdir()} == files | {"predictions"}
    for name in names:
        assert (tmp_path / "out" / f"{name}.pdf").read_bytes().startswith(b"%PDF")
    assert (tmp_path / "out" / "predictions" / "entropy" / "test_00_entropy.nii.gz").is_file()


def test_film_strip_of_the_pictures_that_the_training_saved(dataset, tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(look._PARAMETERS, "figure.dpi", 40)
    run = write_model(dataset) / "fold_0"
    for epoch in (0, 7):
        pixels = np.full((6, 8), epoch / 10)
        (run / FOLDER).mkdir(exist_ok=True)
        view = View("a", np.arange(48.0).reshape(6, 8), np.eye(6, 8, dtype=np.int16), pixels, 0.25)
        Picture(epoch, 0.7, (view,)).save(run / FOLDER / f"epoch_{epoch:04d}.npz")
    drawn = []
    monkeypatch.setattr(
        make, "film_strip_figure", lambda *a, **k: drawn.append(film_strip_figure(*a, **k)) or drawn[-1]
    )
    assert main(["figures", str(run), "-o", str(tmp_path / "out")]) == 0
    assert "not drawn: film_strip" not in capsys.readouterr().out
    assert [axis.get_title() for axis in drawn[0].axes if axis.get_title()] == ["epoch 0", "epoch 7"]
    assert (tmp_path / "out" / "film_strip.pdf").read_bytes().startswith(b"%PDF")
    with Image.open(tmp_path / "out" / "film_strip.png") as image:
        assert image.width == pytest.approx(drawn[0].get_size_inches()[0] * 300, abs=1)


def test_plain_training_has_fewer_figures(dataset, tmp_path, capsys):
    run = write_model(dataset, nnUNetTrainerSupervised, student_differs=False) / "fold_0"
    assert main(["figures", str(run), "-o", str(tmp_path / "out")]) == 0
    out = capsys.readouterr().out
    assert [line.split(":")[1].strip() for line in out.splitlines() if line.startswith("not drawn")] == [
        "entropy", "uncl_gradient", "film_strip", "segmentation, surface, similarities",
    ]  # fmt: skip
    assert "Wrote nothing" in out


def test_entropy_figure_shows_the_log(dataset):
    run = TrainedRun.load(write_model(dataset) / "fold_0")
    left, right = entropy_figure(run).axes
    assert [line.get_label() for line in left.lines] == ["student", "teacher"]
    assert [line.get_ydata().tolist() for line in (*left.lines, *right.lines)] == [[0.5, 0.25]] * 4


@pytest.mark.parametrize("configuration", ["3d_fullres", "2d"])
def test_similarities_of_a_run(dataset, references, configuration, monkeypatch):
    monkeypatch.setenv("nnUNet_dycon", "patch_min_purity=0,pseudo_label_min_confidence=0")  # so that every patch counts
    if configuration == "2d":
        shutil.copytree(dataset.images, dataset.preprocessed / "nnUNetPlans_2d")
    folder = write_model(dataset, configuration=configuration)
    run, model = TrainedRun.load(folder / "fold_0"), open_model(folder, [0], device=torch.device("cpu"))
    case = [dataset.raw / "imagesTs" / "test_00_0000.nii.gz"], references / "test_00.nii.gz"
    before, after = similarities(run, model, [case])
    patches = 512 if configuration == "3d_fullres" else 256  # of a patch of 16 voxels a side, every other one or all
    assert before.positive.sum() + before.negative.sum() == after.positive.sum() + after.negative.sum()
    assert before.positive.sum() + before.negative.sum() == patches * (patches - 1) / 2
    assert not np.array_equal(before.positive, after.positive)
    again, _ = similarities(run, model, [case])
    np.testing.assert_array_equal(again.positive, before.positive)  # the untrained network has a fixed seed


def test_masks_of_unlabelled_cases_stay_closed(dataset, tmp_path, capsys):
    """The scan of an unlabelled case and a file that stands for its mask; nobody may read the latter."""
    run = write_model(dataset) / "fold_0"
    (tmp_path / "masks").mkdir()
    (tmp_path / "masks" / f"{UNLABELED[0]}.nii.gz").write_bytes(b"no mask")
    images = str(dataset.raw / "imagesUn")
    cases = ["--images", images, "--references", str(tmp_path / "masks"), "-device", "cpu"]
    assert main(["figures", str(run), "-o", str(tmp_path / "out"), *cases]) == 2
    assert f"{UNLABELED[0]}: unlabelled in this training" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_errors_say_what_to_give(dataset, references, tmp_path):
    model = write_model(dataset)
    with pytest.raises(UserError, match=r"no output folder of a fold .*; give one of its folders fold_0"):
        TrainedRun.load(model)
    with pytest.raises(UserError, match="give TRAINER__PLANS__CONFIG/fold_X"):
        TrainedRun.load(tmp_path)
    run = ["figures", str(model / "fold_0"), "-o", str(tmp_path / "out")]
    assert main([*run, "--images", str(dataset.raw / "imagesTs")]) == 2
    both = ["--images", str(dataset.raw / "imagesTs"), "--references", str(references), "-device", "cpu"]
    for wrong in (["--cases", "test_09"], ["--slices", "0"], ["--count", "0"]):
        assert main([*run, *both, *wrong]) == 2
    os.remove(references / "test_00.nii.gz")
    assert main([*run, *both]) == 2
    assert not (tmp_path / "out").exists()

"""Figures of a finished training."""

import math
import os
import shutil

import numpy as np
import pytest
import torch

from nnunet_dycon.cli import main
from nnunet_dycon.errors import UserError
from nnunet_dycon.figures import style as look
from nnunet_dycon.figures.entropy import entropy_figure
from nnunet_dycon.figures.segmentation import SegmentedCase, segmentation_figure, shown_slices, shown_window
from nnunet_dycon.figures.similarities import BINS, Similarities, pair_similarities, similarities
from nnunet_dycon.figures.surface import surface, surface_figure
from nnunet_dycon.figures.trained_run import TrainedRun
from nnunet_dycon.figures.uncl_gradient import gradient_magnitude, uncl_gradient_figure
from nnunet_dycon.overlay import OverlayCase
from nnunet_dycon.settings import Settings
from nnunet_dycon.trainers import nnUNetTrainerSupervised
from nnunet_dycon.uncertainty.model import load_model
from tests.conftest import UNLABELED, blob, write_image
from tests.trained_model import write_model

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


def test_gradient_figure_draws_a_line_a_beta():
    figure = uncl_gradient_figure(Settings(entropy_weight=0.0), betas=(0.5, 2.0))
    first, second, schedule = figure.axes
    curves = [line.get_ydata() for line in first.lines[:2]]
    assert len(curves[0]) == 499 and curves[0].max() > curves[1].max()  # a higher beta damps
    np.testing.assert_allclose(second.lines[0].get_ydata(), curves[0])  # no entropy term, no difference
    assert all(np.all(np.diff(line.get_ydata()) > 0) for line in schedule.lines)  # beta falls along the training


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


# ------------------------------------------------------------------------------------ slices and surfaces


def ball_case(radius_mm=8.0, spacing_mm=(2.0, 1.0, 1.0), shift=0.0, empty=False):
    grid = np.stack(
        np.meshgrid(*[np.arange(n) * s for n, s in zip((14, 28, 28), spacing_mm, strict=True)], indexing="ij")
    )
    reference = np.linalg.norm(grid - 13.0, axis=0) <= radius_mm
    prediction = np.linalg.norm(grid - 13.0 - shift, axis=0) <= radius_mm
    volumes = OverlayCase("a", grid[0], reference, (prediction & (not empty),), spacing_mm)
    return SegmentedCase(volumes, np.full(reference.shape, 0.3))


def test_surface_is_in_millimetres_and_seen_from_the_front():
    case = ball_case()
    vertices, faces = surface(case.volumes.reference, case.volumes.spacing_mm)
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
    segmented = np.flatnonzero(case.volumes.reference.any(axis=(1, 2)))
    slices = shown_slices(case, 3)
    assert slices == sorted(set(slices)) and slices[0] >= segmented[0] and slices[-1] <= segmented[-1]
    assert abs(slices[1] - (segmented[0] + segmented[-1]) / 2) <= 1
    assert shown_window(case) == (slice(0, 28), slice(0, 28))
    nothing = SegmentedCase(
        OverlayCase("n", case.volumes.image, case.prediction & False, (case.prediction & False,)), None
    )
    assert shown_slices(nothing, 2) == [7, 7] and shown_window(nothing) == (slice(None), slice(None))


def test_segmentation_figure_has_both_contours_and_the_entropy():
    figure = segmentation_figure([ball_case(shift=3.0)], slices=2, highest_entropy=0.7)
    assert len(figure.axes) == 2 + 1 + 1  # slices, entropy, scale
    assert [len(axis.collections) for axis in figure.axes[:3]] == [2, 2, 0]
    assert figure.axes[2].images[0].get_clim() == (0, 0.7)
    without = SegmentedCase(ball_case().volumes, None)
    assert len(segmentation_figure([without], slices=2).axes) == 2
    with pytest.raises(ValueError, match="no case"):
        segmentation_figure([])


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
    run, model = TrainedRun.load(folder / "fold_0"), load_model(folder, [0], device=torch.device("cpu"))
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

"""Figures of a finished training."""

import os
from dataclasses import replace

import numpy as np
import pytest
from matplotlib.colors import to_hex
from PIL import Image

from nnunet_dycon.cli import main
from nnunet_dycon.models.trained_model import open_model
from nnunet_dycon.pictures import canvas
from nnunet_dycon.pictures.canvas import Slice
from nnunet_dycon.pictures.cases import Case
from nnunet_dycon.pictures.overlay import segmentation_figure
from nnunet_dycon.pictures.training import FOLDER, Picture, film_strip_figure
from nnunet_dycon.tools.figures import run as make
from nnunet_dycon.tools.figures.run import entropy_figure
from nnunet_dycon.tools.figures.surface import surface, surface_figure
from nnunet_dycon.trainers import nnUNetTrainerSupervised
from tests.conftest import UNLABELED, blob, write_image
from tests.helpers.trained_model import write_model


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
    return Case("a", grid[0], reference, (prediction,), classes or {"ball": (1,)}, spacing_mm, entropy)


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


def titles(figure):
    return [axis.get_title() for axis in figure.axes if axis.get_title()]


def test_surface_figure_colours_by_distance_and_bears_empty_masks():
    figure = surface_figure([ball_case(shift=2.0), ball_case(empty=True)], "note")
    assert titles(figure)[2:] == ["a\nball, reference", "prediction\nDice 0.000"]
    surfaces = [[i for i in axis.collections if "Poly3D" in type(i).__name__] for axis in figure.axes[:4]]
    assert [len(i) for i in surfaces] == [1, 1, 1, 0]
    assert len(np.unique(surfaces[1][0].get_facecolor().round(2), axis=0)) > 20


def test_surface_figure_has_a_tripod_with_directions_and_scale():
    for case, names in ((ball_case(), "LPH"), (replace(ball_case(), is_oriented=False), "210")):
        axis = surface_figure([case]).axes[0]
        assert [text.get_text() for text in axis.texts] == [*names, "2 mm"]  # a fifth of 16 mm, rounded down
        arms = [np.stack(line.get_data_3d(), axis=1) for line in axis.lines]
        np.testing.assert_allclose([end - start for start, end in arms], 2 * np.eye(3), atol=1e-9)


@pytest.mark.filterwarnings("error:constrained_layout")
def test_rows_of_tall_surfaces_have_room():
    surface_figure([ball_case(8.0, (2.0, 1.0, 1.0))] * 3, "note").draw_without_rendering()


def test_segmentation_figure_has_both_contours_and_the_entropy():
    figure = segmentation_figure([ball_case(shift=3.0)], slices=2, highest_entropy=0.7, note="Predicted anew")
    assert len(figure.axes) == 2 + 1 + 1  # slices, entropy, scale
    assert [len(axis.collections) for axis in figure.axes[:3]] == [2, 2, 0]
    assert figure.axes[2].images[0].get_clim() == (0, 0.7) and figure.axes[3].get_ylabel() == "entropy [nats]"
    assert figure.axes[0].texts[0].get_text().startswith("axial slice ")
    assert "Predicted anew" in [text.get_text() for text in figure.texts]
    assert len(segmentation_figure([replace(ball_case(), entropy=None)], slices=2, highest_entropy=0.7).axes) == 2
    with pytest.raises(ValueError, match="no case"):
        segmentation_figure([], highest_entropy=0.7)


REGIONS = {"whole": (1, 2), "core": (2,)}


def texts(figure):
    return [text.get_text() for text in figure.legends[0].get_texts()]


def test_classes_and_regions_have_a_contour_and_a_dice_each():
    case = ball_case(shift=2.0, classes=REGIONS)
    figure = segmentation_figure([case], slices=1, highest_entropy=0.7)
    contours = figure.axes[0].collections
    assert [i.get_linestyle()[0][1] is None for i in contours] == [False, True, False, True]  # reference, prediction
    colours = [to_hex(i.get_edgecolor()[0]) for i in contours]
    assert colours[0] == colours[1] != colours[2] == colours[3]
    assert texts(figure) == ["reference", "prediction", "whole", "core"]
    whole, core = case.dice().values()
    assert figure.axes[0].get_ylabel() == f"a\nwhole Dice {whole:.3f}\ncore Dice {core:.3f}" and core < whole
    assert titles(surface_figure([case])) == [
        "a\nwhole, reference", f"prediction\nDice {whole:.3f}", "a\ncore, reference", f"prediction\nDice {core:.3f}",
    ]  # fmt: skip


def test_many_classes_have_a_mean_dice_and_one_surface_that_says_so():
    case = ball_case(classes={f"class {i}": (i,) for i in range(1, 6)})
    figure = segmentation_figure([case], slices=1, highest_entropy=0.7)
    assert figure.axes[0].get_ylabel() == "a\nmean Dice 1.000\n(2 of 5 classes)"  # three are in neither mask
    assert texts(figure)[2:] == list(case.classes)
    assert titles(surface_figure([case]))[0] == "a\nall 5 classes together, reference"


# ------------------------------------------------------------------------------------------ a trained run


@pytest.fixture
def references(dataset):
    write_image(blob(99)[1], dataset.raw / "labelsTs" / "test_00.nii.gz")
    return dataset.raw / "labelsTs"


def test_command_draws_everything_a_run_allows(dataset, references, tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(canvas._PARAMETERS, "figure.dpi", 40)
    notes = []
    monkeypatch.setattr(
        make, "segmentation_figure", lambda *a, **k: notes.append(k["note"]) or segmentation_figure(*a, **k)
    )
    model, out = write_model(dataset), tmp_path / "out"
    cases = ["--images", str(dataset.raw / "imagesTs"), "--references", str(references), "-device", "cpu"]
    assert main(["figures", "-m", str(model), "-o", str(out), "--disable_tta", *cases]) == 0
    assert "not drawn: film_strip: nnUNetTrainerDyCON drew no pictures" in capsys.readouterr().out
    names = ("entropy", "segmentation", "surface")
    files = {f"{name}.{ending}" for name in names for ending in ("pdf", "png")}
    assert {i.name for i in out.iterdir()} == files | {"predictions"}
    for name in names:
        assert (out / f"{name}.pdf").read_bytes().startswith(b"%PDF")
    assert (out / "predictions" / "entropy" / "test_00_entropy.nii.gz").is_file()
    # the same predictions, as overlay draws them: no second Dice
    given = ["--predictions", str(out / "predictions")]
    assert main(["figures", "-m", str(model / "fold_0"), "-o", str(tmp_path / "again"), *given, *cases]) == 0
    assert not (tmp_path / "again" / "predictions").exists()
    assert notes == [
        "Predicted anew by fold_0, checkpoint_final.pth, without mirroring. Dice: whole volume",
        "Predictions as given in predictions. Dice: whole volume",
    ]


def test_film_strip_of_the_pictures_that_the_training_saved(dataset, tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(canvas._PARAMETERS, "figure.dpi", 40)
    run = write_model(dataset) / "fold_0"
    for epoch in (0, 7):
        pixels = np.full((6, 8), epoch / 10)
        (run / FOLDER).mkdir(exist_ok=True)
        view = Slice("a", np.arange(48.0).reshape(6, 8), np.eye(6, 8, dtype=np.int16), pixels, 0.25)
        Picture(epoch, 0.7, (view,)).save(run / FOLDER / f"epoch_{epoch:04d}.npz")
    drawn = []
    monkeypatch.setattr(
        make, "film_strip_figure", lambda *a, **k: drawn.append(film_strip_figure(*a, **k)) or drawn[-1]
    )
    assert main(["figures", "-m", str(run), "-o", str(tmp_path / "out")]) == 0
    assert "not drawn: film_strip" not in capsys.readouterr().out
    assert [axis.get_title() for axis in drawn[0].axes if axis.get_title()] == ["epoch 0", "epoch 7"]
    assert (tmp_path / "out" / "film_strip.pdf").read_bytes().startswith(b"%PDF")
    with Image.open(tmp_path / "out" / "film_strip.png") as image:
        assert image.width == pytest.approx(drawn[0].get_size_inches()[0] * 300, abs=1)


def test_plain_training_has_fewer_figures(dataset, tmp_path, capsys):
    run = write_model(dataset, nnUNetTrainerSupervised, student_differs=False) / "fold_0"
    assert main(["figures", "-m", str(run), "-o", str(tmp_path / "out")]) == 0
    out = capsys.readouterr().out
    assert [line.split(": ", 2)[2] for line in out.splitlines() if line.startswith("note: not drawn")] == [
        "entropy: nnUNetTrainerSupervised logged none; the semi-supervised trainers do",
        "film_strip: nnUNetTrainerSupervised drew no pictures in uncertainty (semi-supervised trainers do, unless "
        "picture_every_epochs=0)",
        "segmentation, surface: give --images and --references of test cases",
    ]
    assert "Wrote" not in out and not (tmp_path / "out").exists()


def test_entropy_figure_shows_the_log(dataset):
    model = open_model(write_model(dataset))
    left, right = entropy_figure(model).axes
    for axis in (left, right):
        assert [line.get_label() for line in axis.lines] == ["student", "teacher"]
        assert [line.get_color() for line in axis.lines] == [canvas.STUDENT, canvas.TEACHER]
    assert left.get_ylabel() == "mean entropy [nats]" and right.get_ylabel() == "pseudo Dice"
    assert right.get_title() == "Pseudo Dice, validation cases"
    model.checkpoints[0]["semi_supervised"]["validates_on_training_cases"] = True  # fewer than five labels
    assert entropy_figure(model).axes[1].get_title() == "Pseudo Dice, cases that are trained on"
    del model.checkpoints[0]["semi_supervised"]["validates_on_training_cases"]  # of an earlier version
    assert model.validated_on == "nnU-Net's validation crops"
    assert [line.get_ydata().tolist() for line in (*left.lines, *right.lines)] == [[0.5, 0.25]] * 4


def test_masks_of_unlabelled_cases_stay_closed(dataset, tmp_path, capsys):
    """The scan of an unlabelled case and a file that stands for its mask; nobody may read the latter."""
    run = write_model(dataset) / "fold_0"
    (tmp_path / "masks").mkdir()
    (tmp_path / "masks" / f"{UNLABELED[0]}.nii.gz").write_bytes(b"no mask")
    images = str(dataset.raw / "imagesUn")
    cases = ["--images", images, "--references", str(tmp_path / "masks"), "-device", "cpu"]
    assert main(["figures", "-m", str(run), "-o", str(tmp_path / "out"), *cases]) == 2
    assert f"{UNLABELED[0]}: unlabelled in this training" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_errors_say_what_to_give(dataset, references, tmp_path):
    model = write_model(dataset)
    run = ["figures", "-m", str(model / "fold_0"), "-o", str(tmp_path / "out")]
    assert main([*run, "--images", str(dataset.raw / "imagesTs")]) == 2
    both = ["--images", str(dataset.raw / "imagesTs"), "--references", str(references), "-device", "cpu"]
    assert main([*run, *both, "--cases", "test_09"]) == 2
    assert main([*run, "--predictions", str(references)]) == 2
    os.remove(references / "test_00.nii.gz")
    assert main([*run, *both]) == 2
    assert not (tmp_path / "out").exists()

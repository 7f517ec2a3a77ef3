from __future__ import annotations

import argparse
import math
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from matplotlib.colors import to_hex
from PIL import Image

from nnunet_dycon.cli import overlay as cli
from nnunet_dycon.errors import UserError
from nnunet_dycon.pictures import overlay
from nnunet_dycon.pictures.overlay import OverlayCase, dice, overlay_figure, shown_slice, shown_window

SHAPE = (6, 20, 24)


def box(*ranges: tuple[int, int]) -> np.ndarray:
    mask = np.zeros(SHAPE, dtype=bool)
    mask[tuple(slice(*r) for r in ranges)] = True
    return mask


def make(name: str = "a", reference: np.ndarray | None = None, prediction: np.ndarray | None = None) -> OverlayCase:
    image = np.random.default_rng(0).normal(100, 10, SHAPE)
    reference = box((2, 5), (4, 10), (5, 11)) if reference is None else reference
    return OverlayCase(name, image, reference, (reference if prediction is None else prediction,))


def write(path: Path, array: np.ndarray, spacing_mm: tuple[float, ...] = (1.0, 1.0, 3.0)) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    volume = sitk.GetImageFromArray(array.astype(np.int16))
    volume.SetSpacing(spacing_mm)
    sitk.WriteImage(volume, str(path))
    return path


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path, Path]:
    """Five cases; the prediction of case i misses i of the reference's 6 rows, case 5 has no foreground at all."""
    images, references, predictions = (tmp_path / name for name in ("images", "references", "predictions"))
    for index in range(5):
        empty = index == 4
        write(images / f"case{index}_0000.nii.gz", np.arange(np.prod(SHAPE)).reshape(SHAPE))
        write(references / f"case{index}.nii.gz", np.zeros(SHAPE) if empty else box((2, 5), (4, 10), (5, 11)))
        write(predictions / f"case{index}.nii.gz", np.zeros(SHAPE) if empty else box((2, 5), (4, 10 - index), (5, 11)))
    (predictions / "dataset.json").write_text("{}")
    return images, references, predictions


def command(*arguments: object) -> None:
    parser = argparse.ArgumentParser()
    cli.add_arguments(parser)
    cli.run(parser.parse_args([str(argument) for argument in arguments]))


def test_dice_by_hand() -> None:
    assert dice(box((0, 1), (0, 1), (0, 3)), box((0, 1), (0, 1), (1, 4))) == pytest.approx(4 / 6)
    assert dice(box((0, 1), (0, 1), (0, 1)), box((0, 0))) == 0.0
    assert math.isnan(dice(box((0, 0)), box((0, 0))))


def test_slice_with_most_reference_foreground_is_shown() -> None:
    reference = box((1, 5), (4, 6), (4, 6)) | box((3, 4), (4, 9), (4, 9))
    assert shown_slice(make(reference=reference)) == 3
    empty = np.zeros(SHAPE, dtype=bool)
    assert shown_slice(make(reference=empty, prediction=box((5, 6), (0, 2), (0, 2)))) == 5
    assert shown_slice(make(reference=empty)) == 3


def test_margin_is_in_millimetres_around_the_foreground_of_the_slice() -> None:
    case = make(reference=box((2, 3), (8, 12), (10, 14)))
    assert shown_window(case, None) == (slice(None), slice(None))
    assert shown_window(case, 3.0) == (slice(5, 15), slice(7, 17))
    wide = OverlayCase("w", case.image, case.reference, case.predictions, (1.0, 1.0, 2.0))
    # columns are 2 mm: the foreground is 8 mm wide, 4 + 2 mm either side of its middle
    assert shown_window(wide, 2.0) == (slice(4, 16), slice(9, 15))
    assert shown_window(case, 500.0) == (slice(0, 20), slice(0, 24))


def test_figure_has_a_row_a_case_and_a_column_a_prediction() -> None:
    reference, prediction = box((2, 5), (4, 10), (5, 11)), box((2, 5), (4, 10), (5, 8))
    case = OverlayCase("a", np.zeros(SHAPE), reference, (prediction, reference), (3.0, 1.0, 1.0))
    figure = overlay_figure([case, case], prediction_names=["first", "second"])
    assert len(figure.axes) == 8
    assert [axis.get_title() for axis in figure.axes[:4]] == ["Image", "Reference", "first", "second"]
    assert [axis.texts[0].get_text() for axis in figure.axes[2:4]] == ["Dice 0.67", "Dice 1.00"]
    lines = [[line.get_edgecolor() for line in axis.collections] for axis in figure.axes[:3]]
    colours = [[to_hex(np.ravel(colour)[:3].tolist()).upper() for colour in panel] for panel in lines]
    assert colours == [[], [overlay.REFERENCE_COLOUR], [overlay.REFERENCE_COLOUR, overlay.PREDICTION_COLOUR]]
    outline = figure.axes[1].collections[0].get_paths()[0].get_extents()
    assert (outline.x0, outline.y0, outline.x1, outline.y1) == (4.5, 3.5, 10.5, 9.5)  # voxel borders


def test_empty_masks_and_masks_at_the_border_are_drawn() -> None:
    empty = np.zeros(SHAPE, dtype=bool)
    figure = overlay_figure([make(reference=empty)])
    assert figure.axes[2].texts[0].get_text() == "both empty"
    figure = overlay_figure([make(reference=np.ones(SHAPE, dtype=bool))])
    assert figure.axes[1].collections[0].get_paths()[0].get_extents().x0 == -0.5


def test_shapes_and_names_that_do_not_match_are_refused() -> None:
    with pytest.raises(ValueError, match="a: 1 predictions, 2 names"):
        overlay_figure([make()], prediction_names=["x", "y"])
    with pytest.raises(ValueError, match=r"mask \(6, 20, 23\), image \(6, 20, 24\)"):
        overlay_figure([make(prediction=np.zeros((6, 20, 23), dtype=bool))])
    with pytest.raises(ValueError, match="no case"):
        overlay_figure([])


def test_reading_turns_volumes_to_radiological_view(tmp_path: Path) -> None:
    image = sitk.GetImageFromArray(np.arange(np.prod(SHAPE), dtype=np.int16).reshape(SHAPE))
    mask = sitk.GetImageFromArray(box((2, 3), (4, 5), (5, 6)).astype(np.uint8))
    paths = [tmp_path / "image.nii.gz", tmp_path / "mask.nii.gz"]
    for volume, path in zip((image, mask), paths, strict=True):
        volume.SetDirection((-1, 0, 0, 0, -1, 0, 0, 0, 1))  # right to left, back to front: RAS
        volume.SetSpacing((1.0, 2.0, 3.0))
        sitk.WriteImage(volume, str(path))
    case = overlay.read_case(overlay.CaseFiles("a", paths[0], paths[1], (paths[1],)))
    assert np.argwhere(case.reference).tolist() == [[2, 20 - 1 - 4, 24 - 1 - 5]]
    assert case.image[2, 15, 18] == 2 * 480 + 4 * 24 + 5
    assert case.spacing_mm == (3.0, 2.0, 1.0)


def test_folders_give_a_picture_with_cases_from_best_to_worst(
    folders: tuple[Path, Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    command(*folders, "-o", tmp_path / "new" / "out.png", "-n", 3)
    assert "3 case(s): case0, case2, case4" in capsys.readouterr().out
    with Image.open(tmp_path / "new" / "out.png") as picture:
        assert picture.width > 1000
        assert np.asarray(picture.convert("L")).std() > 30
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["out.png"]


def test_files_and_chosen_cases(
    folders: tuple[Path, Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    images, references, predictions = folders
    prediction = predictions / "case1.nii.gz"
    files = (images / "case1_0000.nii.gz", references / "case1.nii.gz", prediction, prediction)
    command(*files, "--names", "A", "B", "-o", tmp_path / "out.pdf")
    assert (tmp_path / "out.pdf").read_bytes().startswith(b"%PDF")
    command(*folders, "--cases", "case3", "-o", tmp_path / "out.png")
    assert "1 case(s): case3" in capsys.readouterr().out


def test_errors_name_the_file(folders: tuple[Path, Path, Path], tmp_path: Path) -> None:
    images, references, predictions = folders
    out = ("-o", tmp_path / "out.png")
    with pytest.raises(UserError, match="nowhere does not exist"):
        command(images, references, tmp_path / "nowhere", *out)
    with pytest.raises(UserError, match="either files only or folders only"):
        command(images, references / "case0.nii.gz", predictions, *out)
    with pytest.raises(UserError, match="no prediction of case9; there are case0, case1"):
        command(*folders, "--cases", "case9", *out)
    with pytest.raises(UserError, match="--names: 2 titles for 1 prediction"):
        command(*folders, "--names", "a", "b", *out)
    with pytest.raises(UserError, match=r"out\.foo: no picture format"):
        command(*folders, "-o", tmp_path / "out.foo")
    (references / "case1.nii.gz").unlink()
    with pytest.raises(UserError, match=r"case case1: .*references.case1\.nii\.gz does not exist"):
        command(*folders, *out)
    write(references / "case1.nii.gz", np.zeros((6, 20, 23)))
    with pytest.raises(UserError, match=r"references.case1\.nii\.gz: \(23, 20, 6\) voxels, its image has"):
        command(*folders, *out)
    (references / "case1.nii.gz").write_bytes(b"no volume")
    with pytest.raises(UserError, match=r"references.case1\.nii\.gz cannot be read"):
        command(*folders, *out)
    assert not (tmp_path / "out.png").exists()

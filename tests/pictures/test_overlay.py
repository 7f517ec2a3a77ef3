from __future__ import annotations

import argparse
import json
import math
from dataclasses import replace
from pathlib import Path

import nibabel
import numpy as np
import pytest
import SimpleITK as sitk
from matplotlib.colors import to_hex
from PIL import Image

from nnunet_dycon.cli import overlay as cli
from nnunet_dycon.errors import UserError
from nnunet_dycon.pictures import canvas
from nnunet_dycon.pictures.cases import Case, CaseFiles, classes_of, read_case
from nnunet_dycon.pictures.overlay import overlay_figure

SHAPE = (6, 20, 24)


def box(*ranges: tuple[int, int]) -> np.ndarray:
    mask = np.zeros(SHAPE, dtype=bool)
    mask[tuple(slice(*r) for r in ranges)] = True
    return mask


def make(reference: np.ndarray | None = None, prediction: np.ndarray | None = None, **options) -> Case:
    image = np.random.default_rng(0).normal(100, 10, SHAPE)
    reference = box((2, 5), (4, 10), (5, 11)) if reference is None else reference
    prediction = reference if prediction is None else prediction
    return Case("a", image, reference.astype(int), (prediction.astype(int),), {"foreground": (1,)}, **options)


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
    (predictions / "a_picture.png").write_bytes(b"no prediction")
    return images, references, predictions


def command(*arguments: object) -> None:
    parser = argparse.ArgumentParser()
    cli.add_arguments(parser)
    cli.run(parser.parse_args([str(argument) for argument in arguments]))


def test_dice_by_hand() -> None:
    first, second, empty = box((0, 1), (0, 1), (0, 3)), box((0, 1), (0, 1), (1, 4)), box((0, 0))
    assert make(first, second).mean_dice() == pytest.approx(4 / 6)
    assert make(first, empty).mean_dice() == 0.0 and math.isnan(make(empty, empty).mean_dice())
    labels = np.random.default_rng(0).integers(-1, 9, (2, *SHAPE))
    classes = {"a": (1,), "b": (3, 7), "c": (7,), "nobody": (300,)}
    case = Case("a", labels[0] * 1.0, labels[0], (labels[1],), classes)
    for name, score in case.dice().items():
        reference, prediction = np.isin(labels, classes[name])
        total = reference.sum() + prediction.sum()
        assert score == 2 * (reference & prediction).sum() / total if total else math.isnan(score)
    np.testing.assert_array_equal(case.foreground(labels[1]), np.isin(labels[1], (1, 3, 7, 300)))


def test_slice_with_most_reference_foreground_is_shown() -> None:
    reference = box((1, 5), (4, 6), (4, 6)) | box((3, 4), (4, 9), (4, 9))
    assert make(reference).fullest_slice() == 3
    empty = np.zeros(SHAPE, dtype=bool)
    assert make(empty, box((5, 6), (0, 2), (0, 2))).fullest_slice() == 5
    assert make(empty).fullest_slice() == 3


def test_slices_cover_the_segmented_part() -> None:
    case = make(box((1, 6), (4, 9), (4, 9)))
    assert case.spread_slices(3) == [2, 3, 4] and case.spread_slices(1) == [3]
    assert make(box((0, 0))).spread_slices(2) == [3, 3]


def test_margin_is_in_millimetres_around_the_foreground_of_the_slice() -> None:
    case = make(box((2, 3), (8, 12), (10, 14)))
    assert case.window(None, 2) == (slice(None), slice(None)) == case.window(3.0, 0)
    assert case.window(3.0, 2) == (slice(5, 15), slice(7, 17)) == case.window(3.0)
    # columns are 2 mm: the foreground is 8 mm wide, 4 + 2 mm either side of its middle
    assert replace(case, spacing_mm=(1.0, 1.0, 1.4)).axis == 0
    assert replace(case, spacing_mm=(2.0, 1.0, 2.0)).window(2.0, 2) == (slice(4, 16), slice(9, 15))
    assert case.window(500.0, 2) == (slice(0, 20), slice(0, 24))


@pytest.mark.parametrize(("spacing", "plane"), [((1, 1, 1), "axial"), ((1, 5, 1), "coronal"), ((1, 1, 5), "sagittal")])
def test_a_scan_is_cut_across_its_coarse_axis_and_the_plane_is_named(spacing, plane) -> None:
    case = make(box((1, 2), (4, 5), (7, 8)), spacing_mm=spacing)
    index = case.fullest_slice()
    assert case.place(index) == f"{plane} slice {(1, 4, 7)[case.axis]}"
    row, column = np.argwhere(case.view(index, case.window(None)).reference)[0]
    # the head is up: of six axial slices the second from the feet is the fifth row
    assert (row, column) == {"axial": (4, 7), "coronal": (4, 7), "sagittal": (4, 4)}[plane]
    unknown = replace(case, is_oriented=False)
    assert unknown.place(7) == f"slice 7 of array axis {case.axis}"
    assert np.argwhere(unknown.view(index, case.window(None)).reference)[0][0] == (4 if plane == "axial" else 1)


def test_figure_has_a_row_a_case_and_a_column_a_prediction() -> None:
    reference, prediction = box((2, 5), (4, 10), (5, 11)), box((2, 5), (4, 10), (5, 8))
    case = make(reference, prediction, spacing_mm=(3.0, 1.0, 1.0))
    case = replace(case, predictions=(*case.predictions, case.reference), name="a_long_name_" * 8)
    figure = overlay_figure([case, case], prediction_names=["first", "second"])
    assert len(figure.axes) == 8
    assert [axis.get_title() for axis in figure.axes[:4]] == ["image", "reference", "first", "second"]
    assert [axis.texts[0].get_text() for axis in figure.axes[2:4]] == ["Dice 0.667", "Dice 1.000"]
    lines = [[line.get_edgecolor() for line in axis.collections] for axis in figure.axes[:3]]
    colours = [[to_hex(np.ravel(colour)[:3].tolist()).upper() for colour in panel] for panel in lines]
    assert colours == [[], [canvas.REFERENCE], [canvas.REFERENCE, canvas.PREDICTION]]
    outline = figure.axes[1].collections[0].get_paths()[0].get_extents()
    assert (outline.x0, outline.y0, outline.x1, outline.y1) == (4.5, 3.5, 10.5, 9.5)  # voxel borders
    label = figure.axes[0].get_ylabel()
    assert label.replace("\n", "") == f"{case.name}axial slice 2"  # the whole name, in several lines


def test_empty_masks_and_masks_at_the_border_are_drawn() -> None:
    figure = overlay_figure([make(np.zeros(SHAPE, dtype=bool))])
    assert figure.axes[2].texts[0].get_text() == "both empty"
    figure = overlay_figure([make(np.ones(SHAPE, dtype=bool))])
    assert figure.axes[1].collections[0].get_paths()[0].get_extents().x0 == -0.5


def test_shapes_and_names_that_do_not_match_are_refused() -> None:
    with pytest.raises(ValueError, match="a: 1 predictions, 2 names"):
        overlay_figure([make()], prediction_names=["x", "y"])
    with pytest.raises(ValueError, match=r"mask \(6, 20, 23\), image \(6, 20, 24\)"):
        make(prediction=np.zeros((6, 20, 23)))
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
    case = read_case(CaseFiles("a", paths[0], paths[1], (paths[1],)))
    assert np.argwhere(case.reference).tolist() == [[2, 20 - 1 - 4, 24 - 1 - 5]]
    assert case.image[2, 15, 18] == 2 * 480 + 4 * 24 + 5
    assert case.spacing_mm == (3.0, 2.0, 1.0) and case.is_oriented


def test_a_header_without_directions_is_not_taken_for_axial(tmp_path: Path) -> None:
    file = tmp_path / "a.nii.gz"
    volume = nibabel.Nifti1Image(np.arange(2 * 3 * 4, dtype=np.int16).reshape(2, 3, 4), None)
    volume.header.set_qform(None, 0)
    volume.header.set_sform(None, 0)
    nibabel.save(volume, file)
    case = read_case(CaseFiles("a", file, file, (file,)))
    assert not case.is_oriented and case.place(1) == "slice 1 of array axis 0"
    assert case.image.ravel()[:2].tolist() == [0, 12]  # as stored


def test_pictures_of_two_dimensional_images(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    for folder, array in {
        "images": np.random.default_rng(0).integers(0, 255, (20, 30, 3)).astype(np.uint8),
        "labels": np.pad(np.ones((5, 5), np.uint8), ((5, 10), (5, 20))),
    }.items():
        (tmp_path / folder).mkdir()
        name = "a_0000.png" if folder == "images" else "a.png"
        Image.fromarray(array).save(tmp_path / folder / name)
    command(tmp_path / "images", tmp_path / "labels", tmp_path / "labels", "-o", tmp_path / "out.png")
    assert "1 case(s): a" in capsys.readouterr().out
    label = tmp_path / "labels" / "a.png"
    case = read_case(CaseFiles("a", tmp_path / "images" / "a_0000.png", label, (label,)))
    assert case.image.shape == (1, 20, 30) and case.place(0) == "" and case.dice() == {"foreground": 1.0}


def test_classes_and_ignored_voxels_are_those_of_dataset_json(tmp_path: Path) -> None:
    reference, prediction = np.zeros((2, *SHAPE))
    reference[2:4], reference[4:5], prediction[2:5] = 1, 3, 1
    files = [write(tmp_path / f"{i}.nii.gz", array) for i, array in enumerate((reference, reference, prediction))]
    classes, ignored = classes_of({"labels": {"background": 0, "ball": 1, "core": [2, 4], "ignore": 3}})
    assert classes == {"ball": (1,), "core": (2, 4)} and ignored == 3
    case = read_case(CaseFiles("a", files[0], files[1], (files[2],)), classes, ignored)
    assert case.dice_lines() == ["ball Dice 1.000", "core both empty"] and case.mean_dice() == 1.0
    together = read_case(CaseFiles("a", files[0], files[1], (files[2],)))
    assert together.classes == {"foreground": (1, 3)} and together.dice_lines() == ["Dice 1.000"]


def test_folders_give_a_picture_with_cases_from_best_to_worst(
    folders: tuple[Path, Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    command(*folders, "-o", tmp_path / "new" / "out.png", "--count", 3)
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
    (predictions / "dataset.json").write_text("{")
    with pytest.raises(UserError, match=r"dataset\.json is no valid JSON"):
        command(*folders, *out)
    (predictions / "dataset.json").write_text(json.dumps({"labels": {"background": 0, "a": 1, "b": 2}}))
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

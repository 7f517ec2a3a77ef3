"""All figures of a finished training."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from nnunetv2.paths import nnUNet_preprocessed

from nnunet_dycon.dataset.splits import read_splits, unlabeled_in_splits
from nnunet_dycon.dataset.unlabeled_scans import find_raw_scans, raw_unlabeled_folder
from nnunet_dycon.errors import UserError
from nnunet_dycon.files.text import few
from nnunet_dycon.losses import max_entropy
from nnunet_dycon.models.trained_model import TrainedModel
from nnunet_dycon.models.uncertainty import output_files, predict_folder
from nnunet_dycon.pictures import canvas
from nnunet_dycon.pictures.cases import Case, CaseFiles, classes_of, read_case
from nnunet_dycon.pictures.overlay import segmentation_figure
from nnunet_dycon.pictures.training import FOLDER, film_strip_figure, load_pictures
from nnunet_dycon.tools.figures.surface import surface_figure


@dataclass(frozen=True)
class GivenCases:
    """Cases with reference masks to look at: ``names``, or without names the first ``count`` that have all files.

    Scans are named as nnU-Net wants them, masks CASE and the dataset's file ending. Without ``predictions``, as
    ``predict-uncertainty`` or nnU-Net writes them, the cases are predicted anew.
    """

    images: Path
    references: Path
    predictions: Path | None
    names: Sequence[str]
    count: int


def make_figures(
    model: TrainedModel, output: Path, given: GivenCases | None, *, slices: int, progress: bool = False
) -> tuple[list[Path], list[str]]:
    """Draw everything that the training and the cases allow, as PDF and as PNG.

    Args:
        model: a finished training of one fold.
        output: folder for the figures; new predictions of the cases go to its folder ``predictions``.
        given: without cases there is no segmentation to draw; ``slices`` is the number of each.

    Returns:
        The files, and why a figure was not drawn.

    Raises:
        UserError: cases without scan or mask, or cases that are unlabelled in this training.
    """
    files: list[Path] = []
    notes = []
    for name, drawn in _figures(model, output, given, slices, progress=progress):
        if isinstance(drawn, str):
            notes.append(f"{name}: {drawn}")
            continue
        for ending in ("pdf", "png"):
            files.append(output / f"{name}.{ending}")
            canvas.save_figure(drawn, files[-1])
    return files, notes


def _figures(
    model: TrainedModel, output: Path, given: GivenCases | None, slices: int, *, progress: bool
) -> Iterator[tuple[str, Figure | str]]:
    """The name of each figure, and the figure or why there is none."""
    trainer = model.checkpoints[0]["trainer_name"]
    found = {} if given is None else _find_cases(model, given)
    yield "entropy", entropy_figure(model) or f"{trainer} logged none; the semi-supervised trainers do"
    pictures = load_pictures(model.files[0].parent / FOLDER)
    none = f"{trainer} drew no pictures in {FOLDER} (semi-supervised trainers do, unless picture_every_epochs=0)"
    yield "film_strip", film_strip_figure(pictures, dpi=300) if pictures else none
    if given is None:
        yield "segmentation, surface", "give --images and --references of test cases"
        return
    folder, note = given.predictions, f"Predictions as given in {given.predictions and given.predictions.name}"
    if folder is None:
        folder, mirroring = output / "predictions", "with" if model.mirroring else "without"
        predict_folder(given.images, folder, model, cases=list(found), with_disagreement=False, progress=progress)
        note = f"Predicted anew by {model.files[0].parent.name}, {model.checkpoint_name}, {mirroring} mirroring"
    shown = [_read(model, folder, case, *files) for case, files in found.items()]
    highest = max_entropy(model.predictor.label_manager.num_segmentation_heads, model.nonlinearity)
    note_of_dice = f"{note}. Dice: whole volume"
    yield "segmentation", segmentation_figure(shown, slices, highest_entropy=highest, note=note_of_dice)
    is_flat = shown[0].image.shape[0] == 1
    yield "surface", "the cases are two-dimensional" if is_flat else surface_figure(shown, note)


@canvas.style()
def entropy_figure(model: TrainedModel) -> Figure | None:
    """Mean entropy of the training crops, and pseudo Dice, by epoch of the first fold; None if none was logged."""
    if not len(model.curve("student_entropy")):
        return None
    figure = canvas.empty_figure(canvas.WIDTH_INCHES, 2.4, layout="constrained")
    left, right = figure.subplots(1, 2)
    for axis, curve in ((left, "entropy"), (right, "mean_fg_dice")):
        for network, colour, line in (("student", canvas.STUDENT, "-"), ("teacher", canvas.TEACHER, "--")):
            values = model.curve(f"{network}_{curve}")
            marker = "o" if len(values) < 30 else None
            axis.plot(np.arange(len(values)), values, line, color=colour, label=network, marker=marker, markersize=3)
        axis.set_xlabel("epoch")
        axis.xaxis.get_major_locator().set_params(integer=True)
        axis.legend()
    left.set(ylabel="mean entropy [nats]", title="Entropy of the training crops")
    left.set_ylim(bottom=0)
    right.set(ylabel="pseudo Dice", title=f"Pseudo Dice, {model.validated_on}")
    return figure


def _find_cases(model: TrainedModel, given: GivenCases) -> dict[str, tuple[Path, Path]]:
    """First channel file and mask of each case to draw."""
    complete = _complete_cases(model, given)
    chosen = list(given.names) or list(complete)[: given.count]
    if unknown := sorted(set(chosen) - set(complete)):
        raise UserError(f"--cases {' '.join(unknown)}: no scan or no mask; there are {few(complete, 10)}")
    _refuse_unlabeled(model, chosen)
    return {case: complete[case] for case in chosen}


def _complete_cases(model: TrainedModel, given: GivenCases) -> dict[str, tuple[Path, Path]]:
    folders = [*filter(None, (given.references, given.predictions))]
    if missing := [folder for folder in (given.images, *folders) if not folder.is_dir()]:
        raise UserError(f"{missing[0]} is no folder; give the folders with scans, masks and predictions of test cases")
    ending = model.dataset_json["file_ending"]
    scans = find_raw_scans(given.images, model.dataset_json, model.predictor.plans_manager)
    complete = [case for case in scans if all((folder / f"{case}{ending}").is_file() for folder in folders)]
    if not complete:
        there = " and ".join(map(str, folders))
        raise UserError(f"no case has both a scan in {given.images} and a mask CASE{ending} in {there}")
    return {case: (scans[case][0], given.references / f"{case}{ending}") for case in complete}


def _refuse_unlabeled(model: TrainedModel, cases: Sequence[str]) -> None:
    """Raise a UserError if a case is one of the unlabelled cases of this training: their masks stay closed."""
    name = model.plans["dataset_name"]
    unlabeled: set[str] = set()
    if (folder := raw_unlabeled_folder(name)) is not None:
        ending = model.dataset_json["file_ending"]
        unlabeled |= {file.name[: -len(f"_0000{ending}")] for file in folder.rglob(f"*{ending}")}
    if nnUNet_preprocessed.is_set():
        splits = read_splits(Path(nnUNet_preprocessed) / name)
        unlabeled |= {case for fold in model.folds for case in unlabeled_in_splits(splits, fold)}
    if seen := sorted(unlabeled & set(cases)):
        raise UserError(
            f"{few(seen)}: unlabelled in this training, so a reference mask of it is not opened; give test or "
            "validation cases with --cases"
        )


def _read(model: TrainedModel, predictions: Path, case: str, image: Path, reference: Path) -> Case:
    segmentation, entropy_map = output_files(predictions, case, model)
    files = CaseFiles(case, image, reference, (segmentation,))
    return read_case(files, *classes_of(model.dataset_json), entropy_map if entropy_map.is_file() else None)

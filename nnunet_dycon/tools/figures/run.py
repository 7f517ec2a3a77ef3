"""All figures of a finished training."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from nnunetv2.paths import nnUNet_preprocessed

from nnunet_dycon.dataset.splits import read_splits, unlabeled_in_splits
from nnunet_dycon.dataset.unlabeled_scans import find_raw_scans, raw_unlabeled_folder
from nnunet_dycon.errors import UserError
from nnunet_dycon.files.text import few
from nnunet_dycon.losses import max_entropy
from nnunet_dycon.models.prediction import output_files, predict_folder
from nnunet_dycon.models.trained_model import TrainedModel
from nnunet_dycon.pictures.canvas import save_figure
from nnunet_dycon.pictures.cases import Case, CaseFiles, classes_of, read_case
from nnunet_dycon.pictures.film import film_strip_figure, spread
from nnunet_dycon.pictures.training import FILM_STRIP_EPOCHS, FOLDER, load_pictures
from nnunet_dycon.tools.figures.curves import entropy_figure
from nnunet_dycon.tools.figures.segmentation import segmentation_figure
from nnunet_dycon.tools.figures.surface import surface_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class TestCases:
    """Cases with reference masks that the user hands over to be looked at.

    Attributes:
        images: folder of scans, named as nnU-Net wants them.
        references: folder of masks, CASE and the dataset's file ending.
        predictions: folder of predicted masks, as ``predict-uncertainty`` or nnU-Net writes it; None predicts anew.
        names: the cases to draw; empty: the first ``count`` that have all.
        count: see ``names``.
    """

    __test__ = False  # no test, although pytest would take it for one

    images: Path
    references: Path
    predictions: Path | None = None
    names: Sequence[str] = ()
    count: int = 3


@dataclass(frozen=True)
class Figures:
    """What was drawn: the files, and why a figure was not drawn."""

    files: list[Path] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def save(self, figure: Figure, output: Path, name: str) -> None:
        """As PDF and as PNG."""
        for file in (output / f"{name}.pdf", output / f"{name}.png"):
            save_figure(figure, file)
            self.files.append(file)


def make_figures(
    model: TrainedModel, output: Path, cases: TestCases | None = None, *, slices: int = 3, progress: bool = False
) -> Figures:
    """Draw everything that the training and the cases allow.

    Args:
        model: a finished training of one fold.
        output: folder for the figures; new predictions of the cases go to its folder ``predictions``.
        cases: without them there is no segmentation to draw.
        slices: slices of each case.

    Raises:
        UserError: cases without scan or mask, or cases that are unlabelled in this training.
    """
    made, trainer = Figures(), model.checkpoints[0]["trainer_name"]
    found = {} if cases is None else _find_cases(model, cases)
    if (curves := entropy_figure(model)) is not None:
        made.save(curves, output, "entropy")
    else:
        made.notes.append(f"entropy: {trainer} logged none; the semi-supervised trainers do")
    if pictures := load_pictures(model.files[0].parent / FOLDER):
        made.save(film_strip_figure(spread(pictures, FILM_STRIP_EPOCHS), dpi=300), output, "film_strip")
    else:
        made.notes.append(f"film_strip: {trainer} drew no pictures in {FOLDER} (semi-supervised trainers do, unless "
                          "picture_every_epochs=0)")  # fmt: skip
    if cases is None:
        made.notes.append("segmentation, surface: give --images and --references of test cases")
        return made
    folder, note = cases.predictions, f"Predictions as given in {cases.predictions and cases.predictions.name}"
    if folder is None:
        folder, mirroring = output / "predictions", "with" if model.mirroring else "without"
        predict_folder(cases.images, folder, model, cases=list(found), with_disagreement=False, progress=progress)
        note = f"Predicted anew by {model.files[0].parent.name}, {model.checkpoint_name}, {mirroring} mirroring"
    shown = [_read(model, folder, case, *files) for case, files in found.items()]
    highest = max_entropy(model.predictor.label_manager.num_segmentation_heads, model.nonlinearity)
    figure = segmentation_figure(shown, slices, highest_entropy=highest, note=f"{note}. Dice: whole volume")
    made.save(figure, output, "segmentation")
    if shown[0].image.shape[0] == 1:
        made.notes.append("surface: the cases are two-dimensional")
    else:
        made.save(surface_figure(shown, note), output, "surface")
    return made


def _find_cases(model: TrainedModel, cases: TestCases) -> dict[str, tuple[Path, Path]]:
    """First channel file and mask of each case to draw."""
    complete = _complete_cases(model, cases)
    chosen = list(cases.names) or list(complete)[: cases.count]
    if unknown := sorted(set(chosen) - set(complete)):
        raise UserError(f"--cases {' '.join(unknown)}: no scan or no mask; there are {few(complete, 10)}")
    _refuse_unlabeled(model, chosen)
    return {case: complete[case] for case in chosen}


def _complete_cases(model: TrainedModel, cases: TestCases) -> dict[str, tuple[Path, Path]]:
    """Those with a scan and all masks."""
    folders = [*filter(None, (cases.references, cases.predictions))]
    if missing := [folder for folder in (cases.images, *folders) if not folder.is_dir()]:
        raise UserError(f"{missing[0]} is no folder; give the folders with scans, masks and predictions of test cases")
    ending = model.dataset_json["file_ending"]
    scans = find_raw_scans(cases.images, model.dataset_json, model.predictor.plans_manager)
    complete = [case for case in scans if all((folder / f"{case}{ending}").is_file() for folder in folders)]
    if not complete:
        there = " and ".join(map(str, folders))
        raise UserError(f"no case has both a scan in {cases.images} and a mask CASE{ending} in {there}")
    return {case: (scans[case][0], cases.references / f"{case}{ending}") for case in complete}


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

"""All figures of a finished training."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from nnunet_dycon.dataset.unlabeled_scans import find_raw_scans
from nnunet_dycon.errors import UserError
from nnunet_dycon.losses import max_entropy
from nnunet_dycon.models.prediction import output_files, predict_folder
from nnunet_dycon.models.trained_model import TrainedModel, open_model
from nnunet_dycon.pictures.drawing import film_strip_figure, spread
from nnunet_dycon.pictures.overlay import CaseFiles
from nnunet_dycon.pictures.style import save, style
from nnunet_dycon.pictures.training import FILM_STRIP_EPOCHS, FOLDER, load_pictures
from nnunet_dycon.tools.evaluate.classes import EvaluatedClasses, classes_from_labels
from nnunet_dycon.tools.figures.entropy import entropy_figure
from nnunet_dycon.tools.figures.segmentation import SegmentedCase, read_segmented_case, segmentation_figure
from nnunet_dycon.tools.figures.similarities import similarities, similarity_figure
from nnunet_dycon.tools.figures.surface import surface_figure
from nnunet_dycon.tools.figures.trained_run import TrainedRun
from nnunet_dycon.tools.figures.uncl_gradient import uncl_gradient_figure


@dataclass(frozen=True)
class TestCases:
    """Cases with reference masks that the user hands over to be looked at.

    Attributes:
        images: folder of scans, named as nnU-Net wants them.
        references: folder of masks, CASE and the dataset's file ending.
        names: the cases to draw; empty: the first ``count`` that have both.
        count: see ``names``.
    """

    __test__ = False  # no test, although pytest would take it for one

    images: Path
    references: Path
    names: Sequence[str] = ()
    count: int = 3


@dataclass(frozen=True)
class Figures:
    """What was drawn: the files, and why a figure was not drawn."""

    files: list[Path]
    notes: list[str]


def make_figures(
    run: TrainedRun,
    output: Path,
    cases: TestCases | None = None,
    *,
    slices: int = 3,
    device: torch.device | None = None,
    progress: bool = False,
) -> Figures:
    """Draw everything that the training and the cases allow.

    Args:
        run: a finished training.
        output: folder for the figures; predictions of the cases go to its folder ``predictions``.
        cases: without them there is neither a segmentation nor a similarity to draw.
        slices: slices of each case.
        device: where to predict; None is the CPU.
        progress: show a progress bar while predicting.

    Raises:
        UserError: cases without scan or mask, or cases that are unlabelled in this training.
    """
    if slices < 1:
        raise UserError(f"{slices} slices of a case cannot be drawn; give at least 1 (--slices)")
    made = Figures([], [])
    model, found = (None, {}) if cases is None else _find_cases(run, cases, device or torch.device("cpu"))
    with style():
        _draw_training(run, output, made)
        if cases is None or model is None:
            made.notes.append("segmentation, surface, similarities: give --images and --references of test cases")
        else:
            folder, names = output / "predictions", list(found)
            predict_folder(cases.images, folder, model, cases=names, with_disagreement=False, progress=progress)
            _draw_cases(run, output, model, found, made, slices)
    return made


def _draw_training(run: TrainedRun, output: Path, made: Figures) -> None:
    figure = entropy_figure(run)
    if figure is None:
        made.notes.append("entropy: this training logged none")
    else:
        made.files.extend(save(figure, output, "entropy"))
    gradient = uncl_gradient_figure(run)
    if gradient is None:
        made.notes.append("uncl_gradient: this training had no UnCL")
    else:
        made.files.extend(save(gradient, output, "uncl_gradient"))
    pictures = load_pictures(run.folder / FOLDER)
    if pictures:
        strip = film_strip_figure(spread(pictures, FILM_STRIP_EPOCHS), dpi=300)
        made.files.extend(save(strip, output, "film_strip"))
    else:
        made.notes.append(
            f"film_strip: the training drew no pictures ({run.folder / FOLDER}; see picture_every_epochs)"
        )


def _draw_cases(
    run: TrainedRun,
    output: Path,
    model: TrainedModel,
    found: dict[str, tuple[list[Path], Path]],
    made: Figures,
    slices: int,
) -> None:
    classes = classes_from_labels(model.predictor.dataset_json["labels"], "the model's dataset.json")
    shown = [_read(model, output / "predictions", name, *files, classes) for name, files in found.items()]
    highest = max_entropy(model.predictor.label_manager.num_segmentation_heads, model.nonlinearity)
    made.files.extend(save(segmentation_figure(shown, slices, highest), output, "segmentation"))
    made.files.extend(save(surface_figure(shown), output, "surface"))
    pair = similarities(run, model, list(found.values()))
    if pair is None:
        made.notes.append("similarities: FeCL was off, or the cases have patches of one class only")
    else:
        made.files.extend(save(similarity_figure(*pair), output, "similarities"))


def _find_cases(
    run: TrainedRun, cases: TestCases, device: torch.device
) -> tuple[TrainedModel, dict[str, tuple[list[Path], Path]]]:
    """The model that predicts, and channel files and mask of each case to draw."""
    for folder in (cases.images, cases.references):
        if not folder.is_dir():
            raise UserError(f"{folder} is no folder; give the folders with scans and masks of test cases")
    model = open_model(run.model_folder, [run.fold], checkpoint_name=run.checkpoint_name, device=device)
    ending = model.predictor.dataset_json["file_ending"]
    scans = find_raw_scans(cases.images, model.predictor.dataset_json, model.predictor.plans_manager)
    both = [case for case in scans if (cases.references / f"{case}{ending}").is_file()]
    if not both:
        raise UserError(f"no case has both a scan in {cases.images} and a mask CASE{ending} in {cases.references}")
    if unknown := sorted(set(cases.names) - set(both)):
        raise UserError(f"--cases {' '.join(unknown)}: no scan or no mask; there are {', '.join(both[:10])}")
    if cases.count < 1:
        raise UserError(f"--count {cases.count}: give at least 1")
    chosen = list(cases.names) or both[: cases.count]
    run.refuse_unlabeled(chosen)
    return model, {case: (scans[case], cases.references / f"{case}{ending}") for case in chosen}


def _read(
    model: TrainedModel, predictions: Path, case: str, files: Sequence[Path], reference: Path, classes: EvaluatedClasses
) -> SegmentedCase:
    segmentation, entropy_map = output_files(predictions, case, model)
    return read_segmented_case(CaseFiles(case, files[0], reference, (segmentation,)), entropy_map, classes)

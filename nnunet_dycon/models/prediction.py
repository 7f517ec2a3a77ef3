"""Prediction through nnU-Net's own predictor, with an entropy map and numbers of the uncertainty for every case."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from nnunetv2.configuration import default_num_processes
from nnunetv2.inference.export_prediction import convert_predicted_logits_to_segmentation_with_correct_shape
from tqdm import tqdm

from nnunet_dycon.dataset.scan_checks import read_scan
from nnunet_dycon.dataset.unlabeled_scans import find_raw_scans
from nnunet_dycon.errors import UserError
from nnunet_dycon.files.json_files import read_json, write_json
from nnunet_dycon.files.whole_files import partial_folder
from nnunet_dycon.losses.entropy import entropy_of_probabilities
from nnunet_dycon.models import measures
from nnunet_dycon.models.maps import map_ending, write_map
from nnunet_dycon.models.table import CaseUncertainty, ranked, read_table, write_table
from nnunet_dycon.models.trained_model import TrainedModel, Weights

TABLE, RECORD, MAPS = "uncertainty.csv", "uncertainty.json", "entropy"


@dataclass(frozen=True)
class Prediction:
    """A predicted scan on its own grid, in nnU-Net's order of the axes."""

    segmentation: np.ndarray
    """Labels (Z, Y, X)."""
    probabilities: np.ndarray
    """(C, Z, Y, X), of the classes with the background, or of the regions."""
    entropy: np.ndarray
    """(Z, Y, X), nats, float32."""
    properties: dict[str, Any]
    """nnU-Net's, with spacing and orientation of the scan."""


def predict_folder(
    images: Path,
    output: Path,
    model: TrainedModel,
    *,
    cases: Sequence[str] = (),
    with_disagreement: bool = True,
    overwrite: bool = False,
    progress: bool = False,
) -> list[CaseUncertainty]:
    """Predict a folder of scans.

    Writes ``CASE.ENDING``, ``entropy/CASE_entropy.ENDING`` and the table ``uncertainty.csv``, each whole or not at
    all. Cases that are complete from an earlier call with the same model are not predicted again. Scans that cannot be
    predicted are named in the end, when all others are done.

    Args:
        images: scans named as nnU-Net wants them.
        output: new or existing folder.
        model: what predicts.
        cases: only these cases; none named is all.
        with_disagreement: also predict with the network that does not predict, which takes as long again.
        overwrite: predict complete cases again.
        progress: show a progress bar.

    Returns:
        The rows of the table, sorted by case.

    Raises:
        UserError: no scans or wrong names, unknown cases, damaged scans, a full disk, or an output folder with another
            model's predictions.
    """
    scans = _scans(images, model, cases)
    output.mkdir(parents=True, exist_ok=True)
    with_disagreement = with_disagreement and model.other_weights is not None
    rows = _rows_to_keep(output, {**model.record, "with_disagreement": with_disagreement}, overwrite)
    write_json(model.predictor.dataset_json, output / "dataset.json")  # evaluation reads the classes there
    failures = []
    for case in tqdm(scans, desc="predict", unit="case", disable=not progress):
        if case in rows and all(i.is_file() for i in output_files(output, case, model)):
            continue
        try:
            prediction, row = _assess(case, scans[case], model, with_disagreement=with_disagreement)
        except UserError as error:
            failures.append(f"{case}: {error}")
            continue
        _write_case(output, case, prediction, model)
        rows[case] = row
        write_table(ranked(rows.values()), output / TABLE)
    if failures:
        raise UserError(
            f"{len(failures)} of {len(scans)} scans could not be predicted. Correct what follows, or remove the scans, "
            f"and run the same command again (finished cases are kept):\n" + "\n".join(failures)
        )
    return [rows[case] for case in scans]


def predict_case(model: TrainedModel, files: Sequence[Path]) -> Prediction:
    """Predict a scan with sliding window and mirroring, all of it nnU-Net's.

    Args:
        model: what predicts.
        files: channel files of the scan.

    Raises:
        UserError: the scan is damaged, or is none that the model can predict.
    """
    return _predict(model, *_preprocess(model, files))


def _assess(
    case: str, files: Sequence[Path], model: TrainedModel, *, with_disagreement: bool
) -> tuple[Prediction, CaseUncertainty]:
    """Predict a case, with the numbers of its uncertainty."""
    image, properties = _preprocess(model, files)
    prediction = _predict(model, image, properties)
    differs = math.nan
    if with_disagreement:
        other = _convert(model, _logits(model, image, model.other_weights or []), properties)
        manager = model.predictor.label_manager
        classes = manager.foreground_regions if manager.has_regions else manager.foreground_labels
        differs = measures.disagreement(prediction.segmentation, other, classes)
    row = CaseUncertainty(
        case,
        float(prediction.entropy.mean()),
        measures.boundary_entropy(prediction.entropy, prediction.segmentation),
        _foreground_ml(prediction.segmentation, properties["spacing"]),
        differs,
    )
    return prediction, row


def output_files(output: Path, case: str, model: TrainedModel) -> tuple[Path, Path]:
    """Segmentation and entropy map of a case."""
    ending = model.predictor.dataset_json["file_ending"]
    reader = model.predictor.plans_manager.image_reader_writer_class
    return output / f"{case}{ending}", output / MAPS / f"{case}_entropy{map_ending(reader, ending)}"


def _scans(images: Path, model: TrainedModel, cases: Sequence[str]) -> dict[str, list[Path]]:
    if not images.is_dir():
        raise UserError(f"{images} is no folder; give the folder with the scans")
    dataset_json = model.predictor.dataset_json
    scans = find_raw_scans(images, dataset_json, model.predictor.plans_manager)
    if not scans:
        raise UserError(f"{images} holds no scan; name the scans CASE_0000{dataset_json['file_ending']}")
    if unknown := sorted(set(cases) - set(scans)):
        raise UserError(f"{images} has no scan of {', '.join(unknown)}; it has {', '.join(list(scans)[:10])}")
    return {case: files for case, files in scans.items() if not cases or case in cases}


def _rows_to_keep(output: Path, record: dict[str, Any], overwrite: bool) -> dict[str, CaseUncertainty]:
    """Rows of an earlier call with the same model; others are refused, or forgotten with ``overwrite``."""
    file, table = output / RECORD, output / TABLE
    if overwrite:
        table.unlink(missing_ok=True)
    fix = f"delete it and {TABLE}, or replace both with --overwrite"
    same = not overwrite and file.is_file() and read_json(file, fix) == record
    if table.is_file() and not same:
        raise UserError(
            f"{output} holds predictions of another model, checkpoint or with other options; choose another folder, or "
            "replace them with --overwrite"
        )
    write_json(record, file)
    return read_table(table) if table.is_file() else {}


def _preprocess(model: TrainedModel, files: Sequence[Path]) -> tuple[torch.Tensor, dict[str, Any]]:
    """Image (channels, X, Y, Z) for the network, and nnU-Net's properties of the scan."""
    predictor, names = model.predictor, [str(i) for i in files]
    plans, configuration = predictor.plans_manager, predictor.configuration_manager
    read_scan(names, plans, configuration, predictor.dataset_json)
    preprocessor = configuration.preprocessor_class(verbose=False)
    data, _, properties = preprocessor.run_case(names, None, plans, configuration, predictor.dataset_json)
    return torch.from_numpy(data).to(dtype=torch.float32, memory_format=torch.contiguous_format), properties


def _predict(model: TrainedModel, image: torch.Tensor, properties: dict[str, Any]) -> Prediction:
    segmentation, probabilities = _convert(model, _logits(model, image, model.weights), properties, probabilities=True)
    entropy = entropy_of_probabilities(torch.from_numpy(probabilities), model.nonlinearity).numpy()
    return Prediction(segmentation, probabilities, entropy, properties)


def _logits(model: TrainedModel, image: torch.Tensor, weights: list[Weights]) -> torch.Tensor:
    """(C, X, Y, Z) on the preprocessed grid."""
    model.predictor.list_of_parameters = weights
    return model.predictor.predict_logits_from_preprocessed_data(image).cpu()


def _convert(
    model: TrainedModel, logits: torch.Tensor, properties: dict[str, Any], *, probabilities: bool = False
) -> Any:
    """Labels on the scan's grid, with the probabilities (C, Z, Y, X) if they are wanted."""
    predictor = model.predictor
    return convert_predicted_logits_to_segmentation_with_correct_shape(
        logits,
        predictor.plans_manager,
        predictor.configuration_manager,
        predictor.label_manager,
        properties,
        return_probabilities=probabilities,
        num_threads_torch=min(default_num_processes, torch.get_num_threads()),
    )


def _foreground_ml(segmentation: np.ndarray, spacing_mm: Sequence[float]) -> float:
    """Volume; NaN for a two-dimensional image, whose slice nnU-Net makes 999 times as thick as a pixel is wide."""
    if len(segmentation) == 1 and spacing_mm[0] >= 999 * max(spacing_mm[1:]):
        return math.nan
    return measures.foreground_ml(segmentation, spacing_mm)


def _write_case(output: Path, case: str, prediction: Prediction, model: TrainedModel) -> None:
    """Write both files elsewhere first, and move them when they are complete."""
    segmentation_file, map_file = output_files(output, case, model)
    map_file.parent.mkdir(exist_ok=True)
    reader = model.predictor.plans_manager.image_reader_writer_class
    with partial_folder(output, case) as temporary:
        segmentation = temporary / segmentation_file.name
        reader().write_seg(prediction.segmentation, str(segmentation), prediction.properties)
        write_map(prediction.entropy, temporary / map_file.name, segmentation, reader)
        os.replace(temporary / map_file.name, map_file)
        for file in temporary.iterdir():  # some readers write a second file with the spacing
            os.replace(file, output / file.name)

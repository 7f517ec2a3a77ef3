"""Prediction through nnU-Net's own predictor, with an entropy map and numbers of the uncertainty for every case."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from nnunet_dycon.dataset.unlabeled_scans import find_raw_scans
from nnunet_dycon.errors import UserError
from nnunet_dycon.files.json_files import read_json, write_json
from nnunet_dycon.files.whole_files import whole
from nnunet_dycon.losses.entropy import entropy_of_probabilities
from nnunet_dycon.models import measures
from nnunet_dycon.models.maps import map_ending, write_map
from nnunet_dycon.models.segmentation import predicted, preprocessed, written_mask
from nnunet_dycon.models.table import CaseUncertainty, ranked, read_table, write_table
from nnunet_dycon.models.trained_model import TrainedModel

TABLE, RECORD, MAPS = "uncertainty.csv", "uncertainty.json", "entropy"


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
    """Predict a folder of scans that are named as nnU-Net wants them; the rows of the table, sorted by case.

    Writes ``CASE.ENDING``, ``entropy/CASE_entropy.ENDING`` and the table ``uncertainty.csv``, each whole or not at
    all. Cases that are complete from an earlier call with the same model are not predicted again, unless ``overwrite``
    is set. Scans that cannot be predicted are named in the end, when all others are done.

    Args:
        images: folder of the scans.
        output: new or existing folder.
        model: what predicts.
        cases: only these cases; none named is all.
        with_disagreement: also predict with the network that does not predict, which takes as long again.

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
            image, properties = preprocessed(model, scans[case])
        except UserError as error:
            failures.append(f"{case}: {error}")
            continue
        rows[case] = _predict(case, image, properties, model, output, with_disagreement=with_disagreement)
        write_table(ranked(rows.values()), output / TABLE)
    if failures:
        raise UserError(
            f"{len(failures)} of {len(scans)} scans could not be predicted. Correct what follows, or remove the scans, "
            f"and run the same command again (finished cases are kept):\n" + "\n".join(failures)
        )
    return [rows[case] for case in scans]


def _predict(
    case: str,
    image: torch.Tensor,
    properties: dict[str, Any],
    model: TrainedModel,
    output: Path,
    *,
    with_disagreement: bool,
) -> CaseUncertainty:
    """Write segmentation and entropy map of a preprocessed case, both or none."""
    labels, probabilities = predicted(model, image, properties, probabilities=True)
    entropy = entropy_of_probabilities(torch.from_numpy(probabilities), model.nonlinearity).numpy()
    differs = math.nan
    if with_disagreement:
        manager = model.predictor.label_manager
        classes = manager.foreground_regions if manager.has_regions else manager.foreground_labels
        differs = measures.disagreement(labels, predicted(model, image, properties, model.other_weights), classes)
    file, map_file = output_files(output, case, model)
    map_file.parent.mkdir(exist_ok=True)
    with written_mask(model, labels, properties, output, file.name) as segmentation, whole(map_file) as partial:
        write_map(entropy, partial, segmentation, model.predictor.plans_manager.image_reader_writer_class)
    border = measures.boundary_entropy(entropy, labels)
    volume_ml = measures.foreground_ml(labels, properties["spacing"])
    return CaseUncertainty(case, float(entropy.mean()), border, volume_ml, differs)


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

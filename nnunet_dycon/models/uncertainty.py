"""Masks of a folder of scans with entropy maps, and the numbers that say how sure the model is.

The table ``uncertainty.csv`` has a row a case; an empty cell (NaN) is a number that does not exist:

- ``mean_entropy_nats``: over all voxels of the scan.
- ``boundary_entropy_nats``: over the voxels on both sides of the predicted borders; none where nothing is predicted.
- ``foreground_ml``: predicted volume of all classes together; none for two-dimensional images.
- ``student_teacher_disagreement``: 1 - mean Dice of the two predictions; none for a model that has one network.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import SimpleITK as sitk
import tifffile
import torch
from nnunetv2.imageio.base_reader_writer import BaseReaderWriter
from nnunetv2.imageio.natural_image_reader_writer import NaturalImage2DIO
from nnunetv2.imageio.nibabel_reader_writer import NibabelIOWithReorient
from nnunetv2.imageio.simpleitk_reader_writer import SimpleITKIOWithReorient
from nnunetv2.imageio.tif_reader_writer import Tiff3DIO
from skimage.segmentation import find_boundaries
from tqdm import tqdm

from nnunet_dycon.errors import UserError
from nnunet_dycon.files.json_files import read_json, write_json
from nnunet_dycon.files.text import text_table
from nnunet_dycon.files.whole_files import whole
from nnunet_dycon.losses.entropy import entropy_of_probabilities
from nnunet_dycon.models.prediction import find_scans, predicted, preprocessed, written_mask
from nnunet_dycon.models.trained_model import TrainedModel

TABLE, RECORD, MAPS = "uncertainty.csv", "uncertainty.json", "entropy"
COLUMNS = ["case", "mean_entropy_nats", "boundary_entropy_nats", "foreground_ml", "student_teacher_disagreement"]


def predict_folder(
    images: Path,
    output: Path,
    model: TrainedModel,
    *,
    cases: Sequence[str] = (),
    with_disagreement: bool = True,
    overwrite: bool = False,
    progress: bool = False,
) -> pd.DataFrame:
    """Predict a folder of scans that are named as nnU-Net wants them; their rows of the table, sorted by case.

    Writes ``CASE.ENDING``, ``entropy/CASE_entropy.ENDING`` and the table ``uncertainty.csv``, each whole or not at
    all. Cases that are complete from an earlier call with the same model are not predicted again, unless ``overwrite``
    is set. Scans that cannot be predicted are named in the end, when all others are done.

    Args:
        cases: only these cases; none named is all.
        with_disagreement: also predict with the network that does not predict, which takes as long again.

    Raises:
        UserError: no scans or wrong names, unknown cases, damaged scans, a full disk, or an output folder with another
            model's predictions.
    """
    scans = find_scans(model, images, "give the folder with the scans", cases)
    output.mkdir(parents=True, exist_ok=True)
    with_disagreement = with_disagreement and model.other_weights is not None
    record = {
        "checkpoints": [[str(i.resolve()), i.stat().st_size, int(i.stat().st_mtime)] for i in model.files],
        "tile_step_size": model.tile_step_size,
        "mirroring": model.mirroring,
        "with_disagreement": with_disagreement,
    }
    rows = _rows_to_keep(output, record, overwrite)
    write_json(model.dataset_json, output / "dataset.json")  # evaluation reads the classes there
    failures = []
    for case in tqdm(scans, desc="predict", unit="case", disable=not progress):
        if case in rows and all(i.is_file() for i in output_files(output, case, model)):
            continue
        try:
            scan = preprocessed(model, scans[case])
        except UserError as error:
            failures.append(f"{case}: {error}")
            continue
        rows[case] = _predict(model, case, scan, output, with_disagreement)
        write_table(rows.values(), output / TABLE)
    if failures:
        raise UserError(
            f"{len(failures)} of {len(scans)} scans could not be predicted. Correct what follows, or remove the scans, "
            f"and run the same command again (finished cases are kept):\n" + "\n".join(failures)
        )
    return pd.DataFrame([rows[case] for case in scans], columns=COLUMNS)


def _predict(
    model: TrainedModel, case: str, scan: tuple[torch.Tensor, dict[str, Any]], output: Path, with_disagreement: bool
) -> dict[str, Any]:
    """Write segmentation and entropy map of a preprocessed scan, both or none; its row."""
    labels, probabilities = predicted(model, *scan, probabilities=True)
    entropy = entropy_of_probabilities(torch.from_numpy(probabilities), model.nonlinearity).numpy()
    differs = math.nan
    if with_disagreement:
        manager = model.predictor.label_manager
        classes = manager.foreground_regions if manager.has_regions else manager.foreground_labels
        differs = disagreement(labels, predicted(model, *scan, model.other_weights), classes)
    file, map_file = output_files(output, case, model)
    map_file.parent.mkdir(exist_ok=True)
    with written_mask(model, labels, scan[1], output, file.name) as segmentation, whole(map_file) as partial:
        write_map(entropy, partial, segmentation, model.predictor.plans_manager.image_reader_writer_class)
    numbers = float(entropy.mean()), boundary_entropy(entropy, labels), foreground_ml(labels, scan[1]["spacing"])
    return dict(zip(COLUMNS, (case, *numbers, differs), strict=True))


def output_files(output: Path, case: str, model: TrainedModel) -> tuple[Path, Path]:
    """Segmentation and entropy map of a case."""
    ending = model.dataset_json["file_ending"]
    reader = model.predictor.plans_manager.image_reader_writer_class
    return output / f"{case}{ending}", output / MAPS / f"{case}_entropy{map_ending(reader, ending)}"


def _rows_to_keep(output: Path, record: dict[str, Any], overwrite: bool) -> dict[str, dict[str, Any]]:
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
    return {row["case"]: row for row in read_table(table).to_dict("records")} if table.is_file() else {}


def map_ending(reader: type[BaseReaderWriter], file_ending: str) -> str:
    """Ending of a map's file: the dataset's, but .tif where that format holds no real numbers."""
    return ".tif" if issubclass(reader, NaturalImage2DIO) else file_ending


def write_map(values: np.ndarray, file: Path, segmentation_file: Path, reader: type[BaseReaderWriter]) -> None:
    """Write a map of real numbers on the grid of a segmentation; nnU-Net itself writes label maps only.

    ``values`` are (Z, Y, X) as nnU-Net orders its arrays, which some readers turn to a common orientation; the file's
    name ends in ``map_ending``.
    """
    if issubclass(reader, (Tiff3DIO, NaturalImage2DIO)):
        tifffile.imwrite(file, values.astype(np.float32), photometric="minisblack", compression="zlib")
        return
    grid = sitk.ReadImage(str(segmentation_file))
    image = sitk.GetImageFromArray((values[0] if grid.GetDimension() == 2 else values).astype(np.float32))
    turned = issubclass(reader, (SimpleITKIOWithReorient, NibabelIOWithReorient))
    image.CopyInformation(sitk.DICOMOrient(grid, "RAS") if turned else grid)
    if turned:
        code = sitk.DICOMOrientImageFilter_GetOrientationFromDirectionCosines(grid.GetDirection())
        image = sitk.DICOMOrient(image, code)
    sitk.WriteImage(image, str(file), True)


# ------------------------------------------------------------------------------------------------------ the table


def write_table(rows: Iterable[dict[str, Any]], file: Path) -> None:
    """Write the CSV, ranked, whole or not at all."""
    with whole(file) as partial:
        ranked(pd.DataFrame([*rows], columns=COLUMNS)).to_csv(partial, index=False, float_format="%.6g")


def read_table(file: Path) -> pd.DataFrame:
    """A table that ``write_table`` has written.

    Raises:
        UserError: another table, or a damaged one.
    """
    types = {name: str if name == "case" else float for name in COLUMNS}
    try:
        table = pd.read_csv(file, dtype=types, keep_default_na=False, na_values=[""])
    except (OSError, ValueError) as error:
        raise UserError(f"{file} is damaged ({error}); delete it, and its cases are predicted again") from error
    if [*table] != COLUMNS:
        raise UserError(f"{file} has the columns {[*table]}, not {COLUMNS}; choose another output folder")
    return table


def ranked(table: pd.DataFrame) -> pd.DataFrame:
    """The least sure case first: most entropy at the border; a case without any prediction before all."""
    by = ["boundary_entropy_nats", "case"]
    return table.sort_values(by, ascending=[False, True], na_position="first", ignore_index=True)


def uncertainty_table(table: pd.DataFrame) -> str:
    """The ranking for a terminal; columns without any number are left out."""
    table = ranked(table).dropna(axis="columns", how="all")
    rows = [
        [str(rank), case, *("-" if math.isnan(i) else f"{i:.4g}" for i in numbers)]
        for rank, (case, *numbers) in enumerate(table.itertuples(index=False), 1)
    ]
    return text_table(["rank", *table], rows, right=True)


# -------------------------------------------------------------------------------------- its numbers; volumes (Z, Y, X)


def boundary_entropy(entropy: np.ndarray, labels: np.ndarray) -> float:
    """Mean entropy in nats over the voxels on both sides of predicted borders; NaN where nothing is predicted."""
    border = find_boundaries(labels, connectivity=1, mode="thick")
    return float(entropy[border].mean()) if border.any() else math.nan


def foreground_ml(labels: np.ndarray, spacing_mm: Sequence[float]) -> float:
    """Volume of all labels above 0 in millilitres.

    NaN for a two-dimensional image, whose slice nnU-Net makes 999 times as thick as a pixel is wide.
    """
    if len(labels) == 1 and spacing_mm[0] >= 999 * max(spacing_mm[1:]):
        return math.nan
    return int((labels > 0).sum()) * float(np.prod(spacing_mm)) / 1000


def disagreement(first: np.ndarray, second: np.ndarray, classes: Sequence[int | Sequence[int]]) -> float:
    """1 - Dice between two label maps, averaged over the classes (one label value, or several) that either has.

    It is 0 (the same) to 1 (nothing in common), and 0 where neither has any of the classes.
    """
    scores = []
    for values in classes:
        a, b = np.isin(first, values), np.isin(second, values)
        if total := int(a.sum()) + int(b.sum()):
            scores.append(1 - 2 * int((a & b).sum()) / total)
    return float(np.mean(scores)) if scores else 0.0

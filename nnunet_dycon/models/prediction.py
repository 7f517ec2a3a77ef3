"""Prediction through nnU-Net's own predictor, case by case in this process: masks, entropy maps and their numbers.

The table ``uncertainty.csv`` has a row a case; an empty cell (NaN) is a number that does not exist:

- ``mean_entropy_nats``: over all voxels of the scan.
- ``boundary_entropy_nats``: over the voxels on both sides of the predicted borders; none where nothing is predicted.
- ``foreground_ml``: predicted volume of all classes together; none for two-dimensional images.
- ``student_teacher_disagreement``: 1 - mean Dice of the two predictions; none for a model that has one network.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import SimpleITK as sitk
import tifffile
import torch
from nnunetv2.configuration import default_num_processes
from nnunetv2.imageio.base_reader_writer import BaseReaderWriter
from nnunetv2.imageio.natural_image_reader_writer import NaturalImage2DIO
from nnunetv2.imageio.nibabel_reader_writer import NibabelIOWithReorient
from nnunetv2.imageio.simpleitk_reader_writer import SimpleITKIOWithReorient
from nnunetv2.imageio.tif_reader_writer import Tiff3DIO
from nnunetv2.inference.export_prediction import convert_predicted_logits_to_segmentation_with_correct_shape
from skimage.segmentation import find_boundaries
from tqdm import tqdm

from nnunet_dycon.dataset.reading import sheared_affines_mended
from nnunet_dycon.dataset.scan_files import read_scan
from nnunet_dycon.dataset.unlabeled_scans import find_raw_scans
from nnunet_dycon.errors import UserError
from nnunet_dycon.files.json_files import read_json, write_json
from nnunet_dycon.files.text import text_table
from nnunet_dycon.files.whole_files import partial_folder, whole
from nnunet_dycon.losses.entropy import entropy_of_probabilities
from nnunet_dycon.models.checkpoints import Weights
from nnunet_dycon.models.trained_model import TrainedModel

TABLE, RECORD, MAPS = "uncertainty.csv", "uncertainty.json", "entropy"
COLUMNS = ["case", "mean_entropy_nats", "boundary_entropy_nats", "foreground_ml", "student_teacher_disagreement"]


def find_scans(model: TrainedModel, images: Path, fix: str, cases: Sequence[str] = ()) -> dict[str, list[Path]]:
    """Channel files of each case in a folder, or of those named, as nnU-Net wants them for the model's dataset.

    Raises:
        UserError: no folder, and what fixes that, no scans, wrong names or channels, unknown cases.
    """
    if not images.is_dir():
        raise UserError(f"{images} is no folder; {fix}")
    scans = find_raw_scans(images, model.dataset_json, model.predictor.plans_manager)
    if not scans:
        raise UserError(f"{images} holds no scan; name the scans CASE_0000{model.dataset_json['file_ending']}")
    if unknown := sorted(set(cases) - set(scans)):
        raise UserError(f"{images} has no scan of {', '.join(unknown)}; it has {', '.join(list(scans)[:10])}")
    return {case: scans[case] for case in scans if not cases or case in cases}


def segment_scans(
    model: TrainedModel,
    scans: Mapping[str, Sequence[Path]],
    output: Path,
    *,
    change: Callable[[np.ndarray, np.ndarray], np.ndarray] | None = None,
    progress: bool = False,
) -> None:
    """Predict cases, given their channel files.

    Each mask is written as soon as it is predicted, ``CASE.ENDING``; those that are there are not predicted again.
    ``change`` makes another one of a mask (Z, Y, X) and its probabilities (C, Z, Y, X) before.

    Raises:
        UserError: as ``preprocessed``.
    """
    output.mkdir(parents=True, exist_ok=True)
    write_json(model.dataset_json, output / "dataset.json")  # as nnU-Net does; it tells predictions from references
    for case, files in tqdm(scans.items(), desc="predict", unit="case", disable=not progress):
        name = f"{case}{model.dataset_json['file_ending']}"
        if (output / name).is_file():
            continue
        image, properties = preprocessed(model, files)
        mask = predicted(model, image, properties, probabilities=change is not None)
        with written_mask(model, mask if change is None else change(*mask), properties, output, name):
            pass


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


# --------------------------------------------------------------------------------------------------------- one case


def preprocessed(model: TrainedModel, files: Sequence[Path]) -> tuple[torch.Tensor, dict[str, Any]]:
    """Image (channels, X, Y, Z) for the network, and nnU-Net's properties of the scan.

    Raises:
        UserError: the scan is damaged, or is none that the model can predict.
    """
    predictor, names = model.predictor, [str(i) for i in files]
    plans, configuration = predictor.plans_manager, predictor.configuration_manager
    read_scan(names, plans, configuration, predictor.dataset_json)
    preprocessor = configuration.preprocessor_class(verbose=False)
    with sheared_affines_mended():
        data, _, properties = preprocessor.run_case(names, None, plans, configuration, predictor.dataset_json)
    return torch.from_numpy(data).to(dtype=torch.float32, memory_format=torch.contiguous_format), properties


def predicted(
    model: TrainedModel,
    image: torch.Tensor,
    properties: dict[str, Any],
    weights: list[Weights] | None = None,
    *,
    probabilities: bool = False,
) -> Any:
    """Labels (Z, Y, X) on the scan's grid, by sliding window and mirroring.

    Args:
        weights: of each fold, in place of those that predict.
        probabilities: also return them, (C, Z, Y, X), of the classes with the background, or of the regions.
    """
    predictor = model.predictor
    predictor.list_of_parameters = weights or model.weights
    return convert_predicted_logits_to_segmentation_with_correct_shape(
        predictor.predict_logits_from_preprocessed_data(image).cpu(),
        predictor.plans_manager,
        predictor.configuration_manager,
        predictor.label_manager,
        properties,
        return_probabilities=probabilities,
        num_threads_torch=min(default_num_processes, torch.get_num_threads()),
    )


@contextmanager
def written_mask(
    model: TrainedModel, mask: np.ndarray, properties: dict[str, Any], output: Path, name: str
) -> Iterator[Path]:
    """A mask's file on the grid of its scan, which moves to ``output`` when the block ends without an error."""
    with partial_folder(output, name) as temporary:
        model.predictor.plans_manager.image_reader_writer_class().write_seg(mask, str(temporary / name), properties)
        yield temporary / name
        for file in temporary.iterdir():  # some readers write a second file with the spacing
            os.replace(file, output / file.name)


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

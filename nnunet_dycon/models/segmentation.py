"""Scans through nnU-Net's own predictor, case by case in this process, and their masks and maps on disk."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
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
from tqdm import tqdm

from nnunet_dycon.dataset.reading import sheared_affines_mended
from nnunet_dycon.dataset.scan_files import read_scan
from nnunet_dycon.files.json_files import write_json
from nnunet_dycon.files.whole_files import partial_folder
from nnunet_dycon.models.checkpoints import Weights
from nnunet_dycon.models.trained_model import TrainedModel

Change = Callable[[np.ndarray, np.ndarray], np.ndarray]
"""A mask made of a mask (Z, Y, X) and the probabilities (C, Z, Y, X) that it comes from."""


def segment_scans(
    model: TrainedModel,
    scans: Mapping[str, Sequence[Path]],
    output: Path,
    *,
    change: Change | None = None,
    progress: bool = False,
) -> None:
    """Predict cases, given their channel files; ``change`` is what becomes of a mask before it is written.

    Each mask is written as soon as it is predicted, ``CASE.ENDING``; those that are there are not predicted again.

    Raises:
        UserError: a scan that is damaged, or none that the model can predict.
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
        image, properties: what ``preprocessed`` returns.
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
    array = values[0] if grid.GetDimension() == 2 else values
    turned = issubclass(reader, (SimpleITKIOWithReorient, NibabelIOWithReorient))
    reference = sitk.DICOMOrient(grid, "RAS") if turned else grid
    image = sitk.GetImageFromArray(array.astype(np.float32))
    image.CopyInformation(reference)
    if turned:
        code = sitk.DICOMOrientImageFilter_GetOrientationFromDirectionCosines(grid.GetDirection())
        image = sitk.DICOMOrient(image, code)
    sitk.WriteImage(image, str(file), True)

"""Masks from nnU-Net's own predictor, case by case in this process."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from nnunetv2.configuration import default_num_processes
from nnunetv2.inference.export_prediction import convert_predicted_logits_to_segmentation_with_correct_shape
from tqdm import tqdm

from nnunet_dycon.dataset.reading import sheared_affines_mended
from nnunet_dycon.dataset.scan_files import read_scan
from nnunet_dycon.dataset.unlabeled_scans import find_raw_scans
from nnunet_dycon.errors import UserError
from nnunet_dycon.files.json_files import write_json
from nnunet_dycon.files.whole_files import partial_folder
from nnunet_dycon.models.checkpoints import Weights
from nnunet_dycon.models.trained_model import TrainedModel


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

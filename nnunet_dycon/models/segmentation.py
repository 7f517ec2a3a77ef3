"""Masks of scans from a trained model, each written whole as soon as it is predicted."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from nnunet_dycon.files.json_files import write_json
from nnunet_dycon.files.whole_files import partial_folder
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
    """Predict scans by nnU-Net's own predictor, case by case in this process.

    Args:
        model: What predicts.
        scans: Channel files of each case.
        output: Folder for the masks, ``CASE.ENDING``; cases that are there are not predicted again.
        change: What becomes of a mask before it is written.
        progress: Show a progress bar.
    """
    output.mkdir(parents=True, exist_ok=True)
    write_json(model.dataset_json, output / "dataset.json")  # as nnU-Net does; it tells predictions from references
    ending = model.dataset_json["file_ending"]
    for case, files in tqdm(scans.items(), desc="predict", unit="case", disable=not progress):
        if not (output / f"{case}{ending}").is_file():
            mask, properties = _segment(model, files, change)
            write_mask(model, mask, properties, output, f"{case}{ending}")


def _segment(model: TrainedModel, files: Sequence[Path], change: Change | None) -> tuple[np.ndarray, dict[str, Any]]:
    predictor = model.predictor
    image, properties = predictor.plans_manager.image_reader_writer_class().read_images([str(i) for i in files])
    if change is None:
        return predictor.predict_single_npy_array(image, properties), properties
    mask, probabilities = predictor.predict_single_npy_array(image, properties, save_or_return_probabilities=True)
    return change(mask, probabilities), properties


def write_mask(model: TrainedModel, mask: np.ndarray, properties: dict[str, Any], output: Path, name: str) -> None:
    """Write a mask on the grid of its scan, whole or not at all."""
    with partial_folder(output, name) as temporary:
        model.predictor.plans_manager.image_reader_writer_class().write_seg(mask, str(temporary / name), properties)
        for file in temporary.iterdir():  # some readers write a second file with the spacing
            os.replace(file, output / file.name)

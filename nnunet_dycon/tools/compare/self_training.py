"""The second stage of self-training: the dataset with the first stage's predictions, preprocessed by the same plans."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from nnunetv2.configuration import default_num_processes
from nnunetv2.preprocessing.preprocessors.default_preprocessor import DefaultPreprocessor

from nnunet_dycon.dataset.pseudo_labels import predicted_masks
from nnunet_dycon.dataset.raw_dataset import environment_folder, open_raw_dataset
from nnunet_dycon.files.json_files import write_json
from nnunet_dycon.models.trained_model import TrainedModel
from nnunet_dycon.tools.pseudo_label import pseudo_label


def prepare_self_training(
    model: TrainedModel, *, dataset: str, configuration: str, plans: str, folder: Path, min_confidence: float
) -> list[str]:
    """Write and preprocess what the second stage trains on; what is there from an earlier call is kept.

    Args:
        model: Of the first stage.
        dataset: ID or name.
        configuration: nnU-Net's.
        plans: Plans identifier.
        folder: Gets ``raw`` and ``preprocessed``, for nnU-Net's variables.
        min_confidence: As for ``pseudo_label``.

    Returns:
        The cases whose mask is a prediction.
    """
    source = open_raw_dataset(dataset)
    raw, preprocessed = folder / "raw" / source.name, folder / "preprocessed" / source.name
    if not raw.is_dir():
        pseudo_label(model, source, raw, min_confidence=min_confidence)
    if not (folder / "done.json").is_file():
        shutil.rmtree(preprocessed, ignore_errors=True)
        preprocessed.mkdir(parents=True)
        of_source = environment_folder("nnUNet_preprocessed") / source.name
        for name in (f"{plans}.json", "dataset_fingerprint.json", "splits_final.json"):
            if (of_source / name).is_file():
                shutil.copy(of_source / name, preprocessed / name)
        shutil.copy(raw / "dataset.json", preprocessed)
        _preprocess(folder, source.name, configuration, plans)
        write_json({}, folder / "done.json")
    return sorted(predicted_masks(raw / "labelsTr") - predicted_masks(source.folder / "labelsTr"))


def _preprocess(folder: Path, dataset: str, configuration: str, plans: str) -> None:
    """nnU-Net's, which reads its folders from the environment."""
    names = ("raw", "preprocessed")
    before = {f"nnUNet_{name}": os.environ[f"nnUNet_{name}"] for name in names}
    os.environ.update({f"nnUNet_{name}": str(folder / name) for name in names})
    try:
        DefaultPreprocessor(verbose=False).run(dataset, configuration, plans, default_num_processes)
    finally:
        os.environ.update(before)

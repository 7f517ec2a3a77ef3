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

    nnU-Net's variables lead to it from then on: ``raw`` and ``preprocessed`` in ``folder``.

    Args:
        model: Of the first stage.
        dataset: ID or name.
        configuration: nnU-Net's.
        plans: Plans identifier.
        folder: For all that is written.
        min_confidence: As for ``pseudo_label``.

    Returns:
        The cases whose mask is a prediction.
    """
    source = open_raw_dataset(dataset)
    of_source = environment_folder("nnUNet_preprocessed") / source.name
    raw, preprocessed = folder / "raw" / source.name, folder / "preprocessed" / source.name
    if not raw.is_dir():
        pseudo_label(model, source, raw, min_confidence=min_confidence)
    os.environ.update(nnUNet_raw=str(raw.parent), nnUNet_preprocessed=str(preprocessed.parent))
    if not (folder / "done.json").is_file():
        shutil.rmtree(preprocessed, ignore_errors=True)
        preprocessed.mkdir(parents=True)
        for name in (f"{plans}.json", "dataset_fingerprint.json", "splits_final.json"):
            if (of_source / name).is_file():
                shutil.copy(of_source / name, preprocessed / name)
        shutil.copy(raw / "dataset.json", preprocessed)
        DefaultPreprocessor(verbose=False).run(source.name, configuration, plans, default_num_processes)
        write_json({}, folder / "done.json")
    return sorted(predicted_masks(raw / "labelsTr") - predicted_masks(source.folder / "labelsTr"))

"""The second stage of self-training: the dataset with the first stage's predictions, preprocessed by the same plans."""

from __future__ import annotations

import os
import shutil

from nnunetv2.configuration import default_num_processes
from nnunetv2.preprocessing.preprocessors.default_preprocessor import DefaultPreprocessor

from nnunet_dycon.dataset.pseudo_labels import predicted_masks
from nnunet_dycon.dataset.raw_dataset import environment_folder, open_raw_dataset
from nnunet_dycon.errors import UserError
from nnunet_dycon.files.json_files import write_json
from nnunet_dycon.tools.compare.experiment import RESULT, Experiment, Job
from nnunet_dycon.tools.pseudo_label import pseudo_label

FOLDER = "self_training"


def prepare_self_training(experiment: Experiment, job: Job) -> list[str]:
    """Write and preprocess what the second stage trains on; what is there from an earlier call is kept.

    It lies in the job's folder, in ``raw`` and ``preprocessed``, to which nnU-Net's variables lead from then on.

    Returns:
        The cases whose mask is a prediction of the first stage.

    Raises:
        UserError: The first stage is not finished.
    """
    teacher, folder = experiment.teacher_of(job), experiment.folder(job) / FOLDER
    if teacher is None or not (experiment.folder(teacher) / RESULT).is_file():
        raise UserError(f"{job} needs the predictions of {teacher}, which is not finished; do that job first")
    source = open_raw_dataset(job.run.dataset)
    of_source = environment_folder("nnUNet_preprocessed") / source.name
    raw, preprocessed = folder / "raw" / source.name, folder / "preprocessed" / source.name
    if not raw.is_dir():
        name = f"{teacher.run.trainer}__{experiment.plans}__{experiment.configuration}"
        model = experiment.open_model(experiment.folder(teacher) / "results" / source.name / name, job)
        pseudo_label(model, source, raw, min_confidence=experiment.min_confidence)
    os.environ.update(nnUNet_raw=str(raw.parent), nnUNet_preprocessed=str(preprocessed.parent))
    if not (folder / "done.json").is_file():
        shutil.rmtree(preprocessed, ignore_errors=True)
        preprocessed.mkdir(parents=True)
        for name in (f"{experiment.plans}.json", "dataset_fingerprint.json", "splits_final.json"):
            if (of_source / name).is_file():
                shutil.copy(of_source / name, preprocessed / name)
        shutil.copy(raw / "dataset.json", preprocessed)
        DefaultPreprocessor(verbose=False).run(
            source.name, experiment.configuration, experiment.plans, default_num_processes
        )
        write_json({}, folder / "done.json")
    return sorted(predicted_masks(raw / "labelsTr") - predicted_masks(source.folder / "labelsTr"))

"""One job of an experiment: train, predict the test cases, evaluate. What a killed job has done is not done again."""

from __future__ import annotations

import math
import random
import shutil
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from nnunetv2.run.run_training import get_trainer_from_args
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer

from nnunet_dycon.dataset.splits import read_splits, unlabeled_in_splits
from nnunet_dycon.errors import UserError
from nnunet_dycon.files.json_files import write_json
from nnunet_dycon.files.text import few
from nnunet_dycon.models.prediction import segment_scans
from nnunet_dycon.settings import ENVIRONMENT_VARIABLE, Settings, overrides_from_environment
from nnunet_dycon.tools.compare.experiment import RECORD, RESULT, Experiment, Job
from nnunet_dycon.tools.compare.run_settings import LENGTHS, environment, run_settings
from nnunet_dycon.tools.compare.self_training import FOLDER, prepare_self_training
from nnunet_dycon.tools.compare.training import train
from nnunet_dycon.tools.evaluate import evaluate_folder


def do_job(experiment: Experiment, job: Job) -> None:
    """Train one run with one seed, predict the test cases and write job.json, in this process.

    Raises:
        UserError: The folder holds the job with other settings, or what the trainer or the evaluation complain about.
    """
    folder = experiment.folder(job)
    experiment.check_record(job)
    if (folder / RESULT).is_file():
        return
    folder.mkdir(parents=True, exist_ok=True)
    write_json(experiment.record(job), folder / RECORD)
    if experiment.device == "cuda":
        torch.set_num_threads(1)  # as nnUNetv2_train does
        torch.backends.cudnn.benchmark = True
    scans = experiment.test_scans(job)  # while nnUNet_raw is the user's
    settings = run_settings(experiment.settings, job.run)
    with environment(nnUNet_results=str(folder / "results"), **{ENVIRONMENT_VARIABLE: settings}):
        added = prepare_self_training(experiment, job) if job.run.teacher else []
        trainer = _make_trainer(experiment, job, added)
        _check_unseen(trainer, job, scans)
        epochs = curve_epochs(trainer.num_epochs, experiment.curve)
        result: dict[str, object] = dict(train(trainer, folder, save_after=epochs, bfloat16=experiment.bfloat16))
        result |= _test(experiment, job, trainer, scans, epochs)
    write_json({**experiment.record(job), **result}, folder / RESULT)
    for file in Path(trainer.output_folder).glob("checkpoint_*.pth"):
        if file.name != "checkpoint_final.pth":
            file.unlink()
    shutil.rmtree(folder / FOLDER, ignore_errors=True)


def curve_epochs(num_epochs: int, points: int) -> list[int]:
    """Epochs after which the curve has a point before the last one; fewer where there are too few epochs."""
    return sorted({round(num_epochs * i / points) for i in range(1, points)} - {0, num_epochs})


def _make_trainer(experiment: Experiment, job: Job, added: list[str]) -> nnUNetTrainer:
    """The trainer on its training cases and ``added`` ones; runs of a seed draw the same crops (nnUNet_n_proc_DA=0)."""
    for seed in (random.seed, np.random.seed, torch.manual_seed):
        seed(job.seed)
    fold, device = experiment.trained_fold(job), torch.device(experiment.device)
    trainer = get_trainer_from_args(
        str(job.run.dataset), experiment.configuration, fold, job.run.trainer, experiment.plans, device=device
    )
    forbidden = [] if hasattr(trainer, "settings") else _teach_stock_trainer(trainer, fold)
    if experiment.cross_validation:
        forbidden += experiment.held_out[job.fold][1]
    cases, validation = trainer.do_split()
    cases = [case for case in dict.fromkeys([*cases, *added]) if case not in forbidden]
    validation = [case for case in validation if case not in forbidden]
    # nnU-Net's validation chooses a checkpoint, so in cross-validation it is on what is trained on
    trainer.do_split = lambda: (cases, cases if experiment.cross_validation else validation)
    return trainer


def _teach_stock_trainer(trainer: nnUNetTrainer, fold: int | str) -> list[str]:
    """Set the lengths of one of nnU-Net's own, which reads no settings; returns the unlabelled cases, unknown to it."""
    settings = Settings().override(overrides_from_environment())
    for name in LENGTHS:
        setattr(trainer, name, getattr(settings, name) or getattr(trainer, name))
    return unlabeled_in_splits(read_splits(trainer.preprocessed_dataset_folder_base), fold)


def _check_unseen(trainer: nnUNetTrainer, job: Job, scans: Mapping[str, object]) -> None:
    """Whatever the dataset of a run is like, no test case is trained on or validated on.

    Raises:
        UserError: One is.
    """
    if seen := sorted(scans.keys() & {case for cases in trainer.do_split() for case in cases}):
        raise UserError(
            f"{job} would be trained on {few(seen)}, which it is tested on; take them out of {job.run.dataset}"
        )


def _test(
    experiment: Experiment, job: Job, trainer: nnUNetTrainer, scans: dict[str, list[Path]], epochs: list[int]
) -> dict[str, object]:
    """Predict and evaluate after each of the epochs and after the last one."""
    curve: dict[int, float | None] = {}
    references = experiment.raw.folder / ("labelsTr" if experiment.cross_validation else "labelsTs")
    for epoch in [*epochs, trainer.num_epochs]:
        is_last = epoch == trainer.num_epochs
        name = "checkpoint_final.pth" if is_last else f"checkpoint_epoch{epoch}.pth"
        predictions = experiment.folder(job) / ("predictions" if is_last else f"predictions_epoch{epoch}")
        segment_scans(experiment.open_model(Path(trainer.output_folder_base), job, name), scans, predictions)
        dataset_json = experiment.raw.folder / "dataset.json"
        evaluation = evaluate_folder(predictions, references, dataset_json=dataset_json, only_predicted=True)
        dice = float(evaluation.mean_of_classes["Dice"])
        curve[epoch * trainer.num_iterations_per_epoch] = None if math.isnan(dice) else dice
        if not is_last:
            shutil.rmtree(predictions)
    kept = evaluation.cases.drop(columns=["prediction_voxels", "reference_voxels"])
    rows = kept.astype(object).where(kept.notna(), None).to_dict("records")
    steps = trainer.num_epochs * trainer.num_iterations_per_epoch
    return {"steps": steps, "curve": curve, "cases": rows}

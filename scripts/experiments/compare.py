"""Train several trainers on one dataset, split, budget and set of seeds, and write one table of test results.

    python scripts/experiments/compare.py -d 501 -p nnUNetPlansF8 \\
        --settings num_epochs=20,num_iterations_per_epoch=100 --seeds 0 1 2 -o runs/la8 \\
        --runs control=nnUNetTrainerSupervised mt=nnUNetTrainerMeanTeacher dycon=nnUNetTrainerDyCON \\
               gentle=nnUNetTrainerDyCON:weight_fecl=0.1,entropy_weight=0

A run is NAME=TRAINER[:settings]; the first one is the control. nnU-Net's own trainers may be named as well; of the
settings they take the lengths. ``-d`` takes one dataset for all runs; DATASET/NAME=...
names another for one run (the upper bound with all labels, say). Finished jobs are kept, so the command may be
stopped and given again; ``--job NAME:SEED`` does one job and no table, for a scheduler. The test set is imagesTs and
labelsTs of the dataset of ``-d``. It is read after training only, and nothing is chosen by it here. Curves come from
checkpoints along the training, predicted after it (``--curve`` of them).
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import random
import resource
import shutil
import statistics
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from batchgenerators.utilities.file_and_folder_operations import subfiles
from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor
from nnunetv2.paths import nnUNet_raw
from nnunetv2.run.run_training import get_trainer_from_args
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer
from nnunetv2.utilities.dataset_name_id_conversion import maybe_convert_to_dataset_name
from nnunetv2.utilities.utils import create_lists_from_splitted_dataset_folder

from nnunet_dycon.settings import Settings, overrides_from_environment
from nnunet_dycon.tools.evaluate import evaluate_folder

METRICS = ("Dice", "Jaccard", "HD95_mm", "ASD_mm")
COLORS = ("#000000", "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")


@dataclass(frozen=True)
class Run:
    """A trainer with settings on a dataset, under a name."""

    name: str
    trainer: str
    settings: str
    dataset: str

    @classmethod
    def parse(cls, text: str, dataset: str) -> Run:
        name, _, rest = text.partition("=")
        if "/" in name:
            dataset, _, name = name.partition("/")
        trainer, _, settings = rest.partition(":")
        if not name or not trainer:
            raise SystemExit(f"--runs: {text!r} must read NAME=TRAINER[:settings] or DATASET/NAME=TRAINER[:settings]")
        return cls(name, trainer, settings, dataset)


def seed_everything(seed: int) -> None:
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)


def compute_in_bfloat16(trainer: nnUNetTrainer) -> None:
    """Run the networks under bfloat16 autocast on a CPU, as nnU-Net runs them under float16 autocast on CUDA."""
    branches = [i for name in ("student_branch", "teacher_branch") if (i := getattr(trainer, name, None)) is not None]
    networks = [trainer.network, *(i for branch in branches for i in (branch.network, branch.head) if i is not None)]
    for network in {id(i): i for i in networks}.values():
        forward = network.forward

        def autocast_forward(*inputs, forward=forward):
            with torch.autocast("cpu", torch.bfloat16):
                outputs = forward(*inputs)
            return [i.float() for i in outputs] if isinstance(outputs, (list, tuple)) else outputs.float()

        network.forward = autocast_forward


def do_job(args: argparse.Namespace, run: Run, seed: int) -> None:
    """Train one run with one seed, predict the test set and write job.json, in this process."""
    folder = args.output / run.name / f"seed_{seed}"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    os.environ["nnUNet_results"] = str(folder / "results")
    os.environ["nnUNet_dycon"] = ",".join(i for i in (args.settings, run.settings) if i)
    seed_everything(seed)
    device = torch.device(args.device)
    trainer = get_trainer_from_args(run.dataset, args.configuration, args.fold, run.trainer, args.plans, device=device)
    if not hasattr(trainer, "settings"):  # one of nnU-Net's own, which does not read them
        settings = Settings().override(overrides_from_environment())
        for name in ("num_epochs", "num_iterations_per_epoch", "num_val_iterations_per_epoch"):
            setattr(trainer, name, getattr(settings, name) or getattr(trainer, name))
    save_from = [round(trainer.num_epochs * i / args.curve) - 1 for i in range(1, args.curve)]
    end_of_epoch = trainer.on_epoch_end

    def on_epoch_end() -> None:
        epoch = trainer.current_epoch
        end_of_epoch()
        if epoch in save_from:
            trainer.current_epoch = epoch
            trainer.save_checkpoint(os.path.join(trainer.output_folder, f"checkpoint_epoch{epoch + 1}.pth"))
            trainer.current_epoch = epoch + 1

    trainer.on_epoch_end = on_epoch_end
    trainer.initialize()
    if args.bfloat16:
        compute_in_bfloat16(trainer)
    start = time.time()
    trainer.run_training()
    seconds = time.time() - start
    raw = Path(nnUNet_raw) / maybe_convert_to_dataset_name(args.dataset_id)
    curve = {}
    for epoch in [i + 1 for i in save_from] + [trainer.num_epochs]:
        last = epoch == trainer.num_epochs
        name = "checkpoint_final.pth" if last else f"checkpoint_epoch{epoch}.pth"
        predictions = folder / "predictions" if last else folder / f"predictions_epoch{epoch}"
        predict(trainer, name, raw, predictions, device)
        evaluation = evaluate_folder(predictions, raw / "labelsTs", dataset_json=raw / "dataset.json")
        curve[epoch * trainer.num_iterations_per_epoch] = evaluation.mean_of_classes["Dice"]
        if not last:
            shutil.rmtree(predictions)
            os.remove(os.path.join(trainer.output_folder, name))
    memory = torch.cuda.max_memory_allocated() if device.type == "cuda" else resource.getrusage(0).ru_maxrss * 1024
    log = trainer.logger.local_logger.my_fantastic_logging
    result = {
        "run": run.__dict__,
        "seed": seed,
        "steps": trainer.num_epochs * trainer.num_iterations_per_epoch,
        "train_loss": float(log["train_losses"][-1]),
        "seconds": seconds,
        "peak_memory_bytes": memory,
        "curve": curve,
        "mean": {metric: evaluation.mean_of_classes[metric] for metric in METRICS},
        "cases": {metric: case_values(evaluation, metric) for metric in METRICS},
    }
    (folder / "job.tmp").write_text(json.dumps(result, indent=1))
    os.replace(folder / "job.tmp", folder / "job.json")


def case_values(evaluation, metric: str) -> dict[str, float]:
    """Mean over classes of each case."""
    values: dict[str, list[float]] = {}
    for case in evaluation.cases:
        values.setdefault(case.case, []).append(case.values[metric])
    return {case: float(np.nanmean(i)) if not np.isnan(i).all() else float("nan") for case, i in values.items()}


def predict(trainer, checkpoint: str, raw: Path, output: Path, device: torch.device) -> None:
    """Predict imagesTs with nnU-Net's predictor, case by case in this process."""
    predictor = nnUNetPredictor(device=device, allow_tqdm=False)
    predictor.initialize_from_trained_model_folder(trainer.output_folder_base, (trainer.fold,), checkpoint)
    predictor.network.to(device)
    reader = predictor.plans_manager.image_reader_writer_class()
    ending = predictor.dataset_json["file_ending"]
    output.mkdir()
    assert subfiles(str(raw / "imagesTs")), f"{raw / 'imagesTs'} holds no test image"
    for files in create_lists_from_splitted_dataset_folder(str(raw / "imagesTs"), ending, num_processes=1):
        image, properties = reader.read_images(files)
        segmentation = predictor.predict_single_npy_array(image, properties)
        reader.write_seg(segmentation, str(output / (Path(files[0]).name[: -len(ending) - 5] + ending)), properties)


def write_table(args: argparse.Namespace, runs: list[Run]) -> None:
    """One row a run: mean and standard deviation over seeds, and the paired difference to the control."""
    jobs = {
        run.name: {
            seed: json.loads(file.read_text()) for seed in args.seeds if (file := job_file(args, run, seed)).exists()
        }
        for run in runs
    }
    header = ["run", "seeds", *METRICS, "Dice minus control", "minutes", "memory [GiB]"]
    rows = []
    scale = {metric: 100 if metric in ("Dice", "Jaccard") else 1 for metric in METRICS}
    for run in runs:
        done = jobs[run.name]
        if not done:
            continue
        control = jobs[runs[0].name]
        differences = [100 * (done[s]["mean"]["Dice"] - control[s]["mean"]["Dice"]) for s in done if s in control]
        rows.append([
            run.name,
            str(len(done)),
            *[spread([scale[m] * i["mean"][m] for i in done.values()]) for m in METRICS],
            spread(differences, signed=True) if run is not runs[0] else "",
            spread([i["seconds"] / 60 for i in done.values()]),
            spread([i["peak_memory_bytes"] / 2**30 for i in done.values()]),
        ])  # fmt: skip
    widths = [max(len(row[i]) for row in [header, *rows]) for i in range(len(header))]
    lines = [" | ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=True)) for row in [header, *rows]]
    lines.insert(1, " | ".join("-" * w for w in widths))
    table = "\n".join(f"| {line} |" for line in lines)
    (args.output / "table.md").write_text(table + "\n")
    with open(args.output / "table.csv", "w", newline="") as table_csv:
        csv.writer(table_csv).writerows([header, *rows])
    plot_curves(args, jobs)
    print(table)
    print(f"Written: {args.output / 'table.md'}, table.csv, curves.png")


def spread(values: list[float], signed: bool = False) -> str:
    """Mean ± sample standard deviation."""
    if not values:
        return ""
    mean = f"{statistics.fmean(values):{'+' if signed else ''}.2f}"
    return mean if len(values) < 2 else f"{mean} ± {statistics.stdev(values):.2f}"


def plot_curves(args: argparse.Namespace, jobs: dict[str, dict[int, dict]]) -> None:
    import matplotlib

    matplotlib.use("agg")
    import matplotlib.pyplot as plt

    figure, ax = plt.subplots(figsize=(7, 4.5))
    for (name, done), color in zip(jobs.items(), COLORS * len(jobs), strict=False):
        if done:
            steps = sorted(set.intersection(*({int(i) for i in job["curve"]} for job in done.values())))
            curves = 100 * np.array([[job["curve"][str(i)] for i in steps] for job in done.values()])
            ax.plot(steps, curves.mean(0), color=color, marker="o", label=name)
            ax.fill_between(steps, curves.min(0), curves.max(0), color=color, alpha=0.15, linewidth=0)
    ax.set(xlabel="training steps", ylabel="test Dice [%], mean and range over seeds")
    ax.legend()
    figure.tight_layout()
    figure.savefig(args.output / "curves.png", dpi=150)
    plt.close(figure)


def job_file(args: argparse.Namespace, run: Run, seed: int) -> Path:
    return args.output / run.name / f"seed_{seed}" / "job.json"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-d", dest="dataset_id", required=True, help="dataset ID, with the test set")
    parser.add_argument("-c", dest="configuration", default="3d_fullres")
    parser.add_argument("-p", dest="plans", default="nnUNetPlans")
    parser.add_argument("-f", dest="fold", default="all", type=lambda i: i if i == "all" else int(i))
    parser.add_argument("-device", dest="device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("-o", dest="output", type=Path, required=True, help="folder for jobs, table and plot")
    parser.add_argument("--runs", nargs="+", required=True, metavar="NAME=TRAINER[:settings]")
    parser.add_argument("--settings", default="", help="settings of all runs, key=value,key=value")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--curve", type=int, default=4, help="points of the curve of Dice against steps")
    parser.add_argument("--bfloat16", action="store_true", help="bfloat16 autocast on a CPU, faster with AMX")
    parser.add_argument("--table-only", action="store_true", help="train nothing: write the table of what is finished")
    parser.add_argument("--job", metavar="NAME:SEED", help="do this job only and write no table")
    args = parser.parse_args()
    runs = [Run.parse(text, args.dataset_id) for text in args.runs]
    if args.job:
        name, _, seed = args.job.rpartition(":")
        do_job(args, next(run for run in runs if run.name == name), int(seed))
        return 0
    args.output.mkdir(parents=True, exist_ok=True)
    failed = 0
    for seed in args.seeds:
        for run in runs:
            if args.table_only or job_file(args, run, seed).exists():
                continue
            log = args.output / f"{run.name}_{seed}.log"
            print(f"{run.name}, seed {seed}: log in {log}", flush=True)
            with open(log, "w") as file:
                code = subprocess.call(
                    [sys.executable, *sys.argv, "--job", f"{run.name}:{seed}"], stdout=file, stderr=file
                )
            if code:
                print(f"{run.name}, seed {seed} failed with exit code {code}; see {log}", file=sys.stderr)
                failed += 1
    write_table(args, runs)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())

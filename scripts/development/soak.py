"""Train for long on a phantom and watch memory, open files and worker processes; fail when they grow.

    python scripts/development/soak.py                  # 2,000 steps, recorded every 100; an hour on two cores
    python scripts/development/soak.py --steps 60 --every 10    # a quick look

Everything is written to a temporary folder. Linux only: the numbers come from /proc. Memory is the share of all
processes together (proportional set size), so that pages which workers share count once. The first quarter of the
records is warm-up. Exit code 1 if the last quarter's median of any number is above the second quarter's by more than
its tolerance.
"""

from __future__ import annotations

import argparse
import ctypes
import gc
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any, NamedTuple

TOLERANCES = {"memory_mib": 64.0, "open_files": 2.0, "processes": 0.0}
DATASET, PLANS = "Dataset901_Phantom", "nnUNetPlans_soak"


class Record(NamedTuple):
    step: int
    memory_mib: float
    open_files: float
    processes: float


def family(pid: int) -> list[int]:
    """A process and all that it has started, directly or not."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [pid, *(i for child in children for i in family(int(child)))]


def proportional_kib(pid: int) -> int:
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("Pss:")).split()[1])


def measure(step: int) -> Record:
    gc.collect()
    ctypes.CDLL("libc.so.6").malloc_trim(0)  # give freed memory back: what is left is held
    pids = family(os.getpid())
    memory = sum(map(proportional_kib, pids)) / 1024
    return Record(step, memory, sum(len(os.listdir(f"/proc/{pid}/fd")) for pid in pids), len(pids))


def growth(records: list[Record]) -> dict[str, float]:
    """Median of the last quarter of the records above that of the second, by name."""
    quarter = len(records) // 4
    early, late = records[quarter : 2 * quarter], records[-quarter:]
    return {
        name: statistics.median(getattr(i, name) for i in late) - statistics.median(getattr(i, name) for i in early)
        for name in TOLERANCES
    }


def report(records: list[Record]) -> list[str]:
    """Print the table; return what has grown."""
    print(f"\n{'step':>6} {'memory MiB':>12} {'open files':>12} {'processes':>12}")
    for record in records:
        print(f"{record.step:6d} {record.memory_mib:12.1f} {record.open_files:12.0f} {record.processes:12.0f}")
    grown = []
    for name, value in growth(records).items():
        print(f"{name}: {value:+.1f} (allowed: {TOLERANCES[name]:+.1f})")
        if value > TOLERANCES[name]:
            grown.append(name)
    return grown


def prepare(features: int) -> None:
    """A phantom dataset, planned and preprocessed by nnU-Net, with a small network."""
    programs = Path(sys.executable).parent
    shrink = ["--plans-name", PLANS, "--features", str(features), "--patch-size", "32", "32", "32"]
    for command in (
        [programs / "nnunet-dycon", "phantom", "-d", "901", "--labeled", "4", "--unlabeled", "8", "--test", "0"],
        [programs / "nnUNetv2_plan_and_preprocess", "-d", "901", "-c", "3d_fullres", "-npfp", "1", "-np", "1"],
        [programs / "nnunet-dycon", "shrink-plans", "-d", "901", *shrink],
    ):
        environment = {**os.environ, "nnUNet_n_proc_DA": "1"}  # the planner does not take 0
        subprocess.run([str(i) for i in command], check=True, env=environment)


def train(folder: Path, steps: int, every: int) -> list[Record]:
    import torch

    from nnunet_dycon.trainers import nnUNetTrainerDyCON

    records: list[Record] = []

    class nnUNetTrainerSoak(nnUNetTrainerDyCON):
        def __init__(self, plans: dict, configuration: str, fold: Any, dataset_json: dict, device: Any) -> None:
            super().__init__(plans, configuration, fold, dataset_json, device)
            self.num_epochs, self.num_iterations_per_epoch, self.num_val_iterations_per_epoch = steps // every, every, 2

        def on_epoch_end(self) -> None:
            super().on_epoch_end()
            records.append(measure(len(records) * every + every))

    preprocessed = folder / "preprocessed" / DATASET
    plans, dataset_json = (json.loads((preprocessed / i).read_text()) for i in (f"{PLANS}.json", "dataset.json"))
    plans["continue_training"] = False  # as nnUNetv2_train adds it
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    nnUNetTrainerSoak(plans, "3d_fullres", "all", dataset_json, device).run_training()
    return records


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=2000)
    parser.add_argument("--every", type=int, default=100, help="steps from one record to the next")
    parser.add_argument("--features", type=int, default=8, help="channels of the network at full resolution")
    args = parser.parse_args()
    if args.steps // args.every < 4:
        parser.error("--steps must be at least four times --every")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for part in ("raw", "preprocessed", "results"):
            (folder / part).mkdir()
            os.environ[f"nnUNet_{part}"] = str(folder / part)
        os.environ.setdefault("nnUNet_n_proc_DA", "2")
        os.environ.setdefault("nnUNet_dycon", "max_patches=512")
        prepare(args.features)
        grown = report(train(folder, args.steps, args.every))
    print(f"grown: {', '.join(grown)}" if grown else "nothing has grown")
    return 1 if grown else 0


if __name__ == "__main__":
    sys.exit(main())

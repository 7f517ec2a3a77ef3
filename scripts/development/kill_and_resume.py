"""Kill a training again and again, continue it with --c, and compare with one that was left alone.

    python scripts/development/kill_and_resume.py -d 901 -p nnUNetPlans_quickstart --kills 20

Every other kill comes at a random moment, the others while a checkpoint is being written.
Both trainings run on one CPU thread with single-threaded loading; they must end in the same student, teacher, head and
optimiser state, bit by bit. The dataset must be planned and preprocessed, for example by scripts/quickstart.sh.
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch
from nnunetv2.utilities.dataset_name_id_conversion import maybe_convert_to_dataset_name

TRAINER = "nnUNetTrainerDyCON"


def start(args: argparse.Namespace, results: Path, resume: bool) -> subprocess.Popen:
    """Start nnU-Net's training command in a process group of its own."""
    length = f"num_epochs={args.epochs},num_iterations_per_epoch=3,num_val_iterations_per_epoch=1,save_every=1"
    environment = os.environ | {
        "nnUNet_results": str(results),
        "nnUNet_n_proc_DA": "0",
        "nnUNet_dycon": f"{length},max_patches=512",
        "OMP_NUM_THREADS": "1",
    }
    code = (
        "import random, sys, numpy, torch; random.seed(0); numpy.random.seed(0); torch.manual_seed(0)\n"
        "torch.set_num_threads = lambda number: None\n"  # nnU-Net's command would take all cores
        "from nnunetv2.run.run_training import run_training_entry; run_training_entry()"
    )
    command = [sys.executable, "-c", code, str(args.d), "3d_fullres", "all", "-p", args.p, "-tr", TRAINER]
    command += ["-device", "cpu", *(["--c"] if resume else [])]
    with open(results / "log.txt", "a") as log:
        return subprocess.Popen(command, env=environment, stdout=log, stderr=log, start_new_session=True)


def kill(process: subprocess.Popen, folder: Path, wait_s: float | None) -> str:
    """Kill the process group after a new checkpoint has appeared; returns what it was at.

    Args:
        wait_s: seconds after the checkpoint; None: as soon as the next one is being written.
    """
    before = newest(folder)
    while newest(folder) == before and process.poll() is None:
        time.sleep(0.01)
    if wait_s is None:
        while not being_written(folder) and process.poll() is None:
            time.sleep(0.0005)
    else:
        time.sleep(wait_s)
    if process.poll() is not None:
        return "it had ended"
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    return "while a checkpoint was written" if being_written(folder) else "between checkpoints"


def being_written(folder: Path) -> bool:
    """Whether there is a part of a checkpoint."""
    return any(folder.glob(".checkpoint_*.partial-*/*"))


def newest(folder: Path) -> float:
    """Time of the newest checkpoint, 0 without any."""
    return max((i.stat().st_mtime for i in folder.glob("checkpoint_*.pth")), default=0.0)


def differences(first: dict, second: dict, path: str = "") -> list[str]:
    """Names of the tensors and numbers that differ in two nested states."""
    if isinstance(first, torch.Tensor):
        return [] if torch.equal(first, second) else [path]
    if isinstance(first, dict):
        if first.keys() != second.keys():
            return [f"{path}: other keys"]
        return [i for key in first for i in differences(first[key], second[key], f"{path}/{key}")]
    if isinstance(first, (list, tuple)):
        return [i for n, (a, b) in enumerate(zip(first, second, strict=True)) for i in differences(a, b, f"{path}/{n}")]
    return [] if first == second else [path]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-d", required=True, help="dataset ID")
    parser.add_argument("-p", default="nnUNetPlans", help="plans")
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--epochs", type=int, default=24, help="more than kills, or the training ends early")
    parser.add_argument("--longest-wait", type=float, default=1.0, help="seconds after a checkpoint, at most")
    args = parser.parse_args()
    states = {}
    with tempfile.TemporaryDirectory() as temporary:
        for name, kills in (("whole", 0), ("killed", args.kills)):
            results = Path(temporary) / name
            results.mkdir()
            model = f"{TRAINER}__{args.p}__3d_fullres"
            folder = results / maybe_convert_to_dataset_name(args.d) / model / "fold_all"
            for number in range(kills):
                wait_s = None if number % 2 else random.uniform(0, args.longest_wait)
                moment = kill(start(args, results, resume=number > 0), folder, wait_s)
                print(f"kill {number + 1} of {kills}: {moment}", flush=True)
            if start(args, results, resume=kills > 0).wait():
                print((results / "log.txt").read_text()[-3000:], file=sys.stderr)
                return 1
            states[name] = torch.load(folder / "checkpoint_final.pth", weights_only=False)
    keys = ("network_weights", "optimizer_state", "current_epoch")
    found = [i for key in keys for i in differences(states["whole"][key], states["killed"][key], key)]
    parts = ("student_weights", "head_weights", "teacher", "step")
    mine = [state["semi_supervised"] for state in states.values()]
    found += [i for part in parts for i in differences(mine[0][part], mine[1][part], part)]
    print("\n".join(found) or f"Bit-identical after {args.kills} kills: student, teacher, head, optimiser, step.")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())

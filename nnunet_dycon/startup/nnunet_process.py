"""A process in which nnU-Net found one of our trainers: errors that a user can correct, and threads on a CPU.

``ext_trainer`` calls ``prepare`` when nnU-Net searches it, so in nnUNetv2_train, nnUNetv2_predict and their like.
"""

from __future__ import annotations

import contextlib
import os
import re
import sys
import traceback
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

import torch

from nnunet_dycon.dataset.commands import planning
from nnunet_dycon.errors import UserError

if TYPE_CHECKING:
    from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer

# nnU-Net's, which prints all numbers of the weight
_OTHER_NETWORK = re.compile(
    r"[Kk]ey (\S+) is (?:not the same. Pretrained model: torch.Size\((.*?)\)|missing in the pre)"
)
_NO_GPU = re.compile("no NVIDIA driver|not compiled with CUDA|No CUDA GPUs")
_OF_A_FOLD = ("debug.json", "network_architecture.pdf")
_OF_A_MODEL = ("plans.json", "dataset.json", "dataset_fingerprint.json")


def prepare() -> None:
    """Show errors that a user can correct without a traceback, and use no more threads than OMP_NUM_THREADS says."""
    if os.environ.get("nnUNet_dycon_traceback", "0") != "1":  # for developers: 1 keeps the traceback
        sys.excepthook = show_error
    threads = os.environ.get("OMP_NUM_THREADS", "")
    if threads.isdecimal() and 0 < int(threads) < torch.get_num_threads():
        torch.set_num_threads(int(threads))  # nnU-Net takes all cores with -device cpu


def show_error(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """The message alone, and nothing left of a training that did not start; other errors as Python shows them."""
    error = _in_short(error)
    if not isinstance(error, UserError):
        sys.__excepthook__(kind, error, trace)
        if hint := _hint(error):
            print(f"\n{hint}", file=sys.stderr)
        return
    trainer = _trainer_of(trace)
    if trainer is not None and trainer.local_rank == 0:
        if len(trainer.logger.get_value("epoch_start_timestamps", step=None)) > trainer.current_epoch:  # has begun one
            trainer.print_to_log_file(f"error: {error}", also_print_to_console=False)
        else:
            leave_nothing(Path(trainer.log_file))
    sys.stdout.flush()
    print(f"\n{Path(sys.argv[0]).stem}: error: {error}", file=sys.stderr)


def _in_short(error: BaseException) -> BaseException:
    """One sentence for what nnU-Net and torch say in many."""
    if isinstance(error, AssertionError) and (found := _OTHER_NETWORK.search(str(error))):
        return UserError(
            f"-pretrained_weights: {found[1]} is missing there or has another shape ({found[2] or 'no such weight'}). "
            "Take weights of a training with the same plans and the same number of channels; labels may differ"
        )
    if _NO_GPU.search(str(error)):
        return UserError("no GPU is found; -device cpu goes without, slowly (small plans: nnunet-dycon shrink-plans)")
    return error


def _hint(error: BaseException) -> str:
    """What to do about an error of nnU-Net's own; empty where there is no advice."""
    if isinstance(error, FileNotFoundError) and "Plans" in (plans := Path(str(error.filename))).stem:
        return f"There are no plans {plans.stem}: run {planning(plans.parent.name, plans.stem)}"
    if "Could not find requested nnunet trainer" not in str(error):
        return ""
    from nnunet_dycon import trainers

    return (
        f"nnunet-dycon has {', '.join(trainers.__all__)}. Each also trains as NAME_100epochs (any number), as "
        "NAME_NoMirroring and as NAME_100epochs_NoMirroring; other settings get a name by nnunet-dycon variant"
    )


def _trainer_of(trace: TracebackType | None) -> nnUNetTrainer | None:
    """The trainer in whose code, or on whose behalf, an error was raised."""
    from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer

    values = (value for frame, _ in traceback.walk_tb(trace) for value in frame.f_locals.values())
    return next((i for i in values if isinstance(i, nnUNetTrainer) and hasattr(i, "log_file")), None)


def leave_nothing(log_file: Path) -> None:
    """Remove what a start that was refused has written: its log, and the folders that hold nothing else.

    Args:
        log_file: ``nnUNet_results/DATASET/TRAINER__PLANS__CONFIGURATION/fold_X/training_log_TIME.txt``
    """
    log_file.unlink(missing_ok=True)
    fold = log_file.parent
    for folder, files in ((fold, _OF_A_FOLD), (fold.parent, _OF_A_MODEL), (fold.parents[1], ())):
        if {i.name for i in folder.iterdir()} <= set(files):
            for name in files:
                (folder / name).unlink(missing_ok=True)
            with contextlib.suppress(OSError):  # another training has just begun there
                folder.rmdir()

"""What the pictures of a training cost; ``python scripts/benchmarks/benchmark.py pictures`` runs it."""

from __future__ import annotations

import math
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from nnunetv2.training.logging.nnunet_logger import LocalLogger

from nnunet_dycon.pictures import training as pictures
from nnunet_dycon.training.curves import SemiSupervisedLogger

EPOCHS = 1000  # a whole training of nnU-Net
LONG_EPOCH_S = 60.0


def pictures_rows(trainer: Any, repeats: int) -> tuple[float, list[dict]]:
    """Seconds of an epoch without pictures, and a row for each kind of picture.

    On the CPU seconds are those that this process computed, so that other work on the machine does not count.

    Args:
        trainer: ready to step; its loaders are made here.
        repeats: the median of so many calls is taken.
    """
    trainer.dataloader_train, trainer.dataloader_val = trainer.get_dataloaders()

    def seconds(call: Callable[[], object]) -> float:
        clock = time.process_time if trainer.device.type == "cpu" else time.perf_counter
        return statistics.median(_seconds(call, clock) for _ in range(repeats + 1))

    batch, validation = next(trainer.dataloader_train), next(trainer.dataloader_val)
    epoch_s = trainer.num_iterations_per_epoch * seconds(lambda: trainer.train_step(batch))
    epoch_s += trainer.num_val_iterations_per_epoch * seconds(lambda: trainer.validation_step(validation))
    own, added, one, strip = _drawing_seconds(trainer, seconds)

    def row(what: str, cost_s: float, every: Callable[[float], int]) -> dict:
        shares = {
            f"% of epochs of {i:.3g} s": 100 * cost_s / (every(i) * i) for i in dict.fromkeys((epoch_s, LONG_EPOCH_S))
        }
        return {"picture": what, "seconds": cost_s, f"every (at {LONG_EPOCH_S:g} s)": every(LONG_EPOCH_S)} | shares

    def drawn(length_s: float) -> int:
        return max(1, math.ceil(added / 0.01 / length_s))

    rows = [
        row("progress.png, nnU-Net's trainer", own, lambda _: 1),
        row("progress.png, nnU-Net's part", own, drawn),
        row("progress.png, added panels", added, drawn),
        row("uncertainty/epoch_*.png", one, lambda _: trainer.settings.picture_every_epochs),
        row("uncertainty/film_strip.png", strip, lambda _: EPOCHS),
    ]
    return epoch_s, rows


def _drawing_seconds(trainer: Any, seconds: Callable[[Callable[[], object]], float]) -> tuple[float, ...]:
    """Of nnU-Net's part of progress.png, the added panels, a picture and the film strip."""
    logger = SemiSupervisedLogger(trainer.settings.loss_names(), trainer.curves)
    for values in logger.my_fantastic_logging.values():
        values.extend(np.linspace(1, 0.1, EPOCHS) + 0.01 * np.random.default_rng(0).random(EPOCHS))
    drawn = trainer._training_pictures()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        own = seconds(lambda: LocalLogger.plot_progress_png(logger, name))
        plain = shutil.copy(folder / "progress.png", folder / "plain.png")
        added = seconds(lambda: logger.add_panels(Path(shutil.copy(plain, folder / "progress.png"))))
        one = seconds(lambda: pictures.write_picture(folder, drawn.picture(EPOCHS - 1)))
        for epoch in range(pictures.FILM_STRIP_EPOCHS):
            pictures.write_picture(folder, drawn.picture(epoch))
        return own, added, one, seconds(lambda: pictures.write_film_strip(folder))


def _seconds(call: Callable[[], object], clock: Callable[[], float]) -> float:
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    start = clock()
    call()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return clock() - start

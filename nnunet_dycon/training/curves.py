"""nnU-Net's local logger with the curves of semi-supervised training, in the checkpoint and in ``progress.png``."""

from __future__ import annotations

import itertools
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from nnunetv2.training.logging.nnunet_logger import LocalLogger
from PIL import Image

from nnunet_dycon.files import whole_files
from nnunet_dycon.pictures import canvas

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_NETWORK_COLOURS = {"student": canvas.STUDENT, "teacher": canvas.TEACHER}  # the same in every picture
_OTHER_COLOURS = (canvas.GREEN, canvas.ORANGE, canvas.PURPLE, canvas.SKY_BLUE, "#000000")
_LOSSES = {"uncl": "UnCL", "fecl": "FeCL", "mse": "consistency MSE", "dice": "consistency Dice"}
_LINES = ("-", "--", "-.", ":", (0, (3, 1, 1, 1, 1, 1)))  # curves that coincide stay visible
_WIDTH_INCHES, _PANEL_HEIGHT_INCHES = 30, 18  # of nnU-Net's own panels
_LARGEST_SHARE = 0.01  # of the training's time, for drawing the added panels


class SemiSupervisedLogger(LocalLogger):
    """Keeps one value an epoch of each curve, as nnU-Net's logger does for its own.

    Args:
        curves: names beside those of the losses, by the title of their panel.
    """

    def __init__(self, loss_names: Sequence[str], curves: Mapping[str, Sequence[str]]) -> None:
        super().__init__()
        self.step_keys = (*loss_names, "skipped", *(name for names in curves.values() for name in names))
        self.dice_keys = ("student_mean_fg_dice", "teacher_mean_fg_dice")
        self._panels = {"loss": ("train_losses", *loss_names), **curves, "pseudo Dice": self.dice_keys}
        for key in (*self.step_keys, *self.dice_keys):
            self.my_fantastic_logging[key] = []
        self.validates_on_training_cases = False
        self._next_drawing_seconds = 0.0
        self._drawn_epochs = 0

    def load_checkpoint(self, checkpoint: dict) -> None:
        """nnU-Net's; what an earlier version did not log has no value in its epochs."""
        super().load_checkpoint(checkpoint)
        for key in (*self.step_keys, *self.dice_keys):
            checkpoint.setdefault(key, [float("nan")] * self._num_epochs)

    def plot_progress_png(self, output_folder: str) -> None:
        """nnU-Net's ``progress.png`` with more panels below.

        The picture stays as it is until 100 times as long as the added panels took has passed since it was drawn.
        """
        if time.monotonic() < self._next_drawing_seconds:
            return
        super().plot_progress_png(output_folder)
        start = time.monotonic()
        self.add_panels(Path(output_folder) / "progress.png")
        now = time.monotonic()
        self._next_drawing_seconds = now + (now - start) / _LARGEST_SHARE
        self._drawn_epochs = self._num_epochs

    def plot_last_progress_png(self, output_folder: str) -> None:
        """Draw whatever it costs, unless the picture has all epochs already."""
        if self._drawn_epochs != self._num_epochs:
            self._next_drawing_seconds = 0.0
            self.plot_progress_png(output_folder)

    @property
    def _num_epochs(self) -> int:
        return len(self.my_fantastic_logging["train_losses"])

    def add_panels(self, file: Path) -> None:
        """Put the added panels below nnU-Net's picture."""
        figure = self.panels()
        figure.canvas.draw()
        lower = Image.fromarray(np.asarray(figure.canvas.buffer_rgba())[..., :3].copy())  # type: ignore[attr-defined]
        with Image.open(file) as image:
            upper = image.convert("RGB")
        lower = lower.resize((upper.width, round(lower.height * upper.width / lower.width)))
        with whole_files.whole(file) as partial:
            Image.fromarray(np.vstack([np.asarray(upper), np.asarray(lower)])).save(partial, compress_level=1)

    def panels(self) -> Figure:
        """The added panels: losses, the method's own curves, pseudo Dice; each as large as one of nnU-Net's."""
        rows = len(self._panels)
        figure = canvas.empty_figure(_WIDTH_INCHES, rows * _PANEL_HEIGHT_INCHES, dpi=100)
        for axis, (title, keys) in zip(
            figure.subplots(rows, 1, squeeze=False)[:, 0], self._panels.items(), strict=True
        ):
            other = itertools.cycle(_OTHER_COLOURS)
            for key, line in zip(keys, itertools.cycle(_LINES), strict=False):
                values = np.asarray(self.my_fantastic_logging[key], dtype=float)
                colour = _NETWORK_COLOURS.get(key.partition("_")[0]) or next(other)
                if np.isfinite(values).any():
                    marker = "o" if len(values) < 20 else None
                    axis.plot(values, color=colour, linestyle=line, linewidth=4, label=self._label(key), marker=marker)
            trained_on = title == "pseudo Dice" and self.validates_on_training_cases
            axis.set(xlabel="epoch", ylabel=f"{title} (of cases that are trained on)" if trained_on else title)
            axis.xaxis.get_major_locator().set_params(integer=True)
            if title == "loss":
                axis.set_yscale("symlog", linthresh=0.01)  # UnCL is small, nnU-Net's loss negative
            if axis.lines:
                axis.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=4, borderaxespad=0.2)
        figure.tight_layout()
        return figure

    def _label(self, key: str) -> str:
        if key == "train_losses":
            return "supervised loss, labelled crops"
        return f"{_LOSSES.get(key, key)} loss" if key in self._panels["loss"] else key.replace("_mean_fg_dice", "")

"""nnU-Net's local logger with the curves of semi-supervised training, in the checkpoint and in ``progress.png``."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from nnunetv2.training.logging.nnunet_logger import LocalLogger
from PIL import Image

_COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00")  # Okabe-Ito, safe for colour-blind readers
_WIDTH_INCHES, _PANEL_HEIGHT_INCHES = 30, 13.5  # the width of nnU-Net's own figure


class SemiSupervisedLogger(LocalLogger):
    """Keeps one value an epoch of each curve, as nnU-Net's logger does for its own.

    Args:
        loss_names: names of the semi-supervised losses.
    """

    def __init__(self, loss_names: Sequence[str]) -> None:
        super().__init__()
        self.step_keys = (*loss_names, "skipped", "ramp_up", "beta", "student_entropy", "teacher_entropy")
        self.step_keys += ("patch_share_unlabeled", "patch_share_foreground")
        self.dice_keys = ("student_mean_fg_dice", "teacher_mean_fg_dice")
        self._panels = {
            "loss": ("train_losses", *loss_names),
            "ramp-up, beta": ("ramp_up", "beta"),
            "mean entropy [nats], share of patches": self.step_keys[-4:],
            "pseudo Dice": self.dice_keys,
        }
        for key in (*self.step_keys, *self.dice_keys):
            self.my_fantastic_logging[key] = []

    def plot_progress_png(self, output_folder: str) -> None:
        """nnU-Net's ``progress.png`` with four more panels below."""
        super().plot_progress_png(output_folder)
        file = Path(output_folder) / "progress.png"
        with Image.open(file) as image:
            upper = image.convert("RGB")
        lower = self._draw()
        lower = lower.resize((upper.width, round(lower.height * upper.width / lower.width)))
        whole = Image.new("RGB", (upper.width, upper.height + lower.height), "white")
        whole.paste(upper, (0, 0))
        whole.paste(lower, (0, upper.height))
        temporary = file.with_suffix(".tmp.png")
        whole.save(temporary, compress_level=1)
        os.replace(temporary, file)

    def _draw(self) -> Image.Image:
        figure, axes = plt.subplots(2, 2, figsize=(_WIDTH_INCHES, 2 * _PANEL_HEIGHT_INCHES))
        for ax, (title, keys) in zip(axes.flat, self._panels.items(), strict=True):
            for key, color in zip(keys, _COLORS, strict=False):
                values = np.asarray(self.my_fantastic_logging[key], dtype=float)
                if np.isfinite(values).any():
                    ax.plot(values, color=color, linewidth=4, label=key, marker="o" if len(values) < 20 else None)
            ax.set(xlabel="epoch", ylabel=title)
            if ax.lines:
                ax.legend(loc="best")
        figure.tight_layout()
        figure.canvas.draw()
        image = Image.fromarray(np.asarray(figure.canvas.buffer_rgba())[..., :3].copy())  # type: ignore[attr-defined]
        plt.close(figure)
        return image

"""All settings of the semi-supervised trainers in one frozen dataclass."""

from __future__ import annotations

import dataclasses
import difflib
import json
import math
import os
from typing import Any, get_type_hints

from nnunet_dycon.errors import UserError

ENVIRONMENT_VARIABLE = "nnUNet_dycon"


@dataclasses.dataclass(frozen=True)
class Settings:
    """Settings of a semi-supervised training.

    The defaults are the best found on development data; ``preset=paper`` gives the published values.

    Every field can be set without code, in nnU-Net's manner, by the environment variable ``nnUNet_dycon``::

        nnUNet_dycon="weight_fecl=0.1,ramp_length=0.4" nnUNetv2_train ...
        nnUNet_dycon='{"weight_fecl": 0.1}' nnUNetv2_train ...

    Progress and ramps are in shares of the whole training. ``None`` in an override is written ``none``.
    """

    preset: str = "default"
    """Named set of values to start from: "default", or "paper" for the published ones."""

    weight_uncl: float = 5.0
    """Weight of UnCL at the end of the ramp-up."""
    weight_fecl: float = 0.1
    """Weight of FeCL at the end of the ramp-up; 0 also removes projection head and feature map."""
    weight_mse: float = 0.0
    """Weight of the plain mean-squared consistency at the end of the ramp-up."""
    weight_dice: float = 1.0
    """Weight of the soft Dice consistency on unlabelled crops at the end of the ramp-up; not in the paper."""
    ramp_start: float = 0.4
    """Progress at which the ramp-up of the weights begins; a teacher that is listened to earlier fixes its mistakes."""
    ramp_length: float = 0.3
    """Share of the training that the ramp-up takes."""

    num_epochs: int | None = None
    """Epochs; None is nnU-Net's 1000, or what a subclass sets."""
    num_iterations_per_epoch: int | None = None
    """Training steps an epoch; None is nnU-Net's 250, or what a subclass sets."""
    num_val_iterations_per_epoch: int | None = None
    """Validation steps an epoch; None is nnU-Net's 50, or what a subclass sets."""

    save_every: int | None = None
    """Epochs from one checkpoint_latest.pth to the next; None is nnU-Net's 50."""
    picture_every_epochs: int = 50
    """Epochs from one picture of prediction and uncertainty to the next, also after the last; 0 draws none."""
    change_on_resume: bool = False
    """Whether --c may continue with other settings than those of the checkpoint; they are refused otherwise."""

    ema_decay: float = 0.99
    """Decay of the teacher's moving average per step."""
    teacher_noise: float = 0.0
    """Standard deviation of the Gaussian noise on the teacher's input, clipped at two of them."""
    weak_teacher_view: bool = True
    """Whether the teacher sees unlabelled crops without nnU-Net's intensity augmentation; the student sees it."""
    strong_student_view: bool = True
    """Whether the student sees unlabelled crops with strong changes of appearance on top of nnU-Net's."""
    student_zoom: float = 1.6
    """Largest factor by which the student sees unlabelled crops larger or smaller than the teacher does; 1 is none."""
    strong_labeled_view: float = 0.5
    """Probability with which a labelled crop is seen with these changes of appearance, too; 0 in the control."""
    cutmix: float = 0.0
    """Probability that the student sees unlabelled crops with a box of another one pasted in (needs two a batch)."""
    teach_labeled: bool = False
    """UnCL also on the labelled crops, which the teacher then sees too; always where masks have an ignore label."""
    unlabeled_batch_size: int | None = None
    """Unlabelled crops in a batch; None is as many as labelled ones."""
    predict_with: str = "teacher"
    """Network that validation and inference use: "teacher" or "student"."""

    beta_max: float = 5.0
    """UnCL's beta at the start."""
    beta_min: float = 0.5
    """UnCL's beta at the end."""
    entropy_weight: float = 0.01
    """Factor on UnCL's entropy term."""

    temperature: float = 0.6
    """Temperature of FeCL's similarities."""
    gamma: float = 2.0
    """Exponent of FeCL's focal factors."""
    negative_focal: bool = True
    """Whether hard negatives count more in FeCL."""
    top_k: int = 10
    """Teacher patches of another class that FeCL pushes an anchor away from."""
    lambda_cross: float = 1.0
    """Weight of FeCL's teacher term; 0 spares the teacher's projection."""
    uncertainty_weighting: bool = True
    """Whether uncertain patches count up to twice in FeCL."""
    max_patches: int = 512
    """FeCL reads the shallowest encoder stage with at most this many positions for the plan's patch size."""
    patch_foreground_share: float | None = None
    """Foreground share from which a patch counts as foreground; None: the class with the largest share wins."""
    patch_min_purity: float = 0.8
    """Smallest share of its class that a patch must have; others carry no label."""
    pseudo_label_min_confidence: float = 0.8
    """Smallest teacher probability with which a voxel of an unlabelled crop counts for patch labels."""

    def __post_init__(self) -> None:
        for name in (
            "weight_uncl",
            "weight_fecl",
            "weight_mse",
            "weight_dice",
            "ramp_start",
            "ramp_length",
            "teacher_noise",
            "picture_every_epochs",
        ):
            if getattr(self, name) < 0:
                raise UserError(f"setting {name} must not be negative, got {getattr(self, name)}")
        for name in ("strong_labeled_view", "cutmix"):
            if not 0 <= getattr(self, name) <= 1:
                raise UserError(f"setting {name} is a probability and must lie in [0, 1], got {getattr(self, name)}")
        if self.student_zoom < 1:
            raise UserError(f"setting student_zoom must be at least 1, got {self.student_zoom}")
        if not 0 <= self.ema_decay < 1:
            raise UserError(f"setting ema_decay must lie in [0, 1), got {self.ema_decay}")
        if self.predict_with not in ("teacher", "student"):
            raise UserError(f"setting predict_with must be teacher or student, got {self.predict_with!r}")
        lengths = ("num_epochs", "num_iterations_per_epoch", "num_val_iterations_per_epoch", "save_every")
        for name in (*lengths, "unlabeled_batch_size"):
            if (value := getattr(self, name)) is not None and value < 1:
                raise UserError(f"setting {name} must be at least 1, got {value}")

    def to_dict(self) -> dict[str, Any]:
        """All values by name, as JSON can hold them."""
        return dataclasses.asdict(self)

    def override(self, values: dict[str, Any]) -> Settings:
        """A copy with some values replaced.

        Args:
            values: new values by name; text is read as the field's type.

        Raises:
            UserError: an unknown name (the nearest one is named), or a value that does not fit.
        """
        hints = get_type_hints(type(self))
        for name in values:
            if name not in hints:
                near = difflib.get_close_matches(name, hints, n=1, cutoff=0)
                raise UserError(f"unknown setting {name!r}; did you mean {near[0]!r}? All settings: {', '.join(hints)}")
        values = {name: _cast(name, i, hints[name]) for name, i in values.items()}
        preset = self._preset(values["preset"]) if "preset" in values else {}
        return dataclasses.replace(self, **(preset | values))

    def _preset(self, name: str) -> dict[str, Any]:
        """Values of a preset; a loss that this trainer leaves out stays out."""
        if name not in PRESETS:
            raise UserError(f"unknown preset {name!r}; there are {', '.join(PRESETS)}")
        default = Settings()
        return {i: value for i, value in PRESETS[name].items() if getattr(self, i) or not getattr(default, i)}


PAPER: dict[str, Any] = {
    "weight_uncl": 0.5,
    "weight_fecl": 0.5,
    "weight_mse": 0.1,
    "weight_dice": 0.0,
    "ramp_start": 0.0,
    "ramp_length": 1.0,
    "ema_decay": 0.99,
    "teacher_noise": 0.1,
    "weak_teacher_view": False,
    "strong_student_view": False,
    "student_zoom": 1.0,
    "strong_labeled_view": 0.0,
    "cutmix": 0.0,
    "teach_labeled": True,
    "beta_max": 5.0,
    "beta_min": 0.5,
    "entropy_weight": 1.0,
    "max_patches": 4096,
    "patch_min_purity": 0.0,
    "pseudo_label_min_confidence": 0.0,
}
"""The published values (Assefa et al., 2025), wherever a default of this project may differ."""

PRESETS: dict[str, dict[str, Any]] = {"default": {}, "paper": PAPER}


def overrides_from_environment() -> dict[str, Any]:
    """Settings named in the environment variable ``nnUNet_dycon``, as JSON or as ``key=value,key=value``.

    Raises:
        UserError: text that is neither.
    """
    text = os.environ.get(ENVIRONMENT_VARIABLE, "").strip()
    if text.startswith("{"):
        try:
            return json.loads(text)
        except json.JSONDecodeError as error:
            raise UserError(f"{ENVIRONMENT_VARIABLE} is no valid JSON ({error}): {text}") from error
    pairs = [i.strip() for i in text.split(",") if i.strip()]
    for pair in pairs:
        if "=" not in pair:
            raise UserError(f"{ENVIRONMENT_VARIABLE} must be JSON or key=value,key=value; {pair!r} has no '='")
    return {key.strip(): value.strip() for key, value in (i.split("=", 1) for i in pairs)}


def _cast(name: str, value: Any, hint: Any) -> Any:
    """Read ``value`` as the annotated type of the field ``name``."""
    text = str(value).strip().lower()
    hint_text = str(getattr(hint, "__name__", hint))
    try:
        if "None" in str(hint) and text in ("none", "null"):
            return None
        if hint is bool:
            return {"true": True, "1": True, "t": True, "false": False, "0": False, "f": False}[text]
        if hint is str:
            return str(value).strip()
        if hint is int or hint == int | None:
            return int(text)
        number = float(text)
        if not math.isfinite(number):
            raise ValueError
        return number
    except (ValueError, KeyError):
        raise UserError(f"setting {name} must be {hint_text}, got {value!r}") from None

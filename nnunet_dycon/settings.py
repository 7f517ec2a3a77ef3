"""Settings of the trainers: a frozen dataclass a method, with meaning, bounds and published value at each field."""

from __future__ import annotations

import dataclasses
import difflib
import functools
import json
import math
import operator
import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, get_type_hints

from nnunet_dycon.errors import UserError, did_you_mean

if TYPE_CHECKING:
    from typing_extensions import Self

ENVIRONMENT_VARIABLE = "nnUNet_dycon"
_WEIGHT = "weight_"
_TRUTH = {"true": True, "1": True, "t": True, "false": False, "0": False, "f": False}


@dataclasses.dataclass(frozen=True)
class Bounds:
    """What a value may be: one of ``choices``, or a number in a range whose ends ``above`` and ``below`` are open."""

    low: float | None = None
    high: float | None = None
    above: float | None = None
    below: float | None = None
    choices: tuple[str, ...] = ()

    def allow(self, value: Any) -> bool:
        """Whether a value is inside; None always is."""
        if value is None or self.choices:
            return value is None or value in self.choices
        ends = ((self.low, operator.ge), (self.high, operator.le), (self.above, operator.gt), (self.below, operator.lt))
        return all(end is None or inside(value, end) for end, inside in ends)

    def __str__(self) -> str:
        if self.choices:
            return " or ".join(self.choices)
        ends = {"at least": self.low, "above": self.above, "at most": self.high, "below": self.below}
        return " and ".join(f"{word} {end:g}" for word, end in ends.items() if end is not None)


def setting(default: Any, meaning: str, *, free: bool = False, **options: Any) -> Any:
    """A field of a settings class.

    Args:
        default: its value unless a trainer or the user says otherwise.
        meaning: one sentence, for messages, ``nnunet-dycon settings`` and the documentation.
        free: whether a resumed training may choose it anew without ``change_on_resume``.
        **options: the ends or choices of ``Bounds``; ``paper``, the published value (Assefa et al., 2025), for
            ``preset=paper``; ``former``, what trainings did before there was this field, for checkpoints without it.
    """
    metadata: dict[str, Any] = {name: options.pop(name) for name in ("paper", "former") if name in options}
    metadata |= {"meaning": meaning, "free": free, "bounds": Bounds(**options)}
    return dataclasses.field(default=default, metadata=metadata)


share = functools.partial(setting, low=0, high=1)  # of the training, of crops or of voxels; a probability


class Row(NamedTuple):
    """A setting of a trainer, in words; ``paper`` is empty where the publication has no such value."""

    name: str
    default: str
    paper: str
    type: str
    bounds: str
    meaning: str


@dataclasses.dataclass(frozen=True)
class Settings:
    """What every trainer of this package can be told; a method adds its own fields in a subclass.

    Every field can be set without code, in nnU-Net's manner, by the environment variable ``nnUNet_dycon``::

        nnUNet_dycon="num_epochs=200,save_every=10" nnUNetv2_train ...
        nnUNet_dycon='{"num_epochs": 200}' nnUNetv2_train ...
        nnUNet_dycon=settings.json nnUNetv2_train ...

    ``None`` in an override is written ``none``.

    Raises:
        UserError: a value outside its bounds.
    """

    preset: str = setting(
        "default", "Named set of values to start from; paper has the published ones.", choices=("default", "paper")
    )
    num_epochs: int | None = setting(None, "Epochs; none is nnU-Net's 1000, or what a subclass sets.", low=1)
    num_iterations_per_epoch: int | None = setting(
        None, "Training steps an epoch; none is nnU-Net's 250, or what a subclass sets.", low=1
    )
    num_val_iterations_per_epoch: int | None = setting(
        None, "Validation steps an epoch; none is nnU-Net's 50, or what a subclass sets.", low=1
    )
    save_every: int | None = setting(
        None, "Epochs from one checkpoint_latest.pth to the next; none is nnU-Net's 50.", low=1, free=True
    )
    change_on_resume: bool = setting(
        False,
        "Whether --c may continue with other settings than those of the checkpoint; they are refused otherwise.",
        free=True,
    )
    strong_labeled_view: float = share(
        0.5, "Probability with which a labelled crop is seen with the strong changes of appearance, too.", paper=0.0
    )
    strong_view_inversion: float = share(
        0.0,
        "Share of the strong view's gamma changes made on the inverted image, which is then inverted back.",
        former=0.5,
    )
    strong_view_local: bool | None = setting(
        None,
        "Whether the strong view also brightens or darkens a part of a crop, which can look like a lesion; none: where "
        "the labelled foreground lies at the same place in each scan, as an organ's does.",
        former=True,
    )
    strong_view_width: float = setting(
        0.5,
        "Smallest standard deviation of a local change, as a share of each axis of the patch; the largest is 1.",
        above=0,
        high=1,
        former=1 / 6,
    )

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            value, metadata = getattr(self, field.name), field.metadata
            if metadata and not metadata["bounds"].allow(value):
                raise UserError(
                    f"setting {field.name} must be {metadata['bounds']}, got {value}. {metadata['meaning']}"
                )

    def former_values(self) -> dict[str, Any]:
        """Values of fields that a checkpoint from before them lacks, where they are not the defaults."""
        return {i.name: i.metadata["former"] for i in dataclasses.fields(self) if "former" in i.metadata}

    def to_dict(self) -> dict[str, Any]:
        """All values by name, as JSON can hold them."""
        return dataclasses.asdict(self)

    def rows(self, leave_out: Sequence[str] = ()) -> list[Row]:
        """All settings but those left out, with these values as the defaults."""
        hints, paper = get_type_hints(type(self)), self.override({"preset": "paper"})
        rows = []
        for name, metadata in ((i.name, i.metadata) for i in dataclasses.fields(self) if i.name not in leave_out):
            published = _text(getattr(paper, name)) if "paper" in metadata else ""
            what = _type_name(hints[name]), str(metadata.get("bounds", "")), metadata.get("meaning", "")
            rows.append(Row(name, _text(getattr(self, name)), published, *what))
        return rows

    @classmethod
    def loss_names(cls) -> tuple[str, ...]:
        """Losses that this method weights: NAME of each field ``weight_NAME``."""
        names = [field.name for field in dataclasses.fields(cls)]
        return tuple(name.removeprefix(_WEIGHT) for name in names if name.startswith(_WEIGHT))

    def weight(self, loss: str) -> float:
        """Weight of a loss at the end of the ramp-up."""
        return getattr(self, _WEIGHT + loss)

    def override(self, values: dict[str, Any], *, trainer: str = "this trainer", unused: Sequence[str] = ()) -> Self:
        """A copy with some values replaced; text is read as the field's type.

        Raises:
            UserError: a setting that is unknown or ``unused`` by this trainer, or a value that does not fit.
        """
        hints = {name: hint for name, hint in get_type_hints(type(self)).items() if name not in unused}
        for name in values:
            if name not in hints:
                raise UserError(_unknown(name, trainer, list(hints)))
        values = {name: _cast(name, i, hints[name]) for name, i in values.items()}
        preset = self._paper() if values.get("preset") == "paper" else {}
        return dataclasses.replace(self, **(preset | values))

    def resumed(self, stored: dict[str, Any], unused: Sequence[str] = ()) -> Self:
        """A copy with the values of a checkpoint.

        Names that an earlier version stored for a trainer that does not read them are dropped.
        """
        known = {i.name for i in dataclasses.fields(self)} - {*unused}
        return self.override({name: i for name, i in (self.former_values() | stored).items() if name in known})

    def changes(self, before: Settings, names: Iterable[str]) -> str:
        """Settings that touch the training and differ from those of a checkpoint, which has stored these names."""
        known = {*names, *self.former_values()}
        fixed = [i.name for i in dataclasses.fields(self) if i.name in known and not i.metadata.get("free")]
        pairs = [(name, getattr(before, name), getattr(self, name)) for name in fixed]
        return ", ".join(f"{name} {old} -> {new}" for name, old, new in pairs if old != new)

    def _paper(self) -> dict[str, Any]:
        """The published values; a loss that this trainer leaves out stays out."""
        fields = [i for i in dataclasses.fields(self) if getattr(self, i.name) or not i.default]
        return {i.name: i.metadata["paper"] for i in fields if "paper" in i.metadata}


@dataclasses.dataclass(frozen=True)
class SemiSupervisedSettings(Settings):
    """What every method with a teacher and unlabelled crops has; progress and ramps are shares of the training."""

    ramp_start: float = share(0.4, "Share of the training after which the ramp-up of the weights begins.", paper=0.0)
    ramp_length: float = share(0.3, "Share of the training that the ramp-up takes.", paper=1.0)
    ramp_min_dice: float = share(
        0.1,
        "Pseudo Dice of each class for which the ramp-up waits, up to 0.7 of the training; 0 does not wait.",
        paper=0.0,
        former=0.0,
    )
    ema_decay: float = setting(0.99, "Decay of the teacher's moving average per step.", low=0, below=1, paper=0.99)
    teacher_noise: float = setting(
        0.0, "Standard deviation of the noise on the teacher's input, clipped at two of them.", low=0, paper=0.1
    )
    weak_teacher_view: bool = setting(
        True,
        "Whether the teacher sees unlabelled crops without nnU-Net's intensity augmentation; the student sees it.",
        paper=False,
    )
    strong_student_view: bool = setting(
        True,
        "Whether the student sees unlabelled crops with strong changes of appearance on top of nnU-Net's.",
        paper=False,
    )
    student_zoom: float = setting(
        1.6,
        "Largest factor by which the student sees unlabelled crops larger or smaller than the teacher does; 1 is none.",
        low=1,
        high=8,
        paper=1.0,
    )
    cutmix: float = share(
        0.0,
        "Probability that the student sees unlabelled crops with a box of another one pasted in (needs two a batch).",
        paper=0.0,
    )
    teach_labeled: bool = setting(
        False, "Whether the teacher sees the labelled crops, too; always where masks have an ignore label.", paper=True
    )
    unlabeled_batch_size: int | None = setting(
        None, "Unlabelled crops in a batch; none is as many as labelled ones.", low=1
    )
    source_shares: str = setting(
        "equal", "Crops from each folder in imagesUn: equal shares, cases (every case alike), or site_a:3;site_b:1."
    )
    predict_with: str = setting(
        "teacher", "Network that validation and inference use.", choices=("teacher", "student"), free=True
    )
    picture_every_epochs: int = setting(
        50,
        "Epochs from one picture of prediction and uncertainty to the next, also after the last; 0 draws none.",
        low=0,
        free=True,
    )

    def warnings(self) -> Iterator[str]:
        """What is allowed and hardly meant."""
        if self.ramp_start + self.ramp_length > 1:
            yield (
                f"ramp_start {self.ramp_start:g} and ramp_length {self.ramp_length:g} add up to more than the training "
                "(both are shares of it): the unlabelled scans never count with their full weight"
            )
        if self.loss_names() and not any(self.weight(name) for name in self.loss_names()):
            yield "all weights are 0: the unlabelled scans are loaded and change nothing"


def overrides_from_environment() -> dict[str, Any]:
    """Settings named in ``nnUNet_dycon``: ``key=value,key=value``, JSON, or the name of a JSON file.

    Raises:
        UserError: text that is none of them, a file that cannot be read, or a variable that is almost called so.
    """
    if ENVIRONMENT_VARIABLE not in os.environ:
        _refuse_misspelt_variable()
    text = os.environ.get(ENVIRONMENT_VARIABLE, "").strip()
    if text.startswith("{"):
        return _read_json(text, ENVIRONMENT_VARIABLE)
    if text.lower().endswith(".json") and "=" not in text:
        file = Path(text).expanduser()
        try:
            return _read_json(file.read_text(encoding="utf-8"), str(file))
        except (OSError, UnicodeDecodeError) as error:
            raise UserError(f"{ENVIRONMENT_VARIABLE} names {file}, which cannot be read: {error}") from error
    form = f"{ENVIRONMENT_VARIABLE} must be key=value,key=value, JSON, or a file that ends in .json"
    return overrides_from_pairs([i.strip() for i in text.split(",") if i.strip()], form)


def _refuse_misspelt_variable() -> None:
    names = {i.lower(): i for i in os.environ}
    for near in difflib.get_close_matches(ENVIRONMENT_VARIABLE.lower(), names, 1, cutoff=0.85):
        raise UserError(
            f"the environment variable {names[near]} is read by nothing; it is called {ENVIRONMENT_VARIABLE}"
        )


def overrides_from_pairs(pairs: Sequence[str], form: str) -> dict[str, Any]:
    """Settings written ``key=value`` each.

    Raises:
        UserError: a text without '=', of which ``form`` says what is expected, or a setting that is given twice.
    """
    if wrong := [i for i in pairs if "=" not in i]:
        raise UserError(f"{wrong[0]!r} has no '='; {form}")
    values = [(key.strip(), value.strip()) for key, value in (i.split("=", 1) for i in pairs)]
    keys = [key for key, _ in values]
    if twice := [key for key in keys if keys.count(key) > 1]:
        raise UserError(f"setting {twice[0]} is given twice; give it once")
    return dict(values)


def _read_json(text: str, name: str) -> dict[str, Any]:
    try:
        values = json.loads(text)
    except (json.JSONDecodeError, RecursionError) as error:
        raise UserError(f"{name} is no valid JSON ({error}): {text[:200]}") from error
    if not isinstance(values, dict):
        raise UserError(f'{name} must hold a JSON object, like {{"num_epochs": 200}}, not {text[:200]}')
    return values


def _text(value: Any) -> str:
    """A value as it is written in ``nnUNet_dycon``."""
    return f"{value:g}" if isinstance(value, float) else str(value).lower()


def _type_name(hint: Any) -> str:
    return str(getattr(hint, "__name__", hint))


def _unknown(name: str, trainer: str, names: list[str]) -> str:
    advice = "nnunet-dycon settings -tr NAME lists the settings of a trainer"
    if name in _names_of_all(Settings):
        return f"setting {name} has no effect on {trainer}, which does not use it; leave it out ({advice})"
    return f"unknown setting {name!r}{did_you_mean(name, names)}; {advice}"


def _names_of_all(kind: type[Settings]) -> set[str]:
    """Fields of the class and of all that extend it."""
    return {i.name for i in dataclasses.fields(kind)}.union(*map(_names_of_all, kind.__subclasses__()))


def _cast(name: str, value: Any, hint: Any) -> Any:
    """Read ``value`` as the annotated type of the field ``name``."""
    text = str(value).strip()
    try:
        if "None" in str(hint) and text.lower() in ("none", "null"):
            return None
        if hint is str:
            return text
        if "bool" in str(hint):
            return _TRUTH[text.lower()]
        number = int(text) if "int" in str(hint) else float(text)
        if math.isfinite(number):
            return number
        raise ValueError
    except (ValueError, KeyError):
        advice = "; separate settings by commas" if any(i in text for i in ";= ") else ""
        raise UserError(f"setting {name} must be {_type_name(hint)}, got {value!r}{advice}") from None

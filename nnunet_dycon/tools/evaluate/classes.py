"""What is evaluated: the classes and regions of a dataset, as its dataset.json states them."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from nnunet_dycon.errors import UserError


@dataclass(frozen=True)
class EvaluatedClasses:
    """The classes and regions to evaluate.

    Attributes:
        values: For each name the label values whose union is evaluated: one for a class, more for a region.
        ignore_label: Voxels with this value in the reference are left out of all metrics, or None.
        known_values: All values a label map may hold; None where others are left out on purpose.
        source: Where the classes come from, for the report.
    """

    values: dict[str, tuple[int, ...]]
    ignore_label: int | None
    known_values: frozenset[int] | None
    source: str


def classes_from_labels(
    labels: Mapping[str, int | Sequence[int]], source: str, *, complete: bool = True
) -> EvaluatedClasses:
    """Classes from the ``labels`` of a dataset.json: ``{"background": 0, "tumour": [1, 2], "ignore": 3}``.

    Args:
        complete: Label maps may hold no other values.

    Raises:
        UserError: A value is no label, or nothing but background is there.
    """
    values = {name: _as_values(name, value, source) for name, value in labels.items()}
    ignore = values.pop("ignore", ())
    known = frozenset({0}.union(*values.values(), ignore)) if complete else None
    foreground = {name: value for name, value in values.items() if value != (0,)}
    if not foreground:
        raise UserError(f"{source} names no foreground class; give the classes with --labels")
    return EvaluatedClasses(foreground, next(iter(ignore), None), known, source)


def _as_values(name: str, value: object, source: str) -> tuple[int, ...]:
    values = tuple(value) if isinstance(value, Iterable) and not isinstance(value, str) else (value,)
    if not values or not all(isinstance(i, int) and i >= 0 for i in values):
        raise UserError(f"{source}: {name!r} has the label {value!r}; an integer or a list of them is needed")
    if len(values) > 1 and (name == "ignore" or 0 in values):
        raise UserError(f"{source}: {name!r} is {value!r}; 'ignore' is one value, a region has no background (0)")
    return values


def find_classes(
    predictions: Path,
    references: Path,
    labels: Mapping[str, int | Sequence[int]] | None,
    dataset_json: str | Path | None,
) -> EvaluatedClasses | None:
    """The given classes and regions, or those of a dataset.json; None where there is none.

    It is the given one, or the one that nnU-Net writes beside its predictions, or the one beside the references.

    Raises:
        UserError: The file cannot be read or has no labels.
    """
    if labels is not None:
        return classes_from_labels(labels, "the given labels", complete=False)
    candidates = [predictions / "dataset.json", references.resolve().parent / "dataset.json"]
    path = Path(dataset_json) if dataset_json else next((path for path in candidates if path.is_file()), None)
    if path is None:
        return None
    try:
        found = dict(json.loads(path.read_text(encoding="utf-8"))["labels"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path} is no dataset.json with labels ({error!r}); give another one or --labels") from error
    return classes_from_labels(found, str(path))


def parse_labels(texts: Sequence[str]) -> dict[str, int | tuple[int, ...]]:
    """Labels as typed on a command line: ``1``, ``tumour=1``, ``whole=1,2,3``, ``ignore=4``.

    Raises:
        UserError: A text is none of these, or a name occurs twice.
    """
    labels: dict[str, int | tuple[int, ...]] = {}
    for text in texts:
        name, _, numbers = text.rpartition("=")
        try:
            values = tuple(int(i) for i in numbers.split(","))
        except ValueError as error:
            raise UserError(f"--labels {text}: write 1, NAME=1, or NAME=1,2,3 for a region") from error
        if (name := name or numbers) in labels:
            raise UserError(f"--labels names {name!r} twice; give every class its own name")
        labels[name] = values if len(values) > 1 else values[0]
    return labels

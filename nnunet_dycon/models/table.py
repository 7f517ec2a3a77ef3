"""The table of a prediction's uncertainty: a row a case, ranked, as CSV and as text."""

from __future__ import annotations

import csv
import math
from collections.abc import Iterable, Sequence
from dataclasses import astuple, dataclass, fields
from pathlib import Path

import numpy as np

from nnunet_dycon.errors import UserError
from nnunet_dycon.files.text import text_table
from nnunet_dycon.files.whole_files import whole


@dataclass(frozen=True)
class CaseUncertainty:
    """Numbers of a case; NaN (an empty cell) is a number that does not exist."""

    case: str
    mean_entropy_nats: float
    """Mean over all voxels of the scan."""
    boundary_entropy_nats: float
    """Mean over the voxels on both sides of the predicted borders; NaN where nothing is predicted."""
    foreground_ml: float
    """Predicted volume of all classes together; NaN for two-dimensional images."""
    student_teacher_disagreement: float
    """1 - mean Dice between the predictions of student and teacher; NaN for a model that has only one network."""


_COLUMNS = tuple(i.name for i in fields(CaseUncertainty))


def write_table(rows: Iterable[CaseUncertainty], file: Path) -> None:
    """Write the CSV, whole or not at all."""
    with whole(file) as partial, partial.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream)
        writer.writerow(_COLUMNS)
        for case, *values in map(astuple, rows):
            writer.writerow([case, *("" if math.isnan(i) else f"{i:.6g}" for i in values)])


def read_table(file: Path) -> dict[str, CaseUncertainty]:
    """Rows by case of a table that ``write_table`` has written.

    Raises:
        UserError: another table, or a damaged one.
    """
    try:
        with file.open(newline="", encoding="utf-8") as stream:
            header, *rows = [*csv.reader(stream)] or [[]]
        if tuple(header) == _COLUMNS:
            return {row[0]: _read_row(row) for row in rows if row}
    except (OSError, ValueError, csv.Error) as error:
        raise UserError(f"{file} is damaged ({error}); delete it, and its cases are predicted again") from error
    raise UserError(f"{file} has the columns {header}, not {list(_COLUMNS)}; choose another output folder")


def _read_row(row: Sequence[str]) -> CaseUncertainty:
    if len(row) != len(_COLUMNS):
        raise ValueError(f"{row[0]} has {len(row)} columns of {len(_COLUMNS)}")
    return CaseUncertainty(row[0], *(float(i) if i else math.nan for i in row[1:]))


def ranked(rows: Iterable[CaseUncertainty]) -> list[CaseUncertainty]:
    """The least sure case first: most entropy at the border; a case without any prediction before all."""
    return sorted(rows, key=lambda i: (-np.nan_to_num(i.boundary_entropy_nats, nan=math.inf), i.case))


def uncertainty_table(rows: Sequence[CaseUncertainty]) -> str:
    """The ranking for a terminal; columns without any number are left out."""
    kept = [name for name in _COLUMNS if name == "case" or any(not math.isnan(getattr(i, name)) for i in rows)]
    cells = [[str(rank), *(_cell(getattr(row, name)) for name in kept)] for rank, row in enumerate(ranked(rows), 1)]
    return text_table(["rank", *kept], cells, right=True)


def _cell(value: str | float) -> str:
    if isinstance(value, str):
        return value
    return "-" if math.isnan(value) else f"{value:.4g}"

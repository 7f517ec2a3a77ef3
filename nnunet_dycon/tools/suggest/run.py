"""The whole suggestion: look at all scans, rank them, write a table and a contact sheet."""

from __future__ import annotations

import csv
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from nnunet_dycon.errors import UserError
from nnunet_dycon.files.text import few
from nnunet_dycon.files.whole_files import partial_folder
from nnunet_dycon.tools.suggest.assess import Assessment, ScanAssessor, assess_cases
from nnunet_dycon.tools.suggest.cases import labeled_but_not_preprocessed, labeled_images, turns, unlabeled_images
from nnunet_dycon.tools.suggest.contact_sheet import contact_sheet
from nnunet_dycon.tools.suggest.model import TrainedModel
from nnunet_dycon.tools.suggest.scan_view import Turn
from nnunet_dycon.tools.suggest.selection import Pick, rank_cases

TABLE, SHEET = "suggestions.csv", "contact_sheet.png"


@dataclass(frozen=True)
class SuggestReport:
    """What was suggested and written.

    Attributes:
        picks: all unlabelled cases in the order in which to label them.
        n: number of cases asked for, the first of ``picks``.
        n_labeled: labelled cases that the suggestions keep away from.
        table: CSV with all cases.
        sheet: PNG with the suggested ones.
        warnings: what is worth a look, in whole sentences.
    """

    picks: list[Pick]
    n: int
    n_labeled: int
    table: Path
    sheet: Path
    warnings: list[str] = field(default_factory=list)

    @property
    def suggested(self) -> list[Pick]:
        return self.picks[: self.n]


def suggest_cases(
    model: TrainedModel,
    n: int,
    output: Path,
    *,
    diversity: float = 1.0,
    num_processes: int = 1,
    progress: bool = False,
) -> SuggestReport:
    """Rank the unlabelled cases of the model's dataset and write ``suggestions.csv`` and ``contact_sheet.png``.

    The same model and scans give the same result. Both files are complete before either is put in its place; earlier
    ones are replaced.

    Args:
        model: a finished training.
        n: how many cases to suggest.
        output: folder for the two files; it is made.
        diversity: see ``rank_cases``.
        num_processes: worker processes that preprocess scans where needed.
        progress: show progress bars.

    Raises:
        UserError: there are fewer unlabelled cases than ``n``, or images are missing.
    """
    if n < 1:
        raise UserError(f"--count {n}: give at least 1")
    if diversity < 0:
        raise UserError(f"--diversity {diversity}: give 0 or more")
    unlabeled = unlabeled_images(model, num_processes=num_processes, progress=progress)
    if n > len(unlabeled):
        raise UserError(f"--count {n}: {model.dataset} has {len(unlabeled)} unlabelled cases; give at most as many")
    shown = turns(model)
    assessments, labeled = assess_cases(
        ScanAssessor(model), unlabeled, labeled_images(model), lambda case: shown.get(case, Turn()), progress=progress
    )
    picks = rank_cases(
        {case: i.uncertainty for case, i in assessments.items()},
        {case: i.features for case, i in assessments.items()},
        labeled,
        diversity=diversity,
    )
    title = f"{n} of {len(picks)} unlabelled cases of {model.dataset} to label next"
    _write(picks, n, assessments, output, title)
    return SuggestReport(picks, n, len(labeled), output / TABLE, output / SHEET, _warnings(model))


def _warnings(model: TrainedModel) -> list[str]:
    unseen = labeled_but_not_preprocessed(model)
    if not unseen:
        return []
    return [
        f"{len(unseen)} labelled cases are not preprocessed ({few(unseen)}), so the suggestions do not keep away from "
        "them: run nnUNetv2_preprocess, better also train again, then repeat"
    ]


def _write(picks: list[Pick], n: int, assessments: Mapping[str, Assessment], output: Path, title: str) -> None:
    output.mkdir(parents=True, exist_ok=True)
    with partial_folder(output, "suggest") as temporary:
        _write_table(picks, n, assessments, temporary / TABLE)
        sheet = contact_sheet(picks[:n], [assessments[pick.case].view for pick in picks[:n]], title)
        sheet.savefig(temporary / SHEET)
        for name in (TABLE, SHEET):
            os.replace(temporary / name, output / name)


def _write_table(picks: list[Pick], n: int, assessments: Mapping[str, Assessment], path: Path) -> None:
    header = ("rank", "case", "suggested", "uncertainty", "distance", "nearest", "volume_entropy", "foreground_voxels")
    with open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(header)
        for rank, pick in enumerate(picks, start=1):
            found = assessments[pick.case]
            writer.writerow([
                rank, pick.case, "yes" if rank <= n else "no", f"{pick.uncertainty:.6f}", f"{pick.distance:.6g}",
                pick.nearest, f"{found.volume_entropy:.6f}", found.foreground_voxels,
            ])  # fmt: skip

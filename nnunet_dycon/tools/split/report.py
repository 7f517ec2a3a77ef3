"""What was split: the content of ``split.json``, and what the command tells."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from nnunet_dycon import __version__
from nnunet_dycon.dataset import commands
from nnunet_dycon.tools.split.division import Division
from nnunet_dycon.tools.split.options import SplitOptions


@dataclass(frozen=True, kw_only=True)
class Split:
    """A split that was made.

    Attributes:
        dataset_name: DatasetXXX_Name, in place that of the source.
        source: Name of the dataset that was divided.
        first_fold: Number of the first fold that was written.
        configuration: nnU-Net's configuration that suits the data.
        warnings: What speaks against the split, in whole sentences.
    """

    dataset_name: str
    source: str
    options: SplitOptions
    division: Division
    first_fold: int = 0
    configuration: str
    split_file: Path
    splits_final_file: Path
    warnings: list[str]
    notes: list[str]

    @property
    def folds(self) -> list[dict[str, list[str]]]:
        """``train`` and ``val`` of the folds that were written."""
        return self.division.folds(self.options.folds)

    @property
    def in_place(self) -> bool:
        """No new dataset was made."""
        return self.dataset_name == self.source

    def record(self) -> dict[str, Any]:
        """Content of ``split.json``; the same split gives the same content."""
        own_part = "its part of the labeled cases" if self.options.folds else "labeled cases"
        record = {
            "dataset": self.dataset_name,
            "source": self.source,
            "in_place": self.in_place,
            "options": self.options.recorded(),
            "validated_on": "validation cases" if self.division.validation else own_part,
            "cases": asdict(self.division),
            "folds": [fold | {"unlabeled": self.division.unlabeled} for fold in self.folds],
            "warnings": self.warnings,
            "nnunet_dycon_version": __version__,
        }
        return record | ({"fold": None if self.options.folds else self.first_fold} if self.in_place else {})

    def lines(self) -> list[str]:
        """How many cases there are of each kind, what was written, and the next commands."""
        cases, folds = self.division, self.folds
        lines = [
            f"{self.dataset_name}: {len(cases.labeled)} labelled, {len(cases.unlabeled)} unlabelled, "
            f"{len(cases.validation)} validation, {len(cases.test)} test cases"
        ]
        train = commands.training(self.dataset_name, self.configuration, self.first_fold)
        if len(folds) > 1:
            shares = ", ".join(f"{len(fold['train'])} and {len(fold['val'])}" for fold in folds)
            lines.append(
                f"folds 0 to {len(folds) - 1} train and validate on {shares} of the labelled cases; all unlabelled "
                "cases are unlabelled in each of them"
            )
            train = commands.training(self.dataset_name, self.configuration, "$fold")
            train = f"for fold in {' '.join(map(str, range(len(folds))))}; do {train} --npz; done"
        steps = [f"nnunet-dycon audit -d {commands.number(self.dataset_name)}", train]
        if not self.in_place:
            options = ("-c", self.configuration, "--verify_dataset_integrity")
            steps.insert(1, commands.planning(self.dataset_name, commands.PLANS, *options))
        return [*lines, f"wrote {self.split_file.parent}, {self.splits_final_file}", f"next: {'; '.join(steps)}"]

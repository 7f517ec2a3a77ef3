"""What a conversion is made of: a plan for a dataset, a plan for each case, and the volumes read from one case."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nnunet_dycon.errors import UserError

if TYPE_CHECKING:
    import SimpleITK as sitk

CaseFile = tuple[str, str, Path]
"""(case, kind of file as the loader's argument is called, path)"""


@dataclass(frozen=True)
class CaseVolumes:
    """One case in memory: channels and label share one grid; ``notes`` say what was assumed or repaired."""

    channels: list[sitk.Image]
    label: sitk.Image
    notes: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class CasePlan:
    """How to read one case: ``load(**sources, **parameters)`` in any process (``load`` is a module's function).

    Attributes:
        name: nnU-Net case name.
        sources: Files or folders of the download, by the name of ``load``'s argument.
        parameters: JSON values; a case is converted again when they or its sources change. ``check`` is whether
            label and scan are compared.
    """

    name: str
    load: Callable[..., CaseVolumes]
    sources: Mapping[str, Path]
    parameters: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class DatasetPlan:
    """What a download holds and what becomes of it.

    Attributes:
        dataset: Name of the benchmark.
        layout: The distribution that was recognised, in words.
        source: The download folder.
        channel_names: By channel number; nnU-Net derives the normalisation from them.
        labels: nnU-Net's ``labels``: name to value, or to a list of values for regions.
        reference: Where the data come from, for dataset.json.
        cases: The cases to convert.
        lists: Protocol lists (names below ``lists/``) whose cases all ought to be there.
        regions_class_order: nnU-Net's key of this name; None without regions.
        failures: Cases that cannot be converted, and why.
        skipped: Cases that are left out on purpose, and why.
        notes: What holds for all cases, e.g. an assumed spacing, or headers that are not read.
    """

    dataset: str
    layout: str
    source: Path
    channel_names: dict[int, str]
    labels: Mapping[str, int | list[int]]
    reference: str
    cases: list[CasePlan]
    lists: tuple[str, ...] = ()
    regions_class_order: tuple[int, ...] | None = None
    failures: dict[str, str] = field(default_factory=dict)
    skipped: dict[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    def accepting(self, names: Iterable[str]) -> DatasetPlan:
        """The same, without the comparison of label and scan for these cases (``["all"]``: for all).

        Raises:
            UserError: There is no such case, or the distribution has nothing to compare.
        """
        compared = {case.name for case in self.cases if "check" in case.parameters}
        accepted = set(names)
        if accepted == {"all"} and compared:
            accepted = compared
        unknown = sorted(accepted - compared)
        if unknown:
            raise UserError(
                f"--accept {', '.join(unknown)}: not among the complete cases in {self.source} whose label is compared "
                f"with their scan ({self.layout})"
            )
        cases = [
            replace(case, parameters={**case.parameters, "check": False}) if case.name in accepted else case
            for case in self.cases
        ]
        return replace(self, cases=cases)


def plan_cases(
    files: Iterable[CaseFile],
    needed: Sequence[str],
    load: Callable[..., CaseVolumes],
    parameters: Mapping[str, Any],
    fixes: Mapping[str, str] | None = None,
) -> tuple[list[CasePlan], dict[str, str]]:
    """One plan for each case that has every kind of file once.

    Args:
        files: The files of the download.
        needed: The kinds, in the order in which ``load`` gets them.
        load: See ``CasePlan``.
        parameters: The same for all cases.
        fixes: What to do where a kind is missing; else to unpack the download again.

    Returns:
        (plans, cases that lack a file or have it twice with the reason)
    """
    groups: dict[str, dict[str, list[Path]]] = defaultdict(lambda: defaultdict(list))
    for name, kind, path in files:
        groups[name][kind].append(path)
    cases, failures = [], {}
    for name, paths in sorted(groups.items()):
        problems = [_problem(kind, paths, (fixes or {}).get(kind)) for kind in needed]
        found = [problem for problem in problems if problem]
        if found:
            failures[name] = "; ".join(found)
        else:
            cases.append(CasePlan(name, load, {kind: paths[kind][0] for kind in needed}, parameters))
    return cases, failures


def _problem(kind: str, files: Mapping[str, Sequence[Path]], fix: str | None) -> str | None:
    paths = files.get(kind, ())
    if len(paths) > 1:
        return f"{kind} is there {len(paths)} times ({', '.join(map(str, paths))}): remove all but one"
    if paths:
        return None
    others = ", ".join(str(path) for other in files.values() for path in other)
    return f"{kind} is missing (there is only {others}): {fix or 'unpack the download again'}"

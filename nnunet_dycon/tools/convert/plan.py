"""What a benchmark dataset says of itself, and what becomes of a download of it: a plan for each case."""

from __future__ import annotations

import argparse
import math
import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nnunet_dycon.dataset.case_lists import parse_list
from nnunet_dycon.errors import UserError

if TYPE_CHECKING:
    import SimpleITK as sitk

CaseFile = tuple[str, str, Path]
"""(case, kind of file as the loader's argument is called, path)"""


@dataclass(frozen=True, kw_only=True)
class Published:
    """One published division: lists of cases below ``lists/``, and how many of them are labelled.

    Attributes:
        prefix: Of the protocols' names, which are ``PREFIX-SUFFIX``.
        labeled: Suffix to the number of labelled cases: the first ones, unless they are drawn.
        train, validation, test: Lists of these cases, one after the other; there may be no validation cases.
        configuration: nnU-Net's configuration of the literature.
        volumes_per_patient: Volumes of one patient follow each other in the list and are drawn together.
        warning: What speaks against the division, or an empty string.
    """

    prefix: str
    labeled: Mapping[str, int]
    train: tuple[str, ...]
    validation: tuple[str, ...] = ()
    test: tuple[str, ...]
    configuration: str = "3d_fullres"
    volumes_per_patient: int = 1
    warning: str = ""

    @property
    def lists(self) -> tuple[str, ...]:
        """All of its lists."""
        return self.train + self.validation + self.test


@dataclass(frozen=True, kw_only=True)
class Benchmark:
    """A dataset that ``nnunet-dycon convert`` reads; its module in ``datasets/`` calls it ``BENCHMARK``.

    Modules in ``datasets/`` are imported for every ``--help``: they import what reads images inside their loaders.

    Attributes:
        name: As given to ``convert``.
        title: Default name of the nnU-Net dataset.
        about: One line for ``--help``.
        entry: Regular expression of a case in a list or download, whose group ``id`` names the case.
        case: Case name made of that ``id``; every spelling of a case gives one name.
        example: An entry, for messages.
        reference: Where the data come from, for dataset.json.
        plan: ``plan(source, **options)``, options as ``add_arguments`` calls them; a UserError where the folder holds
            no data of this dataset, or several distributions, or an option does not fit them.
        published: Its published divisions.
        suggested: Protocol of the next step that ``convert`` names.
        add_arguments: Adds the dataset's options to its parser.
    """

    name: str
    title: str
    about: str
    entry: str
    case: str
    example: str
    reference: str
    plan: Callable[..., DatasetPlan]
    published: tuple[Published, ...]
    suggested: str
    add_arguments: Callable[[argparse.ArgumentParser], None]

    def case_name(self, entry: str) -> str:
        """The nnU-Net case name of an entry of a published list, or of a file or folder stem of the download.

        Blanks, carriage returns and the ending ``.h5`` make no difference.

        Raises:
            UserError: The entry names no case of this dataset.
        """
        match = re.fullmatch(self.entry, entry.strip().removesuffix(".h5"))
        if match is None:
            raise UserError(f"{entry.strip()!r} names no case of {self.name}; expected an entry like {self.example}")
        return self.case.format(id=match["id"])

    def cases(self, *lists: str) -> list[str]:
        """The cases of published lists, in their order."""
        return [self.case_name(entry) for name in lists for entry in load_list(name)]


def load_list(name: str) -> list[str]:
    """The entries of a list of the package, such as ``la/train.list``, in their published order.

    Raises:
        UserError: There is no such list.
    """
    resource = files("nnunet_dycon.tools.convert") / "lists" / name
    if ".." in name.split("/") or not resource.is_file():
        raise UserError(f"there is no case list {name!r} in the package")
    return parse_list(resource.read_text(encoding="utf-8"), name)


@dataclass(frozen=True)
class CaseVolumes:
    """One case in memory: channels and label share one grid; ``notes`` say what was assumed or repaired."""

    channels: list[sitk.Image]
    label: sitk.Image
    notes: list[str]


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


@dataclass(kw_only=True)
class DatasetPlan:
    """What a download holds and what becomes of it; ``Benchmark.plan`` fills it step by step.

    Attributes:
        benchmark: The dataset.
        layout: The distribution that was recognised, in words.
        source: The download folder.
        found: Its files, with the match of the layout's regular expression of their names.
        channel_names: In the order of the channels; nnU-Net derives the normalisation from them.
        labels: nnU-Net's ``labels``: name to value, or to a list of values for regions.
        regions_class_order: nnU-Net's key of this name; None without regions.
        published: Divisions whose cases all ought to be there.
        cases: The cases to convert.
        failures: Cases that cannot be converted, and why.
        skipped: Cases that are left out on purpose, and why.
        notes: What holds for all cases, e.g. an assumed spacing, or headers that are not read.
    """

    benchmark: Benchmark
    layout: str
    source: Path
    found: Sequence[tuple[Path, re.Match[str]]] = ()
    channel_names: Sequence[str] = ()
    labels: Mapping[str, int | list[int]] = field(default_factory=dict)
    regions_class_order: tuple[int, ...] | None = None
    published: tuple[Published, ...]
    cases: list[CasePlan] = field(default_factory=list)
    failures: dict[str, str] = field(default_factory=dict)
    skipped: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def files(self, *, not_below: str = "", because: str = "") -> list[CaseFile]:
        """The files of cases, by the groups of their pattern: case (else their folder), kind (else it is ``path``).

        Folders that name no case are skipped, and cases below a folder with the word ``not_below`` in its name.
        """
        files = []
        for path, match in self.found:
            groups = match.groupdict()
            try:
                name = self.benchmark.case_name(groups.get("case") or path.parent.name)
            except UserError as error:
                self.skipped[str(path.parent)] = str(error)
                continue
            if not_below and any(not_below in part.lower() for part in path.relative_to(self.source).parts[:-1]):
                self.skipped[name] = because
            else:
                files.append((name, groups.get("kind", "path").lower(), path))
        return files

    def add_cases(
        self,
        files: Iterable[CaseFile],
        needed: Sequence[str],
        load: Callable[..., CaseVolumes],
        parameters: Mapping[str, Any],
        fixes: Mapping[str, str] | None = None,
    ) -> None:
        """Plan each case that has every kind of file once; the others fail.

        Args:
            files: The files of the download.
            needed: The kinds, in the order in which ``load`` gets them.
            load, parameters: See ``CasePlan``; the same for all cases.
            fixes: What to do where a kind is missing; else to unpack the download again.
        """
        groups: dict[str, dict[str, list[Path]]] = defaultdict(lambda: defaultdict(list))
        for name, kind, path in files:
            groups[name][kind].append(path)
        for name, paths in sorted(groups.items()):
            problems = [_problem(kind, paths, (fixes or {}).get(kind)) for kind in needed]
            if any(problems):
                self.failures[name] = "; ".join(filter(None, problems))
            else:
                self.cases.append(CasePlan(name, load, {kind: paths[kind][0] for kind in needed}, parameters))

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

    def missing(self, present: Iterable[str] = ()) -> dict[str, str]:
        """Cases of the published lists that neither the download has nor ``present``, and which list names them."""
        known = {*(case.name for case in self.cases), *self.failures, *self.skipped, *present}
        return {
            case: f"in the list {name} but not in the download"
            for name in dict.fromkeys(name for division in self.published for name in division.lists)
            for case in sorted({*self.benchmark.cases(name)} - known)
        }


def _problem(kind: str, found: Mapping[str, Sequence[Path]], fix: str | None) -> str:
    paths = found.get(kind, ())
    if len(paths) > 1:
        return f"{kind} is there {len(paths)} times ({', '.join(map(str, paths))}): remove all but one"
    if paths:
        return ""
    others = ", ".join(str(path) for other in found.values() for path in other)
    return f"{kind} is missing (there is only {others}): {fix or 'unpack the download again'}"


# ---------------------------------------------------------------------------------------------- options of a dataset


def add_spacing(parser: argparse.ArgumentParser, default: str) -> None:
    """The option ``--spacing X Y Z``."""
    parser.add_argument(
        "--spacing", dest="spacing_mm", nargs=3, type=_positive_mm, metavar=("X", "Y", "Z"),
        help=f"voxel size in mm for files without one ({default})",
    )  # fmt: skip


def _positive_mm(text: str) -> float:
    value = float(text)
    if not (math.isfinite(value) and value > 0):
        raise argparse.ArgumentTypeError(f"{text} is no voxel size")
    return value


def comma_separated(text: str) -> list[str]:
    """``"DWI, adc"`` as ``["dwi", "adc"]``."""
    return [part.strip().lower() for part in text.split(",") if part.strip()]


def spacing_text(spacing_mm: Sequence[float]) -> str:
    """``0.625 x 0.625 x 0.625 mm``."""
    return " x ".join(f"{value:g}" for value in spacing_mm) + " mm"

"""What a benchmark dataset says of itself, and what becomes of a download of it: a plan for each case."""

from __future__ import annotations

import os
import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nnunet_dycon.dataset.case_lists import parse_list
from nnunet_dycon.errors import UserError
from nnunet_dycon.files.text import few

if TYPE_CHECKING:
    import SimpleITK as sitk

CaseFile = tuple[str, str, Path]
"""(case, kind of file as the loader's argument is called, path)"""
CaseVolumes = tuple[list["sitk.Image"], list[str]]
"""Label and channels of a case on one grid, in this order; notes that say what was assumed or repaired"""
_PARTS = ("train", "validation", "test")


@dataclass(frozen=True, kw_only=True)
class Benchmark:
    """A dataset that ``nnunet-dycon convert`` reads; its module in ``datasets/`` calls it ``BENCHMARK``.

    Modules in ``datasets/`` are imported for every ``--help``: they import what reads images inside functions.

    Attributes:
        title: Default name of the nnU-Net dataset.
        about: One line for ``--help``.
        entry: Regular expression of a case in a list or download, whose group ``id`` names the case.
        case: Case name made of that ``id``; every spelling of a case gives one name.
        example: An entry, for messages.
        reference: Where the data come from, for dataset.json.
        layouts: Each distribution's name to (regular expression of its files' names, the files in words).
        channels: What ``--channels`` calls them to nnU-Net's names, in order, where there is a choice.
        options: Help of the options of this dataset alone, by the argument of ``plan``.
        plan: ``plan(source, **options)`` with the defaults of channels, of spacing_mm, (x, y, z) of files that say
            none, and of its own options, which are a folder (None) or a flag (False), where it takes them; a UserError
            where there are no data of this dataset, or several distributions, or an option does not fit them.
        published: Of each published division, the lists ``lists/PREFIX/train.txt``, ``test.txt`` and perhaps
            ``validation.txt``, the protocols ``PREFIX-SUFFIX``: PREFIX to SUFFIX to the number of labelled cases.
        protocol: What all of them say beside it, by the attributes of ``Protocol``.
        warnings: What speaks against a division, by its prefix.
        suggested: Protocol of the next step that ``convert`` names.
    """

    title: str
    about: str
    entry: str
    case: str
    example: str
    reference: str
    layouts: Mapping[str, tuple[str, str]]
    channels: Mapping[str, str] = field(default_factory=dict)
    options: Mapping[str, str] = field(default_factory=dict)
    plan: Callable[..., DatasetPlan]
    published: Mapping[str, Mapping[str, int]]
    protocol: Mapping[str, Any] = field(default_factory=dict)
    warnings: Mapping[str, str] = field(default_factory=dict)
    suggested: str

    @property
    def name(self) -> str:
        """As given to ``convert``."""
        return self.title.lower()

    def case_name(self, entry: str) -> str:
        """The nnU-Net case name of an entry of a list, or of a file or folder stem; a UserError where it names no case.

        Blanks, carriage returns and the ending ``.h5`` make no difference.
        """
        match = re.fullmatch(self.entry, entry.strip().removesuffix(".h5"))
        if match is None:
            raise UserError(f"{entry.strip()!r} names no case of {self.name}; expected an entry like {self.example}")
        return self.case.format(id=match["id"])

    def cases(self, prefix: str) -> dict[str, list[str]]:
        """The cases of the lists train, validation and test, in their order; none where there is no such list."""
        return {part: [*map(self.case_name, load_list(f"{prefix}/{part}.txt"))] for part in _PARTS}

    def in_order(self, channels: Sequence[str]) -> list[str]:
        """The chosen channels (``["all"]``: all) in the dataset's order; a UserError where there is no such one."""
        if [*channels] == ["all"]:
            return [*self.channels]
        if not channels or {*channels} - {*self.channels}:
            raise UserError(f"--channels {','.join(channels)}: choose from {', '.join(self.channels)}, or all")
        return [name for name in self.channels if name in channels]


def load_list(name: str) -> list[str]:
    """The entries of a list of the package, such as ``la/train.txt``, in their published order."""
    resource = files("nnunet_dycon.tools.convert") / "lists" / name
    return parse_list(resource.read_text(encoding="utf-8"), name) if resource.is_file() else []


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
        layout: The distribution that was recognised, in words.
        found: The files of ``source``, the download, with the match of the layout's regular expression of their names.
        channel_names: In the order of the channels; nnU-Net derives the normalisation from them.
        labels: nnU-Net's ``labels``: name to value, or to a list of values for regions.
        regions_class_order: nnU-Net's key of this name; None without regions.
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
        fix: str = "unpack the download again",
    ) -> None:
        """Plan each case that has every kind of file that is ``needed`` once, in this order; the others fail.

        ``load`` and ``parameters`` are those of ``CasePlan``, ``fix`` is what to do where a kind is missing.
        """
        groups: dict[str, dict[str, list[Path]]] = defaultdict(lambda: defaultdict(list))
        for name, kind, path in files:
            groups[name][kind].append(path)
        for name, paths in sorted(groups.items()):
            if problems := [_problem(kind, paths, fix) for kind in needed if len(paths.get(kind, ())) != 1]:
                self.failures[name] = "; ".join(problems)
            else:
                self.cases.append(CasePlan(name, load, {kind: paths[kind][0] for kind in needed}, parameters))

    def accepting(self, names: Sequence[str]) -> DatasetPlan:
        """The same, without the comparison of label and scan for these cases (``["all"]``: for all).

        Raises:
            UserError: There is no such case, or the distribution has nothing to compare.
        """
        compared = {case.name for case in self.cases if "check" in case.parameters}
        accepted = compared if compared and [*names] == ["all"] else {*names}
        if unknown := sorted(accepted - compared):
            raise UserError(
                f"--accept {', '.join(unknown)}: not among the complete cases in {self.source} whose label is compared "
                f"with their scan ({self.layout})"
            )
        unchecked = {i.name: replace(i, parameters={**i.parameters, "check": False}) for i in self.cases}
        return replace(self, cases=[unchecked[i.name] if i.name in accepted else i for i in self.cases])

    def missing(self, present: Iterable[str] = ()) -> dict[str, str]:
        """Cases of the published lists that neither the download has nor ``present``, and which list names them."""
        known = {*(case.name for case in self.cases), *self.failures, *self.skipped, *present}
        return {
            case: f"in the list {prefix}/{part}.txt but not in the download"
            for prefix in reversed([*self.benchmark.published])
            for part, cases in self.benchmark.cases(prefix).items()
            for case in sorted({*cases} - known)
        }


def _problem(kind: str, found: Mapping[str, Sequence[Path]], fix: str) -> str:
    if paths := found.get(kind, ()):
        return f"{kind} is there {len(paths)} times ({', '.join(map(str, paths))}): remove all but one"
    others = ", ".join(str(path) for paths in found.values() for path in paths)
    return f"{kind} is missing (there is only {others}): {fix}"


def recognise(benchmark: Benchmark, source: Path) -> DatasetPlan:
    """A plan, still without cases, of the distribution in a folder; a UserError where there is none, or several."""
    check_folder(source, "--source")
    layouts = {layout: find_files(source, pattern) for layout, (pattern, _) in benchmark.layouts.items()}
    there = {layout: found for layout, found in layouts.items() if found}
    if not there:
        raise _nothing_found(benchmark, source)
    if len(there) > 1:
        raise UserError(
            f"--source {source} holds {' and '.join(there)} files; they are preprocessed differently: give the folder "
            "of one"
        )
    ((layout, found),) = there.items()
    return DatasetPlan(benchmark=benchmark, layout=layout, source=source, found=found)


def check_folder(folder: Path, option: str) -> None:
    """Raise a UserError where a download is no unpacked folder."""
    if not folder.is_dir():
        fix = "is a file; unpack it and give the folder" if folder.is_file() else "does not exist; give the folder"
        raise UserError(f"{option} {folder} {fix} of the download")


def _nothing_found(benchmark: Benchmark, source: Path) -> UserError:
    expected = " or ".join(words for _, words in benchmark.layouts.values())
    names = sorted(path.name for path in source.iterdir())
    archives = [name for name in names if name.lower().endswith((".zip", ".tar", ".gz", ".tgz", ".7z", ".rar"))]
    fix = f"unpack {few(archives, 3)} first" if archives else "give the folder that contains them"
    return UserError(
        f"--source {source} holds no {benchmark.title} data: expected {expected} in it or below it, found "
        f"{few(names) or 'nothing'}; {fix}"
    )


def find_files(source: Path, pattern: str) -> list[tuple[Path, re.Match[str]]]:
    """Files below a folder whose name matches a regular expression in full, upper or lower case, sorted by path.

    Linked folders are followed (images and labels are often linked below one folder), each folder once.
    Files of macOS archives (``._name``) never match.
    """
    found: list[tuple[Path, re.Match[str]]] = []
    seen: set[str] = set()
    for folder, subfolders, names in os.walk(source, followlinks=True):
        if (real := os.path.realpath(folder)) in seen:
            subfolders.clear()
            continue
        seen.add(real)
        matches = [re.fullmatch(pattern, name, flags=re.IGNORECASE) for name in names if not name.startswith("._")]
        found += [(Path(folder, match.string), match) for match in matches if match]
    return sorted(found, key=lambda pair: pair[0])

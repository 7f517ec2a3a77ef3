"""From the files of a download to one plan a case: each kind of file has to be there once."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from nnunet_dycon.tools.convert.plan import CasePlan, CaseVolumes

# case -> kind of file (the name of the loader's argument) -> its paths, of which there ought to be one
CaseFiles = Mapping[str, Mapping[str, Sequence[Path]]]


def group(files: Iterable[tuple[str, str, Path]]) -> CaseFiles:
    """Group (case, kind, path) by case and kind."""
    groups: dict[str, dict[str, list[Path]]] = defaultdict(lambda: defaultdict(list))
    for case, kind, path in files:
        groups[case][kind].append(path)
    return groups


def plan_cases(
    case_files: CaseFiles,
    needed: Sequence[str],
    load: Callable[..., CaseVolumes],
    parameters: Mapping[str, Any],
    fixes: Mapping[str, str] | None = None,
) -> tuple[list[CasePlan], dict[str, str]]:
    """One plan for each case that has every kind of file once.

    Args:
        case_files: From ``group``.
        needed: The kinds, in the order in which ``load`` gets them.
        load: See ``CasePlan``.
        parameters: The same for all cases.
        fixes: What to do where a kind is missing; else to unpack the download again.

    Returns:
        (plans, cases that lack a file or have it twice with the reason)
    """
    cases, failures = [], {}
    for name in sorted(case_files):
        files = case_files[name]
        problems = [_problem(kind, files, (fixes or {}).get(kind)) for kind in needed]
        found = [problem for problem in problems if problem]
        if found:
            failures[name] = "; ".join(found)
        else:
            cases.append(CasePlan(name, load, {kind: files[kind][0] for kind in needed}, parameters))
    return cases, failures


def _problem(kind: str, files: Mapping[str, Sequence[Path]], fix: str | None) -> str | None:
    paths = files.get(kind, ())
    if len(paths) > 1:
        return f"{kind} is there {len(paths)} times ({', '.join(map(str, paths))}): remove all but one"
    if paths:
        return None
    others = ", ".join(str(path) for other in files.values() for path in other)
    return f"{kind} is missing (there is only {others}): {fix or 'unpack the download again'}"

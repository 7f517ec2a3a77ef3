"""Carrying out a plan: in parallel, resumable, each case whole or not at all."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path

from nnunet_dycon.errors import UserError
from nnunet_dycon.files.pool import completed
from nnunet_dycon.tools.convert.datasets import BENCHMARKS
from nnunet_dycon.tools.convert.plan import CasePlan, DatasetPlan
from nnunet_dycon.tools.convert.protocols import load_list
from nnunet_dycon.tools.convert.record import ConversionRecord, ConversionReport
from nnunet_dycon.tools.convert.writing import (
    case_files,
    prepare_folder,
    remove_case,
    write_case,
    write_dataset_json,
)


def convert(plan: DatasetPlan, folder: Path, *, num_processes: int = 1, progress: bool = False) -> ConversionReport:
    """Write the cases of a plan as a complete nnU-Net raw dataset.

    A case that fails does not stop the others. A case that an earlier run converted from the same files (size and
    time of change) with the same parameters is left as it is. One conversion at a time into a folder.

    Args:
        plan: From ``la.plan`` and its sisters.
        folder: ``nnUNet_raw/DatasetNNN_Name``, new or made by an earlier run.
        num_processes: Cases converted at the same time; 1 stays in this process.
        progress: Show a progress bar on stderr.

    Raises:
        UserError: The folder belongs to another dataset.
    """
    record = ConversionRecord(folder, plan)
    prepare_folder(folder)
    report = ConversionReport(folder, len(plan.cases) + len(plan.failures), dataset_notes=plan.notes)
    report.skipped |= plan.skipped
    report.failures |= plan.failures
    waiting = _drop_outdated(plan, folder, record, report)
    for case, outcome in _outcomes(waiting, folder, num_processes, progress):
        if isinstance(outcome, UserError):
            report.failures[case.name] = str(outcome)
        else:
            record.add(case, outcome)
            report.written.append(case.name)
    _complete_report(plan, record, report)
    if record.case_names:
        write_dataset_json(plan, folder, len(record.case_names))
    record.finish(skipped=report.skipped, failures=report.failures, missing=report.missing)
    return report


def _drop_outdated(
    plan: DatasetPlan, folder: Path, record: ConversionRecord, report: ConversionReport
) -> list[CasePlan]:
    """The cases still to be converted; what an earlier run made of them, or of cases that now fail, is removed."""
    waiting = []
    for case in plan.cases:
        files = case_files(folder, case.name, len(plan.channel_names))
        if record.is_current(case) and all(path.exists() for path in files):
            report.unchanged.append(case.name)
        else:
            waiting.append(case)
    unwanted = {*plan.failures, *plan.skipped} & {*record.case_names}
    for name in [*(case.name for case in waiting), *unwanted]:
        record.remove(name)
        remove_case(folder, name, len(plan.channel_names))
    return waiting


def _complete_report(plan: DatasetPlan, record: ConversionRecord, report: ConversionReport) -> None:
    """Add what earlier runs left, the notes of all cases, and the cases of the protocol lists that are not there."""
    done = {*report.written, *report.unchanged}
    report.kept = [name for name in record.case_names if name not in done]
    report.case_notes = {name: record.notes(name) for name in record.case_names if record.notes(name)}
    report.missing = missing_cases(plan, {*done, *report.kept, *report.failures, *report.skipped})


def missing_cases(plan: DatasetPlan, present: set[str]) -> dict[str, str]:
    """Cases of the protocol lists that are not present, and which list names them."""
    missing: dict[str, str] = {}
    for list_name in plan.lists:
        names = {BENCHMARKS[plan.dataset].case_name(entry) for entry in load_list(list_name)}
        missing |= dict.fromkeys(sorted(names - present), f"in the list {list_name} but not in the download")
    return missing


def _outcomes(
    cases: list[CasePlan], folder: Path, num_processes: int, progress: bool
) -> Iterator[tuple[CasePlan, list[str] | UserError]]:
    """Each case with its notes or the reason why it failed, as they are ready."""
    done = completed(
        partial(_convert_case, folder=folder),
        cases,
        num_processes=num_processes,
        description="convert",
        progress=progress,
    )
    for i, future in done:
        error = future.exception()
        yield cases[i], error if isinstance(error, UserError) else future.result()


def _convert_case(case: CasePlan, folder: Path) -> list[str]:
    """Convert one case; its notes."""
    try:
        volumes = case.load(**case.sources, **case.parameters)
        write_case(volumes, folder, case.name)
    except (OSError, MemoryError) as error:
        raise UserError(f"{type(error).__name__}: {error}; correct it and repeat the command") from error
    return volumes.notes

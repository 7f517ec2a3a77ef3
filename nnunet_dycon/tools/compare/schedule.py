"""All jobs of an experiment, one after the other or side by side, each in a process of its own."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack

from nnunet_dycon.dataset.raw_dataset import dataset_name, environment_folder
from nnunet_dycon.errors import UserError
from nnunet_dycon.files.json_files import read_json
from nnunet_dycon.tools.compare.experiment import Experiment, Job, Run
from nnunet_dycon.tools.compare.job import RESULT, check_record
from nnunet_dycon.tools.compare.run_settings import check_shared_settings, run_settings
from nnunet_dycon.tools.compare.training import PARENT


def check_experiment(experiment: Experiment) -> None:
    """Find what would stop a job before the first one trains.

    Raises:
        UserError: A name twice, no such plans, trainer, setting or teaching run, no test case, jobs of other settings.
    """
    if twice := [name for name, n in Counter(run.name for run in experiment.runs).items() if n > 1]:
        raise UserError(f"--runs names {', '.join(twice)} twice; give every run a name of its own")
    if not experiment.cross_validation and len(experiment.folds) > 1:
        raise UserError("several folds (-f) are for --cross-validation; the test scans are predicted by one")
    for i, run in enumerate(experiment.runs):
        _check_run(experiment, run, experiment.runs[:i])
    check_shared_settings(experiment.settings, experiment.runs)
    for job in experiment.jobs():
        experiment.test_scans(job)
        check_record(experiment, job)


def _check_run(experiment: Experiment, run: Run, before: Sequence[Run]) -> None:
    plans = environment_folder("nnUNet_preprocessed") / dataset_name(run.dataset) / f"{experiment.plans}.json"
    if not plans.is_file():
        raise UserError(f"{plans} is missing; run nnUNetv2_plan_and_preprocess -d {run.dataset} first")
    if run.teacher and (run.teacher, run.dataset) not in [(i.name, i.dataset) for i in before]:
        raise UserError(f"--runs {run.name}: @{run.teacher} must be a run of the same dataset that is named before it")
    run_settings(experiment.settings, run)


def run_jobs(experiment: Experiment, *, side_by_side: int = 1) -> list[Job]:
    """Do what is not done yet, each job in a process with its log beside its folder.

    Args:
        experiment: All jobs.
        side_by_side: Jobs at the same time; with more than one each gets one thread.

    Returns:
        The jobs that failed.
    """
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    with ThreadPoolExecutor(side_by_side) as pool, ExitStack() as stack:
        processes: list[subprocess.Popen] = []
        stack.callback(_terminate, processes)
        stack.callback(pool.shutdown, wait=False, cancel_futures=True)
        futures: dict[Job, Future[bool]] = {}
        for job in experiment.jobs():
            futures[job] = pool.submit(_do, experiment, job, side_by_side, futures, processes)
        return [job for job, future in futures.items() if not future.result()]


def _terminate(processes: Sequence[subprocess.Popen]) -> None:
    for process in processes:
        process.terminate()


def _do(
    experiment: Experiment,
    job: Job,
    side_by_side: int,
    futures: dict[Job, Future[bool]],
    processes: list[subprocess.Popen],
) -> bool:
    """Whether the job is done."""
    folder = experiment.folder(job)
    if (folder / RESULT).is_file():
        return True
    teacher = experiment.teacher_of(job)
    if teacher is not None and not futures[teacher].result():
        print(f"{job} is left out: it needs {teacher}, which failed", file=sys.stderr, flush=True)
        return False
    folder.mkdir(parents=True, exist_ok=True)
    log = folder / "log.txt"
    print(f"{job}: log in {log}", flush=True)
    command = [sys.executable, "-m", "nnunet_dycon.tools.compare", experiment.to_json(), _name(job)]
    with log.open("a") as file:
        processes.append(process := subprocess.Popen(command, stdout=file, stderr=file, env=_variables(side_by_side)))
        code = process.wait()
    if code:
        print(f"{job} failed with exit code {code}; see {log}", file=sys.stderr, flush=True)
        return False
    result = read_json(folder / RESULT, "remove its folder")
    print(f"{job}: {result['steps']} steps took {result['seconds'] / 60:.1f} minutes", flush=True)
    return True


def _name(job: Job) -> str:
    return f"{job.run.name}:{job.seed}:{job.fold}"


def _variables(side_by_side: int) -> dict[str, str]:
    """The job's environment: no more threads and processes than its share of the cores."""
    variables = dict(os.environ) | {PARENT: str(os.getpid())}
    if side_by_side > 1:
        share = str(max(1, (os.cpu_count() or 1) // side_by_side))
        shares = {"nnUNet_def_n_proc": share, "nnUNet_n_proc_DA": share}
        variables = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"} | shares | variables
    return variables

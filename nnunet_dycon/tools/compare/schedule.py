"""All jobs of an experiment, one after the other or side by side, each in a process of its own."""

from __future__ import annotations

import os
import pickle
import signal
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager

from nnunet_dycon.files.json_files import read_json
from nnunet_dycon.tools.compare.experiment import RESULT, Experiment, Job
from nnunet_dycon.tools.compare.training import PARENT


def run_jobs(experiment: Experiment, *, side_by_side: int = 1) -> list[Job]:
    """Do what is not done yet, each job in a process with its log in its folder, and return the jobs that failed.

    Side by side each gets one thread, and no more processes than its share of the cores.
    """
    variables = dict(os.environ) | {PARENT: str(os.getpid())}
    if side_by_side > 1:
        share = str(max(1, (os.cpu_count() or 1) // side_by_side))
        shares = {"nnUNet_def_n_proc": share, "nnUNet_n_proc_DA": share}
        variables = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"} | shares | variables
    processes: list[subprocess.Popen] = []
    done: dict[Job, Future[bool]] = {}

    def do(job: Job) -> bool:
        teacher = experiment.teacher_of(job)
        if (experiment.folder(job) / RESULT).is_file():
            return True
        if teacher is not None and not done[teacher].result():
            print(f"{job} is left out: it needs {teacher}, which failed", file=sys.stderr, flush=True)
            return False
        return _do(experiment, job, variables, processes)

    with _exit_when_terminated(), ThreadPoolExecutor(side_by_side) as pool:
        try:
            for job in experiment.jobs():
                done[job] = pool.submit(do, job)
            return [job for job, future in done.items() if not future.result()]
        finally:
            pool.shutdown(wait=False, cancel_futures=True)
            for process in processes:
                process.terminate()


@contextmanager
def _exit_when_terminated() -> Iterator[None]:
    """Inside, SIGTERM raises, so that the jobs are ended; processes that are forked later do not inherit this."""
    before = signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before or signal.SIG_DFL)


def _do(experiment: Experiment, job: Job, variables: dict[str, str], processes: list[subprocess.Popen]) -> bool:
    """Whether the job's process, which joins the others, has ended well."""
    folder = experiment.folder(job)
    folder.mkdir(parents=True, exist_ok=True)
    log = folder / "log.txt"
    print(f"{job}: log in {log}", flush=True)
    command = [sys.executable, "-m", "nnunet_dycon.tools.compare.job"]
    with log.open("a") as file:
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=file, stderr=file, env=variables)
        processes.append(process)
        process.communicate(pickle.dumps((experiment, job)))
    if process.returncode:
        print(f"{job} failed with exit code {process.returncode}; see {log}", file=sys.stderr, flush=True)
        return False
    result = read_json(folder / RESULT, "remove its folder")
    print(f"{job}: {result['steps']} steps took {result['seconds'] / 60:.1f} minutes", flush=True)
    return True

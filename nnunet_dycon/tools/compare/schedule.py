"""All jobs of an experiment, one after the other or side by side, each in a process of its own."""

from __future__ import annotations

import os
import pickle
import signal
import subprocess
import sys
from collections import Counter
from concurrent.futures import Future, ThreadPoolExecutor

from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

from nnunet_dycon.dataset.commands import preprocessing
from nnunet_dycon.dataset.raw_dataset import dataset_name, environment_folder
from nnunet_dycon.dataset.unlabeled_scans import configuration_of, read_plans
from nnunet_dycon.errors import UserError
from nnunet_dycon.files.json_files import read_json
from nnunet_dycon.tools.compare.experiment import RESULT, Experiment, Job, known_settings, parse_settings
from nnunet_dycon.tools.compare.training import PARENT
from nnunet_dycon.trainers import nnUNetTrainerDyCON


def check_experiment(experiment: Experiment) -> None:
    """Find what would stop a job before the first one trains.

    Raises:
        UserError: A name twice, no such plans, configuration, trainer, setting or teaching run, no test case, jobs of
            other settings.
    """
    if twice := [name for name, n in Counter(run.name for run in experiment.runs).items() if n > 1]:
        raise UserError(f"--runs names {', '.join(twice)} twice; give every run a name of its own")
    if not experiment.cross_validation and len(experiment.folds) > 1:
        raise UserError("several folds (-f) are for --cross-validation; the test scans are predicted by one")
    _check_runs(experiment)
    for job in experiment.jobs():
        experiment.test_scans(job)
        experiment.check_record(job)


def _check_runs(experiment: Experiment) -> None:
    names: dict[str, str] = {}
    known = known_settings(nnUNetTrainerDyCON)
    for run in experiment.runs:
        _check_preprocessed(run.dataset, experiment.configuration, experiment.plans)
        if run.teacher and names.get(run.teacher) != run.dataset:
            what = f"@{run.teacher} must be a run of the same dataset that is named before it"
            raise UserError(f"--runs {run.name}: {what}")
        run.settings_json(experiment.settings)
        names[run.name] = run.dataset
        known |= known_settings(run.trainer_class)
    if unknown := [name for name in parse_settings(experiment.settings) if name not in known]:
        raise UserError(f"--settings {unknown[0]}: there is no such setting; nnunet-dycon settings lists them")


def _check_preprocessed(dataset: str, configuration: str, plans: str) -> None:
    """Raise a UserError where a dataset is not planned or not preprocessed for a configuration."""
    base = environment_folder("nnUNet_preprocessed") / dataset_name(dataset)
    manager = PlansManager(read_plans(base / f"{plans}.json"))
    folder = base / configuration_of(manager, configuration).data_identifier
    if not folder.is_dir():
        raise UserError(f"{folder} is missing; run {preprocessing(dataset, configuration, plans)} first")


def run_jobs(experiment: Experiment, *, side_by_side: int = 1) -> list[Job]:
    """Do what is not done yet, each job in a process with its log in its folder, and return the jobs that failed.

    Side by side each gets one thread, and no more processes than its share of the cores.
    """
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
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

    with ThreadPoolExecutor(side_by_side) as pool:
        try:
            for job in experiment.jobs():
                done[job] = pool.submit(do, job)
            return [job for job, future in done.items() if not future.result()]
        finally:
            pool.shutdown(wait=False, cancel_futures=True)
            for process in processes:
                process.terminate()


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

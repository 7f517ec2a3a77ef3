"""Several trainers on one dataset with the same labels, steps and seeds: does a method help on it, and how surely?"""

from nnunet_dycon.tools.compare.experiment import DEFAULT_RUNS, Experiment, Job, Run
from nnunet_dycon.tools.compare.schedule import check_experiment, run_jobs
from nnunet_dycon.tools.compare.table import write_results

__all__ = ["DEFAULT_RUNS", "Experiment", "Job", "Run", "check_experiment", "run_jobs", "write_results"]

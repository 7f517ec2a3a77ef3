"""A job in a process of its own: ``python -m nnunet_dycon.tools.compare EXPERIMENT_AS_JSON NAME:SEED:FOLD``."""

from __future__ import annotations

import sys

from nnunet_dycon.errors import UserError
from nnunet_dycon.tools.compare.experiment import Experiment
from nnunet_dycon.tools.compare.job import do_job

if __name__ == "__main__":
    experiment = Experiment.from_json(sys.argv[1])
    try:
        do_job(experiment, experiment.job(sys.argv[2]))
    except UserError as error:
        sys.exit(f"error: {error}")

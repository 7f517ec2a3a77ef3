"""A job in a process of its own, which reads the experiment and the job from its input, pickled."""

from __future__ import annotations

import pickle
import sys

from nnunet_dycon.errors import UserError
from nnunet_dycon.tools.compare.job import do_job

if __name__ == "__main__":
    try:
        do_job(*pickle.load(sys.stdin.buffer))
    except UserError as error:
        sys.exit(f"error: {error}")

"""Work on cases in processes, one of which may be killed."""

import multiprocessing
import os
import re
import subprocess
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path

import pytest

from nnunet_dycon.errors import UserError
from nnunet_dycon.files import pool
from nnunet_dycon.files.pool import KILLED, map_cases


def double(number: int) -> int:
    if number < 0:
        raise UserError(f"{number} is negative")
    return 2 * number


def die(_: int) -> int:
    os._exit(1)


@pytest.mark.parametrize("num_processes", [1, 2])
def test_results_are_in_order_and_all_errors_are_told(num_processes):
    options = {"num_processes": num_processes, "description": "double", "progress": False}
    assert map_cases(double, [3, 1, 2], **options) == [6, 2, 4]
    with pytest.raises(UserError, match=r"^-1 is negative\n-2 is negative$"):
        map_cases(double, [-1, 1, -2], **options)


def test_a_killed_process_is_explained():
    with pytest.raises(UserError, match=rf"^{re.escape(KILLED)}$"):
        map_cases(die, [1, 2, 3], num_processes=2, description="split", progress=False)


def test_a_pool_that_is_broken_already_breaks_what_is_submitted_later():
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as executor:
        with pytest.raises(BrokenProcessPool):
            pool._submitted(executor, die, 1).result()
        with pytest.raises(BrokenProcessPool):
            pool._submitted(executor, double, 1).result()


def test_no_process_and_any_other_error_end_it_all():
    with pytest.raises(UserError, match="0 processes cannot work; give at least 1"):
        map_cases(double, [1], num_processes=0, description="double", progress=False)
    with pytest.raises(TypeError):
        map_cases(double, ["a"], num_processes=1, description="double", progress=False)


def write_pid_and_sleep(folder: str) -> None:
    (Path(folder) / str(os.getpid())).touch()
    time.sleep(600)


def test_workers_end_with_a_parent_that_is_killed(tmp_path):
    call = f"map_cases(write_pid_and_sleep, ['{tmp_path}'] * 2, num_processes=2, description='', progress=False)"
    code = f"from tests.files.test_pool import *\nif __name__ == '__main__':\n    {call}"
    (tmp_path / "run.py").write_text(code)
    with subprocess.Popen([sys.executable, str(tmp_path / "run.py")]) as parent:
        while len(workers := [i for i in os.listdir(tmp_path) if i.isdigit()]) < 2:
            time.sleep(0.02)
        parent.kill()
    end = time.monotonic() + 30
    while any(is_running(int(i)) for i in workers):
        assert time.monotonic() < end
        time.sleep(0.02)


def is_running(process: int) -> bool:
    """Whether a process is there, and not only waiting for somebody to ask for its exit code."""
    try:
        return ") Z" not in Path(f"/proc/{process}/stat").read_text()
    except OSError:
        return False

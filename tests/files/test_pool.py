"""Work on cases in processes, one of which may be killed."""

import multiprocessing
import os
import re
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool

import pytest

from nnunet_dycon.errors import UserError
from nnunet_dycon.files.pool import KILLED, map_cases, submit


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
    with pytest.raises(UserError, match=rf"^split: {re.escape(KILLED)}$"):
        map_cases(die, [1, 2, 3], num_processes=2, description="split", progress=False)


def test_a_pool_that_is_broken_already_breaks_what_is_submitted_later():
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        with pytest.raises(BrokenProcessPool):
            submit(pool, die, 1).result()
        later = submit(pool, double, 1)
        with pytest.raises(BrokenProcessPool):
            later.result()

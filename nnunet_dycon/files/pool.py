"""One call a case, in processes if asked for; bad input of one case does not hide that of the others."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from functools import partial
from typing import Any, TypeVar

from tqdm import tqdm

from nnunet_dycon.errors import UserError

Item = TypeVar("Item")
Result = TypeVar("Result")

KILLED = "a worker process was killed, most likely for lack of memory; use fewer (-np, or nnUNet_def_n_proc)"


def map_cases(
    function: Callable[[Item], Result],
    items: Sequence[Item],
    *,
    num_processes: int,
    description: str,
    progress: bool,
) -> list[Result]:
    """Call a function of a module (so that a spawned process finds it) on every item.

    Returns:
        The results in the order of the items.

    Raises:
        UserError: Calls raised it; the messages of all of them, one a line. A process was killed.
    """
    if num_processes < 1:
        raise UserError(f"{num_processes} processes cannot work; give at least 1 (-np)")
    n_workers = min(num_processes, len(items))
    calls: Iterable[Callable[[], Result]] = (partial(function, item) for item in items)
    if n_workers > 1:
        calls = _calls_in_pool(function, items, n_workers)
    results, errors = [], []
    for call in tqdm(calls, total=len(items), desc=description, disable=not progress):
        try:
            results.append(call())
        except UserError as error:
            errors.append(str(error))
        except BrokenProcessPool:
            raise UserError("\n".join([*errors, f"{description}: {KILLED}"])) from None
    if errors:
        raise UserError("\n".join(errors))
    return results


def _calls_in_pool(
    function: Callable[[Item], Result], items: Sequence[Item], n_workers: int
) -> Iterator[Callable[[], Result]]:
    with ProcessPoolExecutor(n_workers, mp_context=multiprocessing.get_context("spawn")) as pool:
        for future in [submit(pool, function, item) for item in items]:
            yield future.result


def submit(pool: ProcessPoolExecutor, function: Callable[..., Result], *arguments: Any) -> Future[Result]:
    """``pool.submit``; a pool that is broken already makes a future that raises, as one that breaks later does."""
    try:
        return pool.submit(function, *arguments)
    except BrokenProcessPool as error:
        future: Future[Result] = Future()
        future.set_exception(error)
        return future

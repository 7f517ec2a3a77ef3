"""One call an item, in processes if asked for; what fails in one does not hide the others."""

from __future__ import annotations

import multiprocessing
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from typing import TypeVar

from tqdm import tqdm

from nnunet_dycon.errors import UserError

Item = TypeVar("Item")
Result = TypeVar("Result")

KILLED = "a worker process was killed, most likely for lack of memory; use fewer (-np, or nnUNet_def_n_proc)"


def completed(
    function: Callable[[Item], Result], items: Sequence[Item], *, num_processes: int, description: str, progress: bool
) -> Iterator[tuple[int, Future[Result]]]:
    """Call a function of a module (so that a spawned process finds it) on every item.

    At most ``num_processes`` workers, which end with this process, do it; 1 stays in this process. ``description`` is
    of the bar that shows the ``progress``.

    Yields:
        The place of each item as it is done, and a future that has its result or its exception; a UserError where
        the process was killed.

    Raises:
        UserError: no process is to work.
    """
    if num_processes < 1:
        raise UserError(f"{num_processes} processes cannot work; give at least 1 (-np)")
    number = min(num_processes, len(items))
    here = ((i, _called(function, item)) for i, item in enumerate(items))
    done = _in_pool(function, items, number) if number > 1 else here
    yield from tqdm(done, total=len(items), desc=description, disable=not (progress and items))


def map_cases(
    function: Callable[[Item], Result], items: Sequence[Item], *, num_processes: int, description: str, progress: bool
) -> list[Result]:
    """The results of ``completed`` in the order of the items.

    Raises:
        UserError: calls raised it, or a process was killed; all messages, one a line.
    """
    results: list[Future[Result]] = [Future() for _ in items]
    for i, future in completed(
        function, items, num_processes=num_processes, description=description, progress=progress
    ):
        if not isinstance(future.exception(), UserError):
            future.result()  # any other error ends it all
        results[i] = future
    if errors := dict.fromkeys(str(error) for future in results if (error := future.exception())):
        raise UserError("\n".join(errors))
    return [future.result() for future in results]


def _called(function: Callable[[Item], Result], item: Item) -> Future[Result]:
    future: Future[Result] = Future()
    try:
        future.set_result(function(item))
    except Exception as error:
        return _failed(error)
    return future


def _in_pool(
    function: Callable[[Item], Result], items: Sequence[Item], number: int
) -> Iterator[tuple[int, Future[Result]]]:
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(number, mp_context=context, initializer=_end_with_parent) as pool:
        futures = {_submitted(pool, function, item): i for i, item in enumerate(items)}
        try:
            for future in as_completed(futures):
                killed = isinstance(future.exception(), BrokenProcessPool)
                yield futures[future], _failed(UserError(KILLED)) if killed else future
        finally:  # an interruption ends after the calls that have begun
            pool.shutdown(cancel_futures=True)


def _submitted(pool: ProcessPoolExecutor, function: Callable[[Item], Result], item: Item) -> Future[Result]:
    """``pool.submit``; a pool that is broken already makes a future that raises, as one that breaks later does."""
    try:
        return pool.submit(function, item)
    except BrokenProcessPool as error:
        return _failed(error)


def _failed(error: Exception) -> Future[Result]:
    future: Future[Result] = Future()
    future.set_exception(error)
    return future


def _end_with_parent() -> None:
    """Let this worker end when the process that started it is killed; it would wait for work for ever."""

    def wait_and_end() -> None:
        if (parent := multiprocessing.parent_process()) is not None:
            parent.join()
            os._exit(1)

    threading.Thread(target=wait_and_end, daemon=True).start()

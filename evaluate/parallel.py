"""Work on all cores: in threads where numpy lets go of Python's lock while it calculates, else in processes."""

from __future__ import annotations

import multiprocessing
import os
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import Any, TypeVar

from threadpoolctl import threadpool_limits

from evaluate.errors import EvaluateError

Item = TypeVar("Item")
Result = TypeVar("Result")

JOBS = "EVALUATE_JOBS"
"""Environment variable: how many cores to use, instead of all that the process may run on."""
PATIENCE = 2.0
"""CPU seconds: what it takes to start a process and to import what it needs."""
_IDLE = 30
"""Seconds after which a process without work ends."""


def cores() -> int:
    """Return how many cores to use.

    Raises:
        EvaluateError: the environment asks for a number that is none, or below 1.
    """
    text = os.environ.get(JOBS, "").strip()
    if not text:
        return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    if not text.isdecimal() or int(text) < 1:
        raise EvaluateError(f"{JOBS} must be a whole number of cores, 1 or more; got {text!r}; unset it to use all")
    return int(text)


def in_threads(function: Callable[[Item], Result], items: Sequence[Item]) -> list[Result]:
    """Return the results in the order of items; one thread per core, and one core for the matrices of each.

    Sums are therefore taken in the same order however many cores there are.
    """
    with threadpool_limits(1, "blas"), ThreadPoolExecutor(cores()) as pool:
        return list(pool.map(function, items))


class Processes:
    """Calls of functions that hold Python's lock: a process per core, and one core for the matrices of each.

    Results are those of calls made here one after another, to the last bit. The first calls are made here, for as long
    as it would take to start processes; little work therefore starts none. Inside a daemonic process, which may not
    have children, all are.

    Args:
        patience: CPU seconds of calls that are made here.
    """

    def __init__(self, patience: float = PATIENCE) -> None:
        self._left = patience

    def starmap(self, function: Callable[..., Result], items: Sequence[tuple[Any, ...]]) -> Iterator[Result]:
        """Yield `function(*item)` in the order of items. All of them must be things that can be pickled.

        Raises:
            EvaluateError: a process was killed.
            Exception: what the function raised, at the place of its result; no further item is begun.
        """
        single = cores() == 1 or multiprocessing.current_process().daemon
        done = 0
        while done < len(items) and (single or self._left > 0):
            start = time.thread_time()
            with threadpool_limits(1, "blas"):
                result = function(*items[done])
            self._left -= time.thread_time() - start
            done += 1
            yield result
        if done < len(items):
            yield from _elsewhere(function, items[done:])


def _elsewhere(function: Callable[..., Result], items: Sequence[tuple[Any, ...]]) -> Iterator[Result]:
    # The processes of `multiprocessing` would import the script that the user started; joblib's do not, so that a
    # script needs no `if __name__ == "__main__"`.
    from joblib import Parallel, delayed, parallel_config

    with parallel_config("loky", inner_max_num_threads=1, idle_worker_timeout=_IDLE):
        pool = Parallel(cores(), return_as="generator", batch_size=1, max_nbytes=None)
        results = pool(delayed(function)(*item) for item in items)
    try:
        yield from results
    except BrokenProcessPool as error:
        raise EvaluateError(
            "a process that scored was killed, as happens when memory runs out; make it fewer processes by setting "
            f"{JOBS}, below {cores()}"
        ) from error

"""Telling people how far a long job is, and doing its parts side by side."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Protocol, TypeVar, runtime_checkable

T = TypeVar("T")
R = TypeVar("R")


@runtime_checkable
class Progress(Protocol):
    """Hears how far a job is. `advance` is called from many threads."""

    def start(self, total: int) -> None:
        """The job will move so many bytes."""

    def advance(self, size: int) -> None:
        """So many of them are done with."""


class Silent:
    """Nobody listens."""

    def start(self, total: int) -> None:
        """See `Progress.start`."""

    def advance(self, size: int) -> None:
        """See `Progress.advance`."""


def in_order(pool: ThreadPoolExecutor, work: Callable[[T], R], items: Iterable[T], ahead: int) -> Iterator[R]:
    """Results of `work(item)` in the order of the items, of which at most `ahead` are begun before they are asked for.

    When it ends early, what was begun is finished and the rest is never begun.
    """
    waiting: deque[Future[R]] = deque()
    try:
        for item in items:
            if len(waiting) >= ahead:
                yield waiting.popleft().result()
            waiting.append(pool.submit(work, item))
        while waiting:
            yield waiting.popleft().result()
    finally:
        for future in waiting:
            future.cancel()

"""Ratios that hold on a busy machine: things are timed in turn, and each ratio is taken within a round."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping

Work = Callable[[], object]


def times(works: Mapping[str, Work], rounds: int, before: Work | None = None) -> dict[str, list[float]]:
    """Seconds of each work in each round, after one round that does not count.

    The order is turned round after every round, so that none always runs in another's wake.

    Args:
        works: name -> what is timed.
        rounds: how often.
        before: is run before each work and not timed.
    """
    taken: dict[str, list[float]] = {name: [] for name in works}
    for turn in range(rounds + 1):
        for name in works if turn % 2 else reversed(works):
            if before is not None:
                before()
            start = time.perf_counter()
            works[name]()
            if turn:
                taken[name].append(time.perf_counter() - start)
    return taken


def speed(taken: Mapping[str, list[float]], ours: str, peer: str) -> float:
    """How many times as fast as the peer: median over rounds of (seconds of the peer) / (seconds of ours)."""
    ratios = [theirs / own for theirs, own in zip(taken[peer], taken[ours], strict=True)]
    return round(statistics.median(ratios), 3)


def milliseconds(taken: Mapping[str, list[float]], name: str) -> float:
    """Median, for people who want to know what a ratio is a ratio of."""
    return round(1000 * statistics.median(taken[name]), 2)

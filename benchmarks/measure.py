"""Ratios that hold on a busy machine: things are timed in turn, and each ratio is taken within a round."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping
from typing import Any

Work = Callable[[], object]
Taken = Mapping[str, list[float]]
"""Seconds of each work in each round."""
Goals = Mapping[str, tuple[str, float]]
"""number -> `>=` or `<=`, and the goal."""


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
        for name in works if turn % 2 else reversed(list(works)):
            if before is not None:
                before()
            start = time.perf_counter()
            works[name]()
            if turn:
                taken[name].append(time.perf_counter() - start)
    return taken


def speed(taken: Taken, ours: str, peer: str) -> float:
    """How many times as fast as the peer: median over rounds of (seconds of the peer) / (seconds of ours)."""
    ratios = [theirs / own for theirs, own in zip(taken[peer], taken[ours], strict=True)]
    return round(statistics.median(ratios), 3)


def cost(taken: Taken, ours: str, peer: str) -> float:
    """How many times the seconds of the peer: median over rounds."""
    return speed(taken, ours=peer, peer=ours)


def judged(numbers: Mapping[str, float], goals: Goals) -> dict[str, Any]:
    """Each number beside its goal, if it has one."""
    result: dict[str, Any] = {}
    for name, value in numbers.items():
        if name not in goals:
            result[name] = value
            continue
        sign, goal = goals[name]
        reached = value >= goal if sign == ">=" else value <= goal
        result[name] = {"value": value, "goal": f"{sign} {goal:g}", "reached": reached}
    return result


def milliseconds(taken: Taken, name: str) -> float:
    """Median, for people who want to know what a ratio is a ratio of."""
    return round(1000 * statistics.median(taken[name]), 2)

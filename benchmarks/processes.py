"""Scenes of grouping in processes against one after another."""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from threadpoolctl import threadpool_limits

from benchmarks.scored import Both, Size, scene
from evaluate.metrics.base import Protocol
from evaluate.parallel import Processes, cores
from evaluate.protocols import get_protocol

SCENES = 48
SIZE = Size(windows=5, views=4, height=128, width=128)
"""As probes score them: windows of a clip, targets at 128 x 128 pixels."""


class Scored(NamedTuple):
    """The bits of a scene's statistics, and which process made them between which of its CPU seconds."""

    bits: list[bytes]
    process: int
    start: float
    end: float


def score(protocol: Protocol, both: Both) -> Scored:
    """Score one scene."""
    start = time.process_time()
    made = protocol.score_scene(*both)
    return Scored([value.tobytes() for value in made.values()], os.getpid(), start, time.process_time())


def grouping(rounds: int) -> dict[str, float]:
    """Compare, after one round in which processes start.

    Returns:
        `grouping_processes_speed`: wall seconds one after another / wall seconds in processes.
        `grouping_processes_efficiency`: the same from CPU seconds, per core: those one after another / (those of all
        processes + those of this one for every core). 1 = as many times as fast as there are cores, were they free.
    """
    rng = np.random.default_rng(0)
    protocol = get_protocol("grouping")
    items = [(protocol, scene("grouping", SIZE, 0.3, rng)) for _ in range(SCENES)]
    processes = Processes(patience=0)
    speeds, shares, seconds = [], [], []
    for turn in range(rounds + 1):
        wall, own = time.perf_counter(), time.process_time()
        with threadpool_limits(1, "blas"):
            alone = [score(*item) for item in items]
        alone_wall, alone_own = time.perf_counter() - wall, time.process_time() - own
        wall, own = time.perf_counter(), time.process_time()
        together = list(processes.starmap(score, items))
        wall, own = time.perf_counter() - wall, time.process_time() - own
        if [each.bits for each in alone] != [each.bits for each in together]:
            raise ValueError("processes must give the same statistics in the same order")
        if turn:
            speeds.append(alone_wall / wall)
            shares.append(alone_own / (_spent(together) + cores() * own))
            seconds.append(alone_own / SCENES)
    return {
        "grouping_processes": cores(),
        "grouping_processes_speed": round(statistics.median(speeds), 2),
        "grouping_processes_efficiency": round(statistics.median(shares), 2),
        "grouping_cpu_ms_per_scene": round(1000 * statistics.median(seconds), 1),
    }


def _spent(scored: Sequence[Scored]) -> float:
    """CPU seconds of all processes from their first scene to the end of their last, with what comes between."""
    ids = {each.process for each in scored}
    return sum(
        max(each.end for each in scored if each.process == process)
        - min(each.start for each in scored if each.process == process)
        for process in ids
    )

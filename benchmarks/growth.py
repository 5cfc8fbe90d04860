"""Does the cost of a clip, a tap, a channel or a probe stay what it is when there are many?

    python -m benchmarks.growth                              about 2 minutes on two cores
    python -m benchmarks.growth --sections open resume
    python -m benchmarks.growth --shrink 8 --rounds 1        a trial
    python -m benchmarks.growth --sections open --sizes 62500 250000 1000000 --rounds 1

Prints JSON. `slope` is that of log(processor seconds) against log(size), fitted over all sizes: 1 means that twice as
many cost twice as much. Goals leave some room for noise. What is done once makes slopes small, and would hide what
grows faster than the rest; so that of the last three sizes is looked at too. Processor seconds are those of all threads
and of processes that were started, which other programs on the machine change least; each is the least of some rounds.
Waiting for the disk is not in them, but in `wall_ms`.

`workers`: extraction with `--cluster local:2` against `local:1`, from start to end: how many times the processor
seconds, of which those to start a worker and to load the backbone are spent by each, and how many times as fast.
"""

from __future__ import annotations

import argparse
import gc
import json
import platform
import resource
import shutil
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from benchmarks.growing import Growing, Grown
from benchmarks.measure import Goals, Work, judged

SIZES: dict[str, tuple[int, ...]] = {
    "write_clips": (16, 32, 64, 128, 256),
    "write_taps": (4, 8, 16, 32, 64),
    "write_channels": (128, 256, 512, 1024, 2048),
    "open": (2000, 4000, 8000, 16000, 32000),
    "resume": (2000, 4000, 8000, 16000, 32000),
    "resume_from_commits": (500, 1000, 2000, 4000, 8000),
    "train": (16, 32, 64, 128, 256),
    "report": (50, 100, 200, 400, 800),
}
ONCE = ("report",)
"""Takes so long that one round must do."""
LEAST = {"report": 50}
"""Smallest size, and what all sizes are multiples of."""
WORKERS, EXTRACTED = "workers", 8
GOALS: Goals = {
    "slope": ("<=", 1.1),
    "slope_of_last_three": ("<=", 1.2),
    "cpu_of_2_workers_vs_1": ("<=", 1.5),
}


class Spent(NamedTuple):
    """Seconds."""

    cpu: float
    wall: float


def spend(work: Work) -> Spent:
    """Do some work; processor seconds are those of this process and of those it started and saw end.

    What was there before is hidden from the garbage collector: a pass over all that this file imports takes a third of
    a second, and would fall now on one size, now on another. What the work makes itself is collected as ever.
    """
    gc.collect()
    gc.freeze()
    try:
        cpu, wall = _cpu(), time.perf_counter()
        work()
        return Spent(_cpu() - cpu, time.perf_counter() - wall)
    finally:
        gc.unfreeze()


def _cpu() -> float:
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.process_time() + children.ru_utime + children.ru_stime


def slope(sizes: Sequence[int], seconds: Sequence[float]) -> float:
    """Exponent p of the power law seconds = a size^p, by least squares of their logarithms."""
    return round(float(np.polyfit(np.log(sizes), np.log(seconds), 1)[0]), 3)


def growth(growing: Growing, sizes: Sequence[int], rounds: int) -> dict[str, Any]:
    """The numbers of one thing. Sizes take turns, so that a busy minute does not meet one alone."""
    if len(sizes) < 2:
        raise ValueError(f"a slope needs two sizes, got {sizes}")
    growing(sizes[0])()  # imports, and what is computed once
    found: dict[int, list[Spent]] = {size: [] for size in sizes}
    for _ in range(rounds):
        for size in sizes:
            found[size].append(spend(growing(size)))
    cpu = [min(each.cpu for each in found[size]) for size in sizes]
    wall = [min(each.wall for each in found[size]) for size in sizes]
    numbers = {"slope": slope(sizes, cpu), "slope_of_last_three": slope(sizes[-3:], cpu[-3:])}
    return judged(numbers, GOALS) | {
        "wall_slope": slope(sizes, wall),
        "sizes": list(sizes),
        "cpu_ms": [round(1000 * each, 2) for each in cpu],
        "wall_ms": [round(1000 * each, 2) for each in wall],
    }


def workers(grown: Grown, clips: int) -> dict[str, Any]:
    """Two workers against one."""
    spent = {number: spend(grown.extract(number, clips)) for number in (1, 2)}
    numbers = {
        "cpu_of_2_workers_vs_1": round(spent[2].cpu / spent[1].cpu, 3),
        "speed_of_2_workers_vs_1": round(spent[1].wall / spent[2].wall, 3),
    }
    return judged(numbers, GOALS) | {"cpu_ms": [round(1000 * spent[number].cpu) for number in (1, 2)]}


def shrunk(name: str, by: int) -> list[int]:
    """Sizes of a trial."""
    least = LEAST.get(name, 1)
    return sorted({max(least, size // by // least * least) for size in SIZES[name]})


def main() -> None:
    """Measure and print."""
    known = [*SIZES, WORKERS]
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sections", nargs="+", default=known, choices=known, help="what is measured", metavar="NAME")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--sizes", nargs="+", type=int, help="instead of the usual ones, at least two", metavar="N")
    parser.add_argument("--shrink", type=int, default=1, help="divide all sizes by this")
    parser.add_argument("--folder", type=Path, help="where to write; a temporary folder by default")
    options = parser.parse_args()
    result: dict[str, Any] = {"machine": platform.platform(), "rounds": options.rounds}
    folder = Path(tempfile.mkdtemp(dir=options.folder))
    grown = Grown(folder)
    try:
        for name in options.sections:
            if name == WORKERS:
                result[name] = workers(grown, max(2, EXTRACTED // options.shrink))
            else:
                rounds = 1 if name in ONCE else options.rounds
                result[name] = growth(getattr(grown, name), options.sizes or shrunk(name, options.shrink), rounds)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()

"""How long does it take to know what probes are worth?

    python -m benchmarks.evaluation                              about 5 minutes on two cores
    python -m benchmarks.evaluation --sections metrics --rounds 3

Prints JSON: every number with its goal and whether it is reached. Predictions and targets are made up
(`benchmarks.scored`), of the sizes of real ones.

`report`: seconds of `python -m evaluate` as a command, with page, tables and all intervals at 1000 resamples, for ten
runs with 500 probes in all, or a few more, so that each has as many of every task, on 100 test scenes; CPU seconds
beside it, since a busy machine stretches the others. `--probes 4000` is for 50 of every run and task.
`bootstrap`: average precision of 20 classes, 100 scenes of 5 windows under 1000 resamples: how many times as fast as
class by class with cumulative sums over samples.
`metrics`: `Protocol.score_scene` of one scene (2 windows of 4 views of 480 x 640) against the slowest of the library
calls that it is built on (`benchmarks.libraries` lists them), on the same arrays; tagging: `Protocol.reduce` of 312
scenes against scikit-learn's. One core for the matrices of either side, as when probes are scored. Ratios are costs: 1
means as long as that call alone. `ms_per_scene` says what they are ratios of. Camera has a goal
in milliseconds: a scene takes about 0.3, which is what a hundred calls of numpy cost that have next to nothing to do.
`processes`: scenes of grouping in processes (`evaluate.parallel.Processes`) against one after another, by the clock and
by CPU seconds, which say what the clock would on free cores.
"""

from __future__ import annotations

import argparse
import json
import platform
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from benchmarks.libraries import calls
from benchmarks.measure import Goals, cost, judged, milliseconds, speed, times
from benchmarks.processes import grouping
from benchmarks.recorded import write_runs
from benchmarks.scored import CLASS_LISTS, CLASSES, Size, scene
from evaluate.metrics.precision import class_average_precision
from evaluate.protocols import TASKS, get_protocol
from evaluate.records import RUN_FILE
from evaluate.schema import read_info
from evaluate.statistics import resample

PROBES, SCENES, MANY = 500, 100, 312
SECTIONS = ["report", "bootstrap", "metrics", "processes"]
VIEWS = Size(windows=2, views=4, height=480, width=640)
GOALS: Goals = {
    "report_seconds": ("<=", 20),
    "bootstrap_vs_class_by_class": (">=", 8),
    **{f"{task}_vs_slowest_call": ("<=", 2) for task in TASKS if task != "camera"},
    "camera_ms_per_scene": ("<=", 1),
    "grouping_processes_efficiency": (">=", 0.85),
}


def report(folder: Path, probes: int, scenes: int) -> dict[str, float]:
    """Seconds of the whole command."""
    runs = write_runs(folder / "runs", probes, scenes)
    command = [sys.executable, "-m", "evaluate", "--runs", f"{folder}/runs/*", "--out", str(folder / "report")]
    before, start = _cpu(), time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return {
        "report_probes": sum(len(read_info(run / RUN_FILE).probes) for run in runs),
        "report_seconds": round(time.perf_counter() - start, 1),
        "report_cpu_seconds": round(_cpu() - before, 1),
    }


def _cpu() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def bootstrap(rounds: int) -> dict[str, float]:
    """Average precision under resamples."""
    rng = np.random.default_rng(0)
    rows = [scene("tagging", Size(windows=5), 0.6, rng) for _ in range(SCENES)]
    scores = np.stack([prediction["scores"] for prediction, _ in rows])
    labels = np.stack([target["labels"] for _, target in rows])
    weights = resample(SCENES)
    if not np.allclose(class_average_precision(scores, labels, weights), _by_class(scores, labels, weights)):
        raise ValueError("both must give the same average precision")
    works = {
        "ours": lambda: class_average_precision(scores, labels, weights),
        "class by class": lambda: _by_class(scores, labels, weights),
    }
    taken = times(works, rounds)
    return {
        "bootstrap_vs_class_by_class": speed(taken, "ours", "class by class"),
        "bootstrap_ms": milliseconds(taken, "ours"),
    }


def _by_class(scores: NDArray[Any], labels: NDArray[Any], weights: NDArray[Any]) -> NDArray[np.float64]:
    """What most people would write, where no two scores are equal."""
    drawn = np.repeat(weights, scores.shape[1], axis=1)
    found = []
    for k in range(scores.shape[2]):
        order = np.argsort(-scores[..., k].ravel())
        gained = drawn[:, order] * labels[..., k].ravel()[order]
        hits = np.cumsum(gained, axis=1)
        found.append((gained * hits / np.cumsum(drawn[:, order], axis=1)).sum(axis=1) / hits[:, -1])
    return np.stack(found, axis=1)


def metrics(tasks: Sequence[str], rounds: int) -> dict[str, float]:
    """What one scene costs, task by task."""
    numbers: dict[str, float] = {}
    for task in tasks:
        rng = np.random.default_rng(0)
        protocol = get_protocol(task, CLASS_LISTS.get(task, ()))
        prediction, target = scene(task, VIEWS, 0.3, rng)
        scale = 1
        if task == "tagging":
            rows = [protocol.score_scene(*scene(task, VIEWS, 0.5, rng)) for _ in range(MANY)]
            pool = {name: np.stack([row[name] for row in rows]) for name in rows[0]}
            works: dict[str, Callable[[], object]] = {"ours": lambda: protocol.reduce(pool)}  # noqa: B023
            prediction, target = {"scores": pool["scores"]}, {"labels": pool["labels"]}
            scale = MANY
        else:
            works = {"ours": lambda: protocol.score_scene(prediction, target)}  # noqa: B023
        with threadpool_limits(1, "blas"):
            taken = times(works | calls(task, prediction, target), rounds)
        slowest = max((name for name in taken if name != "ours"), key=lambda name: milliseconds(taken, name))
        numbers[f"{task}_vs_slowest_call"] = cost(taken, "ours", slowest)
        numbers |= {f"{task}_ms_per_scene": round(milliseconds(taken, "ours") / scale, 2)}
        numbers |= {
            f"{task}_{name}_ms": round(milliseconds(taken, name) / scale, 2) for name in taken if name != "ours"
        }
    return numbers


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sections", nargs="+", default=SECTIONS, choices=SECTIONS, help="what is measured")
    parser.add_argument("--tasks", nargs="+", default=list(TASKS), choices=TASKS, help="of the metrics")
    parser.add_argument("--probes", type=int, default=PROBES, help="of all tasks and runs, in the report")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--folder", type=Path, help="where to write; a temporary folder by default")
    options = parser.parse_args()
    result: dict[str, Any] = {"machine": platform.platform(), "rounds": options.rounds, "classes": len(CLASSES)}
    folder = Path(tempfile.mkdtemp(dir=options.folder))
    try:
        if "report" in options.sections:
            result["report"] = judged(report(folder, options.probes, SCENES), GOALS)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    if "bootstrap" in options.sections:
        result["bootstrap"] = judged(bootstrap(options.rounds), GOALS)
    if "metrics" in options.sections:
        result["metrics"] = judged(metrics(options.tasks, options.rounds), GOALS)
    if "processes" in options.sections:
        result["processes"] = judged(grouping(options.rounds), GOALS)
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()

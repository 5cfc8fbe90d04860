"""Predictions of val and test become sufficient statistics, the best probe of each task, and a few examples."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits
from torch import Tensor

from evaluate.parallel import Processes, cores
from probes.bank import ProbeBank
from probes.config import ProbeSpec, TrainConfig
from probes.examples import examples
from probes.features import read_features
from probes.heads.base import Grid
from probes.inputs import TEST, VAL, Inputs
from probes.labels import ClipLabels
from probes.sampling import GridMap
from probes.scoring import Kept, SceneResults, Statistics, finished, scored_or_kept
from probes.tasks.base import Task, join
from probes.views import evaluation_windows

if TYPE_CHECKING:
    from evaluate.protocols import Protocol
    from evaluate.records import RunWriter
    from probes.training.status import Meter


@dataclass
class Scores:
    """Statistics of every probe and scene, as they are written and reduced."""

    values: dict[str, dict[str, list[Statistics]]] = field(
        default_factory=lambda: defaultdict(lambda: defaultdict(list))
    )

    def add(self, probe_id: str, split: str, statistics: Statistics) -> None:
        """Add one scene."""
        self.values[probe_id][split].append(statistics)

    def metrics(self, protocol: Protocol, probe_id: str, split: str) -> dict[str, float]:
        """Metrics over all scenes of a split."""
        scenes = self.values[probe_id][split]
        return protocol.reduce({name: np.stack([scene[name] for scene in scenes]) for name in scenes[0]})


def scored(inputs: Inputs) -> list[str]:
    """The splits that are scored: val and test, as far as there are any, and test alone where it stands for val."""
    both = [split for split in (VAL, TEST) if inputs.rows.get(split)]
    return [TEST] if inputs.rows.get(VAL) == inputs.rows.get(TEST) else both


def scenes_of(inputs: Inputs, split: str) -> dict[str, list[int]]:
    """Scene -> rows of its clips, in row order."""
    scenes: dict[str, list[int]] = defaultdict(list)
    for row in inputs.rows[split]:
        scenes[inputs.clip(row).scene].append(row)
    return dict(scenes)


def score(
    bank: ProbeBank,
    inputs: Inputs,
    protocols: Mapping[str, Protocol],
    config: TrainConfig,
    add: Callable[[str, str, str, Statistics], None],
    advance: Callable[[], None],
    alive: Callable[[], None] = lambda: None,
) -> Scores:
    """Score every probe on every scene of val and test, as far as there are any.

    Args:
        bank: trained probes.
        inputs: the stores.
        protocols: task name -> protocol.
        config: as in training; gives the views of a window.
        add: takes (probe id, scene, split, statistics).
        advance: is called after each scene.
        alive: is called after each tap of a scene, and again after each prediction that was scored in a process.
    """
    scores = Scores()
    scenes = [(split, scene, rows) for split in scored(inputs) for scene, rows in scenes_of(inputs, split).items()]
    most = max(sum(len(evaluation_windows(config, inputs.clip(row))) for row in rows) for _, _, rows in scenes)

    def predicted(pool: ThreadPoolExecutor) -> Iterator[SceneResults]:
        for split, scene, rows in scenes:
            clips = _labelled(bank, inputs, rows, config, most)
            work = [pool.submit(_score_tap, bank, inputs, protocols, tap, clips) for tap in bank.taps]
            results: list[tuple[str, Statistics | Kept]] = []
            for future in work:
                results += future.result()
                alive()
            yield SceneResults(split, scene, results)

    with _workers() as pool:
        for split, scene, found in finished(predicted(pool), Processes(), alive):
            for probe_id, statistics in found:
                scores.add(probe_id, split, statistics)
                add(probe_id, scene, split, statistics)
            advance()
    return scores


@contextmanager
def _workers() -> Iterator[ThreadPoolExecutor]:
    """One thread per core for the taps of a scene, and one core for each: the matrices are too small to share one."""
    threads = torch.get_num_threads()
    pool = ThreadPoolExecutor(cores(), "score", initializer=torch.set_num_threads, initargs=(1,))
    try:
        with threadpool_limits(1, "blas"):
            yield pool
    finally:
        pool.shutdown(cancel_futures=True)
        torch.set_num_threads(threads)


class _Clips(NamedTuple):
    """The clips of one scene: rows, labels and windows of each, targets of all by task, and the most windows of any."""

    rows: Sequence[int]
    labels: Sequence[ClipLabels]
    views: Sequence[NDArray[Any]]
    targets: Mapping[str, Statistics]
    most: int


def _labelled(bank: ProbeBank, inputs: Inputs, rows: Sequence[int], config: TrainConfig, most: int) -> _Clips:
    labels = [inputs.labels(row) for row in rows]
    seen = [evaluation_windows(config, inputs.clip(row)) for row in rows]
    asked = {task.name: task for task in bank.tasks.values()}  # all forms of a task have the same targets here
    targets = {name: _joined(task, labels, seen, most) for name, task in asked.items()}
    return _Clips(rows, labels, seen, targets, most)


def _joined(
    task: Task, labels: Sequence[ClipLabels], seen: Sequence[NDArray[Any]], most: int
) -> Mapping[str, NDArray[Any]]:
    targets = [task.target(clip, views) for clip, views in zip(labels, seen, strict=True)]
    return task.pad(join(targets, task.constant), most)


@torch.inference_mode()
def _score_tap(
    bank: ProbeBank, inputs: Inputs, protocols: Mapping[str, Protocol], tap: str, clips: _Clips
) -> list[tuple[str, Statistics | Kept]]:
    """Statistics of one scene for every probe of one tap, so that features are read and standardised once."""
    features = [read_features(inputs, tap, row).to(bank.device) for row in clips.rows]
    framed = [bank.grid(tap, clip[None]) for clip in features]
    windowed = [grid.windows(torch.from_numpy(view)) for grid, view in zip(framed, clips.views, strict=True)]
    grid_map = GridMap(*bank.taps[tap].grid_map)
    results: list[tuple[str, Statistics | Kept]] = []
    for index, probe in enumerate(bank.probes):
        if probe.tap == tap:
            task = bank.task(probe)
            said = [
                task.predict_seeing(_outputs(bank, index, whole, seen, views), grid_map, labels, views)
                for whole, seen, labels, views in zip(framed, windowed, clips.labels, clips.views, strict=True)
            ]
            prediction = task.pad(join(said), clips.most)
            target = clips.targets[probe.task]
            results.append((probe.id, scored_or_kept(protocols[probe.task], prediction, target)))
    return results


def _outputs(bank: ProbeBank, index: int, framed: Grid, windowed: Grid, views: NDArray[Any]) -> Tensor:
    """What a head says of one clip, in the form that `Task.predict` takes.

    A head whose views see each other sees as many at a time as in training, also where each frame is judged by itself.
    """
    by_frame, across = bank.task(bank.probes[index]).framed, bank.head(index).across
    outputs: Tensor = bank(index, framed if by_frame and not across else windowed)
    if not (by_frame and across):
        return outputs
    said = outputs.flatten(0, 1)
    count, size = framed.frames, views.shape[1]
    outputs = said.new_empty(1, count, *said.shape[1:])
    outputs[0, torch.from_numpy(views.ravel())] = said
    if left := count - views.size:  # the last frames, fewer than make a window: with others from all over the clip
        last = np.arange(count - left, count)
        window = np.concatenate([np.linspace(0, last[0] - 1, size - left).round().astype(last.dtype), last])
        outputs[0, -left:] = bank(index, framed.windows(torch.from_numpy(window[None])))[0, -left:]
    return outputs


@dataclass(frozen=True)
class Best:
    """The tap of a task and head that is best on val, with its primary metric on val and all metrics on test.

    Numbers are means over seeds, which nobody chooses from; `probe_id` is the probe with the first. `control` is the
    same of the probes with shuffled labels, if there are any.
    """

    task: str
    head: str
    tap: str
    probe_id: str
    metric: str
    val: float
    test: Mapping[str, float]
    control: Best | None = None


def choose_best(bank: ProbeBank, scores: Scores, protocols: Mapping[str, Protocol], on: str = VAL) -> list[Best]:
    """Best tap of each task and head, chosen on val, beside the best of its controls. Nobody chooses between heads.

    Ties go to the first in execution order. Test decides nothing, unless there is no val: `on` says so.
    """
    rows: dict[tuple[str, str, bool], list[ProbeSpec]] = {}
    for probe in bank.probes:
        rows.setdefault((probe.task, probe.label, probe.shuffled), []).append(probe)
    best = {row: _best(probes, scores, protocols[row[0]], on) for row, probes in rows.items()}
    return [
        replace(found, control=best.get((task, head, True)))
        for (task, head, shuffled), found in best.items()
        if not shuffled
    ]


def _best(probes: Sequence[ProbeSpec], scores: Scores, protocol: Protocol, on: str) -> Best:
    metric = protocol.primary
    seeds: dict[str, list[ProbeSpec]] = {}
    for probe in probes:
        seeds.setdefault(probe.tap, []).append(probe)
    val = {tap: _mean([scores.metrics(protocol, each.id, on) for each in those]) for tap, those in seeds.items()}
    best = next(iter(val))
    for tap in val:
        if protocol.metrics[metric].better(val[tap][metric], val[best][metric]):
            best = tap
    test = _mean([scores.metrics(protocol, each.id, TEST) for each in seeds[best]])
    first = seeds[best][0]
    return Best(first.task, first.label, best, first.id, metric, val[best][metric], test)


def _mean(metrics: Sequence[Mapping[str, float]]) -> dict[str, float]:
    return {name: math.fsum(each[name] for each in metrics) / len(metrics) for name in metrics[0]}


def record(
    writer: RunWriter,
    bank: ProbeBank,
    inputs: Inputs,
    protocols: Mapping[str, Protocol],
    config: TrainConfig,
    meter: Meter,
) -> list[Best]:
    """Score all probes into a run, with some examples of the best of each task and head. Returns those."""
    scenes = sum(len(scenes_of(inputs, split)) for split in scored(inputs))
    with meter.phase("evaluate", scenes, "scenes"):
        scores = score(bank, inputs, protocols, config, writer.add, meter.advance, meter.alive)
    best = choose_best(bank, scores, protocols, scored(inputs)[0])
    tested = {
        choice.probe_id: dict(zip(scenes_of(inputs, TEST), scores.values[choice.probe_id][TEST], strict=True))
        for choice in best
    }
    for example in examples(bank, inputs, protocols, config, best, tested):
        writer.add_example(example)
    return best

"""Predictions of val and test become sufficient statistics, the best probe of each task, and a few examples."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from probes.bank import ProbeBank
from probes.config import TrainConfig
from probes.features import read_features
from probes.heads.base import Grid
from probes.inputs import TEST, VAL, Inputs
from probes.labels import ClipLabels
from probes.sampling import GridMap
from probes.tasks.base import Task, join
from probes.views import evaluation_windows

if TYPE_CHECKING:
    from evaluate.protocols import Protocol
    from evaluate.records import Example, RunWriter
    from probes.training.status import Meter

EXAMPLES = 3
"""Test scenes shown per task."""

Statistics = Mapping[str, NDArray[Any]]


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
) -> Scores:
    """Score every probe on every scene of val and test, as far as there are any.

    Args:
        bank: trained probes.
        inputs: the stores.
        protocols: task name -> protocol.
        config: as in training; gives the views of a window.
        add: takes (probe id, scene, split, statistics).
        advance: is called after each scene.
    """
    scores = Scores()
    scenes = [(split, scene, rows) for split in scored(inputs) for scene, rows in scenes_of(inputs, split).items()]
    most = max(sum(len(evaluation_windows(config, inputs.clip(row))) for row in rows) for _, _, rows in scenes)
    with _workers() as pool:
        for split, scene, rows in scenes:
            clips = _labelled(bank, inputs, rows, config, most)
            work = [pool.submit(_score_tap, bank, inputs, protocols, tap, clips) for tap in bank.taps]
            for probe_id, statistics in (result for future in work for result in future.result()):
                scores.add(probe_id, split, statistics)
                add(probe_id, scene, split, statistics)
            advance()
    return scores


@contextmanager
def _workers() -> Iterator[ThreadPoolExecutor]:
    """One thread per core for the taps of a scene, and one core for each: the matrices are too small to share one."""
    threads = torch.get_num_threads()
    try:
        with ThreadPoolExecutor(os.cpu_count(), "score", initializer=torch.set_num_threads, initargs=(1,)) as pool:
            yield pool
    finally:
        torch.set_num_threads(threads)


class _Clips(NamedTuple):
    """The clips of one scene: rows, windows of each, targets of all by task, and the most windows of any scene."""

    rows: Sequence[int]
    views: Sequence[NDArray[Any]]
    targets: Mapping[str, Statistics]
    most: int


def _labelled(bank: ProbeBank, inputs: Inputs, rows: Sequence[int], config: TrainConfig, most: int) -> _Clips:
    labels = [inputs.labels(row) for row in rows]
    seen = [evaluation_windows(config, inputs.clip(row)) for row in rows]
    targets = {name: _joined(task, labels, seen, most) for name, task in bank.tasks.items()}
    return _Clips(rows, seen, targets, most)


def _joined(
    task: Task, labels: Sequence[ClipLabels], seen: Sequence[NDArray[Any]], most: int
) -> Mapping[str, NDArray[Any]]:
    targets = [task.target(clip, views) for clip, views in zip(labels, seen, strict=True)]
    return task.pad(join(targets, task.constant), most)


@torch.inference_mode()
def _score_tap(
    bank: ProbeBank, inputs: Inputs, protocols: Mapping[str, Protocol], tap: str, clips: _Clips
) -> list[tuple[str, Statistics]]:
    """Statistics of one scene for every probe of one tap, so that features are read and standardised once."""
    features = [read_features(inputs, tap, row).to(bank.device) for row in clips.rows]
    framed = [bank.grid(tap, clip[None]) for clip in features]
    windowed = [Grid(grid.cells[0, torch.from_numpy(view)]) for grid, view in zip(framed, clips.views, strict=True)]
    grid_map = GridMap(*bank.taps[tap].grid_map)
    results: list[tuple[str, Statistics]] = []
    for index, probe in enumerate(bank.probes):
        if probe.tap == tap:
            task = bank.tasks[probe.task]
            grids = framed if task.framed else windowed
            prediction = task.pad(join([task.predict(bank(index, grid), grid_map) for grid in grids]), clips.most)
            results.append((probe.id, protocols[probe.task].score_scene(prediction, clips.targets[probe.task])))
    return results


@dataclass(frozen=True)
class Best:
    """The probe of a task that is best on val, with its primary metric on val and all metrics on test."""

    task: str
    tap: str
    probe_id: str
    metric: str
    val: float
    test: Mapping[str, float]


def choose_best(bank: ProbeBank, scores: Scores, protocols: Mapping[str, Protocol], on: str = VAL) -> list[Best]:
    """Best probe of each task, chosen on val; ties go to the first in execution order.

    Test decides nothing, unless there is no val: `on` says so.
    """
    chosen = []
    for task in bank.tasks:
        protocol = protocols[task]
        metric = protocol.primary
        probes = [probe for probe in bank.probes if probe.task == task]
        val = {probe.id: scores.metrics(protocol, probe.id, on)[metric] for probe in probes}
        best = probes[0]
        for probe in probes[1:]:
            if protocol.metrics[metric].better(val[probe.id], val[best.id]):
                best = probe
        chosen.append(Best(task, best.tap, best.id, metric, val[best.id], scores.metrics(protocol, best.id, TEST)))
    return chosen


def record(
    writer: RunWriter,
    bank: ProbeBank,
    inputs: Inputs,
    protocols: Mapping[str, Protocol],
    config: TrainConfig,
    meter: Meter,
) -> list[Best]:
    """Score all probes into a run, with some examples of the best of each task. Returns those."""
    scenes = sum(len(scenes_of(inputs, split)) for split in scored(inputs))
    with meter.phase("evaluate", scenes, "scenes"):
        scores = score(bank, inputs, protocols, config, writer.add, meter.advance)
    best = choose_best(bank, scores, protocols, scored(inputs)[0])
    for example in examples(bank, inputs, best, config):
        writer.add_example(example)
    return best


@torch.inference_mode()
def examples(bank: ProbeBank, inputs: Inputs, best: Sequence[Best], config: TrainConfig) -> Iterator[Example]:
    """The first window of the first test scenes, beside what the best probe says: segmentation, grouping and depth."""
    from evaluate.records import Example

    for choice in best:
        show = _SHOWN.get(choice.task)
        if show is None:
            continue
        index = [probe.id for probe in bank.probes].index(choice.probe_id)
        tap = bank.taps[bank.probes[index].tap]
        for scene, rows in list(scenes_of(inputs, TEST).items())[:EXAMPLES]:
            clip, labels = inputs.clip(rows[0]), inputs.labels(rows[0])
            window = evaluation_windows(config, clip)[:1]
            features = read_features(inputs, tap.name, clip.row, window[0].tolist()).to(bank.device)
            task = bank.tasks[choice.task]
            prediction = task.predict(bank(index, bank.grid(tap.name, features[None])), GridMap(*tap.grid_map))
            beside = [name for name in ("rgb", "intrinsics", "cam_to_world") if name in inputs.targets.arrays]
            arrays = {name: getattr(labels, name)[window[0]] for name in beside}
            yield Example(
                task=choice.task,
                scene=scene,
                split=TEST,
                probe_id=choice.probe_id,
                frames=[clip.bank[position] for position in window[0]],
                arrays=arrays | show(prediction, labels, window[0]),
            )


def _show_depth(prediction: Statistics, labels: ClipLabels, frames: NDArray[Any]) -> dict[str, NDArray[Any]]:
    true, said = labels.depth[frames], prediction["depth"]
    if said.ndim > true.ndim:  # by the paper's rules: one window, in a unit that its protocol undoes by medians
        known = true > 0
        said = said[0] * (np.median(true[known]) / np.median(said[0][known]) if known.any() else np.float32(1))
    return {"depth": true, "depth_pred": said.astype(np.float32)}


def _show_classes(prediction: Statistics, labels: ClipLabels, frames: NDArray[Any]) -> dict[str, NDArray[Any]]:
    return {"classes": labels.classes[frames], "classes_pred": prediction["classes"]}


def _show_instances(prediction: Statistics, labels: ClipLabels, frames: NDArray[Any]) -> dict[str, NDArray[Any]]:
    from evaluate.metrics.grouping import cluster, upsample_nearest

    instance = labels.thing_instance[frames]
    clusters = upsample_nearest(cluster(prediction["embeddings"][0].astype(np.float64)), instance.shape[1:])
    # Ids 1, 2 … for clusters and 0 for what belongs to none, as in the targets.
    return {"instance": instance.astype(np.int32), "instance_pred": (clusters + 1).astype(np.int32)}


_SHOWN: dict[str, Callable[[Statistics, ClipLabels, NDArray[Any]], dict[str, NDArray[Any]]]] = {
    "segmentation": _show_classes,
    "grouping": _show_instances,
    "depth": _show_depth,
}

"""Runs that a report is timed on: as many probes and scenes as asked for, with statistics of made-up predictions."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from benchmarks.scored import CLASS_LISTS, Size, scene
from evaluate.metrics.base import Arrays
from evaluate.protocols import TASKS, get_protocol
from evaluate.records import Kind, ProbeInfo, RunInfo, RunWriter

MODELS: Sequence[tuple[str, Kind, bool]] = (
    *((f"language-{size}b", "vlm", False) for size in (2, 7, 14)),
    *((f"video-{size}b", "vgm", False) for size in (1, 5, 14)),
    *((f"encoder-{size}m", "encoder", False) for size in (86, 304)),
    ("language-7b", "vlm", True),
    ("video-5b", "vgm", True),
)
"""Model, kind, whether untrained."""
NOISES = 5
"""Levels of a video generator."""
POOL = 24
"""Scenes that are scored; every other one repeats the statistics of one of them."""


def write_runs(
    root: Path, probes: int, scenes: int, tasks: Sequence[str] = TASKS, val: int = 10, size: Size | None = None
) -> list[Path]:
    """Write one run per model.

    Args:
        root: where.
        probes: at least so many over all tasks and models, as many of each; each of a tap of its own.
        scenes: of test.
        tasks: which.
        val: scenes of val.
        size: of a scene.
    """
    rng = np.random.default_rng(0)
    size = size or Size()
    pool = {
        (task, rank): [
            get_protocol(task, CLASS_LISTS.get(task, ())).score_scene(*scene(task, size, 0.2 + 0.2 * rank, rng))
            for _ in range(POOL)
        ]
        for task in tasks
        if task != "tagging"
        for rank in range(3)
    }
    taps = -(-probes // (len(MODELS) * len(tasks)))
    return [_write(root, model, taps, scenes, val, tasks, size, pool) for model in MODELS]


def _write(
    root: Path,
    model: tuple[str, Kind, bool],
    taps: int,
    scenes: int,
    val: int,
    tasks: Sequence[str],
    size: Size,
    pool: dict[tuple[str, int], list[dict[str, np.ndarray]]],
) -> Path:
    name, kind, untrained = model
    info = _info(name, kind, untrained, taps, tasks)
    path = root / info.name
    rng = np.random.default_rng([len(name), untrained, sum(map(ord, name))])
    tagging = get_protocol("tagging", CLASS_LISTS["tagging"])
    with RunWriter(path, info) as writer:
        for probe in info.probes:
            rank = 2 if untrained else int(rng.integers(3))
            for index in range(val + scenes):
                statistics: Arrays = (
                    tagging.score_scene(*scene("tagging", size, 0.3 + 0.2 * rank, rng))
                    if probe.task == "tagging"
                    else pool[probe.task, rank][int(rng.integers(POOL))]
                )
                writer.add(probe.id, f"scene-{index:04d}", "val" if index < val else "test", statistics)
    return path


def _info(name: str, kind: Kind, untrained: bool, taps: int, tasks: Sequence[str]) -> RunInfo:
    noises = [f"t{100 * (level + 1)}" for level in range(NOISES)] if kind == "vgm" else [None]
    places = [(depth, noise) for depth in range(taps) for noise in noises][:taps]
    probes = [
        ProbeInfo(
            id=f"{task}/blocks.{depth}{f'@{noise}' if noise else ''}",
            task=task,
            tap=f"blocks.{depth}{f'@{noise}' if noise else ''}",
            site=f"blocks.{depth}",
            depth=depth,
            noise=noise,
            head="linear",
            learning_rate=1e-3,
            weight_decay=0.0,
            seed=0,
            parameters=1000,
        )
        for task in tasks
        for depth, noise in places
    ]
    return RunInfo(
        name=f"{name}{'-untrained' if untrained else ''}",
        model=name,
        kind=kind,
        untrained=untrained,
        dataset="made-up",
        features_fingerprint=f"features-{name}-{untrained}",
        targets_fingerprint="targets",
        config={"views": 4},
        protocols={task: get_protocol(task, CLASS_LISTS.get(task, ())).id for task in tasks},
        classes={task: CLASS_LISTS[task] for task in tasks if task in CLASS_LISTS},
        probes=probes,
        command="python -m benchmarks.evaluation",
        created="2026-01-02T03:04:05+00:00",
        versions={},
    )

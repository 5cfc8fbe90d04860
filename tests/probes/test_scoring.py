"""Scenes come out in order and with the same numbers, wherever and whenever they were scored."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from threadpoolctl import threadpool_limits

from evaluate.parallel import JOBS, Processes
from evaluate.protocols import get_protocol
from probes.scoring import AHEAD, Kept, SceneResults, finished, scored_or_kept

CORES = 2
GROUPING, DEPTH = get_protocol("grouping"), get_protocol("depth")


@pytest.fixture(autouse=True)
def two(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(JOBS, str(CORES))


def _scenes(count: int, *, grouping: bool = True, depth: bool = True) -> Iterator[SceneResults]:
    rng = np.random.default_rng(0)
    codes = 2 * rng.normal(size=(5, 16))
    for index in range(count):
        results = []
        for tap in "ab":
            instances = np.kron(rng.integers(0, 5, (1, 3, 8, 8)), np.ones((1, 1, 4, 4), int)).astype(np.uint8)
            embeddings = codes[instances[..., ::4, ::4]] + 1.5 * rng.normal(size=(1, 3, 8, 8, 16))
            metres = rng.uniform(1, 2, (2, 6, 8))
            if grouping:
                made = scored_or_kept(GROUPING, {"embeddings": embeddings}, {"instances": instances})
                results.append((f"grouping/{tap}", made))
            if depth:
                results.append((f"depth/{tap}", scored_or_kept(DEPTH, {"depth": metres}, {"depth": metres + 0.1})))
        yield SceneResults("val" if index < 2 else "test", f"scene-{index}", results)


def test_only_what_holds_the_lock_is_kept() -> None:
    kinds = {probe: type(result) for scene in _scenes(1) for probe, result in scene.probes}
    assert kinds == {"grouping/a": Kept, "depth/a": dict, "grouping/b": Kept, "depth/b": dict}


def test_processes_change_no_bit_and_no_order() -> None:
    count = 2 * AHEAD + 1  # two batches of half as many scenes, and one over
    with threadpool_limits(1, "blas"):
        expected = [
            [
                (probe, GROUPING.score_scene(made.prediction, made.target) if isinstance(made, Kept) else made)
                for probe, made in scene.probes
            ]
            for scene in _scenes(count)
        ]
    alive: list[None] = []
    found = list(finished(_scenes(count), Processes(patience=0), lambda: alive.append(None)))
    assert [(scene.split, scene.scene) for scene in found] == [
        ("val" if index < 2 else "test", f"scene-{index}") for index in range(count)
    ]
    assert len(alive) == 2 * count
    for scene, probes in zip(found, expected, strict=True):
        assert [probe for probe, _ in scene.probes] == [probe for probe, _ in probes]
        for (_, one), (_, other) in zip(scene.probes, probes, strict=True):
            assert {name: value.tobytes() for name, value in one.items()} == {
                name: value.tobytes() for name, value in other.items()
            }
    values = [float(statistics["iou"]) for scene in expected for probe, statistics in scene if "grouping" in probe]
    assert len(set(values)) > count


def test_scenes_wait_only_for_what_is_kept_and_never_for_more_than_cores_want() -> None:
    def counted(**tasks: bool) -> list[int]:
        begun = 0

        def scenes() -> Iterator[SceneResults]:
            nonlocal begun
            for scene in _scenes(2 * AHEAD, **tasks):
                begun += 1
                yield scene

        return [begun for _ in finished(scenes(), Processes())]

    assert counted(grouping=False) == list(range(1, 2 * AHEAD + 1))
    batch = AHEAD * CORES // 2  # scenes: each has two predictions that are kept
    assert counted() == [batch] * batch + [2 * batch] * batch

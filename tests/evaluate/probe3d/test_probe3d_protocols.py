"""What holds for all protocols of the family `probe3d-2404.08636`."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from evaluate.errors import InputError, MixedProtocolsError, UnknownProtocolError
from evaluate.metrics import modules
from evaluate.protocols import PROBE3D, Protocol, get_protocol, protocol_of
from evaluate.records import Run, RunWriter
from evaluate.table import build
from tests.evaluate.imagined_rooms import room
from tests.evaluate.imagined_runs import prediction, run_info

TASKS = ("depth", "normals", "correspondence")


def _protocol(task: str) -> Protocol:
    return get_protocol(task, family=PROBE3D)


def _scene(task: str, seed: int, error: float) -> tuple[dict, dict]:
    """Return (prediction, target) of one scene for a probe that errs by `error`."""
    rng = np.random.default_rng(seed)
    if task != "correspondence":
        return prediction(task, room(seed, size=24), error, rng)
    places, pairs = rng.uniform(0, 1, (1, 50, 2)), 4
    points = np.concatenate([places, np.ones((1, 50, 1))], -1)[:, None].repeat(pairs, 1)
    wrong = rng.random((1, pairs, 50)) < error
    target = {
        "asked": np.ones((1, pairs, 50), bool),
        "positions": places[:, None].repeat(pairs, 1),
        "points": points,
        "surface": points,
        "places": places,
        "angle": rng.uniform(0, 170, (1, pairs)),
        "size": np.array([[64, 48]]),
    }
    matches = np.where(wrong, rng.integers(0, 50, wrong.shape), np.arange(50))
    return {"matches": matches, "confidence": rng.random(wrong.shape)}, target


def _pool(task: str, error: float = 0.4, scenes: int = 4) -> dict[str, np.ndarray]:
    rows = [_protocol(task).score_scene(*_scene(task, seed, error)) for seed in range(scenes)]
    return {name: np.stack([row[name] for row in rows]) for name in rows[0]}


@pytest.mark.parametrize("task", TASKS)
def test_the_family_is_found_by_name_and_by_id(task):
    protocol = protocol_of(f"{PROBE3D}/{task}@1")
    assert protocol.id == _protocol(task).id == f"{PROBE3D}/{task}@1"
    assert protocol.primary in protocol.metrics
    pool = _pool(task)
    assert {name: array.ndim - 1 for name, array in pool.items()} == {
        name: len(dims) for name, dims in protocol.dims.items()
    }
    assert list(protocol.reduce(pool)) == list(protocol.metrics)


def test_tasks_that_the_paper_lacks_are_refused_and_names_are_answered_with_the_nearest():
    with pytest.raises(UnknownProtocolError, match="no protocol for 'camera', only for depth, normals, correspondence"):
        get_protocol("camera", family=PROBE3D)
    with pytest.raises(UnknownProtocolError, match=f"Did you mean '{PROBE3D}'"):
        get_protocol("depth", family="probe3d-2404.08363")


@pytest.mark.parametrize("task", TASKS)
def test_weights_are_repetitions(task):
    protocol, pool = _protocol(task), _pool(task)
    counts = np.array([[2, 1, 0, 1], [0, 3, 1, 0]])
    fast = protocol.reduce_weighted(pool, counts.astype(float))
    for row, each in enumerate(counts):
        multiset = {name: np.repeat(array, each, axis=0) for name, array in pool.items()}
        assert {name: value[row] for name, value in fast.items()} == pytest.approx(
            protocol.reduce(multiset), nan_ok=True
        )


@pytest.mark.parametrize("task", TASKS)
def test_less_error_is_a_better_score(task):
    protocol = _protocol(task)
    small, large = (protocol.reduce(_pool(task, error))[protocol.primary] for error in (0.05, 0.8))
    assert protocol.metrics[protocol.primary].better(small, than=large)


@pytest.mark.parametrize("task", TASKS)
def test_missing_arrays_are_named(task):
    with pytest.raises(InputError, match="lacks"):
        _protocol(task).score_scene({}, {})


@pytest.mark.parametrize("task", TASKS)
def test_torchmetrics_compute_the_same(task):
    metric = getattr(modules, f"{task.capitalize()}Metric")(family=PROBE3D)
    for seed in range(4):
        metric.update(*_scene(task, seed, 0.4))
    got = {name: float(value) for name, value in metric.compute().items()}
    assert got == pytest.approx(_protocol(task).reduce(_pool(task)), nan_ok=True)


def _run(root: Path, name: str, family: str, splits: tuple[str, ...] = ("val", "test", "test")) -> Run:
    info = run_info(name, model=name, tasks=("depth",), protocols={"depth": f"{family}/depth@1"}, config={"views": 4})
    protocol = protocol_of(info.protocols["depth"])
    with RunWriter(root / name, info) as writer:
        for probe in info.probes:
            for index, split in enumerate(splits):
                guess, truth = _scene("depth", index, 0.3)
                writer.add(probe.id, f"room-{index}", split, protocol.score_scene(guess, truth))
    return Run.open(root / name)


def test_the_family_has_columns_of_its_own(tmp_path: Path):
    mine, other = _run(tmp_path, "mine", PROBE3D), _run(tmp_path, "other", PROBE3D)
    standard = _run(tmp_path, "standard", "standard")
    (axis,) = build([mine, other], resamples=20)
    assert axis.protocol.id == f"{PROBE3D}/depth@1"
    assert len(axis.models) == 2
    with pytest.raises(MixedProtocolsError, match=f"different protocols .*{PROBE3D}/depth@1.*standard/depth@1"):
        build([mine, standard], resamples=20)
    (alone,) = build([mine, standard], resamples=20, family=PROBE3D)
    assert [model.info.name for model in alone.models] == ["mine"]


def test_a_layer_is_never_chosen_on_the_scenes_that_are_reported(tmp_path: Path):
    with pytest.raises(InputError, match="no val scenes"):
        build([_run(tmp_path, "blind", PROBE3D, splits=("test", "test"))], resamples=20)

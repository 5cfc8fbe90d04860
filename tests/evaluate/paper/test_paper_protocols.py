"""What holds for all protocols of the family `paper-2605.28132`."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from evaluate.errors import InputError, MixedProtocolsError, UnknownProtocolError
from evaluate.metrics import modules
from evaluate.protocols import Protocol, get_protocol, protocol_of
from evaluate.records import Run, RunWriter
from evaluate.table import build
from tests.evaluate.imagined_rooms import THINGS, Room, room
from tests.evaluate.imagined_runs import first_view_points, prediction, run_info

FAMILY = "paper-2605.28132"
TASKS = ("tagging", "grouping", "depth", "points", "camera")
CLASSES = {"tagging": THINGS}


def _protocol(task: str) -> Protocol:
    return get_protocol(task, CLASSES.get(task, ()), FAMILY)


def _scene(task: str, seed: int, error: float) -> tuple[dict, dict]:
    """Return (prediction, target) of one scene for a probe that errs by `error`."""
    rng, views = np.random.default_rng(seed), room(seed, size=24)
    if task in ("tagging", "grouping"):
        return prediction(task, views, error, rng)
    confidence = 1 + 1 / views.depth[None]
    if task == "depth":
        guess, truth = prediction(task, views, error, rng)
        return {"depth": guess["depth"][None]}, {"depth": truth["depth"][None], "confidence": confidence}
    if task == "points":
        points = first_view_points(views)[None]
        noisy = points + rng.normal(0, 0.9 * error, points.shape)
        return {"points": noisy}, {"points": points, "confidence": confidence}
    return _camera(views, error, rng)


def _camera(views: Room, error: float, rng: np.random.Generator) -> tuple[dict, dict]:
    from scipy.spatial.transform import Rotation

    poses = np.linalg.inv(views.cam_to_world)[None]
    guess = poses.copy()
    turn = Rotation.from_rotvec(rng.normal(0, 0.3 * error, (len(poses[0]), 3))).as_matrix()
    guess[0, :, :3, :3] = turn @ poses[0, :, :3, :3]
    guess[0, :, :3, 3] += rng.normal(0, 0.8 * error, (len(poses[0]), 3))
    return {"world_to_cam": guess}, {"world_to_cam": poses}


def _pool(task: str, error: float = 0.4, scenes: int = 4) -> dict[str, np.ndarray]:
    rows = [_protocol(task).score_scene(*_scene(task, seed, error)) for seed in range(scenes)]
    return {name: np.stack([row[name] for row in rows]) for name in rows[0]}


@pytest.mark.parametrize("task", TASKS)
def test_the_family_is_found_by_name_and_by_id(task):
    protocol = protocol_of(f"{FAMILY}/{task}@1", CLASSES.get(task, ()))
    assert protocol.id == _protocol(task).id == f"{FAMILY}/{task}@1"
    assert protocol.primary in protocol.metrics
    pool = _pool(task)
    assert {name: array.ndim - 1 for name, array in pool.items()} == {
        name: len(dims) for name, dims in protocol.dims.items()
    }
    assert list(protocol.reduce(pool)) == list(protocol.metrics)


def test_tasks_that_the_paper_lacks_are_refused_and_names_are_answered_with_the_nearest():
    with pytest.raises(UnknownProtocolError, match="no protocol for 'segmentation', only for tagging"):
        get_protocol("segmentation", ["a"], FAMILY)
    with pytest.raises(UnknownProtocolError, match=f"Did you mean '{FAMILY}'"):
        get_protocol("depth", family="paper-2605.28123")
    with pytest.raises(UnknownProtocolError, match="needs class names"):
        get_protocol("tagging", family=FAMILY)


@pytest.mark.parametrize("task", TASKS)
def test_weights_are_repetitions(task):
    """But in tagging, where copies of a scene would be ties of each other: there, weights say who is left out."""
    protocol, pool = _protocol(task), _pool(task)
    counts = np.array([[1, 1, 1, 1], [0, 1, 1, 0], [1, 0, 1, 1]] if task == "tagging" else [[2, 1, 0, 1], [0, 3, 1, 0]])
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
    metric = getattr(modules, f"{task.capitalize()}Metric")(CLASSES.get(task, ()), family=FAMILY)
    for seed in range(4):
        metric.update(*_scene(task, seed, 0.4))
    got = {name: float(value) for name, value in metric.compute().items()}
    assert got == pytest.approx(_protocol(task).reduce(_pool(task)), nan_ok=True)


def _run(root: Path, name: str, family: str, views: int = 4) -> Run:
    info = run_info(
        name, model=name, tasks=("depth",), protocols={"depth": f"{family}/depth@1"}, config={"views": views}
    )
    protocol = protocol_of(info.protocols["depth"])
    with RunWriter(root / name, info) as writer:
        for probe in info.probes:
            for index, split in enumerate(("val", "test", "test")):
                guess, truth = _scene("depth", index, 0.3)
                if family == "standard":
                    guess, truth = {"depth": guess["depth"][0]}, {"depth": truth["depth"][0]}
                writer.add(probe.id, f"room-{index}", split, protocol.score_scene(guess, truth))
    return Run.open(root / name)


def test_the_family_has_columns_of_its_own(tmp_path: Path):
    mine, other = _run(tmp_path, "mine", FAMILY), _run(tmp_path, "other", FAMILY)
    (axis,) = build([mine, other], resamples=20)
    assert axis.protocol.id == f"{FAMILY}/depth@1"
    assert len(axis.models) == 2
    with pytest.raises(MixedProtocolsError, match=f"different protocols .*{FAMILY}/depth@1.*standard/depth@1"):
        build([mine, _run(tmp_path, "standard", "standard")], resamples=20)
    with pytest.raises(MixedProtocolsError, match="numbers of views"):
        build([mine, _run(tmp_path, "eight", FAMILY, views=8)], resamples=20)

"""Which scenes are kept to be looked at, and that what is kept is what the probe said of them."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

from evaluate.metrics.base import MetricInfo
from evaluate.metrics.points import umeyama
from evaluate.protocols import protocol_of
from evaluate.records import Example, Run
from probes.examples import ENDS, choose
from probes.train import app

HIGHER, LOWER = (MetricInfo("m", "", better, "of a test") for better in (True, False))
TASKS = "tagging,segmentation,grouping,depth,points,camera"


def test_the_ends_and_the_median_are_chosen_whatever_better_means() -> None:
    values = {f"s{k}": float(k) for k in range(9)}
    assert ENDS == 1
    assert choose(values, HIGHER) == {"s0": "worst 1 of 9", "s4": "median of 9", "s8": "best 1 of 9"}
    assert choose(values, LOWER) == {"s8": "worst 1 of 9", "s4": "median of 9", "s0": "best 1 of 9"}
    assert list(choose(values, LOWER)) == ["s8", "s4", "s0"]


def test_more_of_either_end_can_be_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("probes.examples.ENDS", 2)
    values = {f"s{k}": float(k) for k in range(6)}
    assert choose(values, HIGHER) == {
        "s0": "worst 1 of 6",
        "s1": "worst 2 of 6",
        "s2": "median of 6",
        "s4": "best 2 of 6",
        "s5": "best 1 of 6",
    }
    few = {count: choose({f"s{k}": float(k) for k in range(count)}, HIGHER) for count in range(5)}
    assert [list(chosen) for chosen in few.values()] == [[f"s{k}" for k in range(count)] for count in range(5)]
    assert list(few[4].values()) == ["worst 1 of 4", "median of 4", "best 2 of 4", "best 1 of 4"]


def test_scenes_without_a_value_are_not_chosen_and_not_counted() -> None:
    values = {"a": math.nan, "b": 1.0, "c": math.nan, "d": 2.0}
    assert choose(values, HIGHER) == {"b": "worst 1 of 2", "d": "best 1 of 2"}
    assert choose({"b": 1.0, "a": math.nan}, HIGHER) == {"b": "the only scene"}
    assert choose({"a": math.nan}, HIGHER) == {}


def test_equals_are_in_the_order_of_their_names() -> None:
    values = {"c": 1.0, "a": 1.0, "b": 1.0}
    assert list(choose(values, HIGHER)) == list(choose(values, LOWER)) == ["a", "b", "c"]
    assert choose(dict(reversed(values.items())), HIGHER) == choose(values, HIGHER)


@pytest.fixture(scope="module")
def run(world_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A short run over the tasks that the tiny world has values of."""
    out = tmp_path_factory.mktemp("runs") / "toy-world"
    arguments = ["--features", "store/toy", "--views", "3", "--device", "cpu", "--pixels", "96", "--epochs", "20"]
    arguments += ["--task", TASKS, "--learning-rate", "0.02", "--out", str(out)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FEATURE_STORE", str(world_root))
        app(arguments, standalone_mode=False)
    return Run.open(out)


def of(run: Run, task: str) -> list[Example]:
    return [example for example in run.examples() if example.task == task]


@pytest.mark.parametrize("task", TASKS.split(","))
def test_the_worst_and_the_best_scenes_are_those_of_the_metric(run: Run, task: str) -> None:
    worst, usual, best = of(run, task)
    protocol = protocol_of(run.info.protocols[task], run.info.classes.get(task, ()))
    metric = protocol.metrics[protocol.primary]
    scenes, statistics = run.statistics(task, worst.probe_id, "test")
    alone = {
        scene: protocol.reduce({name: array[index : index + 1] for name, array in statistics.items()})[protocol.primary]
        for index, scene in enumerate(scenes)
    }
    for example in (worst, usual, best):
        assert example.value == pytest.approx(alone[example.scene])
    assert not any(metric.better(worst.value, value) for value in alone.values())
    assert not any(metric.better(value, best.value) for value in alone.values())
    assert len({worst.scene, usual.scene, best.scene}) == 3
    assert [worst.why, usual.why, best.why] == ["worst 1 of 4", "median of 4", "best 1 of 4"]


def test_points_are_kept_as_the_metric_compares_them(run: Run) -> None:
    """No similarity brings what is kept closer to the truth."""
    for example in of(run, "points"):
        arrays = example.arrays
        valid = arrays["points_valid"]
        assert 0 < valid.sum() < valid.size
        scale, rotation, translation = umeyama(arrays["points_pred"][valid], arrays["points"][valid])
        assert scale == pytest.approx(1, abs=1e-4)
        np.testing.assert_allclose(rotation, np.eye(3), atol=1e-4)
        np.testing.assert_allclose(translation, 0, atol=1e-3)
        np.testing.assert_array_equal(arrays["points_rgb"], arrays["rgb"])


def test_cameras_are_kept_in_the_world(run: Run) -> None:
    for example in of(run, "camera"):
        true, said = example.arrays["cam_to_world"], example.arrays["cam_to_world_pred"]
        assert said.shape == true.shape == (3, 4, 4)
        np.testing.assert_allclose(said[0], true[0])
        np.testing.assert_allclose(said[:, :3, :3] @ said[:, :3, :3].transpose(0, 2, 1), [np.eye(3)] * 3, atol=1e-9)
        assert not np.allclose(said[1], true[0])


def test_tags_are_those_of_the_views(run: Run) -> None:
    for example in of(run, "tagging"):
        assert example.arrays["scores"].shape == example.arrays["labels"].shape == (3,)
        assert example.arrays["labels"].dtype == bool


def test_one_tap_has_one_projection(run: Run) -> None:
    """The same scene has the same colours in the examples of all tasks that are read from one tap."""
    taps = {probe.id: probe.tap for probe in run.info.probes}
    seen: dict[tuple[str, str], np.ndarray] = {}
    for example in run.examples():
        key = (taps[example.probe_id], example.scene)
        colours = example.arrays["features_pca"]
        np.testing.assert_array_equal(colours, seen.setdefault(key, colours))
    assert len(seen) < len(run.examples())


def test_by_a_papers_rules_examples_are_in_the_targets_unit(world: Path, tmp_path: Path) -> None:
    """Its predictions are in mean distances of the first view; what is kept is where the targets are."""
    arguments = ["--features", "store/toy", "--views", "2", "--device", "cpu", "--epochs", "1", "--taps", "blocks.0"]
    arguments += ["--protocol", "paper", "--head", "alternating", "--width", "16", "--depth", "1", "--pixels", "64"]
    arguments += ["--task", "points,camera", "--limit", "2", "--out", str(tmp_path / "run")]
    app(arguments, standalone_mode=False)
    run = Run.open(tmp_path / "run")
    for example in of(run, "points"):
        arrays = example.arrays
        scale, _, translation = umeyama(
            arrays["points_pred"][arrays["points_valid"]], arrays["points"][arrays["points_valid"]]
        )
        assert scale == pytest.approx(1, abs=1e-2)
        np.testing.assert_allclose(translation, 0, atol=1e-2)
    for example in of(run, "camera"):
        said = example.arrays["cam_to_world_pred"]
        assert said.shape == (2, 4, 4)
        np.testing.assert_allclose(said[:, 3], [[0, 0, 0, 1]] * 2, atol=1e-9)
        np.testing.assert_allclose(np.linalg.det(said[:, :3, :3]), 1, atol=1e-6)

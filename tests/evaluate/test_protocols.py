"""What holds for the protocols of all tasks."""

from __future__ import annotations

import numpy as np
import pytest

from evaluate.errors import InputError, UnknownProtocolError
from evaluate.metrics.base import MetricInfo
from evaluate.protocols import TASKS, get_protocol, protocol_of
from tests.evaluate.imagined_rooms import room
from tests.evaluate.imagined_runs import CLASS_LISTS, prediction


@pytest.fixture(scope="module")
def pools() -> dict[str, dict[str, np.ndarray]]:
    found = {}
    for task in TASKS:
        protocol = get_protocol(task, CLASS_LISTS.get(task, ()))
        rows = [
            protocol.score_scene(*prediction(task, room(seed, size=24), 0.4, np.random.default_rng(seed)))
            for seed in range(5)
        ]
        found[task] = {name: np.stack([row[name] for row in rows]) for name in rows[0]}
    return found


@pytest.mark.parametrize("task", TASKS)
def test_statistics_have_the_axes_that_the_protocol_names(task, pools):
    protocol = get_protocol(task, CLASS_LISTS.get(task, ()))
    assert {name: array.ndim - 1 for name, array in pools[task].items()} == {
        name: len(dims) for name, dims in protocol.dims.items()
    }
    assert protocol.id == f"standard/{task}@1"
    assert protocol.primary in protocol.metrics
    assert set(protocol.reduce(pools[task])) == set(protocol.metrics)


@pytest.mark.parametrize("task", TASKS)
def test_weights_are_repetitions(task, pools):
    """The bootstrap's fast path and the plain reduction of a multiset of scenes are the same numbers."""
    protocol = get_protocol(task, CLASS_LISTS.get(task, ()))
    rng = np.random.default_rng(0)
    weights = rng.multinomial(5, np.full(5, 0.2), size=6).astype(float)
    fast = protocol.reduce_weighted(pools[task], weights)
    classes = protocol.per_class_weighted(pools[task], weights)
    for row, counts in enumerate(weights.astype(int)):
        drawn = rng.permutation(np.repeat(np.arange(5), counts))
        multiset = {name: array[drawn] for name, array in pools[task].items()}
        plain = protocol.reduce(multiset)
        assert {name: value[row] for name, value in fast.items()} == pytest.approx(plain, nan_ok=True)
        for name, values in protocol.per_class(multiset).items():
            np.testing.assert_allclose(classes[name][row], values)


@pytest.mark.parametrize("task", TASKS)
def test_less_error_is_a_better_score(task):
    protocol = get_protocol(task, CLASS_LISTS.get(task, ()))
    metric = protocol.metrics[protocol.primary]

    def value(error: float) -> float:
        rows = [
            protocol.score_scene(*prediction(task, room(seed, size=32), error, np.random.default_rng(seed)))
            for seed in range(4)
        ]
        return protocol.reduce({name: np.stack([row[name] for row in rows]) for name in rows[0]})[protocol.primary]

    assert metric.better(value(0.05), than=value(0.8))


def test_names_that_do_not_exist_are_answered_with_the_nearest():
    with pytest.raises(UnknownProtocolError, match="Did you mean 'depth'"):
        get_protocol("dept")
    with pytest.raises(UnknownProtocolError, match="standard"):
        get_protocol("depth", family="standart")
    with pytest.raises(UnknownProtocolError, match="needs class names"):
        get_protocol("tagging")


@pytest.mark.parametrize("name", ["depth", "standard/depth@2", "standard/depth@1.0", "standard/dephts@1"])
def test_ids_of_other_versions_are_refused(name):
    assert protocol_of("standard/depth@1").id == "standard/depth@1"
    with pytest.raises(UnknownProtocolError):
        protocol_of(name)


@pytest.mark.parametrize("task", TASKS)
def test_missing_arrays_are_named(task):
    with pytest.raises(InputError, match="lacks"):
        get_protocol(task, CLASS_LISTS.get(task, ())).score_scene({}, {})


def test_metric_info_reads_and_compares():
    share, error = MetricInfo("a", "%", True, ""), MetricInfo("b", "m", False, "")
    assert share.format(0.7123) == "71.2 %"
    assert error.format(0.1834) == "0.183 m"
    assert error.format(0.1834, unit=False) == "0.183"
    assert share.format(float("nan")) == "n/a"
    assert share.better(0.2, than=0.1)
    assert error.better(0.1, than=0.2)
    assert error.better(0.1, than=float("nan"))
    assert not share.better(float("nan"), than=0.1)

"""Paired tests and Holm's correction, against scipy, literal loops and the principle behind them."""

from __future__ import annotations

from itertools import combinations, product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from evaluate.errors import InputError
from evaluate.metrics.points import PointsProtocol
from evaluate.paired import FLIPS, contributions, holm, influences, sign_flip_test, smallest_p
from evaluate.protocols import TASKS, get_protocol
from tests.evaluate.imagined_rooms import room
from tests.evaluate.imagined_runs import CLASS_LISTS, prediction

MEANS_OVER_SCENES = {
    "tagging": set(),
    "segmentation": set(),
    "grouping": {"t_miou", "t_sr", "ari", "pq"},
    "depth": set(get_protocol("depth").metrics) - {"r2_log"},
    "points": set(get_protocol("points").metrics),
    "camera": set(),
    "normals": set(get_protocol("normals").metrics),
    "correspondence": set(),
}
"""As docs/statistics.md lists them; all other metrics are pooled."""


def _pool(task: str, scenes: int = 5, error: float = 0.4) -> dict[str, np.ndarray]:
    protocol = get_protocol(task, CLASS_LISTS.get(task, ()))
    rng = np.random.default_rng(7)
    rows = [protocol.score_scene(*prediction(task, room(k, size=24), error, rng)) for k in range(scenes)]
    statistics = {name: np.stack([row[name] for row in rows]) for name in rows[0]}
    if task in (
        "segmentation",
        "camera",
        "correspondence",
    ):  # a scene three times as long: pooled is no longer the mean
        for array in statistics.values():
            array[0] *= 3
    return statistics


def _points(errors) -> dict[str, np.ndarray]:
    errors = np.asarray(errors, float)
    return dict.fromkeys(PointsProtocol.dims, errors * 0) | {
        "windows": np.isfinite(errors).astype(float),
        "point_error": np.nan_to_num(errors),
    }


@pytest.mark.parametrize("task", TASKS)
def test_contributions_sum_to_the_metric_and_are_the_scenes_own_where_that_is_its_mean(task: str):
    protocol, statistics = get_protocol(task, CLASS_LISTS.get(task, ())), _pool(task)
    alone = protocol.reduce_weighted(statistics, np.eye(5))
    values = protocol.reduce(statistics)
    exact, alike = set(), set()
    for name in protocol.metrics:
        got = contributions(protocol, [statistics], ["x"], name)
        if np.isnan(values[name]):
            assert np.isnan(got.scenes).all()
            continue
        assert got.value == values[name]
        assert np.nanmean(got.scenes) == pytest.approx(values[name], rel=1e-3, abs=1e-3)
        if got.exact:
            exact.add(name)
            np.testing.assert_allclose(got.scenes, alone[name], rtol=1e-6, atol=1e-8)
        alike |= {name} if np.ptp(alone[name]) == 0 else set()  # then every mean is one of scenes
    known = {name for name in protocol.metrics if np.isfinite(values[name])}
    assert exact - alike == (MEANS_OVER_SCENES[task] & known) - alike


def test_influence_is_the_slope_of_the_metric_in_the_weight_of_a_scene():
    """Of a ratio of sums it is known in closed form: (x_i - R y_i) / mean(y)."""
    rng = np.random.default_rng(0)
    protocol, table = get_protocol("segmentation", ["a", "b"]), rng.integers(1, 50, (6, 2, 2))
    got = influences(protocol, {"confusion": table})["accuracy"]
    hits, all_ = np.trace(table, axis1=1, axis2=2), table.sum(axis=(1, 2))
    wanted = (hits - hits.sum() / all_.sum() * all_) / all_.mean()
    np.testing.assert_allclose(got, wanted, rtol=1e-3)


def test_a_class_of_one_scene_moves_the_metric_smoothly():
    """Leaving out that scene would drop the class from the mean: a jump that is no slope."""
    labels = np.zeros((4, 3, 2), bool)
    labels[:, 0, 0], labels[0, 0, 1] = True, True
    scores = np.random.default_rng(1).uniform(size=labels.shape)
    statistics = {"scores": scores, "labels": labels, "bucket": np.zeros((4, 2), int)}
    got = influences(get_protocol("tagging", ["a", "b"]), statistics)["map"]
    assert np.abs(got).max() < 1
    assert abs(got.sum()) < 0.05


def test_scenes_with_nothing_to_measure_say_nothing():
    got = contributions(get_protocol("points"), [_points([0.2, np.nan, 0.6])], ["x"], "point_error")
    np.testing.assert_allclose(got.scenes, [0.2, np.nan, 0.6])
    assert got.exact
    assert got.value == pytest.approx(0.4)


def test_contributions_are_averaged_over_repeats_as_estimates_are():
    rows = np.array([[0.1, 0.3], [0.2, 0.8], [0.7, 0.9]])
    got = contributions(get_protocol("points"), [_points(row) for row in rows], ["a", "a", "b"], "point_error")
    np.testing.assert_allclose(got.scenes, (rows[:2].mean(axis=0) + rows[2]) / 2)


def _mean(values, axis):
    return np.mean(values, axis=axis)


@pytest.mark.parametrize("scenes", [2, 5, 9, 14])
def test_all_flips_are_those_of_scipy(scenes: int):
    differences = np.random.default_rng(scenes).normal(0.3, 1, scenes)
    known = stats.permutation_test((differences,), _mean, permutation_type="samples", n_resamples=np.inf)
    assert sign_flip_test(differences) == pytest.approx(known.pvalue)


def test_all_flips_are_a_literal_count_also_with_ties():
    for differences in ([1.0, 1.0, -1.0, 2.0], [0.0, 0.0, 3.0], [0.1, 0.2, 0.3], [0.0]):
        flips = product((1, -1), repeat=len(differences))
        sums = [abs(sum(s * d for s, d in zip(signs, differences, strict=True))) for signs in flips]
        hits = sum(value >= abs(sum(differences)) - 1e-9 for value in sums)
        assert sign_flip_test(differences) == pytest.approx(hits / len(sums))


def test_random_flips_come_near_the_t_test_and_are_never_zero():
    rng = np.random.default_rng(3)
    for shift in (0.0, 0.1, 0.3):
        differences = rng.normal(shift, 1, 120)
        assert sign_flip_test(differences) == pytest.approx(stats.ttest_1samp(differences, 0).pvalue, abs=0.02)
    assert sign_flip_test(np.full(60, 0.2)) == 1 / (1 + FLIPS)
    assert sign_flip_test(np.zeros(60)) == 1.0
    close = rng.normal(0, 1, 40)
    assert sign_flip_test(close, seed=1) == sign_flip_test(close, seed=1) != sign_flip_test(close, seed=2)


def test_the_test_holds_its_level():
    rng = np.random.default_rng(4)
    p = np.array([sign_flip_test(rng.standard_t(3, 10)) for _ in range(600)])
    assert (p <= 0.05).mean() == pytest.approx(0.05, abs=0.025)
    assert (p <= 0.5).mean() == pytest.approx(0.5, abs=0.07)


@given(st.lists(st.floats(-5, 5), min_size=1, max_size=8), st.floats(0.1, 9))
@settings(max_examples=50, deadline=None)
def test_neither_sign_nor_unit_nor_order_changes_p(differences: list[float], unit: float):
    p = sign_flip_test(differences)
    assert smallest_p(len(differences)) <= p <= 1
    assert sign_flip_test(-np.array(differences)) == p
    assert sign_flip_test(differences[::-1]) == pytest.approx(p)
    assert sign_flip_test(unit * np.array(differences)) == pytest.approx(p)


def test_the_least_p_is_what_a_clear_lead_gets():
    for scenes in (1, 3, 6, 14, 15, 100):
        assert sign_flip_test(np.linspace(1, 1.1, scenes)) == pytest.approx(smallest_p(scenes), rel=0.5)
    assert np.isnan(smallest_p(0))
    assert np.isnan(sign_flip_test([np.nan]))


def _closed_bonferroni(p: list[float]) -> list[float]:
    """Holm's correction is the closure of Bonferroni's (Marcus, Peritz & Gabriel 1976): reject what all sets reject."""
    sets = [chosen for size in range(1, len(p) + 1) for chosen in combinations(range(len(p)), size)]
    return [max(min(1.0, len(s) * min(p[k] for k in s)) for s in sets if index in s) for index in range(len(p))]


@given(st.lists(st.floats(0, 1), min_size=1, max_size=6))
@settings(max_examples=80, deadline=None)
def test_holm_is_the_closure_of_bonferroni(p: list[float]):
    np.testing.assert_allclose(holm(p), _closed_bonferroni(p))


def test_holm_by_hand_and_by_statsmodels():
    np.testing.assert_allclose(holm([0.01, 0.04, 0.03, 0.005]), [0.03, 0.06, 0.06, 0.02])
    np.testing.assert_allclose(holm([0.01, np.nan, 0.04]), [0.02, np.nan, 0.04])
    assert holm([]).shape == (0,)
    with pytest.raises(InputError, match=r"must lie in \[0, 1\]"):
        holm([0.2, 1.2])
    multitest = pytest.importorskip("statsmodels.stats.multitest")
    p = np.random.default_rng(0).uniform(0, 0.1, 30)
    np.testing.assert_allclose(holm(p), multitest.multipletests(p, method="holm")[1])

"""The bootstrap: right coverage, right pairing, the same every time."""

from __future__ import annotations

import numpy as np
import pytest

from evaluate.errors import InputError
from evaluate.metrics.points import PointsProtocol
from evaluate.protocols import get_protocol
from evaluate.statistics import Interval, estimate, estimate_classes, percentile_interval, resample


def _points(errors: np.ndarray) -> dict[str, np.ndarray]:
    return dict.fromkeys(PointsProtocol.dims, errors * 0) | {"windows": errors * 0 + 1, "point_error": errors}


def test_resamples_are_seeded_weights_and_every_scene_keeps_some():
    weights = resample(7, seed=3, resamples=400)
    assert weights.shape == (400, 7)
    np.testing.assert_allclose(weights.sum(axis=1), 7)
    assert (weights > 0).all()
    np.testing.assert_array_equal(weights, resample(7, seed=3, resamples=400))
    assert (weights != resample(7, seed=4, resamples=400)).any()
    assert weights.mean() == pytest.approx(1)
    # A flat Dirichlet weight of n scenes, times n, has variance (n - 1) / (n + 1); drawing whole scenes, (n - 1) / n.
    assert weights.var() == pytest.approx(6 / 8, rel=0.1)
    with pytest.raises(InputError, match="at least one scene"):
        resample(0)


def test_classes_that_one_scene_has_do_not_shift_the_interval():
    """Drawing whole scenes drops such classes from most resamples and over-represents them in the rest."""
    rng, scenes, classes = np.random.default_rng(0), 12, 12
    labels = np.eye(classes, dtype=bool)[:, None].repeat(5, axis=1)
    scores = rng.uniform(size=labels.shape) + 0.2 * labels
    pool = {"scores": scores, "labels": labels, "bucket": np.zeros((scenes, classes), int)}
    got = estimate(get_protocol("tagging", [f"c{k}" for k in range(classes)]), pool)
    interval = got.interval("map")
    assert interval.low < interval.value < interval.high
    assert got.draws["map"].mean() == pytest.approx(interval.value, abs=0.03)
    whole = np.random.default_rng(0).multinomial(scenes, np.full(scenes, 1 / scenes), size=1000).astype(float)
    protocol = get_protocol("tagging", [f"c{k}" for k in range(classes)])
    shifted = protocol.reduce_weighted(pool, whole)["map"]
    assert shifted.mean() > interval.value + 0.04


def test_the_estimate_is_a_literal_bootstrap():
    errors = np.random.default_rng(0).uniform(0.1, 0.9, 9)
    protocol = get_protocol("points")
    got = estimate(protocol, _points(errors), seed=5, resamples=300)
    draws = [np.average(errors, weights=row) for row in resample(9, seed=5, resamples=300)]
    np.testing.assert_allclose(got.draws["point_error"], draws)
    interval = got.interval("point_error")
    assert interval.value == pytest.approx(errors.mean())
    assert (interval.low, interval.high) == pytest.approx(tuple(np.quantile(draws, [0.025, 0.975])))


def test_intervals_cover_the_truth_about_as_often_as_they_say():
    protocol, rng, hits = get_protocol("points"), np.random.default_rng(1), 0
    for trial in range(300):
        interval = estimate(protocol, _points(rng.normal(0.5, 0.1, 40)), seed=trial, resamples=400).interval(
            "point_error"
        )
        hits += interval.low <= 0.5 <= interval.high
    assert 0.89 <= hits / 300 <= 0.98


def test_a_paired_difference_sees_what_two_intervals_hide():
    rng = np.random.default_rng(2)
    hard = rng.uniform(0.1, 2, 12)
    protocol = get_protocol("points")
    mine, other = (estimate(protocol, _points(errors)) for errors in (hard, hard + rng.uniform(0.04, 0.06, 12)))
    assert mine.interval("point_error").overlaps(other.interval("point_error"))
    difference = mine.minus(other, "point_error")
    assert difference.excludes_zero
    assert difference.high < -0.03
    assert mine.minus(mine, "point_error") == Interval(0.0, 0.0, 0.0)


def test_resamples_with_nothing_to_measure_are_left_out():
    assert percentile_interval(1.0, np.array([np.nan, 1.0, 1.0])) == Interval(1.0, 1.0, 1.0)
    empty = percentile_interval(float("nan"), np.full(3, np.nan))
    assert np.isnan([empty.value, empty.low, empty.high]).all()
    assert not empty.excludes_zero
    assert not empty.overlaps(Interval(0.0, -1.0, 1.0))


def test_one_scene_has_a_value_and_no_interval():
    found = estimate(get_protocol("points"), _points(np.array([0.3])), resamples=20)
    interval = found.interval("point_error")
    assert interval.value == 0.3
    assert np.isnan([interval.low, interval.high]).all()
    other = estimate(get_protocol("points"), _points(np.array([0.9])), resamples=20)
    assert not found.minus(other, "point_error").excludes_zero
    classes = {"confusion": np.array([[[3, 1], [0, 2]]])}
    first, _ = estimate_classes(get_protocol("segmentation", ["a", "b"]), classes)["iou"]
    assert first.value == 0.75
    assert np.isnan([first.low, first.high]).all()


def test_classes_have_intervals_of_their_own():
    protocol = get_protocol("segmentation", ["a", "b", "c"])
    confusion = np.zeros((6, 3, 3), np.int64)
    confusion[:, 0, 0], confusion[:, 1, 1], confusion[:3, 1, 0] = 10, 5, 5
    first, second, third = estimate_classes(protocol, {"confusion": confusion}, resamples=200)["iou"]
    assert [first.value, second.value] == pytest.approx([60 / 75, 15 / 30 * 2 - 15 / 45])
    assert first.low < first.value < first.high
    assert second.low < second.value < second.high
    assert np.isnan(third.value)

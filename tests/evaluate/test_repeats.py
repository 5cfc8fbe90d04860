"""Several probes of one tap: what is averaged, what is redrawn, and how wide that makes the interval."""

from __future__ import annotations

from fractions import Fraction
from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evaluate.errors import InputError
from evaluate.metrics.points import PointsProtocol
from evaluate.protocols import get_protocol
from evaluate.repeats import (
    estimate_repeated_classes,
    estimate_repeats,
    redraw,
    repeat_shares,
    repeat_weights,
)
from evaluate.statistics import estimate, estimate_classes, percentile_interval, resample

DRAWS = st.lists(st.sampled_from("abcd"), min_size=1, max_size=9)


def _points(errors) -> dict[str, np.ndarray]:
    errors = np.asarray(errors, float)
    return dict.fromkeys(PointsProtocol.dims, errors * 0) | {"windows": errors * 0 + 1, "point_error": errors}


def test_one_repeat_is_the_estimate_without_repeats():
    protocol, errors = get_protocol("points"), np.random.default_rng(0).uniform(size=7)
    mine, known = (
        estimate_repeats(protocol, [_points(errors)], ["x"], seed=3, resamples=50, stream="any"),
        estimate(protocol, _points(errors), seed=3, resamples=50),
    )
    assert mine.values["point_error"] == known.values["point_error"]
    np.testing.assert_array_equal(mine.draws["point_error"], known.draws["point_error"])


def test_levels_are_redrawn_by_drawing_one_less_than_there_are():
    for levels in (2, 3, 5):
        drawn = redraw(levels, resamples=4000, stream="x") * (levels - 1)
        np.testing.assert_array_equal(drawn, drawn.round())
        np.testing.assert_array_equal(drawn.sum(axis=1), levels - 1)
        # All ways to draw, counted one by one, in exact arithmetic: the variance of the mean is that of theory.
        values = [Fraction(k * k + 1) for k in range(levels)]
        means = [sum(values[k] for k in way) / (levels - 1) for way in product(range(levels), repeat=levels - 1)]
        mean = sum(values) / levels
        variance = sum((value - mean) ** 2 for value in values) / (levels - 1)
        assert sum((one - mean) ** 2 for one in means) / len(means) == variance / levels
        here = drawn @ [float(value) for value in values] / (levels - 1)
        assert here.var() == pytest.approx(float(variance / levels), rel=0.1)
    np.testing.assert_array_equal(redraw(1, resamples=3), np.ones((3, 1)))
    with pytest.raises(InputError, match="at least one level"):
        redraw(0)


def test_streams_are_independent_and_seeded():
    one, other = redraw(5, stream="one"), redraw(5, stream="other")
    np.testing.assert_array_equal(one, redraw(5, stream="one"))
    assert (one != redraw(5, stream="one", seed=1)).any()
    assert abs(np.corrcoef(one[:, 0], other[:, 0])[0, 1]) < 0.1


@given(draws=DRAWS)
@settings(max_examples=40, deadline=None)
def test_every_draw_counts_the_same_and_so_does_every_seed_of_it(draws: list[str]):
    shares = repeat_shares(draws)
    weights = repeat_weights(draws, resamples=500, stream="x")
    names = sorted(set(draws))
    for name in names:
        inside = [index for index, draw in enumerate(draws) if draw == name]
        assert shares[inside].sum() == pytest.approx(1 / len(names))
        assert np.ptp(shares[inside]) < 1e-12
        if len(names) > 1:  # seeds of one draw go together
            assert (np.ptp(weights[:, inside], axis=1) < 1e-12).all()
    np.testing.assert_allclose(weights.sum(axis=1), 1)
    np.testing.assert_allclose(weights.mean(axis=0), shares, atol=0.11)


def test_the_estimate_is_a_literal_two_level_bootstrap():
    rng, draws = np.random.default_rng(1), ["a", "a", "b", "c"]
    errors = rng.uniform(0.2, 0.8, (4, 6))
    got = estimate_repeats(
        get_protocol("points"), [_points(row) for row in errors], draws, seed=2, resamples=60, stream="s"
    )
    scenes, drawn = resample(6, seed=2, resamples=60), redraw(3, seed=2, resamples=60, stream="s")
    literal = []
    for b in range(60):
        means = [np.average(row, weights=scenes[b]) for row in errors]
        literal.append(sum(drawn[b, k] * m for k, m in enumerate([(means[0] + means[1]) / 2, means[2], means[3]])))
    np.testing.assert_allclose(got.draws["point_error"], literal)
    by_hand = ((errors[0].mean() + errors[1].mean()) / 2 + errors[2].mean() + errors[3].mean()) / 3
    assert got.values["point_error"] == pytest.approx(by_hand)


def test_the_order_of_repeats_does_not_matter_to_the_estimate():
    errors = np.random.default_rng(3).uniform(size=(3, 5))
    protocol = get_protocol("points")
    forth, back = (
        estimate_repeats(protocol, [_points(row) for row in rows], draws)
        for rows, draws in ((errors, ["a", "a", "b"]), (errors[::-1], ["b", "a", "a"]))
    )
    assert forth.values["point_error"] == pytest.approx(back.values["point_error"])


def test_intervals_cover_scenes_and_seeds_about_as_often_as_they_say():
    """Seeds that spread as much as scenes do: without redrawing them, the interval is far too narrow."""
    protocol, rng = get_protocol("points"), np.random.default_rng(4)
    both = scenes_only = 0
    for trial in range(200):
        truth = 0.5
        errors = truth + rng.normal(0, 0.1, (1, 30)) + rng.normal(0, 0.05, (6, 1)) + rng.normal(0, 0.02, (6, 30))
        repeats = [_points(row) for row in errors]
        got = estimate_repeats(protocol, repeats, ["x"] * 6, seed=trial, resamples=300, stream="s")
        interval = got.interval("point_error")
        both += interval.low <= truth <= interval.high
        fixed = estimate(protocol, _points(errors.mean(axis=0)), seed=trial, resamples=300).interval("point_error")
        scenes_only += fixed.low <= truth <= fixed.high
    assert 0.88 <= both / 200 <= 0.98
    assert scenes_only < both - 10


def test_a_repeat_that_was_not_drawn_has_no_say():
    protocol = get_protocol("points")
    got = estimate_repeats(protocol, [_points([0.2, 0.4]), _points([np.nan, np.nan])], ["a", "b"], stream="s")
    assert np.isnan(got.values["point_error"])
    drawn = got.draws["point_error"]
    assert 0.4 < np.isfinite(drawn).mean() < 0.6
    interval = got.interval("point_error")
    assert np.isnan([interval.value, interval.low, interval.high]).all()


def test_classes_are_averaged_over_repeats_too():
    protocol = get_protocol("segmentation", ["a", "b"])
    rng = np.random.default_rng(5)
    first, second = ({"confusion": rng.integers(1, 9, (4, 2, 2))} for _ in range(2))
    got = estimate_repeated_classes(protocol, [first, second], ["x", "x"], seed=1, resamples=80, stream="s")["iou"]
    scenes, drawn = resample(4, seed=1, resamples=80), redraw(2, seed=1, resamples=80, stream="s")
    for k in range(2):
        curves = [protocol.per_class_weighted(one, scenes)["iou"][:, k] for one in (first, second)]
        value = np.mean([protocol.per_class(one)["iou"][k] for one in (first, second)])
        wanted = percentile_interval(float(value), drawn[:, 0] * curves[0] + drawn[:, 1] * curves[1])
        assert (got[k].value, got[k].low, got[k].high) == pytest.approx((wanted.value, wanted.low, wanted.high))
    alone = estimate_repeated_classes(protocol, [first], ["x"], seed=1, resamples=80)
    assert alone == estimate_classes(protocol, first, seed=1, resamples=80)

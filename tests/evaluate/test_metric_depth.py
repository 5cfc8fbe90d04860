"""Depth against slow, literal loops."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evaluate.errors import InputError
from evaluate.protocols import get_protocol


def _scene(seed: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    target = rng.uniform(0.5, 8, (3, 5, 4)).astype(np.float32)
    prediction = (target * rng.uniform(0.6, 1.7, target.shape)).astype(np.float32)
    target[rng.random(target.shape) < 0.2] = 0
    return prediction, target


def _reduce(*scenes: tuple[np.ndarray, np.ndarray]) -> dict[str, float]:
    protocol = get_protocol("depth")
    rows = [protocol.score_scene({"depth": p}, {"depth": g}) for p, g in scenes]
    return protocol.reduce({name: np.stack([row[name] for row in rows]) for name in rows[0]})


def _literal(prediction: np.ndarray, target: np.ndarray) -> dict[str, float]:
    pairs, scaled, fitted = [], [], []
    for frame_p, frame_g in zip(prediction.astype(float), target.astype(float), strict=True):
        here = [(p, g) for p, g in zip(frame_p.ravel(), frame_g.ravel(), strict=True) if g > 0]
        scale = np.median([g for _, g in here]) / np.median([p for p, _ in here])
        pairs += here
        scaled += [(scale * p, g) for p, g in here]
        slope, shift = np.polyfit(*np.array(here).T, deg=1)
        fitted += [(slope * p + shift, g) for p, g in here]
    n = len(pairs)
    logs = [math.log(p) - math.log(g) for p, g in pairs]
    mean = sum(logs) / n
    return {
        "absrel": sum(abs(p - g) / g for p, g in pairs) / n,
        "absrel_median": sum(abs(p - g) / g for p, g in scaled) / n,
        "absrel_affine": sum(abs(p - g) / g for p, g in fitted) / n,
        "sqrel": sum((p - g) ** 2 / g for p, g in pairs) / n,
        "rmse": math.sqrt(sum((p - g) ** 2 for p, g in pairs) / n),
        "log10": sum(abs(math.log10(p) - math.log10(g)) for p, g in pairs) / n,
        "silog": math.sqrt(sum((d - mean) ** 2 for d in logs) / n),
        **{f"delta{k}": sum(max(p / g, g / p) < 1.25**k for p, g in pairs) / n for k in (1, 2, 3)},
    }


def test_metrics_are_means_over_scenes_of_the_literal_definitions():
    scenes = [_scene(0), _scene(1), _scene(2)]
    got = _reduce(*scenes)
    literal = [_literal(*scene) for scene in scenes]
    for name in literal[0]:
        assert got[name] == pytest.approx(np.mean([row[name] for row in literal]), rel=1e-6), name


def test_r2_is_pooled_over_all_pixels():
    scenes = [_scene(3), _scene(4)]
    p = np.log(np.concatenate([p[g > 0] for p, g in scenes]).astype(float))
    g = np.log(np.concatenate([g[g > 0] for _, g in scenes]).astype(float))
    assert _reduce(*scenes)["r2_log"] == pytest.approx(1 - np.sum((p - g) ** 2) / np.sum((g - g.mean()) ** 2))


def test_a_perfect_prediction_is_perfect_and_the_mean_explains_nothing():
    _, target = _scene(5)
    got = _reduce((np.where(target > 0, target, 1), target))
    assert got["absrel"] == got["rmse"] == got["silog"] == 0
    assert got["delta1"] == got["r2_log"] == 1
    mean = np.full_like(target, np.exp(np.log(target[target > 0]).mean()))
    assert _reduce((mean, target))["r2_log"] == pytest.approx(0, abs=1e-6)


@given(st.floats(0.2, 5), st.integers(0, 50))
@settings(deadline=None, max_examples=30)
def test_scale_changes_absrel_but_not_what_forgives_scale(scale, seed):
    prediction, target = _scene(seed)
    plain, scaled = _reduce((prediction, target)), _reduce((prediction * np.float32(scale), target))
    for name in ("silog", "absrel_median", "absrel_affine"):
        assert scaled[name] == pytest.approx(plain[name], rel=1e-4)


@given(st.floats(0.2, 5), st.floats(0, 3), st.integers(0, 50))
@settings(deadline=None, max_examples=30)
def test_scale_and_shift_are_forgiven_together(scale, shift, seed):
    prediction, target = _scene(seed)
    moved = (prediction * scale + shift).astype(np.float32)
    plain, got = _reduce((prediction, target)), _reduce((moved, target))
    assert got["absrel_affine"] == pytest.approx(plain["absrel_affine"], rel=1e-4)
    assert _reduce((np.where(target > 0, target * np.float32(scale) + np.float32(shift), 1), target))[
        "absrel_affine"
    ] == pytest.approx(0, abs=1e-5)


@pytest.mark.parametrize("value", [0.1, 3.7])
def test_a_constant_is_fitted_by_the_mean_of_its_frame(value):
    _, target = _scene(8)
    known = [frame[frame > 0].astype(float) for frame in target]
    expected = np.concatenate([np.abs(frame.mean() / frame - 1) for frame in known]).mean()
    assert _reduce((np.full_like(target, value), target))["absrel_affine"] == pytest.approx(expected)


def test_invalid_pixels_never_count_and_scenes_without_valid_ones_are_left_out():
    prediction, target = _scene(6)
    spoiled = np.where(target > 0, prediction, -7).astype(np.float32)
    empty = (prediction, np.zeros_like(target))
    assert _reduce((spoiled, target)) == _reduce((prediction, target))
    assert _reduce((prediction, target), empty) == pytest.approx(_reduce((prediction, target)))
    assert all(math.isnan(value) for value in _reduce(empty).values())


@pytest.mark.parametrize("bad", [0.0, -1.0, np.nan, np.inf])
def test_depth_that_is_not_positive_is_refused(bad):
    prediction, target = _scene(7)
    prediction[:] = bad
    with pytest.raises(InputError, match="positive"):
        _reduce((prediction, target))

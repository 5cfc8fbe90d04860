"""Points by the paper's rules, against roma."""

from __future__ import annotations

import numpy as np
import pytest
import roma
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from evaluate.errors import InputError
from evaluate.metrics.paper.points import window_error
from evaluate.protocols import get_protocol


def _window(seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    target = rng.normal([0, 0, 4], 1.0, (2, 5, 6, 3))
    prediction = 0.3 * target + rng.normal(0, 0.1, target.shape)
    return prediction, target, rng.random(target.shape[:-1]) < 0.8, rng.uniform(1, 9, target.shape[:-1])


def _in_torch(prediction: np.ndarray, target: np.ndarray, valid: np.ndarray, confidence: np.ndarray) -> float:
    unit = np.linalg.norm(target[0][valid[0]], axis=-1).mean()
    p, g, c = (torch.from_numpy(array[valid]) for array in (prediction, target / unit, confidence))
    sure = c >= torch.quantile(c, 0.75)
    rotation, translation, scale = roma.rigid_points_registration(p[sure], g[sure], compute_scaling=True)
    distance = (scale * p @ rotation.T + translation - g).norm(dim=-1)
    return float((distance * c).sum() / c.sum())


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_the_error_of_a_window_is_that_of_roma_weighed_by_confidence(seed):
    window = _window(seed)
    assert window_error(*window) == pytest.approx(_in_torch(*window))
    prediction, target, _, confidence = window
    everywhere = np.ones(confidence.shape, bool)
    assert window_error(prediction, target, everywhere, confidence) == pytest.approx(
        _in_torch(prediction, target, everywhere, confidence)
    )


@given(st.integers(0, 10_000), st.floats(0.1, 10))
@settings(deadline=None, max_examples=30)
def test_a_similarity_of_the_prediction_and_the_unit_of_the_target_change_nothing(seed, scale):
    prediction, target, valid, confidence = _window(seed)
    moved = scale * prediction @ Rotation.random(random_state=seed).as_matrix().T + [1, -2, 3]
    expected = window_error(prediction, target, valid, confidence)
    assert window_error(moved, target, valid, confidence) == pytest.approx(expected)
    assert window_error(prediction, scale * target, valid, confidence) == pytest.approx(expected)
    assert window_error(prediction, target, valid, scale * confidence) == pytest.approx(expected)


def test_unsure_pixels_do_not_move_the_fit_but_count_by_their_weight():
    _, target, _, confidence = _window(3)
    valid = np.ones(confidence.shape, bool)
    confidence[:] = 1
    confidence[1] = 9
    astray = target.copy()
    astray[0, 0, 0] += [0, 0, 5]
    unit = np.linalg.norm(target[0], axis=-1).mean()
    assert window_error(astray, target, valid, confidence) == pytest.approx(5 / unit * 1 / confidence.sum())


def test_metric_is_the_mean_over_scenes_of_the_mean_over_measurable_windows():
    protocol = get_protocol("points", family="paper-2605.28132")
    windows = [_window(seed) for seed in range(3)]
    prediction, target, valid, confidence = (np.stack(part) for part in zip(*windows, strict=True))
    valid[1, 0] = False  # the unit of this window is not known
    rows = [
        protocol.score_scene(
            {"points": prediction[scene]},
            {"points": target[scene], "valid": valid[scene], "confidence": confidence[scene]},
        )
        for scene in (slice(0, 2), slice(2, 3), slice(1, 2))
    ]
    got = protocol.reduce({name: np.stack([row[name] for row in rows]) for name in rows[0]})
    assert got["point_error"] == pytest.approx((window_error(*windows[0]) + window_error(*windows[2])) / 2)


def test_a_window_that_nobody_is_sure_of_is_left_out():
    prediction, target, valid, confidence = _window(5)
    assert np.isnan(window_error(prediction, target, valid, 0 * confidence))
    assert np.isfinite(window_error(prediction, target, valid, np.floor(confidence / 5)))


def test_all_pixels_are_valid_where_nothing_is_said_and_confidence_is_asked_for():
    prediction, target, valid, confidence = (part[None] for part in _window(4))
    score = get_protocol("points", family="paper-2605.28132").score_scene
    truth = {"points": target, "confidence": confidence}
    assert score({"points": prediction}, truth) == score({"points": prediction}, truth | {"valid": valid | True})
    with pytest.raises(InputError, match="confidence"):
        score({"points": prediction}, {"points": target, "valid": valid})
    with pytest.raises(InputError, match="NaN"):
        score({"points": np.nan * prediction}, truth)

"""Points against roma, and under transformations that must not matter."""

from __future__ import annotations

import numpy as np
import pytest
import roma
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from evaluate.errors import InputError
from evaluate.metrics import points
from evaluate.metrics.points import f_score, surface_distances, umeyama, window_errors
from evaluate.protocols import get_protocol


def _points(seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    target = rng.normal([0, 0, 4], 1.0, (2, 4, 5, 3))
    prediction = target + rng.normal(0, 0.3, target.shape)
    return prediction, target, rng.random(target.shape[:-1]) < 0.8


@pytest.mark.parametrize("mirrored", [False, True])
def test_umeyama_is_the_fit_of_roma(mirrored):
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(2, 30, 3))
    y = np.concatenate([x[:20] * [1, 1, -1], y[20:]]) if mirrored else y
    rotation, translation, scale = roma.rigid_points_registration(
        torch.from_numpy(x), torch.from_numpy(y), compute_scaling=True
    )
    fit = umeyama(x, y)
    np.testing.assert_allclose(fit.rotation, rotation, atol=1e-10)
    np.testing.assert_allclose(fit.translation, translation, atol=1e-10)
    assert fit.scale == pytest.approx(float(scale))
    assert np.linalg.det(fit.rotation) == pytest.approx(1)


@given(st.integers(0, 10_000), st.floats(0.1, 10))
@settings(deadline=None, max_examples=40)
def test_a_similarity_of_the_prediction_changes_nothing(seed, scale):
    prediction, target, valid = _points(seed)
    rng = np.random.default_rng(seed)
    turn = Rotation.random(random_state=seed).as_matrix() if seed % 2 else np.eye(3)
    moved = scale * prediction @ turn.T + rng.normal(size=3)
    # All but what was not aligned.
    assert window_errors(moved, target, valid)[:-1] == pytest.approx(
        window_errors(prediction, target, valid)[:-1], rel=1e-6
    )


def test_the_unit_is_the_mean_distance_of_the_first_view():
    target = np.zeros((2, 2, 2, 3))
    target[0] = [[[0, 0, 2], [0, 0, 2]], [[0, 0, 6], [0, 0, 6]]]
    target[1] = [[[4, 0, 0], [4, 0, 0]], [[0, 4, 0], [0, 4, 0]]]
    prediction = target.copy()
    prediction[1, 0, 0] += [0, 0, 4]
    valid = np.ones(target.shape[:-1], bool)
    # One of eight points is off by 4 metres, and the first view's mean distance is 4 metres.
    assert window_errors(prediction, target, valid).point_error_unaligned == pytest.approx(1 / 8)
    assert window_errors(target, target, valid) == pytest.approx((0, 1, 0, 0, 1, 0), abs=1e-12)
    assert window_errors(10 * prediction, 3 * target, valid) == pytest.approx(window_errors(prediction, target, valid))


def test_a_prediction_without_extent_is_as_bad_as_the_spread_of_the_target():
    _, target, valid = _points(1)
    unit = np.linalg.norm(target[0][valid[0]], axis=-1).mean()
    spread = np.linalg.norm(target[valid] - target[valid].mean(axis=0), axis=-1).mean()
    error = window_errors(np.ones_like(target), target, valid).point_error
    assert error == pytest.approx(spread / unit)


def test_accuracy_completeness_and_f_score_are_the_literal_definitions():
    prediction, target, valid = _points(4)
    got = window_errors(prediction, target, valid)
    unit = np.linalg.norm(target[0][valid[0]], axis=-1).mean()
    goal = target[valid] / unit
    rotation, translation, scale = roma.rigid_points_registration(
        torch.from_numpy(prediction[valid]), torch.from_numpy(goal), compute_scaling=True
    )
    fitted = (scale * torch.from_numpy(prediction[valid]) @ rotation.T + translation).numpy()
    to_goal = np.array([min(np.linalg.norm(p - g) for g in goal) for p in fitted])
    to_fitted = np.array([min(np.linalg.norm(p - g) for p in fitted) for g in goal])
    precision, recall = np.mean(to_goal < 0.1), np.mean(to_fitted < 0.1)
    assert got.surface_accuracy == pytest.approx(to_goal.mean())
    assert got.surface_completeness == pytest.approx(to_fitted.mean())
    assert 0 < got.f_score10 < 1
    assert got.f_score10 == pytest.approx(2 * precision * recall / (precision + recall))


def test_half_a_surface_is_accurate_but_not_complete():
    line = np.linspace(0, 1, 11)[:, None] * [1.0, 0, 0]
    accuracy, completeness = surface_distances(line[:6], line), surface_distances(line, line[:6])
    assert accuracy == pytest.approx(0)
    assert completeness.max() == pytest.approx(0.5)
    assert f_score(accuracy, completeness, radius=0.05) == pytest.approx(2 * 6 / 11 / (1 + 6 / 11))
    assert f_score(accuracy + 1, completeness + 1) == 0


def test_of_many_points_an_even_sample_is_measured_against_all(monkeypatch: pytest.MonkeyPatch):
    rng = np.random.default_rng(0)
    source, target = rng.normal(size=(2, 900, 3))
    every = surface_distances(source, target)
    monkeypatch.setattr(points, "SAMPLED", 300)
    few = surface_distances(source, target)
    assert len(few) == 300
    assert few.mean() == pytest.approx(every.mean(), rel=0.1)
    assert set(few) <= set(every)


def test_pixels_are_all_valid_where_nothing_is_said():
    prediction, target, valid = _points(5)
    everywhere = {"points": target[None], "valid": np.ones((1, *valid.shape), bool)}
    score = get_protocol("points").score_scene
    assert score({"points": prediction[None]}, {"points": target[None]}) == score(
        {"points": prediction[None]}, everywhere
    )


def test_windows_that_cannot_be_measured_are_left_out():
    prediction, target, valid = _points(2)
    blind = valid.copy()
    blind[0] = False
    protocol = get_protocol("points")

    def reduce(masks: list[np.ndarray]) -> dict[str, float]:
        row = protocol.score_scene(
            {"points": np.stack([prediction] * len(masks))},
            {"points": np.stack([target] * len(masks)), "valid": np.stack(masks)},
        )
        return protocol.reduce({name: np.asarray(value)[None] for name, value in row.items()})

    assert reduce([valid, blind]) == reduce([valid])
    assert all(np.isnan(value) for value in reduce([blind]).values())


def test_points_that_are_not_finite_are_refused():
    prediction, target, valid = _points(3)
    prediction[valid] = np.nan
    with pytest.raises(InputError, match="NaN"):
        window_errors(prediction, target, valid)

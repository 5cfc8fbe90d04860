"""Normals against slow, literal loops."""

from __future__ import annotations

import math

import numpy as np
import pytest

from evaluate.errors import InputError
from evaluate.metrics.normals import normal_angles
from evaluate.protocols import get_protocol


def _unit(vectors: np.ndarray) -> np.ndarray:
    return vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)


def _scene(seed: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    target = _unit(rng.normal(size=(3, 5, 4, 3)))
    prediction = target + 0.5 * rng.normal(size=target.shape)
    target[rng.random(target.shape[:-1]) < 0.2] = 0
    return prediction.astype(np.float32), target.astype(np.float32)


def _reduce(*scenes: tuple[np.ndarray, np.ndarray]) -> dict[str, float]:
    protocol = get_protocol("normals")
    rows = [protocol.score_scene({"normals": p}, {"normals": g}) for p, g in scenes]
    return protocol.reduce({name: np.stack([row[name] for row in rows]) for name in rows[0]})


def _literal(prediction: np.ndarray, target: np.ndarray) -> dict[str, float]:
    angles = []
    for p, g in zip(prediction.reshape(-1, 3).tolist(), target.reshape(-1, 3).tolist(), strict=True):
        if any(g):
            dot = sum(a * b for a, b in zip(p, g, strict=True))
            angles.append(math.degrees(math.acos(max(-1, min(1, dot / math.hypot(*p) / math.hypot(*g))))))
    return {
        "mean_angle": sum(angles) / len(angles),
        "median_angle": float(np.median(angles)),
        "rmse_angle": math.sqrt(sum(a * a for a in angles) / len(angles)),
        **{f"within{t:g}": sum(a < t for a in angles) / len(angles) for t in (11.25, 22.5, 30)},
    }


def test_metrics_are_means_over_scenes_of_the_literal_definitions():
    scenes = [_scene(0), _scene(1), _scene(2)]
    literal = [_literal(*scene) for scene in scenes]
    got = _reduce(*scenes)
    assert list(got) == list(literal[0])
    for name in got:
        assert got[name] == pytest.approx(np.mean([row[name] for row in literal]), rel=1e-5), name


def test_known_angles():
    target = np.array([[0.0, 0, -1]] * 5)
    turned = [[0, 0, -3], [1e-6, 0, -1], [0, 1, 0], [0, 0, 1], [0, 0, 0]]
    np.testing.assert_allclose(
        normal_angles(np.array(turned, float), target), [0, np.degrees(1e-6), 90, 180, 180], rtol=1e-6
    )


def test_invalid_pixels_never_count_and_scenes_without_valid_ones_are_left_out():
    prediction, target = _scene(6)
    spoiled = np.where(target.any(-1, keepdims=True), prediction, np.nan)
    empty = (prediction, np.zeros_like(target))
    assert _reduce((spoiled, target)) == _reduce((prediction, target))
    assert _reduce((prediction, target), empty) == pytest.approx(_reduce((prediction, target)))
    assert all(math.isnan(value) for value in _reduce(empty).values())


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_normals_that_are_not_finite_are_refused(bad):
    prediction, target = _scene(7)
    prediction[0] = bad
    with pytest.raises(InputError, match="NaN or infinity"):
        _reduce((prediction, target))

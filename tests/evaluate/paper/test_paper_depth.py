"""Depth by the paper's rules, against the same in torch."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from evaluate.errors import InputError
from evaluate.protocols import get_protocol


def _scene(seed: int, windows: int = 2) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    target = rng.uniform(0.3, 4, (windows, 2, 5, 4))
    return target * rng.uniform(0.6, 1.7, target.shape), target, rng.uniform(1, 9, target.shape)


def _reduce(*scenes: tuple[np.ndarray, np.ndarray, np.ndarray]) -> dict[str, float]:
    protocol = get_protocol("depth", family="paper-2605.28132")
    rows = [protocol.score_scene({"depth": p}, {"depth": g, "confidence": c}) for p, g, c in scenes]
    return protocol.reduce({name: np.stack([row[name] for row in rows]) for name in rows[0]})


def _in_torch(prediction: np.ndarray, target: np.ndarray, confidence: np.ndarray) -> dict[str, float]:
    p, g, c = (torch.from_numpy(array[target > 0]) for array in (prediction, target, confidence))
    chosen = c >= torch.quantile(c, 0.75)
    p, g = p[chosen], g[chosen]
    p = p * (g.median() / p.median())
    ratio = torch.maximum(p / g, g / p)
    return {
        "absrel": ((p - g).abs() / g).mean().item(),
        "sqrel": ((p - g) ** 2 / g).mean().item(),
        "rmse": torch.nn.functional.mse_loss(p, g).sqrt().item(),
        "rmse_log": torch.nn.functional.mse_loss(p.log(), g.log()).sqrt().item(),
        "log10": (p.log10() - g.log10()).abs().mean().item(),
        **{f"delta{k}": (ratio < 1.25**k).double().mean().item() for k in (1, 2, 3)},
    }


def test_metrics_are_means_over_scenes_of_means_over_windows():
    scenes = [_scene(0), _scene(1, windows=1), _scene(2, windows=3)]
    scenes[2][1][0, 0, 0] = 0  # some pixels without a target
    expected = [[_in_torch(*window) for window in zip(*scene, strict=True)] for scene in scenes]
    got = _reduce(*scenes)
    for name, value in got.items():
        assert value == pytest.approx(np.mean([np.mean([w[name] for w in scene]) for scene in expected])), name


@given(st.floats(0.05, 20), st.integers(0, 99))
@settings(deadline=None, max_examples=30)
def test_one_scale_per_window_does_not_matter(scale, seed):
    prediction, target, confidence = _scene(seed)
    scaled = prediction * np.array([scale, 1])[:, None, None, None]
    assert _reduce((scaled, target, confidence)) == pytest.approx(_reduce((prediction, target, confidence)))


def test_only_the_surest_quarter_counts():
    prediction, target, confidence = _scene(3)
    low = confidence < np.percentile(confidence, 75, axis=(1, 2, 3), keepdims=True)
    assert 0.7 < low.mean() < 0.8
    assert _reduce((np.where(low, -5, prediction), target, confidence)) == _reduce((prediction, target, confidence))
    alike = np.ones_like(confidence)
    assert _reduce((np.where(low, 77, prediction), target, alike)) != _reduce((prediction, target, alike))


def test_a_scale_per_view_is_not_forgiven():
    _, target, confidence = _scene(4)
    assert _reduce((3 * target, target, confidence))["absrel"] == pytest.approx(0)
    uneven = target * np.array([1, 2])[:, None, None]
    assert _reduce((uneven, target, confidence))["absrel"] > 0.1


def test_windows_without_a_valid_pixel_are_left_out():
    prediction, target, confidence = _scene(5)
    blind = target.copy()
    blind[1] = 0
    first = (prediction[:1], target[:1], confidence[:1])
    assert _reduce((prediction, blind, confidence)) == _reduce(first)
    assert np.isnan(list(_reduce((prediction, 0 * target, confidence)).values())).all()


def test_what_cannot_be_scored_is_refused():
    prediction, target, confidence = _scene(6)
    with pytest.raises(InputError, match="NaN"):
        _reduce((prediction * np.nan, target, confidence))
    with pytest.raises(InputError, match="confidence"):
        _reduce((prediction, target, -confidence))
    with pytest.raises(InputError, match="confidence"):
        _reduce((prediction, target, np.nan * confidence))
    with pytest.raises(InputError, match="confidence"):
        _reduce((prediction, target, confidence[..., :1]))

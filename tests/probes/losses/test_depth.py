"""Losses of depth, pixel by pixel."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from probes.losses import gradient_loss, scale_invariant_loss, weighted_depth_loss
from tests.probes.losses.literal import few, gradient, mask, seeds, tensor


def cut(x: float) -> float:
    return 0.0 if np.isnan(x) else float(min(max(x, -100.0), 100.0))


@given(seeds)
@few
def test_weighted_depth_is_the_mean_of_weighted_errors(seed: int) -> None:
    rng = np.random.default_rng(seed)
    depth, target = 300 * rng.random((2, 9)), 3 * rng.random((2, 9))
    confidence, valid = 1 + 40 * rng.random((2, 9)), rng.random((2, 9)) < 0.6
    depth[0, 0] = target[1, 1] = confidence[0, 2] = np.nan
    terms = []
    for d, g, c, v in zip(depth.ravel(), target.ravel(), confidence.ravel(), valid.ravel(), strict=True):
        if v:
            terms.append(cut(c * cut(abs(d - g))))
    got = weighted_depth_loss(tensor(depth), tensor(target), tensor(confidence), mask(valid))
    assert got.item() == pytest.approx(np.mean(terms) if terms else 0.0, rel=1e-4, abs=1e-6)


def test_weighted_depth_has_a_finite_gradient_whatever_it_is_given() -> None:
    depth = torch.tensor([1.0, np.nan, np.inf, 1e30, 2.0, 3.0])
    target = torch.tensor([1.0, 1.0, 1.0, 1.0, np.nan, 1.0])
    confidence = torch.tensor([1.0, 1.0, 1.0, 1.0, 1.0, np.nan])
    value, slope = gradient(
        lambda x: weighted_depth_loss(x, target, confidence, torch.ones(6, dtype=torch.bool)), depth
    )
    assert value == pytest.approx(100 / 6)
    assert slope.isfinite().all()


def literal_gradient(
    depth: np.ndarray, target: np.ndarray, valid: np.ndarray, confidence: np.ndarray, scales: int
) -> float:
    images, height, width = depth.shape
    total = 0.0
    for k in range(scales):
        rows, columns = range(0, height, 2**k), range(0, width, 2**k)
        pixels, here = 0, 0.0
        for i in range(images):
            for y in rows:
                for x in columns:
                    pixels += valid[i, y, x]
                    for ny, nx in ((y, x + 2**k), (y + 2**k, x)):
                        if ny < height and nx < width and valid[i, y, x] and valid[i, ny, nx]:
                            change = (depth[i, ny, nx] - target[i, ny, nx]) - (depth[i, y, x] - target[i, y, x])
                            here += confidence[i, y, x] * abs(change)
        total += here / max(pixels, 1)
    return total


@given(seeds, st.integers(1, 9), st.integers(1, 9), st.integers(1, 4))
@few
def test_gradients_are_matched_at_every_scale(seed: int, height: int, width: int, scales: int) -> None:
    rng = np.random.default_rng(seed)
    shape = (2, height, width)
    depth, target, confidence = (rng.normal(size=shape) for _ in range(3))
    valid = rng.random(shape) < 0.8
    spoiled = np.where(valid, target, np.nan)
    got = gradient_loss(tensor(depth), tensor(spoiled), mask(valid), tensor(confidence), scales)
    expected = literal_gradient(depth, target, valid, confidence, scales)
    assert got.item() == pytest.approx(expected, rel=1e-4, abs=1e-6)
    got = gradient_loss(tensor(depth), tensor(target), mask(valid), scales=scales)
    expected = literal_gradient(depth, target, valid, np.ones(shape), scales)
    assert got.item() == pytest.approx(expected, rel=1e-4, abs=1e-6)


def test_gradient_matching_forgives_a_constant_and_nothing_else() -> None:
    target, everywhere = torch.rand(1, 8, 8), torch.ones(1, 8, 8, dtype=torch.bool)
    assert gradient_loss(target + 3, target, everywhere).item() == pytest.approx(0, abs=1e-5)
    assert gradient_loss(2 * target, target, everywhere).item() > 0.1


@given(seeds, st.sampled_from([0.0, 0.5, 1.0]))
@few
def test_scale_invariant_is_eigens_equation_4(seed: int, invariance: float) -> None:
    rng = np.random.default_rng(seed)
    log_depth, target, valid = rng.normal(size=(4, 6)), rng.normal(size=(4, 6)), rng.random((4, 6)) < 0.5
    views = []
    for view in range(4):
        differences = [log_depth[view, i] - target[view, i] for i in range(6) if valid[view, i]]
        n = len(differences)
        if n:
            views.append(sum(d * d for d in differences) / n - invariance * sum(differences) ** 2 / n**2)
    got = scale_invariant_loss(tensor(log_depth), tensor(target), mask(valid), invariance)
    assert got.item() == pytest.approx(np.mean(views) if views else 0.0, rel=1e-4, abs=1e-6)


def test_with_lambda_one_any_scale_is_as_good() -> None:
    log_depth, target, valid = torch.randn(2, 50), torch.randn(2, 50), torch.rand(2, 50) < 0.9
    plain, scaled = (scale_invariant_loss(log_depth + shift, target, valid, 1.0) for shift in (0.0, 2.5))
    torch.testing.assert_close(plain, scaled)
    value, slope = gradient(lambda x: scale_invariant_loss(x, target, valid), target)
    assert value == 0
    assert not slope.any()


@pytest.mark.parametrize("name", ["weighted", "gradient", "scale invariant"])
def test_nothing_valid_is_zero_with_zero_gradient(name: str) -> None:
    nowhere, target, ones = torch.zeros(2, 4, 4, dtype=torch.bool), torch.full((2, 4, 4), np.nan), torch.ones(2, 4, 4)
    loss = {
        "weighted": lambda x: weighted_depth_loss(x, target, ones, nowhere),
        "gradient": lambda x: gradient_loss(x, target, nowhere, ones),
        "scale invariant": lambda x: scale_invariant_loss(x, target, nowhere),
    }[name]
    value, slope = gradient(loss, torch.randn(2, 4, 4))
    assert value == 0
    assert not slope.any()

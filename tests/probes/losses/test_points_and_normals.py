"""Losses of points and of normals, pixel by pixel."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given

from probes.losses import normals_loss, scaled_points_loss
from tests.probes.losses.literal import few, gradient, mask, seeds, tensor
from tests.probes.losses.test_depth import cut


def literal_points(points: np.ndarray, target: np.ndarray, confidence: np.ndarray, valid: np.ndarray) -> float:
    terms = []
    for clip in range(len(points)):
        places = [place for place in np.ndindex(valid.shape[1:]) if valid[clip][place]]
        known = [place for place in places if np.isfinite([points[clip][place], target[clip][place]]).all()]
        if not places:
            continue
        scales = []
        for values in (points[clip], target[clip]):
            norms = [math.sqrt(sum(x * x for x in values[place])) for place in known]
            scales.append(min(max(sum(norms) / max(len(norms), 1), 1e-3), 1e3))
        for place in places:
            if place not in known:
                terms.append(0.0)
                continue
            change = [
                p / scales[0] - g / scales[1] for p, g in zip(points[clip][place], target[clip][place], strict=True)
            ]
            terms.append(cut(confidence[clip][place] * cut(math.sqrt(sum(x * x for x in change)))))
    return float(np.mean(terms)) if terms else 0.0


@given(seeds)
@few
def test_both_sides_are_divided_by_their_own_mean_norm(seed: int) -> None:
    rng = np.random.default_rng(seed)
    points, target = 10 ** rng.uniform(-5, 5) * rng.normal(size=(3, 2, 5, 3)), rng.normal(size=(3, 2, 5, 3))
    confidence, valid = 1 + 30 * rng.random((3, 2, 5)), rng.random((3, 2, 5)) < 0.6
    points[0, 0, 0, 1], target[1, 1, 2, 0], confidence[2, 0, 1] = np.nan, np.inf, np.nan
    got = scaled_points_loss(tensor(points), tensor(target), tensor(confidence), mask(valid))
    assert got.item() == pytest.approx(literal_points(points, target, confidence, valid), rel=1e-3, abs=1e-5)


def test_the_unit_of_points_does_not_matter() -> None:
    points, target, ones = torch.randn(2, 3, 7, 3), torch.randn(2, 3, 7, 3), torch.ones(2, 3, 7)
    everywhere = ones > 0
    plain, scaled = (scaled_points_loss(s * points, target, ones, everywhere) for s in (1.0, 40.0))
    torch.testing.assert_close(plain, scaled)
    assert scaled_points_loss(5 * target, target, ones, everywhere).item() == pytest.approx(0, abs=1e-5)
    # No gradient along the points themselves: a longer prediction is the same prediction.
    _, slope = gradient(lambda x: scaled_points_loss(x, target, ones, everywhere), points)
    torch.testing.assert_close((slope * points).sum((1, 2, 3)), torch.zeros(2), atol=1e-4, rtol=0)


@pytest.mark.parametrize("value", [0.0, np.nan, np.inf, 1e30])
def test_points_that_say_nothing_have_a_finite_gradient(value: float) -> None:
    points, target, ones = torch.full((1, 2, 4, 3), value), torch.randn(1, 2, 4, 3), torch.ones(1, 2, 4)
    points[0, 0, 0] = 1.0
    loss, slope = gradient(lambda x: scaled_points_loss(x, target, ones, ones > 0), points)
    assert math.isfinite(loss)
    assert slope.isfinite().all()
    loss, slope = gradient(lambda x: scaled_points_loss(x, target, ones, ones > 0), target)
    assert loss == pytest.approx(0, abs=1e-6)
    assert slope.isfinite().all()


@given(seeds)
@few
def test_normals_is_one_minus_the_cosine(seed: int) -> None:
    rng = np.random.default_rng(seed)
    normals, target, valid = rng.normal(size=(2, 6, 3)), rng.normal(size=(2, 6, 3)), rng.random((2, 6)) < 0.6
    terms = []
    for n, m, v in zip(normals.reshape(-1, 3), target.reshape(-1, 3), valid.ravel(), strict=True):
        if v:
            dot = sum(a * b for a, b in zip(n, m, strict=True))
            terms.append(1 - dot / math.sqrt(sum(a * a for a in n)) / math.sqrt(sum(b * b for b in m)))
    got = normals_loss(tensor(normals), tensor(target), mask(valid))
    assert got.item() == pytest.approx(np.mean(terms) if terms else 0.0, rel=1e-4, abs=1e-6)


def test_normals_without_direction_have_a_bounded_gradient() -> None:
    target = torch.tensor([[0.0, 0, -1]]).expand(4, 3)
    everywhere = torch.ones(4, dtype=torch.bool)
    value, slope = gradient(lambda x: normals_loss(x, target, everywhere), torch.zeros(4, 3))
    assert value == pytest.approx(1)
    assert slope.abs().max() <= 1000
    value, slope = gradient(lambda x: normals_loss(x, target, everywhere), -target)
    assert value == pytest.approx(2)
    assert slope.isfinite().all()


def test_nothing_valid_is_zero_with_zero_gradient() -> None:
    nowhere, unknown = torch.zeros(1, 2, 4, dtype=torch.bool), torch.full((1, 2, 4, 3), np.nan)
    for loss in (
        lambda x: scaled_points_loss(x, unknown, torch.ones(1, 2, 4), nowhere),
        lambda x: normals_loss(x, torch.zeros(1, 2, 4, 3), nowhere),
    ):
        value, slope = gradient(loss, torch.randn(1, 2, 4, 3))
        assert value == 0
        assert not slope.any()

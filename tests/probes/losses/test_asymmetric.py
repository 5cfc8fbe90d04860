"""The asymmetric loss, class by class."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from probes.losses import asymmetric_loss
from tests.probes.losses.literal import few, gradient, mask, seeds, tensor


def literal(
    logits: np.ndarray, labels: np.ndarray, negative: float, positive: float, shift: float, valid: np.ndarray
) -> float:
    clips = []
    for clip in range(len(logits)):
        total = 0.0
        for k in range(logits.shape[1]):
            if not valid[clip, k]:
                continue
            p = 1 / (1 + math.exp(-logits[clip, k]))
            if labels[clip, k]:
                total -= (1 - p) ** positive * math.log(p)
            else:
                shifted = max(p - shift, 0.0)
                total -= shifted**negative * math.log(1 - shifted)
        if valid[clip].any():
            clips.append(total)
    return sum(clips) / len(clips) if clips else 0.0


@given(seeds, st.sampled_from([0.0, 1.0, 4.0]), st.sampled_from([0.0, 1.0]), st.sampled_from([0.0, 0.05, 0.2]))
@few
def test_is_the_sum_over_classes_and_the_mean_over_clips(
    seed: int, negative: float, positive: float, shift: float
) -> None:
    rng = np.random.default_rng(seed)
    logits, labels, valid = 3 * rng.normal(size=(5, 4)), rng.random((5, 4)) < 0.5, rng.random((5, 4)) < 0.6
    got = asymmetric_loss(tensor(logits), mask(labels), negative, positive, shift, mask(valid))
    assert got.item() == pytest.approx(literal(logits, labels, negative, positive, shift, valid), rel=1e-4, abs=1e-6)
    everywhere = np.ones_like(valid)
    got = asymmetric_loss(tensor(logits), mask(labels), negative, positive, shift)
    expected = literal(logits, labels, negative, positive, shift, everywhere)
    assert got.item() == pytest.approx(expected, rel=1e-4, abs=1e-6)


def test_the_defaults_are_those_of_the_paper() -> None:
    logits, labels = torch.randn(3, 5), torch.rand(3, 5) < 0.5
    expected = literal(logits.numpy(), labels.numpy(), 4, 0, 0, np.ones((3, 5), bool))
    assert asymmetric_loss(logits, labels).item() == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("label", [False, True])
def test_the_focal_factor_has_no_gradient(label: bool) -> None:
    """d/dz of -f log p is -f (1 - p), and of -f log(1 - p) is f p, with f held still."""
    z = 0.7
    p = 1 / (1 + math.exp(-z))
    _, slope = gradient(lambda x: asymmetric_loss(x, mask(np.array([[label]])), 4.0, 2.0), tensor(np.array([[z]])))
    assert slope.item() == pytest.approx(-((1 - p) ** 2) * (1 - p) if label else p**4 * p, rel=1e-5)


def test_without_focus_it_is_a_summed_cross_entropy() -> None:
    logits, labels = torch.randn(6, 3), torch.rand(6, 3) < 0.5
    entropy = torch.nn.functional.binary_cross_entropy_with_logits(logits, labels.float(), reduction="sum") / 6
    torch.testing.assert_close(asymmetric_loss(logits, labels, 0.0, 0.0), entropy)


@pytest.mark.parametrize("shift", [0.0, 0.05])
def test_sure_and_wrong_claims_have_finite_losses_and_gradients(shift: float) -> None:
    logits = torch.tensor([[300.0, -300.0, 300.0, -300.0]])
    labels = torch.tensor([[True, True, False, False]])
    value, slope = gradient(lambda x: asymmetric_loss(x, labels, shift=shift), logits)
    assert math.isfinite(value)
    assert slope.isfinite().all()
    assert slope[0, 1] == -1


def test_nothing_valid_is_zero_with_zero_gradient() -> None:
    nowhere = torch.zeros(2, 3, dtype=torch.bool)
    value, slope = gradient(lambda x: asymmetric_loss(x, nowhere, valid=nowhere), torch.randn(2, 3))
    assert value == 0
    assert not slope.any()

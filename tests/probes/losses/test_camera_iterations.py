"""The loss of a camera that is refined, number by number."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from probes.losses import camera_iterations_loss
from tests.probes.losses.literal import few, gradient, huber, mask, seeds, tensor

Truth = tuple[np.ndarray, np.ndarray, np.ndarray]


def literal(outputs: np.ndarray, truth: Truth, valid: np.ndarray, sign: str) -> float:
    translation, quaternion, field_of_view = truth
    total, count = 0.0, len(outputs)
    for i in range(count):
        moved, turned, opened = [], [], []
        for pair in range(len(translation)):
            if not valid[pair]:
                continue
            out = outputs[i, pair]
            moved.append(np.mean([huber(out[k] - translation[pair, k]) for k in range(3)]))
            either = [np.mean([huber(out[3 + k] - s * quaternion[pair, k]) for k in range(4)]) for s in (1, -1)]
            turned.append(either[0] if sign == "paper" else min(either))
            opened.append(np.mean([huber(out[7 + k] - field_of_view[pair, k]) for k in range(2)]))
        if moved:
            total += 0.6 ** (count - 1 - i) * (np.mean(moved) + np.mean(turned) + 0.5 * np.mean(opened))
    return total / count


def case(seed: int, iterations: int) -> tuple[np.ndarray, Truth, np.ndarray]:
    rng = np.random.default_rng(seed)
    truth = tuple(rng.normal(size=(5, size)) for size in (3, 4, 2))
    return 2 * rng.normal(size=(iterations, 5, 9)), truth, rng.random(5) < 0.7


@given(seeds, st.integers(1, 5), st.sampled_from(["paper", "nearer"]))
@few
def test_later_iterations_weigh_more(seed: int, iterations: int, sign: str) -> None:
    outputs, truth, valid = case(seed, iterations)
    got = camera_iterations_loss(tensor(outputs), *map(tensor, truth), mask(valid), sign)
    assert got.item() == pytest.approx(literal(outputs, truth, valid, sign), rel=1e-4, abs=1e-6)
    got = camera_iterations_loss(tensor(outputs), *map(tensor, truth), sign=sign)
    assert got.item() == pytest.approx(literal(outputs, truth, np.ones(5, bool), sign), rel=1e-4, abs=1e-6)


def test_only_the_paper_tells_q_from_minus_q() -> None:
    outputs, (translation, quaternion, opening), _ = case(1, 4)
    for sign, same in (("nearer", True), ("paper", False)):
        plain, flipped = (
            camera_iterations_loss(
                tensor(outputs), tensor(translation), tensor(s * quaternion), tensor(opening), sign=sign
            )
            for s in (1, -1)
        )
        assert torch.isclose(plain, flipped) == same


def test_the_truth_costs_nothing_and_has_no_gradient() -> None:
    _, truth, _ = case(2, 3)
    exact = tensor(np.concatenate(truth, -1)).expand(3, -1, -1)
    value, slope = gradient(lambda x: camera_iterations_loss(x, *map(tensor, truth)), exact)
    assert value == 0
    assert not slope.any()
    # Halfway between q and -q.
    _, slope = gradient(lambda x: camera_iterations_loss(x, *map(tensor, truth)), torch.zeros(3, 5, 9))
    assert slope.isfinite().all()


def test_nothing_valid_is_zero_with_zero_gradient() -> None:
    outputs, truth, _ = case(3, 2)
    nowhere = torch.zeros(5, dtype=torch.bool)
    value, slope = gradient(lambda x: camera_iterations_loss(x, *map(tensor, truth), nowhere), tensor(outputs))
    assert value == 0
    assert not slope.any()

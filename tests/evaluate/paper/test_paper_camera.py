"""Camera by the paper's rules, against SciPy and torch."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from evaluate.errors import InputError
from evaluate.metrics.paper.camera import all_pairs, folded_angle
from evaluate.protocols import get_protocol


def _poses(seed: int, windows: int = 6, error: float = 0.15) -> tuple[np.ndarray, np.ndarray]:
    """Return world-to-camera poses (window, 4 views, 4, 4), predicted and true."""
    rng = np.random.default_rng(seed)
    truth, guess = np.tile(np.eye(4), (2, windows, 4, 1, 1))
    turns = Rotation.random(4 * windows, random_state=seed)
    noise = Rotation.from_rotvec(rng.normal(0, error, (4 * windows, 3)))
    truth[..., :3, :3] = turns.as_matrix().reshape(windows, 4, 3, 3)
    guess[..., :3, :3] = (turns * noise).as_matrix().reshape(windows, 4, 3, 3)
    truth[..., :3, 3] = rng.normal(size=(windows, 4, 3))
    guess[..., :3, 3] = truth[..., :3, 3] + rng.normal(0, 2 * error, (windows, 4, 3))
    return guess, truth


def _reduce(*scenes: tuple[np.ndarray, np.ndarray]) -> dict[str, float]:
    protocol = get_protocol("camera", family="paper-2605.28132")
    rows = [protocol.score_scene({"world_to_cam": g}, {"world_to_cam": t}) for g, t in scenes]
    return protocol.reduce({name: np.stack([row[name] for row in rows]) for name in rows[0]})


def _errors(guess: np.ndarray, truth: np.ndarray) -> tuple[list[float], list[float]]:
    """Return rotation and translation errors in degrees of all pairs of all windows."""
    rotation, translation = [], []
    for window in range(len(guess)):
        for i, j in combinations(range(guess.shape[1]), 2):
            a, b = (np.linalg.inv(poses[window, i]) @ poses[window, j] for poses in (guess, truth))
            rotation.append(
                np.degrees((Rotation.from_matrix(a[:3, :3]).inv() * Rotation.from_matrix(b[:3, :3])).magnitude())
            )
            cosine = a[:3, 3] @ b[:3, 3] / np.linalg.norm(a[:3, 3]) / np.linalg.norm(b[:3, 3])
            translation.append(np.degrees(np.arccos(min(abs(cosine), 1.0))))
    return rotation, translation


def test_metrics_are_the_literal_definitions_over_the_pairs_of_all_scenes():
    scenes = [_poses(0), _poses(1), _poses(2, windows=2)]
    rotation, translation = (
        np.concatenate(parts) for parts in zip(*(_errors(*scene) for scene in scenes), strict=True)
    )
    got = _reduce(*scenes)
    worst = torch.from_numpy(np.maximum(rotation, translation))
    histogram = torch.histc(worst, bins=31, min=0, max=30) / len(worst)
    for limit in (30, 10, 5, 3):
        assert got[f"auc{limit}"] == pytest.approx(histogram[:limit].cumsum(0).mean().item())
    for limit in (5, 15):
        assert got[f"rac{limit}"] == np.mean(rotation < limit)
        assert got[f"tac{limit}"] == np.mean(translation < limit)
    assert 0.05 < got["auc30"] < 0.95


def test_batches_of_one_size_make_no_difference():
    guess, truth = _poses(3, windows=20)
    batches = [_reduce((guess[part], truth[part])) for part in (slice(0, 10), slice(10, 20))]
    whole = _reduce((guess, truth))
    for name, value in whole.items():
        assert value == pytest.approx(np.mean([batch[name] for batch in batches]))


def test_pairs_are_what_the_paper_has_and_no_relative_poses():
    _, truth = _poses(4, windows=1)
    pairs = all_pairs(truth[0])
    order = list(combinations(range(4), 2))
    for pair, (i, j) in zip(pairs, order, strict=True):
        np.testing.assert_allclose(pair, np.linalg.inv(truth[0, i]) @ truth[0, j], atol=1e-12)
    # Another choice of the world moves these "relative" poses, which it could not if they were relative.
    world = np.eye(4)
    world[:3, 3] = [1, 2, 3]
    assert np.abs(all_pairs(truth[0] @ world)[:, :3, 3] - pairs[:, :3, 3]).max() > 0.1


def test_the_sign_of_a_translation_does_not_count():
    one = np.array([[0, 0, 1.0]])
    assert folded_angle(-3 * one, one) == pytest.approx([0])
    assert folded_angle(np.array([[0, 1.0, -1]]), one) == pytest.approx([45])
    assert folded_angle(0 * one, one) == folded_angle(one, 0 * one) == pytest.approx([90])


@given(st.integers(0, 1000), st.floats(0.1, 10))
@settings(deadline=None, max_examples=20)
def test_the_scale_of_the_prediction_does_not_matter(seed, scale):
    guess, truth = _poses(seed, windows=2)
    scaled = guess.copy()
    scaled[..., :3, 3] *= scale
    assert _reduce((scaled, truth)) == pytest.approx(_reduce((guess, truth)))
    assert _reduce((truth, truth)) == pytest.approx(dict.fromkeys(_reduce((truth, truth)), 1.0))


def test_poses_that_are_not_finite_are_refused():
    guess, truth = _poses(5)
    with pytest.raises(InputError, match="predicted"):
        _reduce((guess * np.nan, truth))
    with pytest.raises(InputError, match="true"):
        _reduce((guess, truth * np.nan))

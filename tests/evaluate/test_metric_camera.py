"""Camera against SciPy and by hand."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from evaluate.errors import InputError
from evaluate.metrics.camera import auc, direction_angle, rotation_angle
from evaluate.protocols import get_protocol


def _reduce(rotations: tuple[np.ndarray, np.ndarray], translations: tuple[np.ndarray, np.ndarray]) -> dict[str, float]:
    protocol = get_protocol("camera")
    guess, truth = ({"rotation": r[None], "translation": t[None]} for r, t in zip(rotations, translations, strict=True))
    row = protocol.score_scene(guess, truth)
    return protocol.reduce({name: value[None] for name, value in row.items()})


@given(st.integers(0, 10_000), st.sampled_from([1e-9, 1e-4, 1.0, 90.0, 179.9, 180.0]))
@settings(deadline=None)
def test_rotation_angle_is_the_angle_that_was_put_in(seed, degrees):
    rng = np.random.default_rng(seed)
    axis = rng.normal(size=3)
    first = Rotation.random(random_state=seed)
    second = first * Rotation.from_rotvec(np.radians(degrees) * axis / np.linalg.norm(axis))
    got = rotation_angle(first.as_matrix()[None], second.as_matrix()[None])[0]
    # Near 180 degrees the chord says little about the angle: its square root of machine precision remains.
    assert got == pytest.approx((first.inv() * second).magnitude() * 180 / np.pi, rel=1e-6, abs=1e-5)


def test_direction_counts_its_sign_and_not_its_length():
    one = np.array([[0, 0, 1.0]])
    assert direction_angle(5 * one, one) == pytest.approx([0])
    assert direction_angle(-one, one) == pytest.approx([180])
    assert direction_angle(np.array([[0, 2.0, 0]]), one) == pytest.approx([90])
    assert direction_angle(np.zeros((1, 3)), one) == pytest.approx([180])


def test_auc_is_the_mean_of_the_cumulated_histogram():
    errors = np.array([0.5, 3.2, 3.9, 29.5, 30.0, 44.0])
    share_below = [np.mean(errors < limit) for limit in range(1, 30)] + [np.mean(errors <= 30)]
    histogram, _ = np.histogram(errors, bins=np.arange(31))
    assert auc(histogram.astype(float), np.array(6.0)) == pytest.approx(np.mean(share_below))


def test_recalls_by_hand():
    angles = [4, 14, 29, 60]
    truth = np.stack([np.eye(3)] * 4)
    guess = Rotation.from_rotvec(np.radians(angles)[:, None] * [0, 1, 0]).as_matrix()
    moves = np.tile([0, 0, 1.0], (4, 1))
    got = _reduce((guess, truth), (moves, moves))
    assert [got["rra5"], got["rra15"], got["rra30"]] == [0.25, 0.5, 0.75]
    assert [got["rta5"], got["rta15"], got["rta30"]] == [1, 1, 1]
    # 4 degrees count in 26 bins of 30, 14 in 16, 29 in one.
    assert got["auc30"] == pytest.approx((26 + 16 + 1) / 30 / 4, abs=1 / 120)
    assert _reduce((truth, truth), (moves, moves))["auc30"] == 1


def test_auc_counts_the_larger_of_both_errors():
    eye = np.stack([np.eye(3)] * 2)
    ahead = np.tile([0, 0, 1.0], (2, 1))
    astray = np.array([[0, np.sin(np.radians(20.5)), np.cos(np.radians(20.5))], [0, 1.0, 0]])
    got = _reduce((eye, eye), (astray, ahead))
    assert got["rra5"] == 1
    # 20.5 degrees count in 10 bins of 30, 90 degrees in none.
    assert got["auc30"] == pytest.approx(10 / 30 / 2)


def test_a_camera_that_did_not_move_is_asked_for_its_rotation_only():
    eye = np.stack([np.eye(3)] * 2)
    truth = np.array([[0, 0, 1.0], [0, 0, 1e-5]])
    guess = np.array([[0, 0, 1.0], [1.0, 0, 0]])
    got = _reduce((eye, eye), (guess, truth))
    assert got["auc30"] == got["rta5"] == got["rra5"] == 1


def test_poses_that_are_not_finite_are_refused():
    eye, moves = np.stack([np.eye(3)]), np.ones((1, 3))
    with pytest.raises(InputError, match="NaN"):
        _reduce((eye * np.nan, eye), (moves, moves))

"""Camera against SciPy, evo and by hand."""

from __future__ import annotations

import evo.core.metrics as evo
import numpy as np
import pytest
from evo.core.trajectory import PosePath3D
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from evaluate.errors import InputError
from evaluate.metrics.camera import auc, direction_angle, rotation_angle, trajectory_errors
from evaluate.protocols import get_protocol


def _reduce(
    rotations: tuple[np.ndarray, np.ndarray],
    translations: tuple[np.ndarray, np.ndarray],
    known: np.ndarray | None = None,
) -> dict[str, float]:
    protocol = get_protocol("camera")
    guess, truth = ({"rotation": r[None], "translation": t[None]} for r, t in zip(rotations, translations, strict=True))
    row = protocol.score_scene(guess, truth if known is None else truth | {"known": known[None]})
    return protocol.reduce({name: value[None] for name, value in row.items()})


def _poses(seed: int, views: int = 6) -> tuple[np.ndarray, np.ndarray]:
    """Return camera-to-world poses (view, 4, 4), predicted and true."""
    rng = np.random.default_rng(seed)
    truth, guess = np.tile(np.eye(4), (2, views, 1, 1))
    turns = Rotation.random(views, random_state=seed)
    truth[:, :3, :3], truth[:, :3, 3] = turns.as_matrix(), rng.normal(size=(views, 3))
    guess[:, :3, :3] = (turns * Rotation.from_rotvec(rng.normal(0, 0.2, (views, 3)))).as_matrix()
    guess[:, :3, 3] = 0.4 * (truth[:, :3, 3] + rng.normal(0, 0.3, (views, 3)))
    return guess, truth


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


def test_auc_up_to_fewer_degrees_is_the_recall_below_each_of_them():
    errors = np.random.default_rng(0).uniform(0, 40, 200)
    guess = Rotation.from_rotvec(np.radians(errors)[:, None] * [1, 0, 0]).as_matrix()
    truth, moves = np.stack([np.eye(3)] * 200), np.tile([0, 0, 1.0], (200, 1))
    got = _reduce((guess, truth), (moves, moves))
    for limit in (3, 5, 10, 15, 30):
        expected = np.mean([np.mean(errors < degrees) for degrees in range(1, limit + 1)])
        assert got[f"auc{limit}"] == pytest.approx(expected)


@pytest.mark.parametrize("seed", [0, 1])
def test_trajectory_errors_are_those_of_evo(seed):
    guess, truth = _poses(seed)
    got = trajectory_errors(guess, truth)
    reference, estimate = (PosePath3D(poses_se3=list(poses)) for poses in (truth, guess))
    estimate.align(reference, correct_scale=True)
    ate = evo.APE(evo.PoseRelation.translation_part)
    ate.process_data((reference, estimate))
    assert got.ate == pytest.approx(ate.get_statistic(evo.StatisticsType.rmse))
    for value, relation in (
        (got.rpe_translation, evo.PoseRelation.translation_part),
        (got.rpe_rotation, evo.PoseRelation.rotation_angle_deg),
    ):
        rpe = evo.RPE(relation, delta=1, delta_unit=evo.Unit.frames)
        rpe.process_data((reference, estimate))
        assert value == pytest.approx(rpe.get_statistic(evo.StatisticsType.rmse))


@given(st.integers(0, 1000), st.floats(0.1, 10))
@settings(deadline=None, max_examples=30)
def test_the_frame_and_the_scale_of_a_predicted_trajectory_do_not_matter(seed, scale):
    guess, truth = _poses(seed)
    frame = np.eye(4)
    frame[:3, :3], frame[:3, 3] = Rotation.random(random_state=seed).as_matrix(), [1, -2, 3]
    moved = frame @ guess
    moved[:, :3, 3] *= scale
    assert trajectory_errors(moved, truth) == pytest.approx(trajectory_errors(guess, truth), rel=1e-6)
    assert trajectory_errors(truth, truth) == pytest.approx((0, 0, 0), abs=1e-5)


def test_trajectories_by_hand():
    turns = np.stack([np.eye(3)] * 3)
    truth = np.array([[1.0, 0, 0], [2, 0, 0], [3, 0, 0]])
    got = _reduce((turns, turns), (-2 * truth, truth))  # a similarity mends it, but not pair by pair
    assert got["ate"] == pytest.approx(0, abs=1e-9)
    assert got["auc30"] == 0
    # Without extent, every centre is predicted at the mean: errors of 1.5, 0.5, 0.5 and 1.5 metres.
    got = _reduce((turns, turns), (0 * truth, truth))
    assert got["ate"] == pytest.approx(np.sqrt((2 * 1.5**2 + 2 * 0.5**2) / 4))
    assert got["rpe_translation"] == pytest.approx(1)
    turns = Rotation.from_rotvec(np.radians([10, 10, 10])[:, None] * [0, 0, 1]).as_matrix()
    assert _reduce((turns, np.stack([np.eye(3)] * 3)), (truth, truth))["rpe_rotation"] == pytest.approx(
        np.sqrt(10**2 / 3)
    )


def test_two_views_or_a_camera_at_rest_have_no_trajectory():
    eye = np.stack([np.eye(3)] * 3)
    for count, moves in ((1, np.ones((3, 3))), (3, np.zeros((3, 3)))):
        got = _reduce((eye[:count], eye[:count]), (moves[:count], moves[:count]))
        assert np.isnan(got["ate"])
        assert np.isnan(got["rpe_rotation"])


@given(st.integers(0, 1000), st.integers(0, 3))
@settings(deadline=None, max_examples=20)
def test_pairs_that_are_not_known_count_nowhere(seed, unknown):
    guess, truth = (poses[1:] for poses in _poses(seed, views=5))
    known = np.arange(4) != unknown
    spoiled = truth.copy()
    spoiled[unknown] = np.nan
    arrays = ((guess[:, :3, :3], spoiled[:, :3, :3]), (guess[:, :3, 3], spoiled[:, :3, 3]))
    fewer = tuple(tuple(side[known] for side in sides) for sides in arrays)
    got, expected = _reduce(*arrays, known=known), _reduce(*fewer)
    for name in expected:
        if name.startswith(("auc", "rra", "rta")):
            assert got[name] == expected[name]
    assert np.isnan(got["ate"])
    with pytest.raises(InputError, match="not marked unknown"):
        _reduce(*arrays)


def test_poses_that_are_not_finite_are_refused():
    eye, moves = np.stack([np.eye(3)]), np.ones((1, 3))
    with pytest.raises(InputError, match="NaN"):
        _reduce((eye * np.nan, eye), (moves, moves))

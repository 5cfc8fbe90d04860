"""Lists and trajectories of the TUM RGB-D benchmark: by hand, round trip, and what pairs with what."""

from __future__ import annotations

import numpy as np
import pytest
import roma
import torch

from extract.datasets.poses.tum import nearest, parse_listing, parse_trajectory
from extract.errors import DataError
from tests.extract.folder.test_poses import motions


def test_a_list() -> None:
    content = b"# color images\n# timestamp filename\n2.5 rgb/b c.png\n\n1305031102.175304 rgb/d.png\n1 rgb\\a.png\n"
    listing = parse_listing(content, "rgb.txt")
    assert listing.names == ("rgb/a.png", "rgb/b c.png", "rgb/d.png")
    assert listing.times.tolist() == [1, 2.5, 1305031102.175304]


def test_a_trajectory_by_hand() -> None:
    """x, y, z, then the real part of the quaternion last; camera to world, not the other way round."""
    half = np.sqrt(0.5)
    found = parse_trajectory(f"# t\n7 1 2 3 0 0 {half} {half}\n".encode(), "gt")
    assert found.times.tolist() == [7]
    np.testing.assert_allclose(found.cam_to_world[0] @ [1, 0, 0, 1], [1, 3, 3, 1], atol=1e-12)


def test_a_trajectory_round_trip() -> None:
    truth = motions(6)
    quaternions = roma.rotmat_to_unitquat(torch.tensor(truth[:, :3, :3])).numpy()
    lines = [
        f"{n} {' '.join(map(repr, map(float, (*pose[:3, 3], *q))))}"
        for n, (pose, q) in enumerate(zip(truth, quaternions, strict=True))
    ]
    found = parse_trajectory("\n".join(reversed(lines)).encode(), "gt")
    assert found.times.tolist() == list(range(6))
    np.testing.assert_allclose(found.cam_to_world, truth, atol=1e-12)


def test_a_lost_pose_is_unknown() -> None:
    found = parse_trajectory(b"1 nan nan nan nan nan nan nan\n2 0 0 0 0 0 0 1\n", "gt")
    assert not found.cam_to_world[0].any()
    np.testing.assert_array_equal(found.cam_to_world[1], np.eye(4))


def test_nearest() -> None:
    times = np.array([1.0, 1.1, 1.2])
    wanted = np.array([0.97, 0.98, 1.0, 1.05, 1.09, 1.119, 1.121, 1.2, 1.22, 9.0])
    assert nearest(times, wanted).tolist() == [-1, 0, 0, -1, 1, 1, -1, 2, 2, -1]
    assert nearest(np.array([1.0, 1.02]), np.array([1.01])).tolist() == [0], "of two equally near the earlier"
    assert nearest(np.array([5.0]), np.array([4.0, 5.01])).tolist() == [-1, 0]
    assert nearest(times, np.array([1.05]), within=0.1).tolist() == [0]
    offset = 1305031102.0
    assert nearest(times + offset, np.array([1.02, 1.08]) + offset).tolist() == [0, 1], "20 ms, in times of that size"


def test_nearest_against_all_pairs() -> None:
    rng = np.random.default_rng(0)
    times, wanted = np.sort(rng.uniform(0, 5, 200)), rng.uniform(-0.5, 5.5, 500)
    away = np.abs(times[None] - wanted[:, None])
    expected = np.where(away.min(1) <= 0.02, away.argmin(1), -1)
    np.testing.assert_array_equal(nearest(times, wanted), expected)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", r"gt: has no pose.*Remedy"),
        (b"1 2 3\n", r"gt, line 1: expected `timestamp tx ty tz qx qy qz qw`, got '1 2 3'"),
        (b"# c\n\n1 0 0 0 0 0 0 x\n", r"gt, line 3: expected"),
        (b"1 0 0 0 0 0 0 1 9\n", r"gt, line 1: expected"),
        (b"1 0 0 0 0 0 0 0\n", r"gt, line 1: a quaternion of length 0"),
        (b"1 0 0 0 0 0 0 3\n", r"gt, line 1: a quaternion of length 3"),
        (b"nan 0 0 0 0 0 0 1\n", r"gt, line 1: 'nan' is no timestamp"),
        (b"\xff\xfe\n", r"gt: is no text"),
    ],
)
def test_faults_of_a_trajectory(content: bytes, message: str) -> None:
    with pytest.raises(DataError, match=message):
        parse_trajectory(content, "gt")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"# nothing\n", "lists no file"),
        (b"1.5\n", "line 1: expected"),
        (b"now a.png\n", "line 1: 'now' is no timestamp"),
    ],
)
def test_faults_of_a_list(content: bytes, message: str) -> None:
    with pytest.raises(DataError, match=f"rgb.*{message}"):
        parse_listing(content, "rgb")

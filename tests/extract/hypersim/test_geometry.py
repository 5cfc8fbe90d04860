"""Cameras with shifted and tilted lenses are pinholes, turned: depth, poses and intrinsics fit the release's rays."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from extract.datasets.base import Targets
from extract.datasets.hypersim import Hypersim
from extract.datasets.hypersim_files.camera import Lens
from extract.datasets.sampling import Sampling
from extract.errors import DataError
from probes.geometry import unproject
from tests.extract.hypersim.tiny_interiors import (
    INSTANCE,
    LENSES,
    SEMANTIC,
    VIEWS,
    opengl,
    room,
    shifted,
    standard,
    views,
)
from tests.extract.scannet.tiny_scans import cast

BANK = Sampling(frames=4, window="whole", bank=4)
SCENES = ("ai_001_001", "ai_002_001", "ai_003_010")


@pytest.fixture(scope="module")
def read(release: Path) -> dict[str, tuple[list[int], Targets]]:
    clips = {clip.scene: clip for clip in Hypersim(release, BANK).clips()}
    return {scene: (clips[scene].chosen, clips[scene].targets()) for scene in SCENES}


def test_the_usual_lens() -> None:
    lens = Lens.of(standard())
    focal = 512 / np.tan(np.pi / 6)
    np.testing.assert_allclose(lens.intrinsics, [[focal, 0, 512], [0, focal, 384], [0, 0, 1]], atol=1e-9)
    np.testing.assert_allclose(lens.rotation, np.eye(3), atol=1e-12)


@pytest.mark.parametrize("matrix", [*LENSES.values(), shifted(-0.2, 0.3, -0.4, 0.3)])
def test_a_lens_maps_rays_to_the_pixels_they_come_from(matrix: NDArray[np.float64]) -> None:
    lens = Lens.of(matrix)
    assert np.allclose(np.tril(lens.intrinsics, -1), 0, atol=1e-12)
    np.testing.assert_allclose(lens.rotation @ lens.rotation.T, np.eye(3), atol=1e-12)
    assert np.linalg.det(lens.rotation) == pytest.approx(1)
    u, v = np.random.default_rng(0).uniform(-1, 1, (2, 50))
    rays = (matrix @ [u, v, np.ones(50)]) * [[1], [-1], [-1]]
    local = lens.rotation @ rays
    assert (local[2] > 0).all()
    pixels = lens.intrinsics @ local
    np.testing.assert_allclose(pixels[:2] / pixels[2], [(u + 1) * 512, (1 - v) * 384], atol=1e-8)


def test_a_tilted_and_shifted_lens_has_skew_and_turns() -> None:
    lens = Lens.of(LENSES["ai_003_010"])
    assert abs(lens.intrinsics[0, 1]) > 1
    assert np.degrees(np.arccos((np.trace(lens.rotation) - 1) / 2)) > 5


@pytest.mark.parametrize(
    "matrix",
    [np.zeros((3, 3)), -standard(), standard() * (1, 1, np.nan), np.diag([1.0, 1, 1]), np.diag([1e-9, 1, -1])],
)
def test_what_is_no_lens(matrix: NDArray[np.float64]) -> None:
    with pytest.raises(ValueError, match="no camera maps u, v to rays"):
        Lens.of(matrix)


@pytest.mark.parametrize("scene", SCENES)
def test_a_pinhole_there_sees_what_is_read(read: dict[str, tuple[list[int], Targets]], scene: str) -> None:
    """Cast from pose and intrinsics alone: the pictures were cast along the release's rays."""
    numbers, targets = read[scene]
    assert targets.depth is not None
    assert targets.instance is not None
    assert targets.cam_to_world is not None
    assert targets.intrinsics is not None
    for row in range(len(numbers)):
        depth, ids = cast(room(), targets.cam_to_world[row], targets.intrinsics[row], (480, 640))
        known = (targets.depth[row] > 0) & (depth > 0)
        assert known.mean() > 0.5
        assert (np.abs(targets.depth[row] - depth)[known] < 0.02).mean() > 0.97, "but for outlines"
        assert np.median(np.abs(targets.depth[row] - depth)[known]) < 4e-3
        true = np.where(INSTANCE[ids] >= 0, 41 + INSTANCE[ids], np.maximum(SEMANTIC[ids], 0))
        assert (targets.instance[row] == true).mean() > 0.985


@pytest.mark.parametrize("scene", SCENES)
def test_points_of_one_frame_land_on_another(read: dict[str, tuple[list[int], Targets]], scene: str) -> None:
    _, targets = read[scene]
    assert targets.depth is not None
    assert targets.instance is not None
    assert targets.cam_to_world is not None
    assert targets.intrinsics is not None
    rows, columns = np.nonzero(targets.depth[0])
    matrices = np.broadcast_to(targets.intrinsics[0], (len(rows), 3, 3))
    xy = np.stack([columns + 0.5, rows + 0.5], -1)
    local = unproject(xy, targets.depth[0][rows, columns].astype(np.float64), matrices)
    world = targets.cam_to_world[0] @ np.column_stack([local, np.ones(len(rows))]).T
    for other in range(1, VIEWS):
        there = (np.linalg.inv(targets.cam_to_world[other]) @ world)[:3]
        pixels = targets.intrinsics[other] @ there
        column, row = np.floor(pixels[:2] / pixels[2]).astype(int)
        inside = (column >= 0) & (column < 640) & (row >= 0) & (row < 480)
        seen = np.zeros(len(rows))
        seen[inside] = targets.depth[other][row[inside], column[inside]]
        met = np.abs(seen - there[2]) < 0.03
        assert met.sum() > 0.9 * (seen > 0).sum() > 0.2 * len(rows)
        same = targets.instance[0][rows[met], columns[met]] == targets.instance[other][row[met], column[met]]
        assert same.mean() > 0.98


def test_distances_are_not_depths(read: dict[str, tuple[list[int], Targets]]) -> None:
    """At the corner of the usual lens the two differ by a quarter; NaN and infinity are unknown."""
    numbers, targets = read["ai_001_001"]
    assert targets.depth is not None
    distance = views("ai_001_001")[numbers[0] % VIEWS].distance
    ratio = targets.depth[0][-1, -1] / float(distance[-1, -1])
    assert ratio == pytest.approx(1 / np.sqrt(1 + np.tan(np.pi / 6) ** 2 * (1 + 9 / 16)), rel=5e-3)
    assert (targets.depth[0][64:68, 64:68] == 0).all()
    assert np.isnan(distance).any()
    assert np.isfinite(targets.depth).all()


def test_positions_are_metres_and_the_axis_is_the_lens(read: dict[str, tuple[list[int], Targets]]) -> None:
    for scene in SCENES:
        numbers, targets = read[scene]
        assert targets.cam_to_world is not None
        poses = np.stack([views(scene)[k % VIEWS].pose for k in numbers])
        np.testing.assert_allclose(targets.cam_to_world[:, :3, 3], poses[:, :3, 3], atol=1e-9)
        turned = [
            poses[row, :3, :3].T @ targets.cam_to_world[row, :3, :3] @ Lens.of(LENSES[scene]).rotation
            for row in range(len(numbers))
        ]
        np.testing.assert_allclose(turned, np.broadcast_to(np.eye(3), (len(numbers), 3, 3)), atol=1e-7)


def test_poses_that_are_not_finite_are_unknown_and_others_checked() -> None:
    lens, pose = Lens.of(standard()), views("ai_001_001")[0].pose
    assert not lens.cam_to_world(opengl(pose) * np.nan, pose[:3, 3], "here").any()
    assert not lens.cam_to_world(opengl(pose), pose[:3, 3] * np.inf, "here").any()
    with pytest.raises(DataError, match="here: no rigid motion"):
        lens.cam_to_world(2 * opengl(pose), pose[:3, 3], "here")


def test_unprojection_heeds_skew() -> None:
    matrix = np.array([[100.0, 7, 32], [0, 90, 24], [0, 0, 1]])
    points = unproject(np.array([[3.0, 5.0], [60.0, 40.0]]), np.array([2.0, 3.0]), np.stack([matrix, matrix]))
    pixels = points @ matrix.T
    np.testing.assert_allclose(pixels[:, :2] / pixels[:, 2:], [[3, 5], [60, 40]], atol=1e-12)

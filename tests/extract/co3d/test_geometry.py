"""Depth, camera and intrinsics fit together: points lie on the scene that was cast, and land on each other's frames."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from extract.datasets.base import Targets
from extract.datasets.co3dv2 import Co3dV2
from tests.extract.co3d.tiny_co3d import CENTRE, LYING, RADIUS, UPRIGHT, WALL, Written

Release = tuple[Path, list[Written]]


def targets_of(root: Path, name: str) -> Targets:
    (clip,) = (clip for clip in Co3dV2(root).clips() if clip.chosen.name == name)
    return clip.targets()


def unprojected(targets: Targets, row: int) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """World points of the pixels with depth, and which of them show the ball."""
    assert targets.depth is not None
    assert targets.instance is not None
    assert targets.cam_to_world is not None
    assert targets.intrinsics is not None
    rows, columns = np.nonzero(targets.depth[row])
    pixels = np.stack([columns + 0.5, rows + 0.5, np.ones(len(rows))])
    camera = np.linalg.solve(targets.intrinsics[row], pixels) * targets.depth[row][rows, columns]
    world = targets.cam_to_world[row, :3, :3] @ camera + targets.cam_to_world[row, :3, 3:]
    return world.T, targets.instance[row][rows, columns] == 1


@pytest.mark.parametrize("name", [UPRIGHT.name, LYING.name])
def test_unprojected_points_lie_on_the_scene(release: Release, small: tuple[int, int], name: str) -> None:
    targets = targets_of(release[0], name)
    for row in range(len(targets.rgb)):
        world, ball = unprojected(targets, row)
        assert 100 < ball.sum() < len(ball)
        np.testing.assert_allclose(np.linalg.norm(world[ball] - CENTRE, axis=1), RADIUS, atol=4e-3)
        beside = world[~ball]
        assert np.minimum(np.abs(beside[:, 1]), np.abs(beside[:, 2] - WALL)).max() < 6e-3
        assert np.minimum(np.abs(beside[:, 1]), 1).min() < 6e-3


@pytest.mark.parametrize("name", [UPRIGHT.name, LYING.name])
def test_points_of_one_frame_land_on_the_depth_of_another(release: Release, small: tuple[int, int], name: str) -> None:
    targets = targets_of(release[0], name)
    assert targets.depth is not None
    assert targets.cam_to_world is not None
    assert targets.intrinsics is not None
    world, ball = unprojected(targets, 0)
    for row in (2, len(targets.rgb) - 1):
        camera = np.linalg.inv(targets.cam_to_world[row]) @ np.column_stack([world, np.ones(len(world))]).T
        pixels = targets.intrinsics[row] @ camera[:3]
        column, line = np.floor(pixels[:2] / pixels[2]).astype(int)
        inside = (column >= 0) & (column < small[1]) & (line >= 0) & (line < small[0])
        there = np.zeros(len(world))
        there[inside] = targets.depth[row][line[inside], column[inside]]
        seen = there > 0
        assert seen.mean() > 0.5
        # A point may be hidden there, but is not before what is seen: but for outlines, which pixels round.
        assert np.median(np.abs(camera[2][seen] / there[seen] - 1)) < 0.01
        assert (camera[2][seen] > 0.9 * there[seen]).mean() > 0.95
        assert seen[ball].mean() > 0.5

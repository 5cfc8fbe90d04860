"""Depth, pose and camera fit together, against a room that is known exactly. Nothing repeats the reader's code."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from extract.datasets.base import Targets
from extract.datasets.sampling import Sampling
from extract.datasets.scannetpp import ScanNetPP
from tests.extract.scannetpp.tiny_scenes import DEPTH_SIZE, FRAMES, TRAIN, Filmed
from tests.extract.targets_geometry import arrays, unproject
from tests.extract.tiny_rooms import FLOOR

BANK = (0, 12, 23)


def targets_of(root: Path, scene: str = TRAIN) -> Targets:
    clips = ScanNetPP(root, Sampling(frames=FRAMES, window="whole", bank=3)).clips()
    (clip,) = (clip for clip in clips if clip.id == scene)
    return clip.targets()


@pytest.fixture(scope="module")
def targets(release: Path) -> Targets:
    return targets_of(release)


def test_what_was_filmed_comes_out(targets: Targets, filmed: Filmed) -> None:
    depth, poses, matrices = arrays(targets)
    assert depth.shape == targets.rgb.shape[:3] == (3, *DEPTH_SIZE)
    assert [depth.dtype, targets.rgb.dtype] == [np.dtype("f4"), np.dtype("u1")]
    assert (targets.instance, targets.instance_class) == (None, None)
    for row, frame in enumerate(BANK):
        np.testing.assert_allclose(depth[row], filmed.depth[frame] / 1000, rtol=1e-6)
        np.testing.assert_allclose(poses[row], filmed.cam_to_world[frame], atol=1e-6)
        np.testing.assert_allclose(matrices[row], np.diag([8 / 3, 8 / 3, 1]) @ filmed.matrix, atol=1e-9)
    assert 0 < (depth == 0).mean() < 0.5, "the ceiling has no depth"


def test_colour_lies_where_depth_lies(targets: Targets, filmed: Filmed) -> None:
    for row, frame in enumerate(BANK):
        ball = filmed.instance[frame] == 3
        green = (targets.rgb[row].astype(int) - (60, 160, 70) == 0).all(-1)
        assert green.sum() > 500
        assert (green & ball).sum() / green.sum() > 0.97
        now, then = np.argwhere(green).mean(0), np.argwhere(ball).mean(0)
        np.testing.assert_allclose(now, then, atol=1)


def test_points_of_the_floor_lie_on_the_floor(targets: Targets, filmed: Filmed) -> None:
    """Half a pixel too far up or down would be some millimetres off."""
    depth, poses, matrices = arrays(targets)
    for row, frame in enumerate(BANK):
        floor = (filmed.instance[frame] == FLOOR).ravel() & (depth[row] > 0).ravel()
        world = unproject(depth[row], poses[row], matrices[row])[:, floor]
        assert floor.sum() > 3000
        assert np.abs(world[2]).max() < 1.5e-3
        assert abs(np.median(world[2])) < 3e-4


def test_points_of_one_frame_land_on_the_depth_of_another(targets: Targets) -> None:
    depth, poses, matrices = arrays(targets)
    for a, b in ((0, 1), (1, 2), (2, 0)):
        world = unproject(depth[a], poses[a], matrices[a])[:, (depth[a] > 0).ravel()]
        camera = np.linalg.inv(poses[b]) @ np.vstack([world, np.ones(world.shape[1])])
        pixel = matrices[b] @ camera[:3]
        column, line = np.floor(pixel[:2] / pixel[2]).astype(int)
        inside = (camera[2] > 0) & (column >= 0) & (column < DEPTH_SIZE[1]) & (line >= 0) & (line < DEPTH_SIZE[0])
        found = depth[b][line[inside], column[inside]]
        off = camera[2][inside] - found
        visible = (found > 0) & (off < 0.1)  # what lies far behind is hidden
        assert visible.sum() > 10_000
        assert np.quantile(np.abs(off[visible]), 0.95) < 0.04
        assert abs(np.median(off[visible])) < 1e-3


def test_an_unknown_pose_is_all_zero(folder: Path, root: Path) -> None:
    path = folder / "pose_intrinsic_imu.json"
    said = json.loads(path.read_text())
    said["frame_000000"]["aligned_pose"][0][0] = float("nan")
    said["frame_000012"]["aligned_pose"] = [[None] * 4] * 4
    path.write_text(json.dumps(said))
    _, poses, _ = arrays(targets_of(root))
    assert [bool(pose.any()) for pose in poses] == [False, False, True]


def test_matrices_may_be_one_list(folder: Path, root: Path, targets: Targets) -> None:
    path = folder / "pose_intrinsic_imu.json"
    said = json.loads(path.read_text())
    for entry in said.values():
        for key in ("aligned_pose", "intrinsic"):
            entry[key] = [value for row in entry[key] for value in row]
    path.write_text(json.dumps(said))
    for now, before in zip(arrays(targets_of(root)), arrays(targets), strict=True):
        np.testing.assert_array_equal(now, before)

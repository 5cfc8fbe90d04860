"""Depth, pose and camera fit together, against a room that is known exactly. Nothing repeats the reader's code."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from extract.datasets.arkitscenes import ArkitScenes
from extract.datasets.base import Targets
from extract.datasets.sampling import Sampling
from tests.extract.arkitscenes.tiny_arkit import FRAMES, SIZE, Filmed, write_release
from tests.extract.targets_geometry import arrays, unproject
from tests.extract.tiny_rooms import FLOOR

BANK = (0, 12, 23)


def targets_of(root: Path) -> Targets:
    return ArkitScenes(root, Sampling(frames=FRAMES, window="whole", bank=3)).clips()[0].targets()


@pytest.fixture(scope="module")
def targets(release: Path) -> Targets:
    return targets_of(release)


def test_what_was_filmed_comes_out(targets: Targets, filmed: Filmed) -> None:
    depth, poses, matrices = arrays(targets)
    assert [depth.dtype, targets.rgb.dtype] == [np.dtype("f4"), np.dtype("u1")]
    assert (targets.instance, targets.instance_class) == (None, None)
    for row, frame in enumerate(BANK):
        np.testing.assert_array_equal(targets.rgb[row], filmed.rgb[frame])
        np.testing.assert_allclose(depth[row], filmed.depth[frame] / 1000, rtol=1e-6)
        np.testing.assert_allclose(poses[row], filmed.cam_to_world[frame], atol=1e-9)
        np.testing.assert_allclose(matrices[row], filmed.matrix, atol=1e-3)
    assert 0 < (depth == 0).mean() < 0.5, "the ceiling has no depth"


def test_points_of_the_floor_lie_on_the_floor(targets: Targets, filmed: Filmed) -> None:
    """Half a pixel too far up or down would be some millimetres off."""
    depth, poses, matrices = arrays(targets)
    for row, frame in enumerate(BANK):
        floor = (filmed.instance[frame] == FLOOR).ravel() & (depth[row] > 0).ravel()
        world = unproject(depth[row], poses[row], matrices[row])[:, floor]
        assert floor.sum() > 3000
        assert np.abs(world[2]).max() < 1.5e-3
        assert abs(np.median(world[2])) < 3e-4


@pytest.mark.parametrize("kind", ["3dod", "raw"])
def test_points_of_one_frame_land_on_the_depth_of_another(kind: str, tmp_path: Path, filmed: Filmed) -> None:
    write_release(tmp_path, filmed, kind)
    depth, poses, matrices = arrays(targets_of(tmp_path))
    for a, b in ((0, 1), (1, 2), (2, 0)):
        world = unproject(depth[a], poses[a], matrices[a])[:, (depth[a] > 0).ravel()]
        camera = np.linalg.inv(poses[b]) @ np.vstack([world, np.ones(world.shape[1])])
        pixel = matrices[b] @ camera[:3]
        column, line = np.floor(pixel[:2] / pixel[2]).astype(int)
        inside = (camera[2] > 0) & (column >= 0) & (column < SIZE[1]) & (line >= 0) & (line < SIZE[0])
        found = depth[b][line[inside], column[inside]]
        off = camera[2][inside] - found
        visible = (found > 0) & (off < 0.1)  # what lies far behind is hidden
        assert visible.sum() > 10_000
        assert np.quantile(np.abs(off[visible]), 0.95) < 0.04
        assert abs(np.median(off[visible])) < 1e-3


def test_released_numbers_of_a_camera(folder: Path, root: Path) -> None:
    """A centred camera of ARKit has (959.5, 719.5), which the release has as (127.933, 95.9333)."""
    for path in (folder / "lowres_wide_intrinsics").iterdir():
        path.write_text("256 192 211.949 211.949 127.933 95.9333\n")
    _, _, matrices = arrays(targets_of(root))
    expected = np.array([[211.949, 0, 128], [0, 211.949, 96], [0, 0, 1]])
    np.testing.assert_allclose(matrices, np.repeat(expected[None], 3, 0), atol=1e-3)


def test_a_pose_of_the_official_code_stands_upside_down(folder: Path, root: Path) -> None:
    """The line of video 41048143 that `rectify_im.py` has: world z, in camera axes, is +y."""
    path = folder / "lowres_wide.traj"
    turn = "-1.5545600446434271 1.532901960141653 0.883467254271724 0.0450016 0.0506107 -0.000194237"
    lines = [" ".join([line.split()[0], turn]) for line in path.read_text().splitlines()]
    path.write_text("\n".join(lines))
    _, poses, _ = arrays(targets_of(root))
    assert poses[0][2, :3].argmax() == 1
    assert poses[0][2, 1] > 0.8


def test_an_unknown_pose_is_all_zero(folder: Path, root: Path) -> None:
    path = folder / "lowres_wide.traj"
    lines = path.read_text().splitlines()
    lines[0] = lines[0].split()[0] + " nan nan nan nan nan nan"
    path.write_text("\n".join(lines))
    _, poses, _ = arrays(targets_of(root))
    assert not poses[0].any()
    assert poses[1].any()

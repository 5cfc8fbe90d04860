"""Targets against a room that is known exactly: every convention is tested by geometry, none by repeating the code."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from extract.datasets.base import Targets
from extract.datasets.sampling import Sampling
from extract.datasets.scannet import ScanNet, ScanNet200
from extract.errors import DataError
from tests.extract.scannet.tiny_scans import (
    LABELS,
    LOST,
    TinyScan,
    make_scan,
    write_exported,
    write_labels,
    write_lists,
    write_release,
    write_sens,
)
from tests.extract.targets_geometry import unproject
from tests.extract.tiny_rooms import FLOOR

FEW = Sampling(frames=5, window="whole", bank=3)
PICKED = [0, 10, 19]  # the bank of FEW in a recording of 20 frames
SIZE = (480, 640)


@pytest.fixture(scope="module")
def fine() -> TinyScan:
    """Depth in the release's own size, from a camera that is the colour camera."""
    return make_scan(color_size=(121, 162), depth_size=SIZE)


@pytest.fixture(scope="module")
def exact(fine: TinyScan, tmp_path_factory: pytest.TempPathFactory) -> Targets:
    root = tmp_path_factory.mktemp("fine")
    write_release(root, fine)
    return ScanNet(root, FEW).clips()[0].targets()


def arrays(targets: Targets) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any], NDArray[Any]]:
    """Depth, instances, poses and intrinsics."""
    assert targets.depth is not None
    assert targets.instance is not None
    assert targets.cam_to_world is not None
    assert targets.intrinsics is not None
    return targets.depth, targets.instance, targets.cam_to_world, targets.intrinsics


def test_shapes_and_types(exact: Targets) -> None:
    depth, instance, poses, matrices = arrays(exact)
    assert exact.instance_class is not None
    assert depth.shape == instance.shape == exact.rgb.shape[:3] == (3, *SIZE)
    assert [depth.dtype, instance.dtype, exact.rgb.dtype] == [np.dtype(name) for name in ("f4", "u2", "u1")]
    assert (poses.shape, matrices.shape, exact.instance_class.shape) == ((3, 4, 4), (3, 3, 3), (256,))


def test_depth_is_what_the_colour_camera_sees(exact: Targets, fine: TinyScan) -> None:
    """Where both cameras are one, no value moves: depth is right to the millimetre it is stored in."""
    depth, _, _, matrices = arrays(exact)
    for row, frame in enumerate(PICKED):
        truth, _ = fine.seen(frame, matrices[row], SIZE)
        assert np.abs(depth[row] - truth).max() < 1.1e-3
        np.testing.assert_array_equal(depth[row] == 0, truth == 0)


def test_points_of_the_floor_lie_on_the_floor(exact: Targets) -> None:
    """Half a pixel too far up or down would be some millimetres off."""
    depth, instance, poses, matrices = arrays(exact)
    for row in range(3):
        floor = (instance[row] == FLOOR).ravel() & (depth[row] > 0).ravel()
        world = unproject(depth[row], poses[row], matrices[row])[:, floor]
        assert floor.sum() > 10_000
        # Labels are coarser than depth here: at their borders some floor is a wall.
        assert np.quantile(np.abs(world[2]), 0.9) < 1.5e-3
        assert abs(np.median(world[2])) < 3e-4


def test_points_of_one_frame_land_on_the_depth_of_another(exact: Targets) -> None:
    depth, _, poses, matrices = arrays(exact)
    for a, b in ((0, 1), (1, 2), (2, 0)):
        world = unproject(depth[a], poses[a], matrices[a])[:, (depth[a] > 0).ravel()]
        camera = np.linalg.inv(poses[b]) @ np.vstack([world, np.ones(world.shape[1])])
        pixel = matrices[b] @ camera[:3]
        column, line = np.floor(pixel[:2] / pixel[2]).astype(int)
        inside = (camera[2] > 0) & (column >= 0) & (column < SIZE[1]) & (line >= 0) & (line < SIZE[0])
        found = depth[b][line[inside], column[inside]]
        off = camera[2][inside] - found
        visible = (found > 0) & (off < 0.05)  # what lies far behind is hidden
        assert visible.sum() > 50_000
        assert np.quantile(np.abs(off[visible]), 0.95) < 0.02
        assert abs(np.median(off[visible])) < 1e-3


def test_depth_of_another_camera_is_laid_onto_the_colour_camera(tmp_path: Path) -> None:
    """The depth camera zooms and looks elsewhere; values stay within half of its pixels of where they belong."""
    other = make_scan(color_size=(121, 162), depth_size=SIZE, depth_change=(1.06, 9.3, -6.1))
    write_release(tmp_path, other)
    depth, instance, poses, matrices = arrays(ScanNet(tmp_path, FEW).clips()[0].targets())
    for row, frame in enumerate(PICKED):
        truth, _ = other.seen(frame, matrices[row], SIZE)
        seen = depth[row] > 0
        off = (depth[row] - truth)[seen & (truth > 0)]
        assert seen.mean() > 0.75
        assert np.quantile(np.abs(off), 0.95) < 0.02
        assert abs(np.median(off)) < 5e-4
        floor = (instance[row] == FLOOR).ravel() & seen.ravel()
        world = unproject(depth[row], poses[row], matrices[row])[2, floor]
        assert abs(np.median(world)) < 1e-3
    assert (depth[:, :, 0] == 0).all(), "the left border lies outside of what the depth camera sees"


@pytest.mark.parametrize("size", [(256, 256), (240, 320), (96, 128), (120, 161)])
def test_depth_of_the_same_camera_moves_nowhere(tmp_path: Path, size: tuple[int, int]) -> None:
    """Where target pixels have their centres on borders, rounding of the intrinsics must not decide."""
    coarse = make_scan(depth_size=size)
    write_release(tmp_path, coarse)
    depth, *_ = arrays(ScanNet(tmp_path, FEW).clips()[0].targets())
    lines, columns = ((2 * np.arange(new) + 1) * old // (2 * new) for new, old in zip(SIZE, size, strict=True))
    expected = coarse.depth[PICKED][:, lines[:, None], columns] / 1000
    np.testing.assert_allclose(depth, expected, rtol=1e-6)


def test_intrinsics_are_those_of_the_resized_colour_picture(exact: Targets, fine: TinyScan) -> None:
    *_, matrices = arrays(exact)
    expected = np.diag([640 / 162, 480 / 121, 1]) @ fine.color_matrix
    np.testing.assert_allclose(matrices, np.repeat(expected[None], 3, 0), rtol=1e-5)


def test_colour_lies_where_the_instances_lie(exact: Targets, fine: TinyScan) -> None:
    _, instance, _, _ = arrays(exact)
    for row, frame in enumerate(PICKED):
        for one in (1, 2, 3):
            inside = instance[row] == one
            here, there = exact.rgb[row][inside], fine.rgb[frame][fine.instance[frame] == one]
            assert np.abs(here.mean(0) - there.mean(0)).max() < 6


def test_instances_are_taken_from_the_nearest_pixel(exact: Targets, fine: TinyScan) -> None:
    _, instance, _, _ = arrays(exact)
    lines = (np.arange(480) + 0.5) * 121 // 480
    columns = (np.arange(640) + 0.5) * 162 // 640
    expected = fine.instance[PICKED][:, lines.astype(int)[:, None], columns.astype(int)]
    np.testing.assert_array_equal(instance, expected)


@pytest.mark.parametrize(
    ("dataset", "named"),
    [
        (ScanNet, {1: "floor", 2: "wall", 3: "chair"}),
        (ScanNet200, {1: "floor", 2: "wall", 3: "office chair", 4: "pillow"}),
    ],
)
def test_classes(release: Path, dataset: type[ScanNet], named: dict[int, str]) -> None:
    """A category that is in no class, or in no table, keeps its instances and has no class."""
    opened = dataset(release, FEW)
    targets = opened.clips()[0].targets()
    assert targets.instance is not None
    assert targets.instance_class is not None
    found = {i: opened.classes[k - 1].name for i, k in enumerate(targets.instance_class.tolist()) if k}
    assert found == named
    assert opened.max_instances == len(targets.instance_class) - 1
    assert set(np.unique(targets.instance)) == {0, *LABELS}


def test_lost_poses_are_zero(tmp_path: Path, scan: TinyScan) -> None:
    poses = scan.poses.copy()
    poses[10] = LOST
    poses[19, 0, 0] = np.nan
    write_release(tmp_path, replace(scan, poses=poses))
    _, _, found, _ = arrays(ScanNet(tmp_path, FEW).clips()[0].targets())
    np.testing.assert_allclose(found[0], scan.poses[0], atol=1e-6)
    assert not found[1:].any()


def test_poses_that_are_no_motion_are_refused(tmp_path: Path, scan: TinyScan) -> None:
    for change in (np.diag([1, 1, -1, 1.0]), np.diag([1.1, 1, 1, 1.0]), np.diag([1, 1, 1, 2.0]), np.zeros((4, 4))):
        poses = scan.poses.copy()
        poses[10] = poses[10] @ change
        write_release(tmp_path, replace(scan, poses=poses))
        with pytest.raises(DataError, match=r"scene0001_00\.sens: frame 10: .*no rigid motion.*Remedy"):
            ScanNet(tmp_path, FEW).clips()[0].targets()


@pytest.mark.parametrize("camera", ["color_extrinsics", "depth_extrinsics"])
def test_depth_that_was_not_registered_is_refused(folder: Path, root: Path, scan: TinyScan, camera: str) -> None:
    aside = np.eye(4)
    aside[0, 3] = -0.038
    write_sens(folder, scan, **{camera: aside})
    clip = ScanNet(root, FEW).clips()[0]
    assert clip.frames([0]).shape == (1, 968, 1296, 3)
    with pytest.raises(DataError, match=r"extrinsic matrices are not the identity.*Remedy"):
        clip.targets()


@pytest.mark.parametrize(
    "wrong", [np.zeros((3, 3)), np.diag([-9.0, 9, 1]), np.array([[9.0, 3, 20], [0, 9, 15], [0, 0, 1]]), np.eye(3) * 400]
)
def test_intrinsics_that_no_camera_has_are_refused(
    folder: Path, root: Path, scan: TinyScan, wrong: NDArray[np.float64]
) -> None:
    for changed in (replace(scan, color_matrix=wrong), replace(scan, depth_matrix=wrong)):
        write_sens(folder, changed)
        with pytest.raises(DataError, match=r"scene0001_00\.sens: (colour|depth): no intrinsics.*Remedy"):
            ScanNet(root, FEW).clips()[0].targets()


def test_frames_have_the_native_size_and_are_not_touched(tmp_path: Path, scan: TinyScan) -> None:
    rng = np.random.default_rng(0)
    flat = np.repeat(rng.integers(0, 255, (20, 1, 1, 3), np.uint8), 968, 1)
    large = replace(scan, rgb=np.repeat(flat, 1296, 2))
    write_lists(tmp_path, [scan.id], ["scene0568_00"])
    write_sens(tmp_path / "scans" / scan.id, large)
    clip = ScanNet(tmp_path, FEW).clips()[0]
    frames = clip.frames([4, 0])
    assert np.abs(frames.astype(int) - large.rgb[[19, 0]]).max() < 4
    assert clip.frames([]).shape == (0, 968, 1296, 3)
    for beyond in (5, -1):
        with pytest.raises(DataError, match=f"scene0001_00: there is no frame {beyond}"):
            clip.frames([beyond])


def test_exported_folders_give_the_same_targets(release: Path, tmp_path: Path, scan: TinyScan) -> None:
    folder = tmp_path / "scans" / scan.id
    write_lists(tmp_path, [scan.id], ["scene0568_00"])
    write_exported(folder, scan)
    write_labels(folder, scan)
    here, there = (ScanNet(root, FEW).clips()[0].targets() for root in (tmp_path, release))
    for name in ("rgb", "depth", "instance", "instance_class"):
        np.testing.assert_array_equal(getattr(here, name), getattr(there, name))
    for name in ("cam_to_world", "intrinsics"):
        np.testing.assert_allclose(getattr(here, name), getattr(there, name), rtol=1e-5, atol=1e-6)

"""The data set `folder`: tiny rooms through every format of poses, sizes, splits, and what scenes have in common."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
from PIL import Image

from extract.datasets.base import Targets
from extract.datasets.folder import FolderDataset
from extract.datasets.sampling import Sampling
from extract.errors import DataError
from tests.extract.folder.recordings import (
    SIZE,
    Poses,
    moving_pictures,
    room,
    say,
    write,
    write_colmap,
    write_labels,
    write_transforms,
    write_video,
)

ALL: Sequence[Poses] = get_args(Poses)
EVERY = Sampling(window="whole", bank=81)


def reprojected(targets: Targets, one: int, other: int) -> float:
    """Share of the points seen in frame `one` and inside frame `other` whose depth there is what is seen there."""
    assert targets.depth is not None
    assert targets.cam_to_world is not None
    assert targets.intrinsics is not None
    rows, columns = np.nonzero(targets.depth[one])
    pixels = np.stack([columns + 0.5, rows + 0.5, np.ones(len(rows))])
    camera = np.linalg.solve(targets.intrinsics[one], pixels) * targets.depth[one][rows, columns]
    world = targets.cam_to_world[one] @ np.vstack([camera, np.ones(len(rows))])
    there = (np.linalg.inv(targets.cam_to_world[other]) @ world)[:3]
    x, y = (targets.intrinsics[other] @ there)[:2] / there[2]
    height, width = targets.depth.shape[1:]
    inside = (x > 0) & (x < width) & (y > 0) & (y < height)
    seen = targets.depth[other][y[inside].astype(int), x[inside].astype(int)]
    known = seen > 0
    assert known.sum() > 200
    return float((np.abs(seen - there[2][inside])[known] < 0.05).mean())


@pytest.mark.parametrize("poses", ALL)
def test_targets_through_each_format(root: Path, poses: Poses) -> None:
    tiny = room(size=(120, 168))
    write(root / "a", tiny, poses)
    say(root / "dataset.json", pose_scale=1)
    (clip,) = FolderDataset(root, EVERY).clips()
    assert (clip.id, clip.scene, clip.n_frames, clip.bank) == ("a", "a", 3, (0, 1, 2))
    targets = clip.targets()
    assert targets.depth is not None
    assert targets.instance is not None
    assert targets.instance_class is not None
    np.testing.assert_array_equal(targets.rgb, tiny.rgb)
    np.testing.assert_allclose(targets.depth, tiny.depth, rtol=1e-6)
    np.testing.assert_array_equal(targets.instance, tiny.instance)
    np.testing.assert_allclose(targets.cam_to_world, tiny.cam_to_world, atol=1e-8)
    np.testing.assert_allclose(targets.intrinsics, [tiny.intrinsics] * 3)
    assert targets.depth.dtype == np.float32
    named = {i: clip.dataset.classes[c - 1].name for i, c in enumerate(targets.instance_class.tolist()) if c}
    assert named == tiny.instance_class
    assert reprojected(targets, 0, 2) > 0.9
    for axes in ([1, -1, -1, 1], [-1, -1, 1, 1]):
        assert reprojected(replace(targets, cam_to_world=targets.cam_to_world @ np.diag(axes)), 0, 2) < 0.5, "control"


@pytest.mark.parametrize("image_size", [(60, 84), (180, 252), (120, 120), (72, 168), (111, 113)])
def test_pictures_of_another_size_keep_their_geometry(root: Path, image_size: tuple[int, int]) -> None:
    write(root / "a", room(size=(120, 168)), "nerfstudio")
    say(root / "dataset.json", image_size=image_size, pose_scale=1)
    dataset = FolderDataset(root, EVERY)
    (clip,) = dataset.clips()
    targets = clip.targets()
    assert dataset.image_size == image_size
    assert targets.depth is not None
    assert targets.instance is not None
    assert targets.intrinsics is not None
    assert clip.frames([1]).shape == (1, *image_size, 3)
    np.testing.assert_array_equal(clip.frames([2, 0]), targets.rgb[[2, 0]])
    assert targets.depth.shape == targets.instance.shape == (3, *image_size)
    assert targets.intrinsics[0, 0, 0] == pytest.approx(targets.intrinsics[0, 1, 1])
    assert targets.intrinsics[0, :2, 2] == pytest.approx([image_size[1] / 2, image_size[0] / 2])
    assert reprojected(targets, 0, 2) > 0.8


def test_the_crop_by_hand(root: Path) -> None:
    """4 x 8 pixels to 2 x 2: halved, and two columns go on either side. fx = 10 becomes 5, cx = 3: (3 - 2) / 2."""
    tiny = room(frames=1, size=(4, 8))
    write(root / "a", tiny, labels=False)
    write_labels(root / "a", tiny, ["frame_00.png"])
    write_transforms(root / "a", tiny, ["images/frame_00.png"], fl_x=10, fl_y=12, cx=3, cy=1)
    Image.fromarray(np.arange(32, dtype=np.uint16).reshape(4, 8)).save(root / "a/depth/frame_00.png")
    say(root / "dataset.json", image_size=(2, 2), pose_scale=1)
    targets = FolderDataset(root, EVERY).clips()[0].targets()
    np.testing.assert_allclose(targets.intrinsics, [[[5, 0, 0.5], [0, 6, 0.5], [0, 0, 1]]])
    np.testing.assert_allclose(targets.depth, [[[0.011, 0.013], [0.027, 0.029]]])


def test_depth_of_another_resolution(root: Path) -> None:
    """As phones give it; of another shape it is not of this view."""
    tiny, small = room(size=(60, 84)), room(size=(20, 28))
    write(root / "a", tiny, "nerfstudio")
    for n, depth in enumerate(small.depth):
        np.save(root / f"a/depth/frame_{n:02d}.npy", depth.astype(np.float16))
        (root / f"a/depth/frame_{n:02d}.png").unlink()
    say(root / "dataset.json", pose_scale=1)
    (clip,) = FolderDataset(root, EVERY).clips()
    targets = clip.targets()
    assert targets.depth is not None
    np.testing.assert_array_equal(targets.depth[:, 1::3, 1::3], small.depth.astype(np.float16).astype(np.float32))
    np.save(root / "a/depth/frame_01.npy", np.ones((28, 20), np.float32))
    with pytest.raises(DataError, match=r"frame_01\.npy: 20x28 pixels, .*84x60: another shape.*Remedy"):
        clip.targets()


def test_npy_depth_marks_what_is_invalid(root: Path) -> None:
    write(root / "a", room(frames=1))
    depth = np.full(SIZE, 2.5)
    depth[0, :4] = np.nan, np.inf, -1, 0
    shutil.rmtree(root / "a/depth")
    (root / "a/depth").mkdir()
    np.save(root / "a/depth/frame_00.npy", depth)
    targets = FolderDataset(root, EVERY).clips()[0].targets()
    assert targets.depth is not None
    assert targets.depth[0, 0, :5].tolist() == [0, 0, 0, 0, 2.5]


@pytest.mark.parametrize(("where", "scale"), [("dataset.json", 0.0002), ("a/scene.json", 0.0002), (None, 0.001)])
def test_depth_scale(root: Path, where: str | None, scale: float) -> None:
    write(root / "a", room(frames=1))
    say(root / "dataset.json", depth_scale=0.5)
    if where:
        say(root / where, depth_scale=scale)
    else:
        (root / "dataset.json").unlink()
    targets = FolderDataset(root, EVERY).clips()[0].targets()
    np.testing.assert_allclose(targets.depth, room(frames=1).depth * scale / 0.001, rtol=1e-6)
    say(root / "dataset.json", depth_scale=5000)
    with pytest.raises(DataError, match=r"(?s)dataset\.json.*depth_scale.*less than or equal to 1"):
        FolderDataset(root, EVERY)


def test_tum_without_partners(root: Path) -> None:
    """A frame that no pose and no depth is near has none of them; the others keep theirs."""
    write(root / "a", room(), "tum")
    for name, gone in (("depth.txt", 1), ("groundtruth.txt", slice(4, 7))):
        lines = (root / "a" / name).read_text().splitlines()
        del lines[gone]
        (root / "a" / name).write_text("\n".join(lines))
    targets = FolderDataset(root, EVERY).clips()[0].targets()
    assert targets.depth is not None
    assert targets.cam_to_world is not None
    assert targets.depth.any((1, 2)).tolist() == [True, False, True]
    assert targets.cam_to_world.any((1, 2)).tolist() == [True, False, True]


def test_tum_clocks_that_differ(root: Path) -> None:
    write(root / "a", room(), "tum")
    (root / "a/groundtruth.txt").write_text("5 0 0 0 0 0 0 1\n")
    with pytest.raises(DataError, match=r"groundtruth\.txt: no pose is within 20 ms.*one clock"):
        FolderDataset(root, EVERY).clips()[0].targets()


def test_pictures_that_no_pose_names_have_none(root: Path) -> None:
    """As COLMAP leaves out what it cannot register."""
    tiny = room()
    write(root / "a", tiny, labels=False)
    names = [f"frame_{n:02d}.png" for n in range(3)]
    write_colmap(root / "a/sparse/0", tiny, names, binary=False)
    lines = (root / "a/sparse/0/images.txt").read_text().splitlines()
    (root / "a/sparse/0/images.txt").write_text("\n".join(lines[:3] + lines[5:]) + "\n")
    targets = FolderDataset(root, EVERY).clips()[0].targets()
    assert targets.cam_to_world is not None
    assert targets.cam_to_world.any((1, 2)).tolist() == [True, False, True]
    np.testing.assert_allclose(targets.intrinsics, [tiny.intrinsics] * 3, err_msg="one camera for all")


def test_sampling(root: Path) -> None:
    frames = moving_pictures(200)
    (root / "a").mkdir()
    write_video(root / "a/v.mp4", frames)
    (clip,) = FolderDataset(root).clips()
    assert clip.n_frames == 81
    assert (clip.chosen[0], clip.chosen[-1]) == (0, 199), "the whole recording"
    assert len(clip.bank) == 20
    np.testing.assert_array_equal(clip.frames([80, 3, 3]), frames[[199, clip.chosen[3], clip.chosen[3]]])
    np.testing.assert_array_equal(clip.targets().rgb, frames[[clip.chosen[n] for n in clip.bank]])
    (clip,) = FolderDataset(root, Sampling(frames=5, window="whole", bank=2)).clips()
    assert (clip.chosen, clip.bank) == ([0, 50, 100, 149, 199], (0, 4))
    with pytest.raises(DataError, match=r"clip a: there is no frame 5. Remedy: ask for 0 to 4"):
        clip.frames([5])
    assert clip.frames([]).shape == (0, 48, 64, 3)


def test_labels_of_a_video(root: Path) -> None:
    """One file per frame, in order; poses name pictures, which a video has not."""
    tiny = room(frames=12)
    (root / "a").mkdir()
    write_video(root / "a/v.mp4", tiny.rgb)
    write_labels(root / "a", tiny, [f"{n}.png" for n in range(1, 13)])
    dataset = FolderDataset(root, Sampling(frames=4, window="whole", bank=2))
    assert dataset.present == {"depth", "instance", "classes"}
    targets = dataset.clips()[0].targets()
    np.testing.assert_array_equal(targets.instance, tiny.instance[[0, 11]])
    np.testing.assert_array_equal(targets.rgb, tiny.rgb[[0, 11]])
    (root / "a/depth/3.png").unlink()
    (clip,) = FolderDataset(root, EVERY).clips()
    assert clip.digest() != dataset.clips()[0].digest()
    with pytest.raises(DataError, match=r"depth: 11 files, but the video has 12 frames"):
        clip.targets()


def test_poses_beside_a_video_are_not_read_in_silence(root: Path, caplog: pytest.LogCaptureFixture) -> None:
    tiny = room()
    (root / "a").mkdir()
    write_video(root / "a/v.mp4", tiny.rgb)
    write_transforms(root / "a", tiny, [f"{n}.png" for n in range(3)])
    dataset = FolderDataset(root, EVERY)
    assert "scene a: " in caplog.text
    assert "transforms.json is not read" in caplog.text
    assert dataset.clips()[0].targets().cam_to_world is None


def test_labels_are_paired_by_name_or_number(root: Path) -> None:
    tiny = room(frames=12)
    write(root / "a", tiny)
    for path in (root / "a/depth").iterdir():
        path.rename(path.with_name(path.name.replace("frame_", "d000")))
    targets = FolderDataset(root, EVERY).clips()[0].targets()
    np.testing.assert_allclose(targets.depth, tiny.depth, rtol=1e-6)
    (root / "a/depth/d00099.png").write_bytes((root / "a/depth/d00000.png").read_bytes())
    with pytest.raises(DataError, match=r"depth: d00099\.png belongs to no frame"):
        FolderDataset(root, EVERY).clips()[0].targets()
    (root / "a/depth/d00099.png").rename(root / "a/depth/e0.png")
    with pytest.raises(DataError, match="two files belong to one frame"):
        FolderDataset(root, EVERY).clips()[0].targets()


def test_a_lacking_depth_picture_is_an_error(root: Path) -> None:
    write(root / "a", room())
    (root / "a/depth/frame_01.png").unlink()
    with pytest.raises(DataError, match=r"scene a: frame 1 has no picture in depth/.*Remedy"):
        FolderDataset(root, EVERY).clips()[0].targets()


def test_threads_at_once(root: Path) -> None:
    for n in range(4):
        (root / f"v{n}").mkdir()
        write_video(root / f"v{n}/v.mp4", moving_pictures(40, seed=n))
        write(root / f"w{n}", room(n, size=(48, 64)), labels=False)
    clips = FolderDataset(root, EVERY).clips()
    alone = [clip.targets().rgb for clip in clips]
    with ThreadPoolExecutor(8) as pool:
        together = list(pool.map(lambda clip: clip.targets().rgb, FolderDataset(root, EVERY).clips()))
    for one, other in zip(alone, together, strict=True):
        np.testing.assert_array_equal(one, other)

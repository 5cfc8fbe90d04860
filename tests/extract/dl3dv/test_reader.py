"""Layouts of the release, poses and intrinsics, and which frames make a clip."""

from __future__ import annotations

import hashlib
import logging
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from extract.datasets.base import Targets
from extract.datasets.dl3dv import Dl3dv
from extract.datasets.sampling import PAPER_RUN, Sampling, run_start
from extract.errors import DataError, DatasetNotFoundError
from extract.registry import make_dataset
from tests.extract.dl3dv.tiny_dl3dv import (
    FRAMES,
    SIZE,
    hash_of,
    names_of,
    room,
    write_colmap,
    write_pictures,
    write_scene,
    write_transforms,
)
from tests.extract.tiny_rooms import TinyRoom

ALL = Sampling(window="whole", bank=FRAMES)
SCENE = hash_of(0)


def reprojected(depth: NDArray[np.floating], targets: Targets, one: int, other: int, off: float) -> float:
    """Share of the points seen in frame `one` and inside frame `other` whose depth there is what is seen there."""
    assert targets.cam_to_world is not None
    assert targets.intrinsics is not None
    rows, columns = np.nonzero(depth[one])
    pixels = np.stack([columns + 0.5, rows + 0.5, np.ones(len(rows))])
    camera = np.linalg.solve(targets.intrinsics[one], pixels) * depth[one][rows, columns]
    world = targets.cam_to_world[one] @ np.vstack([camera, np.ones(len(rows))])
    there = (np.linalg.inv(targets.cam_to_world[other]) @ world)[:3]
    x, y = (targets.intrinsics[other] @ there)[:2] / there[2]
    height, width = depth.shape[1:]
    inside = (x > 0) & (x < width) & (y > 0) & (y < height)
    seen = depth[other][y[inside].astype(int), x[inside].astype(int)]
    known = seen > 0
    assert known.sum() > 200
    return float((np.abs(seen - there[2][inside])[known] < off).mean())


def check(targets: Targets, tiny: TinyRoom) -> None:
    """Pictures, poses and intrinsics of every frame."""
    assert (targets.depth, targets.instance, targets.confidence) == (None, None, None)
    np.testing.assert_array_equal(targets.rgb, tiny.rgb)
    np.testing.assert_allclose(targets.cam_to_world, tiny.cam_to_world, atol=1e-9)
    np.testing.assert_allclose(targets.intrinsics, [tiny.intrinsics] * len(tiny.rgb))


@pytest.mark.parametrize("above", ["", "DL3DV-ALL-960P"])
@pytest.mark.parametrize("subset", ["3K", ""])
def test_the_release(root: Path, above: str, subset: str) -> None:
    write_scene(root / above / subset / SCENE)
    dataset = Dl3dv(root, ALL)
    (clip,) = dataset.clips()
    assert (clip.id, clip.scene, clip.n_frames, dataset.image_size) == (SCENE, SCENE, FRAMES, SIZE)
    assert (dataset.depth_unit, dataset.classes, dataset.max_instances) == ("1", [], 0)
    check(clip.targets(), room())
    np.testing.assert_array_equal(clip.frames([3, 0]), room().rgb[[3, 0]])
    with pytest.raises(DataError, match=r"there is no frame 24. Remedy"):
        clip.frames([FRAMES])


def test_the_benchmark(root: Path) -> None:
    """The lens is bent in nerfstudio/, and not in gaussian_splat/; the former has the pictures that DL3DV-ALL has."""
    folder = root / "DL3DV-10K-Benchmark" / SCENE
    write_scene(folder / "nerfstudio", k1=0.03)
    write_colmap(folder / "nerfstudio/colmap/sparse/0", room(), names_of(FRAMES), distortion=0.03)
    write_pictures(folder / "gaussian_splat/images_4", room(1).rgb)
    (clip,) = Dl3dv(root, ALL).clips()
    np.testing.assert_array_equal(clip.frames([1])[0], room().rgb[1])
    assert clip.targets().intrinsics is None


@pytest.mark.parametrize("place", ["colmap/sparse/0", "gaussian_splat/sparse/0", "sparse/0"])
def test_colmap_models(root: Path, place: str) -> None:
    folder = root / "1K" / SCENE
    base = place.rpartition("sparse")[0]
    write_pictures(folder / base / "images_4", room().rgb)
    write_colmap(folder / place, room(), names_of(FRAMES))
    (clip,) = Dl3dv(root, ALL).clips()
    check(clip.targets(), room())


def test_a_folder_of_its_own_name_within(root: Path) -> None:
    write_scene(root / "1K" / SCENE / SCENE)
    (clip,) = Dl3dv(root, ALL).clips()
    check(clip.targets(), room())


def test_of_several_folders_of_pictures_images_4_is_read(root: Path) -> None:
    folder = write_scene(root / "1K" / SCENE)
    for other in ("images", "images_2", "images_8"):
        write_pictures(folder / other, room(1).rgb)
    dataset = Dl3dv(root, ALL)
    check(dataset.clips()[0].targets(), room())
    assert dataset.facts()["pictures"] == ["images_4"]


def test_without_images_4_the_next_is_read_and_intrinsics_follow(root: Path) -> None:
    small = room(0, FRAMES, (SIZE[0] // 2, SIZE[1] // 2))
    folder = root / "1K" / SCENE
    write_pictures(folder / "images_8", small.rgb)
    write_transforms(folder, room(), [f"images/{name}" for name in names_of(FRAMES)])
    (clip,) = Dl3dv(root, ALL).clips()
    check(clip.targets(), small)


def test_points_of_one_frame_land_on_another(root: Path) -> None:
    fine = room(0, FRAMES, (168, 296))
    write_scene(root / "1K" / SCENE, fine)
    targets = Dl3dv(root, ALL).clips()[0].targets()
    assert reprojected(fine.depth, targets, 2, 17, 0.05) > 0.9
    assert targets.cam_to_world is not None
    turned = Targets(**{**vars(targets), "cam_to_world": targets.cam_to_world @ np.diag([1.0, -1, -1, 1])})
    assert reprojected(fine.depth, turned, 2, 17, 0.05) < 0.5, "control"


def test_distortion_leaves_poses_and_no_intrinsics(root: Path, caplog: pytest.LogCaptureFixture) -> None:
    write_scene(root / "1K" / SCENE, k1=0.02)
    write_scene(root / "1K" / hash_of(1), room(1))
    dataset = Dl3dv(root, ALL)
    assert "1 of 2 scenes have lens distortion" in caplog.text
    for clip in dataset.clips():
        assert clip.targets().intrinsics is None
        assert clip.targets().cam_to_world is not None
    assert (dataset.facts()["poses"], dataset.facts()["intrinsics"]) == (True, False)


def test_a_frame_that_was_not_placed_has_no_pose(root: Path) -> None:
    folder = root / "1K" / SCENE
    names = write_pictures(folder / "images_4", room().rgb)
    part = TinyRoom(**{**vars(room()), "cam_to_world": room().cam_to_world[1:], "rgb": room().rgb})
    write_transforms(folder, part, [f"images/{name}" for name in names[1:]])
    targets = Dl3dv(root, ALL).clips()[0].targets()
    assert targets.cam_to_world is not None
    assert not targets.cam_to_world[0].any()
    np.testing.assert_allclose(targets.cam_to_world[1:], room().cam_to_world[1:], atol=1e-9)
    np.testing.assert_allclose(targets.intrinsics, [room().intrinsics] * FRAMES)


def test_scenes_of_another_shape_or_length_or_without_poses(root: Path, caplog: pytest.LogCaptureFixture) -> None:
    for n in range(2):
        write_scene(root / "1K" / hash_of(n), room(n))
    write_scene(root / "1K" / hash_of(2), room(2, FRAMES, (74, 42)))
    write_scene(root / "2K" / hash_of(3), room(3, 19))
    write_pictures(root / "2K" / hash_of(4) / "images_4", room(4).rgb)
    write_scene(root / "2K" / hash_of(5), room(5, FRAMES, (84, 148)))
    caplog.set_level(logging.WARNING)
    dataset = Dl3dv(root, ALL)
    assert {clip.id for clip in dataset.clips()} == {hash_of(0), hash_of(1), hash_of(5)}
    for n, why in ((2, "not of the shape of 74x42"), (3, "fewer than 20"), (4, "no poses"), (5, "stretched to 74x42")):
        assert any(hash_of(n) in line and why in line for line in caplog.messages)
    stretched = dataset.clips()[-1].targets()
    assert stretched.rgb.shape[1:3] == SIZE
    np.testing.assert_allclose(stretched.intrinsics, [room(5).intrinsics] * FRAMES)


def test_nothing_there(root: Path) -> None:
    with pytest.raises(DatasetNotFoundError, match=r"(?s)no folder of a scene.*download.py.*--root DIRECTORY"):
        Dl3dv(root)


def test_a_clip_begins_where_the_published_code_begins_it(root: Path) -> None:
    for number, total in ((0, 400), (1, 151), (2, 1200)):
        scene = hash_of(number)
        np.random.seed(int(hashlib.md5(scene.encode()).hexdigest()[:8], 16))  # noqa: NPY002 - as it is published
        assert run_start(scene, total) == np.random.randint(0, total - PAPER_RUN)  # noqa: NPY002
        chosen = Sampling(window="run").choose(total, scene)
        assert chosen == list(range(run_start(scene, total), run_start(scene, total) + 81))
    assert run_start(SCENE, 150) == run_start(SCENE, 20) == 0
    assert Sampling(window="run").choose(30, SCENE) == list(range(30))
    assert Sampling(window="run", frames=400).choose(300, SCENE) == list(range(300))


def test_a_long_scene(root: Path) -> None:
    long = room(0, 160, (6, 8))
    write_scene(root / "1K" / SCENE, long)
    dataset = make_dataset("dl3dv", root)
    (clip,) = dataset.clips()
    start = run_start(SCENE, 160)
    assert (clip.n_frames, clip.bank) == (81, (0, *range(1, 76, 4)))
    np.testing.assert_array_equal(clip.frames([0, 80]), long.rgb[[start, start + 80]])
    assert dataset.facts()["sampling"] == {"frames": 81, "window": "run", "bank": "paper"}

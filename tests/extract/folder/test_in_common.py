"""What all scenes of one `folder` have in common: targets, units, classes, the size of pictures, and their digests."""

from __future__ import annotations

import logging
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from extract.datasets.base import ClassInfo
from extract.datasets.folder import FolderDataset
from extract.datasets.sampling import Sampling
from extract.errors import DataError, DatasetNotFoundError
from tests.extract.folder.recordings import (
    SIZE,
    room,
    say,
    write,
    write_transforms,
)

EVERY = Sampling(window="whole", bank=81)


def test_pose_scale_and_units(root: Path, caplog: pytest.LogCaptureFixture) -> None:
    tiny = room()
    write(root / "a", tiny, "colmap-text")
    dataset = FolderDataset(root, EVERY)
    assert dataset.facts()["pose_unit"] == "arbitrary, one per scene"
    assert dataset.facts()["poses"] == ["colmap"]
    assert "nothing says that camera positions are" in caplog.text
    caplog.clear()
    say(root / "a/scene.json", pose_scale=2)
    dataset = FolderDataset(root, EVERY)
    assert dataset.facts()["pose_unit"] == "metres"
    assert not caplog.records
    found = dataset.clips()[0].targets().cam_to_world
    assert found is not None
    np.testing.assert_allclose(found[:, :3, 3], 2 * tiny.cam_to_world[:, :3, 3], atol=1e-12)
    np.testing.assert_allclose(found[:, :3, :3], tiny.cam_to_world[:, :3, :3], atol=1e-12)


def test_lens_distortion_leaves_out_intrinsics(root: Path, caplog: pytest.LogCaptureFixture) -> None:
    for name in "abc":
        write(root / name, room(), "nerfstudio", labels=False)
    write_transforms(root / "b", room(), [f"images/frame_{n:02d}" for n in range(3)], k1=0.1)
    dataset = FolderDataset(root, EVERY)
    assert dataset.present == {"poses"}
    assert dataset.facts()["targets"] == ["poses"]
    assert "1 of 3 scenes have it: b" in caplog.text
    targets = next(clip for clip in dataset.clips() if clip.id == "b").targets()
    assert targets.intrinsics is None
    np.testing.assert_allclose(targets.cam_to_world, room().cam_to_world, atol=1e-12)


def test_what_not_all_scenes_have_is_left_out(root: Path, caplog: pytest.LogCaptureFixture) -> None:
    write(root / "a", room(), "nerfstudio")
    write(root / "b", room(), "nerfstudio")
    write(root / "c", room())
    shutil.rmtree(root / "b/depth")
    (root / "c/instances.json").unlink()
    with caplog.at_level(logging.WARNING):
        dataset = FolderDataset(root, EVERY)
    (record,) = caplog.records
    assert "depth: not in 1 of 3 scenes: b" in record.getMessage()
    assert "classes: not in 1 of 3 scenes: c" in record.getMessage()
    assert "poses: not in 1 of 3 scenes: c" in record.getMessage()
    assert dataset.present == {"instance"}
    assert (list(dataset.classes), dataset.max_instances) == ([], 0)
    for clip in dataset.clips():
        targets = clip.targets()
        assert targets.instance is not None
        assert targets.depth is targets.instance_class is targets.cam_to_world is targets.intrinsics is None


def test_pictures_alone(root: Path) -> None:
    write(root / "a", room(), labels=False)
    dataset = FolderDataset(root, EVERY)
    targets = dataset.clips()[0].targets()
    np.testing.assert_array_equal(targets.rgb, room().rgb)
    assert targets.depth is targets.instance is targets.instance_class is None
    assert targets.cam_to_world is targets.intrinsics is None
    assert dataset.facts()["targets"] == []
    assert (dataset.classes, dataset.max_instances, dataset.image_size, dataset.version) == ([], 0, SIZE, "1")


def test_stated_intrinsics_without_poses(root: Path) -> None:
    write(root / "a", room(), labels=False)
    say(root / "dataset.json", intrinsics={"fl_x": 50, "cx": 28, "cy": 20, "w": 112, "h": 80}, image_size=SIZE)
    targets = FolderDataset(root, EVERY).clips()[0].targets()
    assert targets.cam_to_world is None
    np.testing.assert_allclose(targets.intrinsics, [[[25, 0, 14], [0, 25, 10], [0, 0, 1]]] * 3)


def test_classes_are_listed_or_found(root: Path) -> None:
    write(root / "a", room(0))
    write(root / "b", room(1))
    names = sorted({*room(0).instance_class.values(), *room(1).instance_class.values()})
    dataset = FolderDataset(root, EVERY)
    assert dataset.classes == [ClassInfo(name, "thing") for name in names]
    assert dataset.max_instances == max(max(room(n).instance_class) for n in (0, 1))
    listed = [{"name": "wall", "kind": "stuff"}, {"name": "lamp"}, {"name": "ball"}, {"name": "floor", "kind": "stuff"}]
    say(root / "dataset.json", classes=listed)
    dataset = FolderDataset(root, EVERY)
    assert dataset.classes[0] == ClassInfo("wall", "stuff")
    for clip, seed in zip(dataset.clips(), (0, 1), strict=True):
        classes = clip.targets().instance_class
        assert classes is not None
        assert len(classes) == dataset.max_instances + 1
        found = {i: dataset.classes[c - 1].name for i, c in enumerate(classes.tolist()) if c}
        assert found == room(seed).instance_class
    say(root / "dataset.json", classes=listed[1:])
    with pytest.raises(DataError, match=r"dataset\.json: classes do not list wall.*Remedy"):
        FolderDataset(root, EVERY)


def test_one_instances_file_for_all(root: Path) -> None:
    for name in "ab":
        write(root / name, room())
        (root / name / "instances.json").unlink()
    say(root / "instances.json", **{"1": "floor", "2": None, "3": "ball", "4": "ball", "5": "ball", "6": "ball"})
    dataset = FolderDataset(root, EVERY)
    classes = dataset.clips()[1].targets().instance_class
    assert classes is not None
    assert classes.tolist() == [0, 2, 0, 1, 1, 1, 1]
    say(root / "instances.json", **{"1": "floor"})
    with pytest.raises(DataError, match=r"frame_00\.png: instance ids \[2.*\] are not in instances\.json.*Remedy"):
        FolderDataset(root, EVERY).clips()[0].targets()


def test_large_pictures_are_scaled_down_unless_a_size_is_said(root: Path) -> None:
    (root / "a").mkdir()
    Image.new("RGB", (3840, 2161)).save(root / "a/0.jpg")
    assert FolderDataset(root, EVERY).image_size == (1080, 1920)
    say(root / "dataset.json", image_size=(2161, 3840))
    assert FolderDataset(root, EVERY).image_size == (2161, 3840)


def test_digests(root: Path) -> None:
    write(root / "a", room(), "tum")
    write(root / "b", room(), "tum")
    first, second = (clip.digest() for clip in FolderDataset(root, EVERY).clips())
    assert first != second
    moved = Path(shutil.copytree(root, root.with_name("moved")))
    assert [clip.digest() for clip in FolderDataset(moved, EVERY).clips()] == [first, second]
    seen = {first}
    for path in sorted(path for path in (moved / "a").rglob("*") if path.is_file()):
        content = path.read_bytes()
        path.write_bytes(content + b"\n")
        seen.add(FolderDataset(moved, EVERY).clips()[0].digest())
        path.write_bytes(content)
    assert len(seen) == 1 + 3 * 3 + 5, "pictures, depth, instances; rgb, depth, groundtruth, scene, instances"


def test_the_digest_covers_names_that_scenes_share(root: Path) -> None:
    """The classes stay the same, and so do all files of the scene: only which instance is of which class changes."""
    write(root / "a", room())
    write(root / "b", room())
    (root / "a/instances.json").unlink()
    names = {"1": "floor", "2": "wall", "3": "ball", "4": "ball", "5": "ball", "6": "ball"}
    say(root / "instances.json", **names)
    before = FolderDataset(root, EVERY)
    digests = {clip.id: clip.digest() for clip in before.clips()}
    say(root / "instances.json", **names | {"1": "wall", "2": "floor"})
    after = FolderDataset(root, EVERY)
    assert (after.classes, after.facts()) == (before.classes, before.facts())
    changed = {clip.id for clip in after.clips() if clip.digest() != digests[clip.id]}
    assert changed == {"a"}, "b has names of its own"


def test_where_recordings_are_looked_for(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FOLDER_ROOT", str(root / "none"))
    with pytest.raises(DatasetNotFoundError, match=r"none \(given by FOLDER_ROOT\)"):
        FolderDataset()
    (root / "empty/a").mkdir(parents=True)
    with pytest.raises(DatasetNotFoundError, match=r"(?s)no recording in .*a: .*no picture and no video.*--root"):
        FolderDataset(root / "empty")

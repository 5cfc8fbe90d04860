"""The reader of ScanNet++ against a tiny release whose content is known: listing, splits, frames, digests, faults."""

from __future__ import annotations

import json
import logging
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from extract.datasets import scannetpp
from extract.datasets.sampling import Sampling
from extract.datasets.scannetpp import ScanNetPP, ScanNetPPClip
from extract.errors import DataError, DatasetNotFoundError
from extract.plan import clip_table
from tests.extract.folder.recordings import write_video
from tests.extract.scannetpp.tiny_scenes import (
    FRAMES,
    TEST,
    TRAIN,
    VAL,
    Filmed,
    cameras,
    write_lists,
    write_release,
    write_scene,
)

FEW = Sampling(frames=5, window="whole", bank=2)
CAMERAS = "pose_intrinsic_imu.json"


def first(root: Path) -> ScanNetPPClip:
    return ScanNetPP(root, FEW).clips()[0]


def numbers_of(images: np.ndarray) -> list[int]:
    """What `film` painted into the upper part of the frames."""
    shown: list[int] = (images[:, 10:40].reshape(len(images), -1).mean(1) / 10).round().astype(int).tolist()
    return shown


def change(folder: Path, frame: str, **said: Any) -> None:
    path = folder / CAMERAS
    entries = json.loads(path.read_text())
    entries[frame] |= said
    path.write_text(json.dumps(entries))


def test_states_what_a_release_holds(release: Path) -> None:
    dataset = ScanNetPP(release)
    assert (dataset.name, dataset.version, dataset.image_size) == ("scannetpp", "v2", (720, 960))
    assert (dataset.max_instances, list(dataset.classes)) == (0, [])
    assert [(clip.id, clip.scene, clip.split) for clip in dataset.clips()] == [
        (TRAIN, TRAIN, "train"),
        (VAL, VAL, "val"),
        (TEST, TEST, "test"),
    ]
    assert all(clip.n_frames == FRAMES for clip in dataset.clips())
    facts = dataset.facts()
    assert (facts["camera"], facts["poses"], facts["target_size"]) == ("iphone", "aligned_pose", [192, 256])
    json.dumps(facts, allow_nan=False)
    assert len({row.digest for row in clip_table(dataset.clips())}) == 3


def test_making_one_reads_nothing(root: Path) -> None:
    for path in (root / "data").rglob("*.*"):
        path.write_bytes(b"")
    assert len(ScanNetPP(root).clips()) == 3


def test_frame_k_of_the_video_is_entry_k(tmp_path: Path, filmed: Filmed) -> None:
    """Frames without an entry are not frames of the clip."""
    write_lists(tmp_path, [TRAIN], [TEST])
    write_scene(tmp_path, TRAIN, filmed, without={0, 5, 6})
    clip = ScanNetPP(tmp_path, Sampling(window="whole", bank=3)).clips()[0]
    assert clip.n_frames == FRAMES - 3
    images = clip.frames(range(clip.n_frames))
    expected = [n for n in range(FRAMES) if n not in (0, 5, 6)]
    assert images.shape[1:] == (720, 960, 3)
    assert numbers_of(images) == expected
    assert numbers_of(clip.frames([4, 0, 4])) == [7, 1, 7]
    assert clip.frames([]).shape == (0, 720, 960, 3)
    targets = clip.targets()
    bank = [expected[index] for index in clip.bank]
    assert targets.depth is not None
    assert targets.cam_to_world is not None
    np.testing.assert_allclose(targets.depth, filmed.depth[bank] / 1000, rtol=1e-6)
    np.testing.assert_allclose(targets.cam_to_world, filmed.cam_to_world[bank], atol=1e-6)
    for index in (clip.n_frames, -1):
        with pytest.raises(DataError, match=f"there is no frame {index}"):
            clip.frames([index])


def test_scenes_that_are_not_whole_are_left_out(root: Path, caplog: pytest.LogCaptureFixture) -> None:
    write_lists(root, [TRAIN, VAL, "ffffffffff"], [TEST])
    (root / "data" / VAL / "iphone/depth.bin").unlink()
    with caplog.at_level(logging.WARNING):
        assert [clip.id for clip in ScanNetPP(root).clips()] == [TRAIN, TEST]
    assert f"scenes {VAL} lack depth.bin" in caplog.text
    assert "scenes ffffffffff were not downloaded" in caplog.text
    write_lists(root, ["aaaaaaaaaa"], ["bbbbbbbbbb"])
    with pytest.raises(DatasetNotFoundError, match=r"holds no scene that nvs_sem_train.txt"):
        ScanNetPP(root)


@pytest.mark.parametrize(
    ("train", "val", "message"),
    [
        ([TRAIN], [TRAIN], f"share scenes: {TRAIN}"),
        ([TRAIN, TRAIN], [TEST], "nvs_sem_train.txt: is empty, or lists a scene twice"),
        ([TRAIN], [], "nvs_sem_val.txt: is empty"),
        (["../../etc"], [TEST], r"'\.\./\.\./etc' is no scene"),
    ],
)
def test_lists_that_are_wrong(root: Path, train: list[str], val: list[str], message: str) -> None:
    write_lists(root, train, val)
    with pytest.raises(DataError, match=rf"{message}.*Remedy: Download the lists anew"):
        ScanNetPP(root)


def test_lists_that_are_missing_or_no_text(root: Path) -> None:
    (root / "splits/nvs_sem_val.txt").write_bytes(b"\xff\xfe")
    with pytest.raises(DataError, match="cannot be read"):
        ScanNetPP(root)
    (root / "splits/nvs_sem_val.txt").unlink()
    with pytest.raises(DatasetNotFoundError, match=r"(?s)nvs_sem_val.txt missing in .*terms of use"):
        ScanNetPP(root)


def test_a_tenth_of_the_official_train_is_held_out(root: Path) -> None:
    from extract.datasets.scannetpp_files.splits import read_splits

    write_lists(root, [f"{n:010x}" for n in range(1000)], [TEST])
    splits = read_splits(root / "splits")
    assert 60 < sum(split == "val" for split in splits.values()) < 140
    assert [scene for scene, split in splits.items() if split == "test"] == [TEST]


def test_the_digest_is_of_the_three_files(root: Path, folder: Path) -> None:
    before = first(root).digest()
    assert first(root).digest() == before
    (folder / "exif.json").write_text("{}")
    assert first(root).digest() == before
    seen = {before}
    for part in ("rgb.mkv", "depth.bin", CAMERAS):
        path = folder / part
        path.write_bytes(path.read_bytes() + b"\n")
        seen.add(first(root).digest())
    assert len(seen) == 4
    (folder / "rgb.mkv").unlink()
    clip = ScanNetPPClip(folder, TRAIN, "train", FEW)
    with pytest.raises(DataError, match=r"rgb.mkv: missing. Remedy: Download the scene anew"):
        clip.digest()


def test_threads_read_at_once(release: Path, filmed: Filmed) -> None:
    clips = ScanNetPP(release, FEW).clips()
    with ThreadPoolExecutor(4) as pool:
        for targets in pool.map(lambda clip: clip.targets(), [*clips, *clips]):
            assert targets.depth is not None
            np.testing.assert_allclose(targets.depth[1], filmed.depth[23] / 1000, rtol=1e-6)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "cannot be read"),
        (b"[]", "cannot be read"),
        (b"{", "cannot be read"),
        (b"{}", "expected entries such as frame_000000, got 'nothing"),
        (b"\xff\xff", "cannot be read"),
        (b"[" * 100_000, "cannot be read"),
        (b'{"frame_000000": {}, "aligned_poses": {}}', "got 'aligned_poses'"),
        (b'{"frame_000000": {}}', "has 1 frames; a recording has at least 20"),
    ],
)
def test_cameras_that_are_none(root: Path, folder: Path, content: bytes, message: str) -> None:
    (folder / CAMERAS).write_bytes(content)
    clip = first(root)
    for read in (lambda: clip.n_frames, lambda: clip.frames([0]), clip.targets):
        with pytest.raises(DataError, match=rf"{TRAIN}/iphone/{CAMERAS}: .*{message}.*Remedy"):
            read()


@pytest.mark.parametrize(
    ("said", "message"),
    [
        ({"aligned_pose": None}, "aligned_pose is no matrix of 4x4 numbers"),
        ({"aligned_pose": [[1, 0, 0]] * 4}, "aligned_pose is no matrix"),
        ({"aligned_pose": "unknown"}, "aligned_pose is no matrix"),
        ({"aligned_pose": np.diag([2.0, 2, 2, 1]).tolist()}, "no rigid motion"),
        ({"aligned_pose": np.diag([1.0, 1, -1, 1]).tolist()}, "no rigid motion"),
        ({"intrinsic": [[1500, 0, 960], [0, 1500, 720], [0, 0, 1]]}, "no intrinsics of a video of 96x72"),
        ({"intrinsic": [[78, 1, 48], [0, 78, 36], [0, 0, 1]]}, "no intrinsics"),
        ({"intrinsic": [[float("nan"), 0, 48], [0, 78, 36], [0, 0, 1]]}, "no camera has those"),
        ({"intrinsic": [[-78, 0, 48], [0, 78, 36], [0, 0, 1]]}, "no camera has those"),
        ({"intrinsic": {}}, "intrinsic is no matrix of 3x3 numbers"),
    ],
)
def test_entries_that_are_wrong(root: Path, folder: Path, said: dict[str, Any], message: str) -> None:
    change(folder, "frame_000000", **said)
    clip = first(root)
    with pytest.raises(DataError, match=rf"{CAMERAS}, frame 0: .*{message}"):
        clip.targets()
    assert clip.frames([0]).shape == (1, 720, 960, 3)


def test_an_entry_of_no_frame(root: Path, folder: Path, filmed: Filmed) -> None:
    said = cameras(filmed)
    said["frame_999999"] = said["frame_000023"]
    (folder / CAMERAS).write_text(json.dumps(said))
    clip = first(root)
    with pytest.raises(DataError, match=rf"rgb.mkv: has 24 frames, and {CAMERAS} tells of frame 999999"):
        clip.frames([4])
    assert numbers_of(clip.frames([0])) == [0]


def test_videos_that_are_damaged(root: Path, folder: Path, filmed: Filmed) -> None:
    path = folder / "rgb.mkv"
    content = path.read_bytes()
    for cut in (0, 10, len(content) // 2, len(content) - 1):
        path.write_bytes(content[:cut])
        for read in (lambda: first(root).frames([4]), lambda: first(root).targets()):
            with pytest.raises(DataError, match=rf"{TRAIN}/iphone/rgb.mkv: .*Remedy"):
                read()
    path.unlink()
    write_video(path, filmed.rgb[:, :, :72])
    with pytest.raises(DataError, match="frame 0 has 72x72 pixels; the release has 1920x1440"):
        first(root).targets()


def test_a_video_that_is_to_be_shown_turned(root: Path, filmed: Filmed, monkeypatch: pytest.MonkeyPatch) -> None:
    """Depth and poses are of the pictures as the sensor lies."""
    clip = first(root)
    monkeypatch.setattr(clip.video, "decode", lambda numbers: iter([(n, filmed.rgb[n], True) for n in numbers]))
    with pytest.raises(DataError, match="frame 0 has 96x72 pixels, turned; the release has 1920x1440"):
        clip.frames([0])


def test_depth_that_is_damaged_is_of_one_clip(root: Path, folder: Path) -> None:
    (folder / "depth.bin").write_bytes(b"")
    clips = ScanNetPP(root, FEW).clips()
    with pytest.raises(DataError, match=rf"{TRAIN}/iphone/depth.bin: truncated"):
        clips[0].targets()
    assert clips[1].targets().depth is not None


def test_the_release_is_half_the_size_of_its_video() -> None:
    assert scannetpp.IMAGE_SIZE == (1440 // 2, 1920 // 2)


def test_lists_name_what_is_written(tmp_path: Path, filmed: Filmed) -> None:
    """The tiny release is laid out as the official download: nothing else is needed."""
    write_release(tmp_path, filmed)
    assert sorted(path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*.*")) == sorted(
        [f"data/{scene}/iphone/{part}" for scene in (TRAIN, VAL, TEST) for part in ("rgb.mkv", "depth.bin", CAMERAS)]
        + ["splits/nvs_sem_train.txt", "splits/nvs_sem_val.txt"]
    )

"""Every way in which a release can be wrong: refused by name, with what to do; one bad picture spoils no other clip."""

from __future__ import annotations

import re
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from extract.datasets.arkitscenes import ArkitClip, ArkitScenes
from extract.datasets.sampling import Sampling
from extract.errors import DataError
from tests.extract.arkitscenes.tiny_arkit import TABLE, name

PARTS = ("lowres_wide", "lowres_depth")
FIRST = name("41000001", 0)


def first(root: Path) -> ArkitClip:
    return ArkitScenes(root, Sampling(frames=5, window="whole", bank=2)).clips()[0]


@pytest.mark.parametrize("part", PARTS)
def test_every_truncation_of_a_picture_is_an_error(root: Path, folder: Path, part: str) -> None:
    path, clip = folder / part / f"{FIRST}.png", first(root)
    content = path.read_bytes()
    for length in {*range(0, len(content), max(1, len(content) // 20)), *range(len(content) - 10, len(content))}:
        path.write_bytes(content[:length])
        with pytest.raises(DataError, match=rf"41000001.*{re.escape(path.name)}.*Remedy"):
            clip.targets()
    path.write_bytes(content)
    clip.targets()


@pytest.mark.parametrize("part", PARTS)
def test_missing_empty_and_odd_pictures(root: Path, folder: Path, part: str) -> None:
    path, clip = folder / part / f"{FIRST}.png", first(root)
    picture = Image.open(path)
    picture.load()
    path.unlink()
    with pytest.raises(DataError, match="missing"):
        clip.targets()
    with pytest.raises(DataError, match=rf"clip 41000001: .*{re.escape(path.name)}: missing.*move its folder"):
        clip.digest()
    path.write_bytes(b"")
    with pytest.raises(DataError, match="truncated"):
        clip.targets()
    for size in ((255, 192), (192, 256)):
        picture.resize(size, Image.Resampling.NEAREST).save(path)
        with pytest.raises(DataError, match=rf"{path}: a picture of {size[0]}x{size[1]} pixels.*expected 256x192"):
            clip.targets()
    other = clip.frames([1, 2])
    assert other.shape == (2, 192, 256, 3)


def test_depth_of_8_bits_is_no_depth(root: Path, folder: Path) -> None:
    Image.fromarray(np.zeros((192, 256), np.uint8)).save(folder / f"lowres_depth/{FIRST}.png")
    with pytest.raises(DataError, match="mode L; expected 256x192, mode I;16"):
        first(root).targets()


@pytest.mark.parametrize("part", PARTS)
def test_a_picture_that_says_to_be_enormous_is_refused_unread(root: Path, folder: Path, part: str) -> None:
    header = struct.pack(">IIBBBBB", 1 << 14, 1 << 14, 8, 2, 0, 0, 0)

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    bomb = chunk(b"IDAT", zlib.compress(bytes(1 << 20)))
    content = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + bomb + chunk(b"IEND", b"")
    (folder / part / f"{FIRST}.png").write_bytes(content)
    with pytest.raises(DataError, match=r"16384x16384 pixels, .*expected|exceeds limit"):
        first(root).targets()


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"256 192 211.9 211.9 127.9",
        b"256 192 211.9 211.9 127.9 95.9 1",
        b"256 192 nan 211.9 127.9 95.9",
        b"256 192 0 211.9 127.9 95.9",
        b"256 192 211.9 211.9 959.5 719.5",
        b"0 0 211.9 211.9 127.9 95.9",
        b"inf inf 211.9 211.9 127.9 95.9",
        b"\xff\xfe2",
        b"one two",
    ],
)
def test_a_camera_that_is_none(root: Path, folder: Path, content: bytes) -> None:
    for path in (folder / "lowres_wide_intrinsics").iterdir():
        path.write_bytes(content)
    with pytest.raises(DataError, match=r"41000001.*pincam: .*Remedy"):
        first(root).targets()


def test_a_camera_of_another_shape_or_none_at_all(root: Path, folder: Path) -> None:
    clip = first(root)
    for path in (folder / "lowres_wide_intrinsics").iterdir():
        path.write_text("192 256 211.9 211.9 95.9 127.9")
    with pytest.raises(DataError, match="another shape"):
        clip.targets()
    for path in (folder / "lowres_wide_intrinsics").iterdir():
        path.unlink()
    with pytest.raises(DataError, match=r"41000001_frames.*pincam: missing. Remedy: Download the video anew"):
        clip.targets()
    with pytest.raises(DataError, match="clip 41000001"):
        clip.digest()
    assert clip.frames([0]).shape == (1, 192, 256, 3)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "has no pose"),
        (b"6845.7 1 2 3 4 5", "line 1: expected a time, a rotation and a translation"),
        (b"6845.7 1 2 3 4 5 6\n\n6845.8 1 2 3 4 5 six", "line 3: expected"),
        (b"nan 1 2 3 4 5 6", "line 1: expected"),
        (b"6845.7 1e300 2 3 4 5 6", "holds numbers above 1e.10"),
        (b"\x80\x00\x01", "cannot be read"),
    ],
)
def test_trajectories_that_are_none_are_all_named(root: Path, folder: Path, content: bytes, message: str) -> None:
    other = root / "3dod/Validation/42000001/42000001_frames"
    for each in (folder, other):
        (each / "lowres_wide.traj").write_bytes(content)
    dataset = ArkitScenes(root)
    assert [clip.id for clip in dataset.clips()] == ["41000002"]
    assert list(dataset.damaged) == ["41000001", "42000001"]
    for video, why in dataset.damaged.items():
        assert re.search(rf"{video}.*{message}.*Remedy: Download", why), why


def test_a_cut_trajectory_is_named(root: Path, folder: Path) -> None:
    path = folder / "lowres_wide.traj"
    content = path.read_bytes()
    path.write_bytes(content[: content.rindex(b" ")])
    dataset = ArkitScenes(root)
    assert len(dataset.clips()) == 2
    assert re.search(rf"{path}, line 24: expected .*Remedy: Download", dataset.damaged["41000001"])


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ("41000001,1,Training\n41000001,2,Training\n", "lists '41000001' twice"),
        ("video,1,Training\n", "lists 'video' as a video"),
        ('"41000001,1,Training\n', "cannot be read as a table"),
    ],
)
def test_tables_that_are_wrong(root: Path, rows: str, message: str) -> None:
    (root / "3dod/metadata.csv").write_text(TABLE + rows)
    with pytest.raises(DataError, match=rf"metadata.csv.*{message}.*Remedy"):
        ArkitScenes(root)
    (root / "3dod/metadata.csv").write_bytes(b"video_id,visit_id\n\xff\xff,1\n")
    with pytest.raises(DataError, match="cannot be read as a table"):
        ArkitScenes(root)


def test_a_video_in_both_folds(root: Path) -> None:
    (root / "3dod/Validation/41000001").mkdir()
    with pytest.raises(DataError, match="41000001 in both Training and Validation"):
        ArkitScenes(root)


def test_a_visit_of_both_folders_is_in_one_split_whatever_the_table_says_of_folds(root: Path) -> None:
    rows = "video_id,visit_id\n41000001,420011\n41000002,420015\n42000001,420011\n"
    (root / "3dod/metadata.csv").write_text(rows)
    assert [(clip.id, clip.split) for clip in ArkitScenes(root).clips()] == [("41000002", "val"), ("42000001", "test")]

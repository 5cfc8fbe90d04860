"""Every way in which a sequence can be wrong: refused by name, with what to do; one bad sequence spoils no other."""

from __future__ import annotations

import re
import struct
import zlib
from io import BytesIO
from pathlib import Path
from typing import Any
from zipfile import ZIP_LZMA, ZipFile

import numpy as np
import pytest
from PIL import Image, ImageFile

from extract.datasets.sampling import Sampling
from extract.datasets.seven_scenes import SevenScenes, SevenScenesClip
from extract.errors import DataError
from tests.extract.scannet.tiny_scans import png
from tests.extract.seven_scenes.tiny_sequences import film, write_zip

FEW = Sampling(frames=5, window="whole", bank=3)
NAMES = [f"frame-000000.{part}" for part in ("color.png", "depth.png", "pose.txt")]


def clip_of(root: Path, name: str) -> SevenScenesClip:
    (clip,) = (clip for clip in SevenScenes(root, FEW).clips() if clip.id == name)
    return clip


def refused(message: str, place: str = "seq-02") -> Any:
    """A `DataError` that names scene, sequence and fault, and says what to do."""
    return pytest.raises(DataError, match=rf"(?s)chess/{place}.*{message}.*Remedy")


def change(root: Path, name: str, content: bytes | None, packed: bool) -> SevenScenesClip:
    """The clip of chess, packed or not, with another content of one file; `None` = without it."""
    if not packed:
        path = root / "chess/seq-02" / name
        path.unlink() if content is None else path.write_bytes(content)
        return clip_of(root, "chess-seq-02")
    files = {**film().files, name: content}
    write_zip(root / "chess/seq-01.zip", {key: value for key, value in files.items() if value is not None})
    return clip_of(root, "chess-seq-01")


@pytest.mark.parametrize("packed", [False, True], ids=["folder", "zip"])
@pytest.mark.parametrize("name", NAMES[1:])
def test_missing_files(root: Path, name: str, packed: bool) -> None:
    clip = change(root, name, None, packed)
    place = "seq-01.zip" if packed else "seq-02"
    with refused(re.escape(name), place):
        clip.targets()
    with refused(re.escape(name), place):
        clip.digest()


@pytest.mark.parametrize("packed", [False, True], ids=["folder", "zip"])
@pytest.mark.parametrize("name", NAMES)
def test_truncated_and_empty_files(root: Path, name: str, packed: bool) -> None:
    whole = film().files[name]
    cuts = [0, 1, len(whole) // 2, len(whole) * 3 // 4, len(whole) - (30 if name.endswith("txt") else 1)]
    for length in cuts if not packed else cuts[1:4:2]:
        clip = change(root, name, whole[:length], packed)
        with refused(re.escape(name), "seq-01.zip" if packed else "seq-02"):
            clip.targets()


@pytest.mark.parametrize("name", NAMES[:2])
def test_a_picture_whose_middle_is_missing(root: Path, name: str) -> None:
    whole = film().files[name]
    with refused(re.escape(name) + ": cannot be read"):
        change(root, name, whole[: len(whole) // 2] + whole[-12:], packed=False).targets()


@pytest.mark.parametrize(
    ("name", "picture", "message"),
    [
        (NAMES[0], np.zeros((480, 320, 3), np.uint8), "320x480 pixels, mode RGB; expected 640x480, mode RGB"),
        (NAMES[0], np.zeros((480, 640), np.uint8), "mode L; expected 640x480, mode RGB"),
        (NAMES[1], np.zeros((240, 320), np.uint16), "320x240 pixels, mode I;16"),
        (NAMES[1], np.zeros((480, 640), np.uint8), "mode L; expected 640x480, mode I;16"),
    ],
)
def test_other_sizes_and_kinds(root: Path, name: str, picture: np.ndarray, message: str) -> None:
    with refused(f"{re.escape(name)}: .*{message}"):
        change(root, name, png(picture), packed=False).targets()


def test_a_header_that_lies_is_not_believed(root: Path) -> None:
    """A picture that says it has 60000 x 60000 pixels takes no memory."""
    content = bytearray(film().files[NAMES[1]])
    content[16:24] = struct.pack(">2I", 60_000, 60_000)
    content[29:33] = struct.pack(">I", zlib.crc32(bytes(content[12:29])))
    with refused(re.escape(NAMES[1])):
        change(root, NAMES[1], bytes(content), packed=False).targets()


def test_a_jpeg_is_no_png(root: Path) -> None:
    stream = BytesIO()
    Image.new("RGB", (640, 480)).save(stream, "JPEG")
    with refused("cannot be read"):
        change(root, NAMES[0], stream.getvalue() + b"IEND\xaeB`\x82", packed=False).frames([0])


def test_pillow_must_not_fill_holes(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", True)
    with refused("LOAD_TRUNCATED_IMAGES"):
        clip_of(root, "chess-seq-02").frames([0])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"1 0 0 0\n0 1 0 0\n0 0 1 0\n", r"expected four lines of four numbers, got an array of shape \(3, 4\)"),
        (b"1 0 0\n0 1 0\n0 0 1\n", r"shape \(3, 3\)"),
        (b"1 0 0 0\n0 1 0 x\n0 0 1 0\n0 0 0 1", "could not convert"),
        (b"1 0 0 0\n0 1 0\n0 0 1 0\n0 0 0 1", "inhomogeneous"),
        (b"\x89PNG\xff", "could not convert"),
        (b"2 0 0 0\n0 2 0 0\n0 0 2 0\n0 0 0 1", "no rigid motion"),
        (b"1 0 0 0\n0 1 0 0\n0 0 -1 0\n0 0 0 1", "no rigid motion"),
        (b"1 0 0 0\n0 1 0 0\n0 0 1 0\n0 0 1 1", "no rigid motion"),
        (b"1 " * 4096, "is larger than 4096 bytes"),
    ],
)
def test_faults_of_poses(root: Path, text: bytes, message: str) -> None:
    with refused(rf"{re.escape(NAMES[2])}.*{message}"):
        change(root, NAMES[2], text, packed=False).targets()


def test_rounded_poses_are_mended(root: Path) -> None:
    pose = film().poses[0] + np.pad(np.full((3, 3), 1e-3), ((0, 1), (0, 1)))
    text = "\n".join(" ".join(map(str, row)) for row in pose).encode()
    poses = change(root, NAMES[2], text, packed=False).targets().cam_to_world
    assert poses is not None
    rotation = poses[0, :3, :3]
    np.testing.assert_allclose(rotation @ rotation.T, np.eye(3), atol=1e-12)
    np.testing.assert_allclose(poses[0], film().poses[0], atol=3e-3)


def test_files_that_are_too_large_are_not_read(root: Path) -> None:
    with (root / "chess/seq-02" / NAMES[1]).open("wb") as file:
        file.truncate(1 << 40)
    with refused("is larger than 4194304 bytes"):
        clip_of(root, "chess-seq-02").targets()


def broken(root: Path, where: str) -> str:
    """What the data set says of a sequence that it can make no clip of. The others are there."""
    dataset = SevenScenes(root, FEW)
    name = f"chess-{Path(where).stem}"
    assert sorted(dataset.damaged) == [name]
    assert len(dataset.clips()) == 3
    assert f"chess/{where}" in dataset.damaged[name]
    assert "Remedy: unpack" in dataset.damaged[name]
    return dataset.damaged[name]


@pytest.mark.parametrize("cut", [0, 4, 1000, -1, -100])
def test_a_zip_file_that_is_cut_off(root: Path, cut: int) -> None:
    path = root / "chess/seq-01.zip"
    path.write_bytes(path.read_bytes()[:cut])
    assert "cannot be read" in broken(root, "seq-01.zip")


@pytest.mark.parametrize("name", ["../seq-01/frame-000000.color.png", "/frame-000000.color.png", "a\\..\\..\\b"])
def test_names_that_lead_outside(root: Path, name: str) -> None:
    with ZipFile(root / "chess/seq-01.zip", "a") as archive:
        archive.writestr(name, b"content")
    assert f"names the file {name!r}, which is not inside" in broken(root, "seq-01.zip")


def without(number: int) -> dict[str, bytes]:
    return {name: content for name, content in film().files.items() if f"{number:06d}.color" not in name}


@pytest.mark.parametrize("number", [0, 7])
def test_gaps_between_frames(root: Path, number: int) -> None:
    write_zip(root / "chess/seq-01.zip", without(number))
    assert f"frame-{number:06d}.color.png is missing" in broken(root, "seq-01.zip")
    write_zip(root / "chess/seq-01.zip", film().files)
    (root / f"chess/seq-02/frame-{number:06d}.color.png").unlink()
    assert f"frame-{number:06d}.color.png is missing" in broken(root, "seq-02")


def test_no_frames_at_all(root: Path) -> None:
    write_zip(root / "chess/seq-01.zip", {})
    assert "holds no picture such as frame-000000.color.png" in broken(root, "seq-01.zip")


def test_frames_in_two_folders(root: Path) -> None:
    with ZipFile(root / "chess/seq-01.zip", "a") as archive:
        archive.writestr("seq-02/frame-000000.color.png", b"content")
    assert "several folders: ['seq-01/', 'seq-02/']" in broken(root, "seq-01.zip")


def test_a_bomb_is_not_unpacked(root: Path) -> None:
    with refused(r"frame-000000\.depth\.png says 100000000 bytes", "seq-01.zip"):
        change(root, NAMES[1], bytes(100_000_000), packed=True).targets()


def test_a_member_that_is_more_than_it_says(root: Path) -> None:
    change(root, NAMES[1], bytes(100_000_000), packed=True)
    path = root / "chess/seq-01.zip"
    path.write_bytes(path.read_bytes().replace(struct.pack("<I", 100_000_000), struct.pack("<I", 1000)))
    with refused("cannot be read", "seq-01.zip"):
        clip_of(root, "chess-seq-01").targets()


def test_other_packings_are_refused(root: Path) -> None:
    path = root / "chess/seq-01.zip"
    with ZipFile(path, "w", ZIP_LZMA) as archive:
        for name, content in film().files.items():
            archive.writestr(name, content)
    with refused("method 14", "seq-01.zip"):
        clip_of(root, "chess-seq-01").frames([0])


@pytest.mark.parametrize("line", ["seq-01", "sequence", "sequence123", "../x"])
def test_faults_of_the_lists(root: Path, line: str) -> None:
    (root / "chess/TestSplit.txt").write_text(line)
    with pytest.raises(DataError, match=r"chess/TestSplit\.txt: has the line .*such as 'sequence1'.*Remedy"):
        SevenScenes(root)


def test_one_bad_sequence_spoils_no_other(root: Path) -> None:
    (root / "chess/seq-02" / NAMES[0]).write_bytes(b"")
    bad, *good = sorted(SevenScenes(root, FEW).clips(), key=lambda clip: clip.id != "chess-seq-02")
    with refused("truncated"):
        bad.frames([0])
    for clip in good:
        clip.targets()

"""Depth, instances and poses that are damaged, or do not belong to their frames: errors that name file and remedy."""

from __future__ import annotations

import json
import struct
import zlib
from collections.abc import Callable
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from extract.datasets.folder import FolderClip, FolderDataset
from extract.datasets.recordings.pictures import read_depth
from extract.datasets.sampling import Sampling
from extract.errors import DataError
from tests.extract.folder.recordings import room, write, write_transforms


def only(root: Path) -> FolderClip:
    (clip,) = FolderDataset(root, Sampling(window="whole", bank=81)).clips()
    return clip


DEPTHS: list[tuple[Callable[[Path], object], str]] = [
    (lambda p: p.write_bytes(p.read_bytes()[:-30]), "frame_01.png: (cannot be read|truncated)"),
    (lambda p: p.write_bytes(b""), "frame_01.png: an empty file"),
    (lambda p: Image.new("L", (56, 40)).save(p), "frame_01.png: pixels of mode L; depth is a 16-bit PNG"),
    (lambda p: Image.fromarray(np.ones((56, 40), np.uint16)).save(p), "frame_01.png: 40x56 .*56x40: another shape"),
    (lambda p: Image.fromarray(np.ones((40, 40), np.uint16)).save(p), "frame_01.png: 40x40 .*another shape"),
    (lambda p: p.rename(p.with_name("frame_77.png")), "frame_77.png belongs to no frame"),
    (lambda p: np.save(p.with_suffix(".npy"), np.ones((40, 56))), "two files belong to one frame: frame_01"),
]


@pytest.mark.parametrize(("damage", "message"), DEPTHS)
def test_faults_of_depth(root: Path, damage: Callable[[Path], object], message: str) -> None:
    write(root / "a", room())
    damage(root / "a/depth/frame_01.png")
    with pytest.raises(DataError, match=rf"{message}.*Remedy"):
        only(root).targets()


def npy(array: object, **how: bool) -> bytes:
    stream = BytesIO()
    np.save(stream, array, **how)  # type: ignore[arg-type]
    return stream.getvalue()


NPYS = [
    npy(np.ones((40, 56)))[:-8],
    npy(np.ones((40, 56))) + b"12345678",
    npy(np.ones((40, 56), np.int32)),
    npy(np.ones((40, 56, 1))),
    npy(np.array([{"a": 1}], object), allow_pickle=True),
    npy(np.ones((40, 56))).replace(b"(40, 56)", b"(4e9, 9)"),
    npy(np.ones((40, 56))).replace(b"(40, 56), ", b"(4000000000,9999999999), ")[:400],
    npy(np.ones((40, 56))).replace(b"(40, 56)", b"(-40,-56)"),
    npy(np.ones((40, 56))).replace(b"(40, 56)", b"(40, 56L"),
    npy(np.ones((40, 56))).replace(b"(40, 56)", b'"""((((('),
    npy(np.ones((40, 56))).replace(b"'<f8'", b"('',)"),
    npy(np.ones((0, 56))),
    b"",
    b"\x93NUMPY",
    b"text",
]


@pytest.mark.parametrize("content", NPYS)
def test_faults_of_npy(root: Path, content: bytes) -> None:
    write(root / "a", room(frames=1))
    (root / "a/depth/frame_00.png").unlink()
    (root / "a/depth/frame_00.npy").write_bytes(content)
    with pytest.raises(DataError, match=r"frame_00\.npy: .*Remedy"):
        only(root).targets()


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("kind", [np.float16, np.float32, np.float64, np.dtype(">f4")])
def test_npy_of_every_kind(root: Path, order: str, kind: type) -> None:
    write(root / "a", room(frames=1))
    (root / "a/depth/frame_00.png").unlink()
    values = np.arange(40 * 56).reshape(40, 56) / 8 + 0.5
    np.save(root / "a/depth/frame_00.npy", np.asarray(values, kind, order=order))  # type: ignore[call-overload]
    found = only(root).targets().depth
    assert found is not None
    np.testing.assert_allclose(found[0], values, rtol=1e-3)


def test_what_float32_cannot_hold_is_invalid(root: Path) -> None:
    write(root / "a", room(frames=1))
    (root / "a/depth/frame_00.png").unlink()
    np.save(root / "a/depth/frame_00.npy", np.full((40, 56), 1e300))
    found = only(root).targets().depth
    assert found is not None
    assert not found.any()


def test_a_file_that_is_no_single_picture_is_not_read(tmp_path: Path) -> None:
    for name in ("a.npy", "a.png"):
        path = tmp_path / name
        with path.open("wb") as file:
            file.truncate(1 << 33)
        with pytest.raises(DataError, match=rf"{name}: cannot be read .*8589934592 bytes, more than.*Remedy"):
            read_depth(path, 1.0)


@pytest.mark.parametrize("bits", [2, 4])
def test_ids_that_pillow_would_spread(root: Path, bits: int) -> None:
    """A PNG of 4 bits is grey from 0 to 255 in steps of 17; what makes PNG files smaller writes such."""
    write(root / "a", room(frames=1))
    row = b"\0" + bytes([0b01_10_11_00]) * (56 * bits // 8)
    head = struct.pack(">IIBBBBB", 56, 40, bits, 0, 0, 0, 0)
    parts = [(b"IHDR", head), (b"IDAT", zlib.compress(row * 40)), (b"IEND", b"")]
    chunks = (struct.pack(">I", len(b)) + k + b + struct.pack(">I", zlib.crc32(k + b)) for k, b in parts)
    (root / "a/instance/frame_00.png").write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(chunks))
    with pytest.raises(DataError, match=rf"frame_00\.png: grey of {bits} bits.*Remedy"):
        only(root).targets()


def test_instances_are_ids(root: Path) -> None:
    tiny = room()
    write(root / "a", tiny)
    palette = Image.fromarray(tiny.instance[0].astype(np.uint8), "P")
    palette.putpalette([9, 9, 9] * 256)
    palette.save(root / "a/instance/frame_00.png")
    Image.fromarray(tiny.instance[1].astype(np.uint16)).save(root / "a/instance/frame_01.png")
    np.testing.assert_array_equal(only(root).targets().instance, tiny.instance)
    Image.new("RGB", (56, 40)).save(root / "a/instance/frame_02.png")
    with pytest.raises(DataError, match=r"frame_02\.png: pixels of mode RGB.*Remedy: save ids, not colours"):
        only(root).targets()


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("images/frame_07.png", "names images/frame_07.png, which is not among the 3 pictures"),
        ("../../etc/passwd", "names '../../etc/passwd', which is not inside"),
        ("/etc/passwd", "names '/etc/passwd', which is not inside"),
        ("C:\\a.png", "names 'C:/a.png', which is not inside"),
        ("images/frame_00.png", "names images/frame_00.png twice"),
        ("", "names '', which is not inside"),
    ],
)
def test_names_in_transforms(root: Path, name: str, message: str) -> None:
    write(root / "a", room(), labels=False)
    write_transforms(root / "a", room(), [name, "images/frame_00.png", "images/frame_01.png"])
    with pytest.raises(DataError, match=rf"transforms\.json: {message}.*Remedy"):
        only(root).targets()
    assert only(root).frames([0]).shape == (1, 40, 56, 3), "frames need no poses"


def test_names_in_lists_of_tum(root: Path, caplog: pytest.LogCaptureFixture) -> None:
    write(root / "a", room(), "tum")
    write(root / "b", room(), "tum")
    lines = (root / "a/rgb.txt").read_text()
    (root / "a/rgb.txt").write_text(lines.replace("rgb/1305031102.175304", "../b/rgb/1305031102.175304"))
    assert [clip.id for clip in FolderDataset(root).clips()] == ["b"]
    assert "which is not inside" in caplog.text
    (root / "a/rgb.txt").write_text(lines.replace("1305031102.175304.png", "1.png"))
    clip = FolderDataset(root).clips()[0]
    with pytest.raises(DataError, match=r"rgb/1\.png: missing"):
        clip.frames([0])
    (root / "a/rgb.txt").write_text(lines.replace("1305031102.175304.png", "1" * 300 + ".png"))
    clip = FolderDataset(root).clips()[0]
    with pytest.raises(DataError, match=r"1\.png: cannot be read .*Remedy"):
        clip.frames([0])


def test_a_bad_pose_is_an_error_of_its_scene_alone(root: Path) -> None:
    for name in "ab":
        write(root / name, room(), "nerfstudio")
    content = json.loads((root / "a/transforms.json").read_text())
    content["frames"][1]["transform_matrix"][0][0] += 0.5
    (root / "a/transforms.json").write_text(json.dumps(content))
    a, b = sorted(FolderDataset(root).clips(), key=lambda clip: clip.id)
    with pytest.raises(DataError, match=r"a/transforms\.json, images/frame_01\.png: no rigid motion.*Remedy"):
        a.targets()
    assert b.targets().intrinsics is not None


def test_a_camera_of_other_pictures(root: Path) -> None:
    write(root / "a", room(), labels=False)
    write_transforms(root / "a", room(), [f"images/frame_{n:02d}.png" for n in range(3)], w=40, h=56)
    with pytest.raises(DataError, match=r"scene a, frame 0: the camera is of pictures of 40x56 pixels.*Remedy"):
        only(root).targets()

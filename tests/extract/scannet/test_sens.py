"""`.sens` files: what is read of them, and every way in which their numbers can lie."""

from __future__ import annotations

import os
import tracemalloc
import zlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from PIL import ImageFile

from extract.datasets.scannet_files.sens import Sens
from extract.errors import DataError
from tests.extract.scannet.tiny_scans import TinyScan, frame_bytes, frames_of, header, jpeg, png, write_sens


@pytest.fixture
def path(tmp_path: Path, scan: TinyScan) -> Path:
    return write_sens(tmp_path / "scene0001_00", scan)


def test_every_frame_is_what_was_written(path: Path, scan: TinyScan) -> None:
    found = Sens(path)
    assert list(found.numbers) == list(range(20))
    for k in range(20):
        np.testing.assert_allclose(found.depth(k), scan.depth[k] / 1000, rtol=1e-6)
        np.testing.assert_allclose(found.pose(k), scan.poses[k], rtol=1e-6)
        assert np.abs(found.color(k).astype(int) - scan.rgb[k]).mean() < 3
    assert found.depth(0).dtype == np.float32


def test_another_depth_shift(tmp_path: Path, scan: TinyScan) -> None:
    found = Sens(write_sens(tmp_path, scan, shift=5000.0))
    np.testing.assert_allclose(found.depth(0), scan.depth[0] / 5000, rtol=1e-6)


def test_making_one_reads_only_the_header(path: Path, scan: TinyScan) -> None:
    os.truncate(path, len(header(scan)) + 20 * 96)
    assert len(Sens(path).numbers) == 20


def test_only_the_asked_frame_is_read(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[int] = []
    original = os.pread

    def pread(file: int, length: int, place: int) -> bytes:
        content = original(file, length, place)
        read.append(len(content))
        return content

    found = Sens(path)
    found.pose(0)
    monkeypatch.setattr(os, "pread", pread)
    content = found.read("color", 7)
    assert read == [len(content)]
    found = Sens(path)
    read.clear()
    found.read("depth", 3)
    assert len(read) == 21
    assert set(read[:20]) == {96}


def test_places_of_frames_take_little_memory(tmp_path: Path, scan: TinyScan) -> None:
    """They are kept for every scan of a run, and the release has 2.5 million frames."""
    count = 2000
    path = tmp_path / "a.sens"
    path.write_bytes(header(scan, frames=count) + b"".join(frames_of(scan)) * (count // len(scan.rgb)))
    Sens(path).pose(0)
    tracemalloc.start()
    try:
        recording = Sens(path)
        before, _ = tracemalloc.get_traced_memory()
        recording.pose(count - 1)
        after, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert after - before < 40 * count


def test_every_truncation_is_an_error(path: Path, scan: TinyScan) -> None:
    content = path.read_bytes()
    end = len(header(scan)) + sum(map(len, frames_of(scan)))
    for length in {*range(0, end, 997), *range(end - 40, end), 4, 12, 100, len(header(scan))}:
        path.write_bytes(content[:length])
        with pytest.raises(DataError, match=r"scene0001_00\.sens.*Remedy"):
            Sens(path).color(0)
    path.write_bytes(content[:end])  # inertial measurements are not needed
    Sens(path).color(0)


LIES: list[tuple[dict[str, object], str]] = [
    ({"version": 3}, "version 3"),
    ({"name_length": 1 << 60}, "sensor name of 1152921504606846976 bytes"),
    ({"frames": 0}, "holds 0 frames"),
    ({"frames": 1 << 62}, "holds 4611686018427387904 frames"),
    ({"compressions": (0, 1)}, "compressions 0 and 1"),
    ({"compressions": (2, 2)}, "compressions 2 and 2"),
    ({"compressions": (-1, 1)}, "compressions -1 and 1"),
    ({"sizes": (0, 30, 32, 24)}, "colour of 0x30"),
    ({"sizes": (40, 30, 1 << 31, 1 << 31)}, "depth of 2147483648x2147483648"),
    ({"sizes": (1 << 30, 30, 32, 24)}, "colour of 1073741824x30"),
    ({"shift": 0.0}, "0.0 per metre"),
    ({"shift": float("nan")}, "nan per metre"),
    ({"shift": float("inf")}, "inf per metre"),
    ({"shift": -1000.0}, "-1000.0 per metre"),
]


@pytest.mark.parametrize(("lie", "message"), LIES)
def test_a_lying_header_is_refused_before_memory_is_taken(
    tmp_path: Path, scan: TinyScan, lie: dict[str, object], message: str
) -> None:
    path = write_sens(tmp_path, scan, **lie)
    tracemalloc.start()
    with pytest.raises(DataError, match=rf"(?s)scene0001_00\.sens.*{message}.*Remedy"):
        Sens(path)
    assert tracemalloc.get_traced_memory()[1] < 1 << 20
    tracemalloc.stop()


@pytest.mark.parametrize("said", [(1 << 62, 10), (10, 1 << 62), (1 << 40, 1 << 40), ((1 << 64) - 1, (1 << 64) - 1)])
def test_lying_sizes_of_a_frame_are_refused(tmp_path: Path, scan: TinyScan, said: tuple[int, int]) -> None:
    frames = frames_of(scan)
    frames[5] = frame_bytes(scan.poses[5], b"", b"", said)
    path = tmp_path / "scene0001_00.sens"
    path.write_bytes(header(scan) + b"".join(frames))
    with pytest.raises(DataError, match=r"frame 5 of 20 says .*Remedy"):
        Sens(path).color(0)


def test_a_frame_larger_than_its_picture_is_refused(tmp_path: Path, scan: TinyScan) -> None:
    """The bytes are there, but no picture of the stated size can need them."""
    frames = frames_of(scan)
    frames[5] = frame_bytes(scan.poses[5], bytes(200_000), b"")
    path = tmp_path / "scene0001_00.sens"
    path.write_bytes(header(scan) + b"".join(frames))
    with pytest.raises(DataError, match="frame 5 of 20 says 200000 bytes of colour"):
        Sens(path).color(0)


def one_frame(path: Path, scan: TinyScan, color: bytes, depth: bytes) -> Sens:
    path.write_bytes(header(scan, frames=1) + frame_bytes(scan.poses[0], color, depth))
    return Sens(path)


DEPTHS: list[tuple[Callable[[bytes], bytes], str]] = [
    (lambda plain: zlib.compress(plain)[:-1], "1536 bytes, but it holds others"),
    (lambda plain: zlib.compress(plain[:-2]), "1536 bytes, but it holds others"),
    (lambda plain: zlib.compress(plain + b"\0"), "1536 bytes, but it holds others"),
    (lambda plain: zlib.compress(bytes(1 << 26), 9), "1536 bytes, but it holds others"),
    (lambda plain: b"", "1536 bytes, but it holds others"),
    (lambda plain: plain, "cannot be read"),
    (lambda plain: zlib.compress(plain)[:-4] + b"abcd", "cannot be read"),
]


@pytest.mark.parametrize(("spoil", "message"), DEPTHS)
def test_damaged_depth(tmp_path: Path, scan: TinyScan, spoil: Callable[[bytes], bytes], message: str) -> None:
    depth = spoil(scan.depth[0].astype("<u2").tobytes())
    found = one_frame(tmp_path / "scene0001_00.sens", scan, jpeg(scan.rgb[0]), depth)
    found.color(0)
    tracemalloc.start()
    with pytest.raises(DataError, match=rf"scene0001_00\.sens: frame 0: depth: .*{message}.*Remedy"):
        found.depth(0)
    assert tracemalloc.get_traced_memory()[1] < 1 << 20, "a bomb is not unpacked"
    tracemalloc.stop()


COLOURS: list[tuple[Callable[[TinyScan], bytes], str]] = [
    (lambda scan: b"", "truncated"),
    (lambda scan: jpeg(scan.rgb[0])[:-2], "truncated"),
    (lambda scan: b"\xff\xd8" + bytes(99) + b"\xff\xd9", "cannot be read"),
    (lambda scan: png(scan.rgb[0]), "truncated"),
    (lambda scan: jpeg(scan.rgb[0, :-1]), "40x29 pixels, mode RGB; expected 40x30"),
    (lambda scan: jpeg(scan.rgb[0, :, :, 0]), "mode L; expected 40x30, mode RGB"),
]


@pytest.mark.parametrize(("make", "message"), COLOURS)
def test_damaged_colour(tmp_path: Path, scan: TinyScan, make: Callable[[TinyScan], bytes], message: str) -> None:
    found = one_frame(tmp_path / "scene0001_00.sens", scan, make(scan), zlib.compress(scan.depth[0].tobytes()))
    found.depth(0)
    with pytest.raises(DataError, match=rf"scene0001_00\.sens: frame 0: colour: .*{message}.*Remedy"):
        found.color(0)


def test_a_huge_picture_is_refused_by_its_header(tmp_path: Path, scan: TinyScan) -> None:
    huge = jpeg(np.zeros((9_000, 9_000), np.uint8))
    with pytest.raises(DataError, match="frame 0"):
        one_frame(tmp_path / "scene0001_00.sens", scan, huge, b"").color(0)


def test_padding_after_a_picture_is_forgiven(tmp_path: Path, scan: TinyScan) -> None:
    padded = jpeg(scan.rgb[0]) + bytes(3)
    assert one_frame(tmp_path / "scene0001_00.sens", scan, padded, b"").color(0).shape == (30, 40, 3)


def test_pillow_must_not_fill_holes(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", True)
    with pytest.raises(DataError, match="LOAD_TRUNCATED_IMAGES"):
        Sens(path).color(0)


def test_a_file_that_vanishes(path: Path) -> None:
    found = Sens(path)
    path.unlink()
    with pytest.raises(DataError, match=r"scene0001_00\.sens: missing.*Remedy"):
        found.color(0)
    with pytest.raises(DataError, match="missing"):
        Sens(path)


def test_short_reads_are_completed(path: Path, scan: TinyScan, monkeypatch: pytest.MonkeyPatch) -> None:
    """A read may return fewer bytes than asked for, on network file systems or after a signal."""
    original = os.pread
    monkeypatch.setattr(os, "pread", lambda file, length, place: original(file, min(length, 50), place))
    np.testing.assert_allclose(Sens(path).depth(19), scan.depth[19] / 1000, rtol=1e-6)


def test_threads_may_read_at_once(path: Path, scan: TinyScan) -> None:
    found = Sens(path)
    with ThreadPoolExecutor(8) as threads:
        depths = list(threads.map(found.depth, [k % 20 for k in range(200)]))
    for k, depth in enumerate(depths):
        np.testing.assert_allclose(depth, scan.depth[k % 20] / 1000, rtol=1e-6)

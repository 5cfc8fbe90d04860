"""depth.bin in each of its packings; what is damaged or lies is refused before memory is taken."""

from __future__ import annotations

import struct
import tracemalloc
import zlib
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from extract.datasets.scannetpp_files.depth import read_depth
from extract.errors import DataError
from tests.extract.scannetpp.tiny_scenes import DEPTH_SIZE, Filmed, Packing, deflated, depth_bytes, lz4_block, lz4_run

PACKINGS: tuple[Packing, ...] = ("lz4", "deflate", "whole")
PLAIN = DEPTH_SIZE[0] * DEPTH_SIZE[1]


def framed(*packed: bytes) -> bytes:
    return b"".join(struct.pack("<I", len(each)) + each for each in packed)


@pytest.mark.parametrize("packing", PACKINGS)
def test_every_packing_gives_the_same(packing: Packing, tmp_path: Path, filmed: Filmed) -> None:
    path = tmp_path / "depth.bin"
    path.write_bytes(depth_bytes(filmed.depth, packing))
    for numbers in ([0], [23], [3, 4, 17], list(range(24)), []):
        found = read_depth(path, numbers)
        assert found.dtype == np.float32
        np.testing.assert_allclose(found, filmed.depth[numbers] / 1000, rtol=1e-6)


def test_blocks_with_matches_and_packings_mixed(tmp_path: Path, filmed: Filmed) -> None:
    path = tmp_path / "depth.bin"
    flat = lz4_run(struct.pack("<H", 1234), 2 * PLAIN)
    odd = np.full(DEPTH_SIZE, 2.5, "<f4")
    odd[0, :4] = np.nan, np.inf, -1, 0
    path.write_bytes(framed(flat, deflated(odd.tobytes()), lz4_block(filmed.depth[7].tobytes())))
    found = read_depth(path, [0, 1, 2])
    assert (found[0] == np.float32(1.234)).all()
    assert (found[1][0, :5] == (0, 0, 0, 0, 2.5)).all()
    np.testing.assert_allclose(found[2], filmed.depth[7] / 1000, rtol=1e-6)


def test_a_stream_that_begins_as_a_length_would(tmp_path: Path) -> None:
    """A stored block of 255 bytes begins with 00 FF 00 00, which would be a length of 65280 bytes."""
    metres = np.random.default_rng(0).uniform(1, 3, (3, *DEPTH_SIZE)).astype("<f4")
    plain = metres.tobytes()
    path = tmp_path / "depth.bin"
    path.write_bytes(b"\0" + struct.pack("<HH", 255, 0xFFFF - 255) + plain[:255] + deflated(plain[255:]))
    np.testing.assert_array_equal(read_depth(path, [0, 2]), metres[[0, 2]])


@pytest.mark.parametrize("packing", PACKINGS)
def test_truncation_is_an_error(packing: Packing, tmp_path: Path, filmed: Filmed) -> None:
    path = tmp_path / "depth.bin"
    content = depth_bytes(filmed.depth[:3], packing)
    ends = {*range(0, len(content), len(content) // 23)}
    if packing != "whole":  # the last bits of a stream say only that it is over
        ends |= {*range(len(content) - 9, len(content))}
    for length in ends:
        path.write_bytes(content[:length])
        with pytest.raises(DataError, match=rf"{path}: .*Remedy: Download"):
            read_depth(path, [0, 2])
    path.write_bytes(content)
    with pytest.raises(DataError, match="truncated: it ends before frame 7, in frame 3"):
        read_depth(path, [1, 7])


def test_missing(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"depth.bin: missing. Remedy"):
        read_depth(tmp_path / "depth.bin", [0])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "truncated: it ends before frame 0"),
        (b"\0" * 64, "neither frames with their lengths before them, nor one deflated stream"),
        (b"\xff" * 4096, "neither frames"),
        (framed(b"x" * 400, b"y"), "frame 0: neither an LZ4 block of 256x192 pixels nor a deflated"),
        (framed(lz4_block(bytes(2 * PLAIN - 2)), b"y"), "frame 0: "),
        (framed(lz4_block(bytes(2 * PLAIN + 2)), b"y"), "frame 0: "),
        (framed(deflated(bytes(2 * PLAIN)), b"y"), "frame 0: unpacks to other than"),
        (framed(deflated(bytes(4 * PLAIN + 4)), b"y"), "frame 0: unpacks to other than"),
        (deflated(bytes(4 * PLAIN - 4)), "truncated: it ends before frame 0"),
        (struct.pack("<I", 1 << 31) + bytes(100), "neither frames"),
        (framed(b"a" * 40) + struct.pack("<I", 0), "neither"),
    ],
)
def test_contents_that_are_none(content: bytes, message: str, tmp_path: Path) -> None:
    path = tmp_path / "depth.bin"
    path.write_bytes(content)
    with pytest.raises(DataError, match=message):
        read_depth(path, [0])


def test_a_length_that_lies_later(tmp_path: Path, filmed: Filmed) -> None:
    path = tmp_path / "depth.bin"
    good = depth_bytes(filmed.depth[:2], "lz4")
    path.write_bytes(good + struct.pack("<I", 0xFFFFFFFF) + bytes(100))
    assert read_depth(path, [0, 1]).shape == (2, *DEPTH_SIZE)
    with pytest.raises(DataError, match="frame 2 says 4294967295 bytes"):
        read_depth(path, [3])


@pytest.mark.parametrize("whole", [False, True])
def test_a_bomb_takes_no_memory(whole: bool, tmp_path: Path) -> None:
    """A stream that unpacks to 512 MB: of a frame it is refused, of a whole file no more than a frame is held."""
    packer = zlib.compressobj(9, wbits=-15)
    packed = b"".join(packer.compress(bytes(1 << 24)) for _ in range(32)) + packer.flush()
    path = tmp_path / "depth.bin"
    path.write_bytes(packed if whole else framed(packed[: 1 << 17], b"y"))
    tracemalloc.start()
    try:
        if whole:
            assert not read_depth(path, [1000]).any()
        else:
            with pytest.raises(DataError, match="unpacks to other than"):
                read_depth(path, [0])
        assert tracemalloc.get_traced_memory()[1] < 8 << 20
    finally:
        tracemalloc.stop()


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.binary(max_size=300), st.integers(0, 400), st.sampled_from(PACKINGS))
def test_any_damage_is_a_data_error_or_depth(
    tmp_path: Path, filmed: Filmed, noise: bytes, at: int, packing: Packing
) -> None:
    path = tmp_path / "depth.bin"
    content = bytearray(depth_bytes(filmed.depth[:2, :, :], packing))
    content[at : at + len(noise)] = noise
    path.write_bytes(content)
    with suppress(DataError):
        found = read_depth(path, [0, 1])
        assert np.isfinite(found).all()
        assert found.min() >= 0

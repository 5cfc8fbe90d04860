"""Shards that a stranger wrote, with all checksums in order: indexes that lead anywhere, and bombs."""

from __future__ import annotations

import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numcodecs import Blosc, Zstd

from store import FeatureStore, MissingClipError
from store.shard import ABSENT, crc32c
from store.upkeep.verify import verify
from tests.store.hostile.forge import adopt, assert_refused, edit_array, frugally, use

pytestmark = pytest.mark.timeout(60)
FRAMES = 4
CHUNK = 6 * 6 * 2
"""Bytes of one frame of the label."""
GIGABYTE = 1 << 30

Index = list[tuple[int, int]]


def shard_of(store: Path, array: str) -> Path:
    return next(store.glob(f"features.zarr/{array}/c.0.*"))


def read_index(content: bytes) -> Index:
    numbers = struct.unpack(f"<{2 * FRAMES}Q", content[-16 * FRAMES - 4 : -4])
    return list(zip(numbers[::2], numbers[1::2], strict=True))


def pack(chunks: bytes, index: Index) -> bytes:
    packed = struct.pack(f"<{2 * FRAMES}Q", *(number for entry in index for number in entry))
    return chunks + packed + crc32c(packed)


def forge_index(store: Path, array: str, change: Callable[[Index, int], Index]) -> None:
    """Change the index, given where it begins."""
    path = shard_of(store, array)
    content = path.read_bytes()
    start = len(content) - 16 * FRAMES - 4
    path.write_bytes(pack(content[:start], change(read_index(content), start)))
    adopt(store)


def forge_chunks(store: Path, array: str, chunk: bytes) -> None:
    """Put a chunk, its crc32c behind it, in the place of every frame."""
    entry = chunk + crc32c(chunk)
    index = [(frame * len(entry), len(entry)) for frame in range(FRAMES)]
    shard_of(store, array).write_bytes(pack(entry * FRAMES, index))
    adopt(store)


OUTSIDE = "index points outside"
INDEXES: dict[str, tuple[Callable[[Index, int], Index], str]] = {
    "behind the end": (lambda index, start: [(start + 1000, index[0][1]), *index[1:]], OUTSIDE),
    "into the index": (lambda index, start: [(start - 8, index[0][1]), *index[1:]], OUTSIDE),
    "longer than the file": (lambda index, start: [(0, start + 1), *index[1:]], OUTSIDE),
    "a sum that overflows": (lambda index, start: [(2**64 - 2, index[0][1]), *index[1:]], OUTSIDE),
    "a length that overflows": (lambda index, start: [(8, 2**64 - 2), *index[1:]], OUTSIDE),
    "a signed overflow": (lambda index, start: [(2**63, 2**63), *index[1:]], OUTSIDE),
    "absent, but long": (lambda index, start: [(ABSENT, index[0][1]), *index[1:]], OUTSIDE),
    "there, but of no length": (lambda index, start: [(0, ABSENT), *index[1:]], OUTSIDE),
    "one byte short": (lambda index, start: [(0, index[0][1] - 1), *index[1:]], ""),
    "empty": (lambda index, start: [(0, 0), *index[1:]], ""),
    "shifted": (lambda index, start: [(1, index[0][1]), *index[1:-1], (index[-1][0] - 8, index[-1][1])], ""),
    "all of the same bytes and more": (lambda index, start: [(0, start)] * FRAMES, "overlap"),
    "never written": (lambda index, start: [*index[:-1], (ABSENT, ABSENT)], "never written"),
    "nothing written": (lambda index, start: [(ABSENT, ABSENT)] * FRAMES, "never written"),
}


@pytest.mark.parametrize("name", INDEXES)
@pytest.mark.parametrize("array", ["half", "label", pytest.param("byte", marks=pytest.mark.long)])
def test_an_index_that_leads_elsewhere(unclosed: Path, array: str, name: str) -> None:
    change, match = INDEXES[name]
    forge_index(unclosed, array, change)
    assert_refused(unclosed, match or None)


@pytest.mark.parametrize("array", ["half", "label"])
def test_a_checksum_of_the_index_that_is_wrong(unclosed: Path, array: str) -> None:
    path = shard_of(unclosed, array)
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    adopt(unclosed)
    assert_refused(unclosed, "index is damaged")


@pytest.mark.parametrize("length", [0, 1, 3, 4, 16, 67, 68, 69])
@pytest.mark.parametrize("array", ["half", "label", "slot"])
def test_a_shard_with_hardly_anything_in_it(unclosed: Path, array: str, length: int) -> None:
    shard_of(unclosed, array).write_bytes(bytes(length))
    adopt(unclosed)
    assert_refused(unclosed)


def zstd_frame(size: int, blocks: bytes) -> bytes:
    """A Zstandard frame that says how many bytes it holds, in eight bytes, whatever its blocks hold."""
    return b"\x28\xb5\x2f\xfd" + bytes([0xE0]) + struct.pack("<Q", size) + blocks


def repeated(value: int, size: int, last: bool = True) -> bytes:
    """A block of `size` equal bytes (RFC 8878, section 3.1.1.2)."""
    return ((size << 3) | 0b010 | last).to_bytes(3, "little") + bytes([value])


WINDOWED = b"\x28\xb5\x2f\xfd" + bytes([0x00, 0xA8])  # no content size, and a window of 2 GiB
ZSTD: dict[str, bytes] = {
    "holds a gigabyte": zstd_frame(GIGABYTE, repeated(0, 1 << 17, last=False) * 8191 + repeated(0, 1 << 17)),
    "claims a gigabyte": zstd_frame(GIGABYTE, repeated(0, CHUNK)),
    "claims everything": zstd_frame(2**64 - 1, repeated(0, CHUNK)),
    "claims nothing": zstd_frame(0, repeated(0, CHUNK)),
    "claims one too many": zstd_frame(CHUNK + 1, repeated(0, CHUNK + 1)),
    "claims one too few": zstd_frame(CHUNK - 1, repeated(0, CHUNK - 1)),
    "claims right and holds more": zstd_frame(CHUNK, repeated(0, 1 << 17, last=False) * 4000 + repeated(0, 1 << 17)),
    "claims right and holds less": zstd_frame(CHUNK, repeated(0, CHUNK - 1)),
    "claims right and ends": zstd_frame(CHUNK, b""),
    "says nothing": WINDOWED + repeated(0, CHUNK),
    "two frames": bytes(Zstd().encode(bytes(CHUNK))) + zstd_frame(GIGABYTE, repeated(0, 1 << 17)),
    "two honest frames": zstd_frame(CHUNK, repeated(0, CHUNK)) + zstd_frame(CHUNK, repeated(0, CHUNK)),
    "a frame to be skipped": b"\x50\x2a\x4d\x18" + struct.pack("<I", 2**32 - 1),
    "a dictionary": b"\x28\xb5\x2f\xfd" + bytes([0x23]) + b"\x01\x02\x03\x04" + bytes([CHUNK]) + repeated(0, CHUNK),
    "no frame": bytes(100),
    "hardly anything": b"\x28",
    "nothing": b"",
}  # fmt: skip


@pytest.mark.parametrize("name", ZSTD)
def test_zstd_bombs(unclosed: Path, name: str) -> None:
    forge_chunks(unclosed, "label", ZSTD[name])
    assert_refused(unclosed, exact=True)


def test_what_a_zstd_frame_says_is_understood(unclosed: Path) -> None:
    """A check of the forger: the same frame with an honest size is read."""
    forge_chunks(unclosed, "label", zstd_frame(CHUNK, repeated(7, CHUNK)))
    assert (FeatureStore.open(unclosed).read("label", 0, verify=True) == 0x0707).all()


def as_blosc(metadata: dict[str, Any]) -> None:
    configuration = {"typesize": 2, "cname": "lz4", "clevel": 5, "shuffle": "shuffle", "blocksize": 0}
    codecs = metadata["codecs"][0]["configuration"]["codecs"]
    codecs[1] = {"name": "blosc", "configuration": configuration}


def blosc(change: Callable[[bytearray], Any]) -> bytes:
    chunk = bytearray(Blosc("lz4", clevel=5, shuffle=1).encode(np.arange(CHUNK // 2, dtype=np.uint16)))
    change(chunk)
    return bytes(chunk)


def put(where: slice, number: int) -> Callable[[bytearray], None]:
    def change(chunk: bytearray) -> None:
        chunk[where] = struct.pack("<I", number)

    return change


BLOSC: dict[str, Callable[[], bytes]] = {
    "claims a gigabyte": lambda: blosc(put(slice(4, 8), GIGABYTE)),
    "claims everything": lambda: blosc(put(slice(4, 8), 2**32 - 1)),
    "claims nothing": lambda: blosc(put(slice(4, 8), 0)),
    "a block of a gigabyte": lambda: blosc(put(slice(8, 12), GIGABYTE)),
    "longer than it is": lambda: blosc(put(slice(12, 16), 10_000)),
    "shorter than it is": lambda: blosc(put(slice(12, 16), 17)),
    "cut short": lambda: blosc(lambda chunk: chunk.__delitem__(slice(30, None))),
    "only a header": lambda: blosc(lambda chunk: chunk.__delitem__(slice(16, None))),
    "another version": lambda: blosc(lambda chunk: chunk.__setitem__(0, 255)),
    "another compressor": lambda: blosc(lambda chunk: chunk.__setitem__(2, 0xFF)),
    "nothing": lambda: b"",
}


@pytest.mark.parametrize("name", BLOSC)
def test_blosc_bombs(unclosed: Path, name: str) -> None:
    edit_array(unclosed, "label", as_blosc)
    for row in (0, 1):
        path = next(unclosed.glob(f"features.zarr/label/c.{row}.*"))
        chunk = blosc(lambda chunk: None)
        entry = chunk + crc32c(chunk)
        path.write_bytes(pack(entry * FRAMES, [(frame * len(entry), len(entry)) for frame in range(FRAMES)]))
    adopt(unclosed)
    honest = FeatureStore.open(unclosed).read("label", 0, verify=True)
    assert (honest == np.arange(CHUNK // 2).reshape(6, 6)).all()
    forge_chunks(unclosed, "label", BLOSC[name]())
    assert_refused(unclosed, exact=True)


def test_a_chunk_of_64_gigabytes_of_which_nothing_is_there(unclosed: Path) -> None:
    """Shape and index agree, and say that no chunk was written: no memory is taken for what is not there."""
    shape = [FRAMES, 4000, 4000, 500]

    def change(metadata: dict[str, Any]) -> None:
        metadata["shape"] = [2, *shape]
        metadata["chunk_grid"]["configuration"]["chunk_shape"] = [1, *shape]
        metadata["codecs"][0]["configuration"]["chunk_shape"] = [1, 1, *shape[1:]]

    edit_array(unclosed, "half", change)
    shard_of(unclosed, "half").write_bytes(pack(b"", [(ABSENT, ABSENT)] * FRAMES))
    adopt(unclosed)
    with frugally(exact=True), pytest.raises(MissingClipError, match="never written"):
        FeatureStore.open(unclosed).read("half", 0)


def test_a_compressed_clip_of_64_gigabytes(unclosed: Path) -> None:
    def change(metadata: dict[str, Any]) -> None:
        metadata["shape"] = [2, FRAMES, 2**16, 2**16]
        metadata["chunk_grid"]["configuration"]["chunk_shape"] = [1, FRAMES, 2**16, 2**16]
        metadata["codecs"][0]["configuration"]["chunk_shape"] = [1, 1, 2**16, 2**16]

    edit_array(unclosed, "label", change)
    assert_refused(unclosed, "a compressed clip is larger than")


def test_an_index_of_more_chunks_than_memory_should_be_spent_on(unclosed: Path) -> None:
    def change(metadata: dict[str, Any]) -> None:
        metadata["shape"] = [2, FRAMES, 2**20, 6]
        metadata["chunk_grid"]["configuration"]["chunk_shape"] = [1, FRAMES, 2**20, 6]
        metadata["codecs"][0]["configuration"]["chunk_shape"] = [1, 1, 1, 6]

    edit_array(unclosed, "label", change)
    assert_refused(unclosed, "too many chunks")


def test_frames_that_were_swapped_are_what_a_digest_is_for(unclosed: Path) -> None:
    """crc32c cannot see it, and reading does not compare digests: this is what `verify --deep` is for."""
    before = FeatureStore.open(unclosed).read("half", 0)
    path = shard_of(unclosed, "half")
    content = path.read_bytes()
    index = read_index(content)
    path.write_bytes(pack(content[: -16 * FRAMES - 4], [index[1], index[0], *index[2:]]))
    use(unclosed)
    assert np.array_equal(FeatureStore.open(unclosed).read("half", 0)[:2], before[1::-1])
    assert [bad.name for bad in verify(unclosed, deep=True).bad] == [path.relative_to(unclosed).as_posix()]

"""One shard: a clip's frames one after another, each followed by its crc32c, and an index at the end.

Zarr v3 `sharding_indexed` (https://zarr-specs.readthedocs.io/en/latest/v3/codecs/sharding-indexed/index.html): the
index holds (offset, nbytes) as little-endian uint64 for every inner chunk in C order, then its own crc32c; a chunk that
was not written has both set to 2^64 - 1.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import google_crc32c
import numpy as np
import xxhash
from numpy.typing import NDArray

from store.arrays import ZSTD_LEVEL, ArrayInfo
from store.errors import CorruptShardError, MissingClipError

ABSENT = 2**64 - 1
_CRC_BYTES = 4
_READ_BYTES = 1 << 30
"""Most bytes of one `preadv`; Linux transfers at most 2 GiB, however long the buffers are."""


@dataclass(frozen=True)
class EncodedShard:
    """Buffers to write one after another, their total size and the xxh3_128 of all bytes."""

    buffers: list[bytes | memoryview]
    size: int
    digest: str


def encode_shard(values: NDArray[Any], info: ArrayInfo) -> EncodedShard:
    """Encode a clip in the array's physical dtype.

    A clip shorter than the array (fewer frames) leaves the last chunks absent.
    """
    chunks: Sequence[NDArray[Any]] = list(values) if info.framed else [values]
    index = np.full((info.chunks_per_clip, 2), ABSENT, dtype="<u8")
    buffers: list[bytes | memoryview] = []
    offset = 0
    for position, chunk in enumerate(chunks):
        data = _encode_chunk(np.ascontiguousarray(chunk), info.compressed)
        buffers += [data, crc32c(data)]
        nbytes = len(data) + _CRC_BYTES
        index[position] = offset, nbytes
        offset += nbytes
    packed = index.tobytes()
    buffers += [packed, crc32c(packed)]
    digest = xxhash.xxh3_128()
    for buffer in buffers:
        digest.update(buffer)
    return EncodedShard(buffers, offset + len(packed) + _CRC_BYTES, digest.hexdigest())


def crc32c(data: bytes | memoryview | bytearray) -> bytes:
    """CRC-32C (Castagnoli) as the four little-endian bytes that Zarr's codec appends."""
    # The C extension refuses memoryviews but borrows the buffer of a NumPy array.
    return int(google_crc32c.value(np.frombuffer(data, np.uint8))).to_bytes(_CRC_BYTES, "little")


def read_index(descriptor: int, info: ArrayInfo, path: Path) -> NDArray[np.uint64]:
    """The (chunk, 2) table of offsets and sizes, checked against its crc32c."""
    length = info.chunks_per_clip * 16 + _CRC_BYTES
    size = os.fstat(descriptor).st_size
    raw = os.pread(descriptor, length, size - length) if size >= length else b""
    if len(raw) != length or crc32c(raw[:-_CRC_BYTES]) != raw[-_CRC_BYTES:]:
        raise CorruptShardError(f"{path}: the shard's index is damaged (file of {size} bytes). {REPAIR}")
    return np.frombuffer(raw[:-_CRC_BYTES], dtype="<u8").reshape(-1, 2)


def read_chunks(
    descriptor: int,
    index: NDArray[np.uint64],
    positions: Sequence[int],
    out: NDArray[Any],
    path: Path,
    *,
    verify: bool,
) -> None:
    """Read uncompressed chunks straight into `out[i]`, one `preadv` per run of neighbours.

    Args:
        descriptor: open file.
        index: from `read_index`.
        positions: chunk numbers, one per row of `out`.
        out: C-contiguous (len(positions), …) in the physical dtype.
        path: for messages.
        verify: compare every chunk with its crc32c.

    Raises:
        MissingClipError: a chunk was never written.
        CorruptShardError: the file ends early, or a checksum differs.
    """
    targets = [row.reshape(-1).data.cast("B") for row in out]
    checksums = [bytearray(_CRC_BYTES) for _ in positions]
    start = 0
    while start < len(positions):
        stop = start + 1
        room = _READ_BYTES // max(1, targets[start].nbytes + _CRC_BYTES)
        most = min(len(positions), start + min(512, max(1, room)))
        while stop < most and _adjacent(index, positions[stop - 1], positions[stop]):
            stop += 1
        if int(index[positions[start], 0]) == ABSENT:
            raise MissingClipError(f"{path}: frame {positions[start]} was never written.")
        expected = sum(target.nbytes + _CRC_BYTES for target in targets[start:stop])
        scatter: list[memoryview | bytearray] = []
        for target, checksum in zip(targets[start:stop], checksums[start:stop], strict=True):
            scatter += [target, checksum]
        got = os.preadv(descriptor, scatter, int(index[positions[start], 0]))
        if got != expected:
            raise CorruptShardError(f"{path}: the shard ends early (read {got} of {expected} bytes). {REPAIR}")
        start = stop
    if verify:
        for position, target, checksum in zip(positions, targets, checksums, strict=True):
            if crc32c(target) != bytes(checksum):
                raise CorruptShardError(f"{path}: frame {position} does not match its crc32c. {REPAIR}")


REPAIR = "Run `python -m store verify STORE --drop` to un-commit damaged clips, then extract again to refill them."


def _adjacent(index: NDArray[np.uint64], left: int, right: int) -> bool:
    return int(index[left, 0]) + int(index[left, 1]) == int(index[right, 0]) and int(index[left, 0]) != ABSENT


def _encode_chunk(chunk: NDArray[Any], compressed: bool) -> bytes | memoryview:
    raw = chunk.reshape(-1).data.cast("B")
    if not compressed:
        return raw
    from numcodecs.zstd import Zstd

    return bytes(Zstd(level=ZSTD_LEVEL).encode(raw))

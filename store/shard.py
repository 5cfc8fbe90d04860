"""One shard: a clip's frames one after another, each followed by its crc32c, and an index at the end.

Zarr v3 `sharding_indexed` (https://zarr-specs.readthedocs.io/en/latest/v3/codecs/sharding-indexed/index.html): the
index holds (offset, nbytes) as little-endian uint64 for every inner chunk in C order, then its own crc32c; a chunk that
was not written has both set to 2^64 - 1.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import xxhash
from crc32c import crc32c as crc32c_value
from numpy.typing import NDArray

from store.arrays import ZSTD_LEVEL, ArrayInfo, ArraySpec
from store.errors import CorruptShardError, MissingClipError
from store.folder import REPAIR, ShardFile

ABSENT = 2**64 - 1
CRC_BYTES = 4
_READ_BYTES = 1 << 30
"""Most bytes of one scatter read; Linux transfers at most 2 GiB, however long the buffers are."""
_READ_CHUNKS = 512
"""Most chunks of one scatter read: two buffers each, and Linux takes 1024."""


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
    digest = xxhash.xxh3_128()
    for position, chunk in enumerate(chunks):
        data = _encode_chunk(np.ascontiguousarray(chunk), "zstd" in info.codecs)
        checksum = crc32c(data)
        # Both digests right after another, while the chunk is still in the processor's cache.
        digest.update(data)
        digest.update(checksum)
        buffers += [data, checksum]
        nbytes = len(data) + CRC_BYTES
        index[position] = offset, nbytes
        offset += nbytes
    packed = index.tobytes()
    packed += crc32c(packed)
    digest.update(packed)
    return EncodedShard([*buffers, packed], offset + len(packed), digest.hexdigest())


def shard_size(spec: ArraySpec, frames: int) -> int:
    """Bytes of the shard of a clip with so many bank frames, as `encode_shard` makes it, if it is not compressed."""
    framed = spec.dims[:1] == ("frame",)
    chunks = spec.shape[0] if framed else 1
    held = frames if framed else 1
    return held * (spec.clip_bytes // chunks + CRC_BYTES) + 16 * chunks + CRC_BYTES


def crc32c(data: bytes | memoryview | bytearray) -> bytes:
    """CRC-32C (Castagnoli) as the four little-endian bytes that Zarr's codec appends. Other threads run meanwhile."""
    return crc32c_value(data).to_bytes(CRC_BYTES, "little")


class OpenShard:
    """A shard whose index has been read and checked.

    Args:
        file: the open file.
        info: its array.
        where: its name, for messages.

    Raises:
        CorruptShardError: the index is damaged, or points outside of the file.
    """

    def __init__(self, file: ShardFile, info: ArrayInfo, where: str) -> None:
        self.file, self.where = file, where
        length = info.chunks_per_clip * 16 + CRC_BYTES
        raw = bytearray(min(length, file.size))
        start = file.size - length
        if start < 0 or self.read_into(start, [raw]) != length or crc32c(raw[:-CRC_BYTES]) != raw[-CRC_BYTES:]:
            raise CorruptShardError(f"{where}: the shard's index is damaged (file of {file.size} bytes). {REPAIR}")
        table = np.frombuffer(raw, "<u8", info.chunks_per_clip * 2).reshape(-1, 2)
        present = table[(table != ABSENT).any(axis=1)]
        # Compared without adding: a hostile index can hold sums that overflow.
        if (present[:, 0] > start).any() or (present[:, 1] > start - present[:, 0]).any():
            raise CorruptShardError(f"{where}: the shard's index points outside of the file. {REPAIR}")
        # Chunks that share bytes would let a small file fill the memory.
        if present[:, 1].sum(dtype=np.float64) > start:
            raise CorruptShardError(f"{where}: the shard's index has chunks that overlap. {REPAIR}")
        self.index: list[tuple[int, int]] = [tuple(entry) for entry in table.tolist()]

    def read_into(self, offset: int, buffers: Sequence[memoryview | bytearray]) -> int:
        """`ShardFile.read_into`. Raises `CorruptShardError` if the file cannot be read."""
        try:
            return self.file.read_into(offset, buffers)
        except OSError as error:
            raise CorruptShardError(f"{self.where}: cannot be read ({error.strerror}). {REPAIR}") from error

    def read(self, positions: Sequence[int], out: NDArray[Any], *, verify: bool) -> None:
        """Read uncompressed chunks straight into `out[i]`, one scatter read per run of neighbours.

        Args:
            positions: chunk numbers, one per row of `out`.
            out: C-contiguous (len(positions), …) in the physical dtype.
            verify: compare every chunk with its crc32c.

        Raises:
            MissingClipError: a chunk was never written.
            CorruptShardError: the file ends early, a chunk is not as long as it must be, or a checksum differs.
        """
        if not len(positions):
            return
        nbytes = out.nbytes // len(out)
        view = out.reshape(-1).data.cast("B")
        runs = self._runs(positions, nbytes + CRC_BYTES)
        checksums = bytearray(CRC_BYTES * len(positions))
        marks = memoryview(checksums)
        for start, stop in runs:
            scatter: list[memoryview | bytearray] = []
            for row in range(start, stop):
                scatter += [view[row * nbytes : (row + 1) * nbytes], marks[row * CRC_BYTES : (row + 1) * CRC_BYTES]]
            expected = (stop - start) * (nbytes + CRC_BYTES)
            got = self.read_into(self.index[positions[start]][0], scatter)
            if got != expected:
                raise CorruptShardError(f"{self.where}: ends early (read {got} of {expected} bytes). {REPAIR}")
        if verify:
            for row, position in enumerate(positions):
                stored = checksums[row * CRC_BYTES : (row + 1) * CRC_BYTES]
                if crc32c(view[row * nbytes : (row + 1) * nbytes]) != stored:
                    raise CorruptShardError(f"{self.where}: frame {position} does not match its crc32c. {REPAIR}")

    def check(self, positions: Sequence[int], nbytes: int) -> None:
        """Raise as `read` would if one of the chunks is not there or is not as long as it must be."""
        for position in positions:
            length = self.index[position][1]
            if length != nbytes + CRC_BYTES:
                self._refuse(position, length, nbytes + CRC_BYTES)

    def _runs(self, positions: Sequence[int], nbytes: int) -> list[tuple[int, int]]:
        """[start, stop) of `positions` whose chunks lie one after another in the file, each checked for its length."""
        most = min(_READ_CHUNKS, max(1, _READ_BYTES // nbytes))
        runs: list[tuple[int, int]] = []
        start, expected = 0, -1
        for row, position in enumerate(positions):
            offset, length = self.index[position]
            if length != nbytes:
                self._refuse(position, length, nbytes)
            if row and (offset != expected or row - start == most):
                runs.append((start, row))
                start = row
            expected = offset + nbytes
        return [*runs, (start, len(positions))]

    def _refuse(self, position: int, length: int, expected: int) -> None:
        if length == ABSENT:
            raise MissingClipError(f"{self.where}: frame {position} was never written.")
        raise CorruptShardError(
            f"{self.where}: frame {position} has {length} bytes in the shard's index, expected {expected}. {REPAIR}"
        )


def _encode_chunk(chunk: NDArray[Any], compressed: bool) -> bytes | memoryview:
    raw = chunk.reshape(-1).data.cast("B")
    if not compressed:
        return raw
    from numcodecs.zstd import Zstd

    return bytes(Zstd(level=ZSTD_LEVEL).encode(raw))

"""Reading through zarr-python what the direct reader does not: compressed labels, and shards that others compressed."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from store.arrays import ArrayInfo
from store.errors import CorruptShardError, FormatError, MissingClipError
from store.folder import REPAIR
from store.shard import ABSENT, CRC_BYTES, OpenShard

_CODECS = {"bytes", "transpose", "crc32c", "zstd", "blosc"}
"""What zarr-python may decode for us. All of them say how long their output is, so no bomb can fill the memory."""
_ZSTD_MAGIC = b"\x28\xb5\x2f\xfd"


def read_whole(shard: OpenShard, info: ArrayInfo, row: int, n_frames: int) -> NDArray[Any]:
    """A clip in the physical dtype, without the frames that it does not have.

    Raises:
        FormatError: a codec that is not accepted.
        MissingClipError: a chunk of a frame that the clip has was never written.
        CorruptShardError: a chunk cannot be decoded, fails its checksum, or would be longer than the array says.
    """
    unknown = [name for name in info.codecs if name not in _CODECS]
    if unknown or info.codecs.count("zstd") + info.codecs.count("blosc") > 1:
        raise FormatError(
            f"{shard.where}: codecs {', '.join(info.codecs)}; accepted are bytes, transpose, crc32c and one of zstd "
            "and blosc. Convert the store where it was made: `python -m store copy`."
        )
    content = _content(shard, info)
    _guard(content, shard, info, n_frames)
    import zarr
    from zarr.core.buffer import default_buffer_prototype
    from zarr.storage import MemoryStore

    of = default_buffer_prototype().buffer.from_bytes
    key = info.shard(row).rpartition("/")[2]
    files = {"zarr.json": of(json.dumps(info.metadata).encode()), key: of(content)}
    try:
        array = zarr.open_array(MemoryStore(files), mode="r", zarr_format=3)
        return np.asarray(array[row, :n_frames] if info.framed else array[row])
    except Exception as error:  # zarr raises plain ValueError and RuntimeError for damaged chunks
        raise CorruptShardError(f"{shard.where}: {error}. {REPAIR}") from error


def _content(shard: OpenShard, info: ArrayInfo) -> bytes:
    """The whole file, in one request where it is far away. No larger than its chunks can be."""
    most = info.chunk_bytes + info.chunk_bytes // 64 + 1024
    if shard.file.size > info.chunks_per_clip * (most + 16):
        raise CorruptShardError(f"{shard.where}: {shard.file.size} bytes are more than its chunks can have. {REPAIR}")
    content = bytearray(shard.file.size)
    got, view = 0, memoryview(content)
    while got < len(content) and (more := shard.read_into(got, [view[got:]])):
        got += more
    return bytes(content[:got])


def _guard(content: bytes, shard: OpenShard, info: ArrayInfo, n_frames: int) -> None:
    """Refuse chunks that are not there, or that say they decompress to anything but one chunk of the array."""
    compressor = next((name for name in info.codecs if name in ("zstd", "blosc")), None)
    marks = CRC_BYTES * info.codecs.count("crc32c")
    for position, (offset, nbytes) in enumerate(shard.index):
        if offset == ABSENT:
            if position < _held(info, n_frames):  # zarr-python would make up zeros
                raise MissingClipError(f"{shard.where}: chunk {position} was never written.")
            continue
        stored = nbytes - marks
        says: int | None = stored
        if compressor is not None:
            chunk = memoryview(content)[offset : offset + stored]
            says = _zstd_length(chunk) if compressor == "zstd" else _blosc_length(chunk)
        if says != info.chunk_bytes:
            raise CorruptShardError(
                f"{shard.where}: chunk {position} says that it holds {says} bytes, expected {info.chunk_bytes}. "
                f"{REPAIR}"
            )


def _held(info: ArrayInfo, n_frames: int) -> int:
    """How many of the first chunks hold the frames that the clip has."""
    if not info.framed:
        return info.chunks_per_clip
    frames = info.chunk[0]
    return math.ceil(n_frames / frames) * (info.chunks_per_clip * frames // info.shape[1])


def _zstd_length(chunk: memoryview) -> int | None:
    """Content size of the one Zstandard frame that the chunk is (RFC 8878, section 3.1.1); `None` if it does not say.

    The blocks are counted, too: behind a frame there could be others, and all of them would be decoded.
    """
    if chunk[:4] != _ZSTD_MAGIC or len(chunk) < 6:
        return None
    descriptor = chunk[4]
    single = bool(descriptor & 0x20)
    code = descriptor >> 6
    width = {0: 1 if single else 0, 1: 2, 2: 4, 3: 8}[code]
    start = 5 + (0 if single else 1) + (0, 1, 2, 4)[descriptor & 3]
    end, last = start + width, False
    while not last and end < len(chunk):
        block = int.from_bytes(chunk[end : end + 3], "little")
        last, repeated = bool(block & 1), block >> 1 & 3 == 1
        end += 3 + (1 if repeated else block >> 3)
    checksum = 4 if descriptor & 4 else 0
    if not width or not last or end + checksum != len(chunk):
        return None
    return int.from_bytes(chunk[start : start + width], "little") + (256 if code == 1 else 0)


def _blosc_length(chunk: memoryview) -> int | None:
    """`nbytes` of a Blosc 1 chunk, a little-endian uint32 at byte 4; `None` if it is not as long as it says at 12."""
    if len(chunk) < 16 or int.from_bytes(chunk[12:16], "little") != len(chunk):
        return None
    return int.from_bytes(chunk[4:8], "little")

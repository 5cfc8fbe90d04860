"""Arrays in HDF5 files, of which nothing is believed before it is checked.

Every array of the release is the dataset `dataset` of a file of its own: as it is, or in chunks packed by deflate.
Chunks are unpacked here and not by the HDF5 library, which grows its memory to whatever they unpack to.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Collection
from importlib.util import find_spec
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from extract.datasets._sources import Faults, content
from extract.errors import ExtractError

if TYPE_CHECKING:
    import h5py

FAULTS = Faults("unpack the scene's zip file anew, or move the scene's folder away to leave it out.")
LARGEST = 1 << 24
"""Bytes of a file. The largest that is read has 768 x 1024 values of 2 bytes, and is packed."""
_NAME = "dataset"
_DEFLATE, _SHUFFLE = 1, 2
"""Numbers of HDF5's filters (H5Z_FILTER_DEFLATE, H5Z_FILTER_SHUFFLE)."""


def check_h5py() -> None:
    """Raise `ExtractError` if h5py is not installed."""
    if find_spec("h5py") is None:
        raise ExtractError(
            "dataset hypersim: its labels are HDF5 files, and h5py, which reads them, is not installed. "
            "Remedy: pip install 'spatial-probing[hypersim]'"
        )


def read_array(path: Path, shape: tuple[int | None, ...], dtypes: Collection[str]) -> NDArray[Any]:
    """The array in a file.

    Args:
        path: of the file.
        shape: that the array has to have; `None` = any length.
        dtypes: of which it has to have one, such as `<f2`.

    Raises:
        DataError: the file is missing, truncated, damaged, or larger than `LARGEST`; the array has another shape or
            type, lies in another file, or is packed in another way.
    """
    import h5py

    packed = content(path, LARGEST, FAULTS)
    try:
        with h5py.File(BytesIO(packed), "r") as file:
            if not isinstance(file.get(_NAME, getlink=True), h5py.HardLink):
                raise FAULTS.damaged(path, f"has no array {_NAME!r} of its own")
            found = file[_NAME]
            if not isinstance(found, h5py.Dataset):
                raise FAULTS.damaged(path, f"{_NAME!r} is no array")
            _check(found, path, shape, dtypes)
            return _unpack(found, path, len(packed))
    except (OSError, KeyError, RuntimeError, ValueError, TypeError, OverflowError, zlib.error) as error:
        raise FAULTS.unreadable(path, error) from error


def _check(found: h5py.Dataset, path: Path, shape: tuple[int | None, ...], dtypes: Collection[str]) -> None:
    """Shape, type, and where and how the values lie."""
    fits = len(found.shape or ()) == len(shape) and all(
        wanted in (None, size) for wanted, size in zip(shape, found.shape, strict=True)
    )
    if not fits or found.dtype not in [np.dtype(each) for each in dtypes]:
        expected = " x ".join("any" if size is None else str(size) for size in shape)
        raise FAULTS.damaged(
            path, f"holds {found.shape} values of {found.dtype}; expected {expected} of {' or '.join(dtypes)}"
        )
    if found.size * found.dtype.itemsize > LARGEST:
        raise FAULTS.damaged(path, f"says that it holds {found.shape} values, more than {LARGEST} bytes")
    if found.external or found.is_virtual:
        raise FAULTS.damaged(path, "its values lie in another file")


def _unpack(found: h5py.Dataset, path: Path, available: int) -> NDArray[Any]:
    plist = found.id.get_create_plist()
    filters = [plist.get_filter(k)[0] for k in range(plist.get_nfilters())]
    if strange := [each for each in filters if each not in (_DEFLATE, _SHUFFLE)]:
        raise FAULTS.damaged(path, f"is packed by HDF5's filters {strange}; the release has deflate ({_DEFLATE})")
    size = found.size * found.dtype.itemsize
    if found.chunks is None:
        if filters or found.id.get_storage_size() != size or size > available:
            raise FAULTS.damaged(path, f"{size} bytes of values, of which {found.id.get_storage_size()} are there")
        return np.asarray(found[()])
    grid = [math.ceil(side / chunk) for side, chunk in zip(found.shape, found.chunks, strict=True)]
    count = found.id.get_num_chunks()
    if any(chunk > side for side, chunk in zip(found.shape, found.chunks, strict=True)) or count != math.prod(grid):
        raise FAULTS.damaged(path, f"has {count} chunks of {found.chunks} for {found.shape} values")
    values, seen = np.empty(found.shape, found.dtype), set()
    for number in range(count):
        info = found.id.get_chunk_info(number)
        if info.size > available or info.filter_mask:
            raise FAULTS.damaged(path, f"chunk {number} says {info.size} bytes, filters left out {info.filter_mask}")
        plain = _plain(found.id.read_direct_chunk(info.chunk_offset)[1], filters, found.chunks, found.dtype, path)
        place = tuple(slice(at, at + side) for at, side in zip(info.chunk_offset, found.chunks, strict=True))
        inside = values[place]
        inside[...] = plain[tuple(slice(side) for side in inside.shape)]
        seen.add(info.chunk_offset)
    if len(seen) != count:
        raise FAULTS.damaged(path, "has two chunks at one place")
    return values


def _plain(packed: bytes, filters: list[int], shape: tuple[int, ...], dtype: np.dtype[Any], path: Path) -> NDArray[Any]:
    """A chunk without its filters, the last of which was applied last."""
    size = math.prod(shape) * dtype.itemsize
    for each in reversed(filters):
        if each == _DEFLATE:
            stream = zlib.decompressobj()
            packed = stream.decompress(packed, size + 1)
        if len(packed) != size:
            raise FAULTS.damaged(path, f"a chunk of {size} bytes unpacks to another number")
        if each == _SHUFFLE:
            packed = np.frombuffer(packed, np.uint8).reshape(dtype.itemsize, -1).T.tobytes()
    if len(packed) != size:
        raise FAULTS.damaged(path, f"a chunk of {size} bytes has {len(packed)}")
    return np.frombuffer(packed, dtype).reshape(shape)

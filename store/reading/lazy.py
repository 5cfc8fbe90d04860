"""An array of a store as xarray indexes it: nothing is read but the frames that are indexed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from xarray.backends import BackendArray
from xarray.core.indexing import ExplicitIndexer, VectorizedIndexer

from store.dtypes import INT8_CHANNEL
from store.reading.handle import StoreHandle

_AS_FLOAT32 = ("bfloat16", INT8_CHANNEL)


class LazyArray(BackendArray):
    """Some clips of one array: (clip, frame, …) for framed arrays, else (clip, …).

    Reads as `FeatureStore.read` does: bfloat16 and `int8-channel` are float32. Frames beyond a short clip's bank are
    NaN for floating-point types, else 0. Any number of threads may index it, and it may be sent to other processes.

    Args:
        handle: the store.
        array: name of the array.
        rows: rows of the clip table, one per entry of the first axis; all committed for the array.
    """

    def __init__(self, handle: StoreHandle, array: str, rows: Sequence[int]) -> None:
        info = handle.store.info(array)
        self._handle, self._array, self._rows, self._framed = handle, array, np.asarray(rows, np.int64), info.framed
        self.shape = (len(self._rows), *info.shape[1:])
        self.dtype = np.dtype(np.float32) if info.dtype in _AS_FLOAT32 else info.physical
        self._as_stored = self.dtype == info.physical

    def __getitem__(self, key: ExplicitIndexer) -> NDArray[Any]:
        """Values by basic, outer, or pointwise indexing. Raises what `FeatureStore.read` raises."""
        if isinstance(key, VectorizedIndexer):
            return self._points(key.tuple)
        picks = [np.arange(size)[each] for each, size in zip(key.tuple, self.shape, strict=True)]
        clips = np.atleast_1d(picks[0])
        shape = tuple(len(pick) for pick in picks[1:] if pick.ndim)
        values = np.empty((len(clips), *shape), self.dtype)
        for place, clip in enumerate(clips):
            self._read(int(self._rows[clip]), key.tuple[1:], values[place, ...])
        return values if picks[0].ndim else values[0, ...]

    def __deepcopy__(self, memo: dict[int, Any]) -> LazyArray:
        return self

    def _read(self, row: int, key: tuple[Any, ...], out: NDArray[Any]) -> None:
        """One clip into `out`: all axes after `clip`, each indexed on its own."""
        store = self._handle.store
        if not self._framed:
            out[...] = _outer(store.read(self._array, row), key)
            return
        wanted = np.arange(self.shape[1])[key[0]]
        whole = out.reshape(wanted.size, *out.shape[wanted.ndim :])
        held = wanted.reshape(-1) < len(store.clips[row].bank)
        frames = wanted.reshape(-1)[held].tolist()
        if len(frames) < len(held):
            whole[~held] = np.nan if self.dtype.kind == "f" else 0
        if not frames:
            return
        prefix = whole[: len(frames)]
        if self._as_stored and held[: len(frames)].all() and whole.shape[1:] == self.shape[2:] and _all_of(key[1:]):
            store.read(self._array, row, frames, out=prefix)
        else:
            whole[held] = _outer(store.read(self._array, row, frames), (slice(None), *key[1:]))

    def _points(self, key: tuple[Any, ...]) -> NDArray[Any]:
        """Pointwise indexing: the axes of the points first, then those of the slices. Each frame is read once."""
        shape = np.broadcast_shapes(*(each.shape for each in key if not isinstance(each, slice)))
        size = int(np.prod(shape))
        flat = [
            each if isinstance(each, slice) else np.arange(length)[np.broadcast_to(each, shape).reshape(-1)]
            for each, length in zip(key, self.shape, strict=True)
        ]
        sliced = [
            len(range(length)[each]) for each, length in zip(flat, self.shape, strict=True) if isinstance(each, slice)
        ]
        values = np.empty((size, *sliced), self.dtype)
        clips = flat[0]
        if isinstance(clips, slice):
            for place, clip in enumerate(range(self.shape[0])[clips]):
                values[:, place] = self._clip_points(int(self._rows[clip]), flat[1:], size)
        else:
            for clip in np.unique(clips):
                here = np.flatnonzero(clips == clip)
                inside = [each if isinstance(each, slice) else each[here] for each in flat[1:]]
                values[here] = self._clip_points(int(self._rows[clip]), inside, len(here))
        return values.reshape(*shape, *sliced)

    def _clip_points(self, row: int, key: list[Any], size: int) -> NDArray[Any]:
        """Points of one clip: (point, slices …)."""
        key = list(key)
        frames: tuple[Any, ...] = ()
        if self._framed:
            frames = (key[0],)
            if isinstance(key[0], slice):
                key[0] = slice(None)
            else:
                held, key[0] = np.unique(key[0], return_inverse=True)
                frames = (held,)
        everything = (*frames, *(slice(None) for _ in self.shape[1 + len(frames) :]))
        shape = [len(np.arange(length)[each]) for each, length in zip(everything, self.shape[1:], strict=True)]
        clip = np.empty(shape, self.dtype)
        self._read(row, everything, clip)
        arrays = [axis for axis, each in enumerate(key) if not isinstance(each, slice)]
        if not arrays:
            found = clip[tuple(key)]
            return np.broadcast_to(found, (size, *found.shape))
        # NumPy puts the axis of the points first if slices stand between the index arrays, else in their place.
        together = arrays[-1] - arrays[0] + 1 == len(arrays)
        return np.moveaxis(clip[tuple(key)], arrays[0] if together else 0, 0)


def _outer(values: NDArray[Any], key: tuple[Any, ...]) -> NDArray[Any]:
    """Index every axis on its own."""
    for axis in reversed(range(len(key))):
        values = values[(slice(None),) * axis + (key[axis],)]
    return values


def _all_of(key: tuple[Any, ...]) -> bool:
    """Whether every axis is taken as it is. The lengths are known to agree."""
    return all(isinstance(each, slice) and each.step in (None, 1) for each in key)

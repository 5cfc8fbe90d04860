"""Opening and reading a store: committed clips only, frames straight from the shard into the caller's memory."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from store.arrays import ArrayInfo, load_arrays, shard_path
from store.clips import ClipRow, load_clips
from store.commits import Committed, load_commits, merge
from store.dtypes import to_logical
from store.errors import CorruptShardError, MissingClipError, StoreNotFoundError, UnknownArrayError
from store.layout import Layout, name_of
from store.recipe import Recipe, load_recipe
from store.shard import REPAIR, read_chunks, read_index


class FeatureStore:
    """A store on a local or shared file system, opened for reading.

    Attributes:
        path: directory of the store.
        recipe: what made its numbers.
        clips: the clip table.
        arrays: array name -> metadata.
        attrs: attributes of the Zarr group; a targets store has `classes`.
        committed: row -> array name -> record of the shard.
    """

    def __init__(self, path: Path) -> None:
        self.layout = Layout(path)
        if not self.layout.recipe.exists():
            raise StoreNotFoundError(
                f"{path}: no feature store (no recipe.json). List stores with `python -m store ls`."
            )
        self.path = path
        self.recipe: Recipe = load_recipe(self.layout.recipe)
        self.clips: list[ClipRow] = load_clips(self.layout.clips)
        self.arrays: dict[str, ArrayInfo] = load_arrays(self.layout.group)
        self.committed: Committed = merge(load_commits(self.layout.commits))
        self._indexes: dict[tuple[str, int], tuple[int, NDArray[np.uint64]]] = {}
        self._verified: set[tuple[str, int, int]] = set()

    @classmethod
    def open(cls, path: Path | str) -> FeatureStore:
        """Open the store in directory `path` (see `store.resolve` for references such as `store/svd`)."""
        return cls(Path(path))

    @property
    def name(self) -> str:
        """`svd/scannet`."""
        return name_of(self.path)

    @property
    def fingerprint(self) -> str:
        """Hash of the recipe."""
        return self.recipe.fingerprint

    @cached_property
    def attrs(self) -> Mapping[str, Any]:
        """Attributes of the Zarr group."""
        import json

        attributes: Mapping[str, Any] = json.loads((self.layout.group / "zarr.json").read_bytes()).get("attributes", {})
        return attributes

    @property
    def taps(self) -> list[str]:
        """Names of the feature arrays, in execution order of their sites, then from clean to noisy."""

        def order(name: str) -> tuple[int, float]:
            attrs = self.arrays[name].attrs
            return attrs["depth"], (attrs.get("noise") or {}).get("sigma", 0.0)

        return sorted((name for name, info in self.arrays.items() if info.is_tap), key=order)

    def info(self, array: str) -> ArrayInfo:
        """Metadata of one array. Raises `UnknownArrayError` with the names there are."""
        if array not in self.arrays:
            from difflib import get_close_matches

            near = get_close_matches(array, self.arrays, n=3, cutoff=0.5)
            hint = f"Did you mean {' or '.join(near)}?" if near else f"It has: {', '.join(self.arrays)}."
            raise UnknownArrayError(f"{self.name}: has no array {array!r}. {hint}")
        return self.arrays[array]

    def rows(self, split: str | None = None, arrays: Sequence[str] = ()) -> list[int]:
        """Rows of the split that are committed for all the arrays, in order.

        Raises:
            MissingClipError: there is none; says what the store holds instead.
        """
        for array in arrays:
            self.info(array)
        rows = [
            clip.row
            for clip in self.clips
            if split in (None, clip.split)
            and all(array in self.committed.get(clip.row, {}) for array in arrays)
            and clip.row in self.committed
        ]
        if not rows:
            splits = {
                name: sum(c.split == name and c.row in self.committed for c in self.clips)
                for name in {c.split for c in self.clips}
            }
            held = ", ".join(f"{count} of split {name!r}" for name, count in sorted(splits.items()))
            raise MissingClipError(
                f"{self.name}: no committed clip of split {split!r} with {', '.join(arrays) or 'any array'}; "
                f"the store holds {held}. "
                "Finish it with `python -m extract`."
            )
        return rows

    def read(
        self,
        array: str,
        row: int,
        frames: Sequence[int] | None = None,
        *,
        out: NDArray[Any] | None = None,
        verify: bool | None = None,
    ) -> NDArray[Any]:
        """Values of one clip: (frame, …) for framed arrays, else the whole entry.

        Args:
            array: name of the array.
            row: row of the clip table.
            frames: positions in the bank; all frames of the clip if `None`.
            out: C-contiguous array of the physical dtype and right shape to read into, without a copy.
            verify: compare with the stored crc32c. `None` does so the first time this object reads a frame.

        Raises:
            MissingClipError: no commit says that the clip exists.
            CorruptShardError: the file is missing, cut short, or does not match its checksums.
        """
        info = self.info(array)
        record = self.committed.get(row, {}).get(array)
        if record is None:
            clip = self.clips[row].id if row < len(self.clips) else "?"
            raise MissingClipError(
                f"{self.name}: clip {clip} (row {row}) has no commit for {array}. "
                "Finish the store with `python -m extract`."
            )
        held = len(self.clips[row].bank)
        positions = list(range(held)) if frames is None else [int(frame) for frame in frames]
        if info.framed and any(not 0 <= position < held for position in positions):
            raise MissingClipError(
                f"{self.name}: clip {self.clips[row].id} has bank frames 0 … {held - 1}, asked for {positions}."
            )
        shape = (len(positions), *info.shape[2:]) if info.framed else info.shape[1:]
        path = shard_path(self.layout.group, array, row, len(info.shape))
        if not info.direct:
            values = self._read_with_zarr(info, row, positions, path, record.size)
            if out is None:
                return values
            out[...] = values
            return out
        buffer = np.empty(shape, info.physical) if out is None else out
        if buffer.shape != shape or buffer.dtype != info.physical or not buffer.flags.c_contiguous:
            raise ValueError(f"out: expected C-contiguous {shape} {info.physical}, got {buffer.shape} {buffer.dtype}")
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except OSError as error:
            raise CorruptShardError(f"{path}: committed, but cannot be opened ({error.strerror}). {REPAIR}") from error
        try:
            index = self._index(descriptor, info, row, path, record.size)
            chunks = positions if info.framed else [0]
            fresh = [chunk for chunk in chunks if (array, row, chunk) not in self._verified]
            check = bool(fresh) if verify is None else verify
            read_chunks(descriptor, index, chunks, buffer if info.framed else buffer[None], path, verify=check)
            if check:
                self._verified.update((array, row, chunk) for chunk in chunks)
        finally:
            os.close(descriptor)
        return buffer if out is not None else to_logical(buffer, info.dtype)

    def _index(self, descriptor: int, info: ArrayInfo, row: int, path: Path, size: int) -> NDArray[np.uint64]:
        """The shard's index, read once; a file whose size is not the committed one is damaged."""
        status = os.fstat(descriptor)
        if status.st_size != size:
            raise CorruptShardError(f"{path}: has {status.st_size} bytes, committed were {size}. {REPAIR}")
        cached = self._indexes.get((info.name, row))
        if cached is None or cached[0] != status.st_mtime_ns:
            cached = status.st_mtime_ns, read_index(descriptor, info, path)
            self._indexes[info.name, row] = cached
        return cached[1]

    def _read_with_zarr(
        self, info: ArrayInfo, row: int, positions: Sequence[int], path: Path, size: int
    ) -> NDArray[Any]:
        """Compressed and foreign arrays go through zarr-python, which checks the checksums that are there."""
        import zarr

        if not path.exists() or path.stat().st_size != size:
            raise CorruptShardError(f"{path}: missing, or not of the committed size ({size} bytes). {REPAIR}")
        array = zarr.open_array(str(self.layout.group / info.name), mode="r", zarr_format=3)
        try:
            values = np.asarray(array[row, : len(self.clips[row].bank)] if info.framed else array[row])
        except Exception as error:  # zarr raises plain ValueError and RuntimeError for damaged chunks
            raise CorruptShardError(f"{path}: {error}. {REPAIR}") from error
        return to_logical(values[list(positions)] if info.framed else values, info.dtype)

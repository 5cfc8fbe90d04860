"""Opening and reading a store: committed clips only, frames straight from the shard into the caller's memory."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from store.arrays import ArrayInfo
from store.catalogue import load_arrays
from store.clips import CLIPS, ClipRow, load_clips
from store.commits import commit_names, read_commits, row_of, taken_back
from store.committed import Committed, check_rows
from store.digest import digest_text
from store.documents import parse_json
from store.dtypes import dequantise, to_logical
from store.errors import (
    CorruptShardError,
    FormatError,
    MissingClipError,
    StoreError,
    StoreNotFoundError,
    UnknownArrayError,
)
from store.fallback import read_whole
from store.folder import Folder, LocalFolder
from store.head import load_head
from store.layout import PROVENANCE, name_of
from store.manifest import load_manifest
from store.readable import Readable
from store.shard import OpenShard

if TYPE_CHECKING:
    from store.creation import Coordinate

_MOST_PROVENANCE = 1 << 20
_OPEN_SHARDS = 128
"""Shards kept open; processes may commonly open 1024 files."""


class FeatureStore(Readable):
    """A store, opened for reading. Threads may share one.

    Attributes:
        folder: where its files are.
        committed: row -> array name -> record of the shard.
        manifest: the merged commits, if the store was finalized.
        commits: names of all commits that `committed` was made of.
    """

    def __init__(self, folder: Folder) -> None:
        self.folder = folder
        self.name, self.urls = name_of(folder.url), (folder.url,)
        self._shards: OrderedDict[tuple[str, int], OpenShard] = OrderedDict()
        self._lock = threading.Lock()
        self._verified: dict[tuple[str, int], set[int]] = {}
        try:
            self._load()
        except OSError as error:
            place = error.filename or folder.url
            raise StoreError(f"{place}: cannot be read ({error.strerror}). Check its permissions.") from error

    def _load(self) -> None:
        folder = self.folder
        try:
            self.head = load_head(folder)
        except (FileNotFoundError, NotADirectoryError) as error:
            raise StoreNotFoundError(
                f"{folder.url}: no feature store (no recipe.json). List stores with `python -m store ls`."
            ) from error
        self.recipe, self.attrs = self.head.recipe, self.head.attributes
        self.fingerprint = self.recipe.fingerprint
        self.clips: list[ClipRow] = load_clips(folder, self.head.files.get(CLIPS))
        table = load_manifest(folder, self.fingerprint, len(self.clips))
        self.manifest = table.manifest if table else None
        merged = set(self.manifest.commits if self.manifest else ())
        listed = commit_names(folder)
        gone = [] if listed is None else taken_back(folder, merged, listed)
        self.commits = sorted(merged.union(listed or ()).difference(gone))
        # The manifest only saves reading commits: where one was taken back, those that are left of its row are read.
        again = {row_of(name) for name in gone}
        since = read_commits(folder, [name for name in self.commits if name not in merged or row_of(name) in again])
        check_rows(self.clips, folder.url, again, since)
        self.arrays = load_arrays(folder, self.manifest, since, self.clips)
        self.committed = Committed(len(self.clips), table, since, again)

    @classmethod
    def open(cls, reference: Path | str, dataset: str | None = None) -> FeatureStore:
        """Open a store.

        Args:
            reference: `store/svd`, `store/svd/scannet`, a path, or `s3://…`, `hf://datasets/…`, `https://…`.
            dataset: which one, if the reference holds the stores of several data sets.
        """
        from store.locate import locate

        store = cls(locate(reference, dataset))
        if dataset not in (None, store.recipe.dataset.name, store.name.rpartition("/")[2]):
            raise StoreNotFoundError(
                f"{store.folder.url}: is the store of {store.recipe.dataset.name!r}, not of {dataset!r}. "
                "Leave one of them out."
            )
        return store

    @property
    def path(self) -> Path:
        """The directory of a store on this machine. Raises `StoreError` for a remote one."""
        if not isinstance(self.folder, LocalFolder):
            raise StoreError(f"{self.folder.url}: is not on this machine. Fetch it: `python -m store pull`.")
        return self.folder.path

    @property
    def provenance(self) -> dict[str, Any]:
        """What is known of how the store was made, and is no part of its recipe; empty where nothing is."""
        try:
            return parse_json(self.folder.read(PROVENANCE, _MOST_PROVENANCE), f"{self.folder.url}/{PROVENANCE}")
        except FileNotFoundError:
            return {}

    @property
    def state(self) -> str:
        """See `Readable.state`: over fingerprint and commits."""
        return digest_text("\n".join([self.fingerprint, *self.commits]))

    def reopener(self) -> Callable[[], FeatureStore]:
        """See `Readable.reopener`: the folder is what is sent, so that another process reads with the same login."""
        return partial(FeatureStore, self.folder)

    def holdings(self) -> str:
        """See `Readable.holdings`."""
        splits: dict[str, int] = {}
        for clip in self.clips:
            splits[clip.split] = splits.get(clip.split, 0) + (clip.row in self.committed)
        counts = ", ".join(f"{count} of split {name!r}" for name, count in sorted(splits.items()))
        return f"the store holds {counts}"

    def coordinates(self) -> dict[str, Coordinate]:
        """See `Readable.coordinates`. Each is compared with the digest in `recipe.json`."""
        from store.reading.coordinates import read_coordinates

        return read_coordinates(self)

    def mask(self, array: str) -> NDArray[np.bool_]:
        """See `Readable.mask`."""
        return self.committed.mask(array)

    def sizes(self, array: str) -> NDArray[np.uint64]:
        """See `Readable.sizes`."""
        return self.committed.sizes(array)

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
            out: C-contiguous array of the physical dtype and right shape to read into, without a copy. It then holds
                what is stored: bits of bfloat16 as uint16, int8 of `int8-channel` (see `scale`).
            verify: compare with the stored crc32c. `None` does so the first time this object reads a frame.

        Returns:
            `out`, or a new array of values: bfloat16 and `int8-channel` become float32.

        Raises:
            MissingClipError: no commit says that the clip exists, or it has no such frame.
            CorruptShardError: the file is missing, cut short, or does not match its checksums.
        """
        info = self.info(array)
        try:
            return self._read(info, row, frames, out, verify)
        except CorruptShardError:
            if not self._forget(info, row):
                raise
            return self._read(info, row, frames, out, verify)

    def scale(self, array: str, row: int, *, verify: bool | None = None) -> NDArray[np.float32]:
        """Scales of an `int8-channel` array: (channel,). Value = int8 * scale. `verify` as in `read`."""
        name = self.info(array).scale
        if name is None:
            raise UnknownArrayError(f"{self.name}: {array} is {self.arrays[array].dtype} and has no scales.")
        channels, found = self.arrays[array].shape[-1:], self.info(name)
        if found.shape[1:] != channels or found.dtype != "float32":
            raise FormatError(
                f"{self.folder.url}: {name} is {found.dtype} {found.shape[1:]}, but the scales of {array} are float32 "
                f"{channels}. Restore the store from a copy."
            )
        return self.read(name, row, verify=verify)

    def _read(
        self, info: ArrayInfo, row: int, frames: Sequence[int] | None, out: NDArray[Any] | None, verify: bool | None
    ) -> NDArray[Any]:
        shard = self._open(info, row)
        held = len(self.clips[row].bank)
        positions = range(held) if frames is None else frames
        if info.framed and frames is not None and not all(0 <= position < held for position in frames):
            raise MissingClipError(
                f"{self.name}: clip {self.clips[row].id} has bank frames 0 … {held - 1}, asked for {list(frames)}."
            )
        shape = (len(positions), *info.shape[2:]) if info.framed else info.shape[1:]
        if out is not None and (out.shape != shape or out.dtype != info.physical or not out.flags.c_contiguous):
            raise ValueError(f"out: expected C-contiguous {shape} {info.physical}, got {out.shape} {out.dtype}")
        if info.direct:
            if out is None:  # what a stranger says of shapes is compared with the file before memory is taken
                shard.check(positions if info.framed else (0,), info.chunk_bytes)
            buffer = np.empty(shape, info.physical) if out is None else out
            self._read_direct(info, row, shard, positions, buffer, verify)
        else:
            whole = read_whole(shard, info, row, held)
            buffer = whole[list(positions)] if info.framed else whole
        if out is None:
            if info.scale:
                return dequantise(buffer, self.scale(info.name, row, verify=verify))
            return to_logical(buffer, info.dtype)
        if buffer is not out:
            out[...] = buffer
        return out

    def _read_direct(
        self,
        info: ArrayInfo,
        row: int,
        shard: OpenShard,
        positions: Sequence[int],
        out: NDArray[Any],
        verify: bool | None,
    ) -> None:
        chunks = positions if info.framed else (0,)
        seen = self._verified.get((info.name, row))
        check = verify if verify is not None else seen is None or not seen.issuperset(chunks)
        shard.read(chunks, out if info.framed else out[None], verify=check)
        if check:
            self._verified.setdefault((info.name, row), set()).update(chunks)

    def _forget(self, info: ArrayInfo, row: int) -> bool:
        """Let go of a damaged shard. Returns whether it may only have been damaged in a cache, and can be read anew."""
        with self._lock:
            self._shards.pop((info.name, row), None)
        record = self.committed.record(row, info.name)
        return record is not None and self.folder.forget(record)

    def _open(self, info: ArrayInfo, row: int) -> OpenShard:
        """The shard, open. Those used last stay open; one that is closed here stays readable for who still holds it."""
        key = info.name, row
        with self._lock:
            shard = self._shards.get(key)
            if shard is not None:
                self._shards.move_to_end(key)
                return shard
        record = self.committed.record(row, info.name)
        if record is None:
            clip = self.clips[row].id if 0 <= row < len(self.clips) else "?"
            raise MissingClipError(
                f"{self.name}: clip {clip} (row {row}) has no commit for {info.name}. "
                "Finish the store with `python -m extract`."
            )
        name = info.shard(row)
        shard = OpenShard(self.folder.open(name, record), info, f"{self.folder.url}/{name}")
        with self._lock:
            self._shards[key] = shard
            while len(self._shards) > _OPEN_SHARDS:
                self._shards.popitem(last=False)
        return shard

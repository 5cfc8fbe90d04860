"""Where a copy goes: what every kind of place must offer, and a directory on this machine."""

from __future__ import annotations

import os
import shutil
import uuid
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple, Protocol, runtime_checkable

from store.arrays import GROUP, ArrayInfo
from store.clips import ClipRow
from store.commits import COMMITS, write_commit
from store.digest import digest_bytes, digest_file
from store.errors import FormatError, NotWritableError, StorageFullError
from store.feature_store import FeatureStore
from store.files import PARTIAL, raise_for, sync_directory, write_atomic, write_once
from store.folder import Folder, LocalFolder, check_name
from store.head import RECIPE
from store.layout import is_remote, place
from store.metadata import ZARR_JSON
from store.records import ShardRecord
from store.sizes import show_size


class Settled(NamedTuple):
    """What is there of shards in whose place another writer had put something.

    Attributes:
        records: to be committed; empty if that is done.
        kept: whether values of the other writer stay.
    """

    records: Mapping[str, ShardRecord]
    kept: bool


class Late(NamedTuple):
    """Shards that were taken for copied, of which another writer turned out to be first. Its values stay.

    Attributes:
        clip, array: id of the clip, name of the array.
        shards, bytes: how many shards, scales included, and what size ours had.
        problem: why nothing of the clip was committed for the array; empty if what is there was.
    """

    clip: str
    array: str
    shards: int
    bytes: int
    problem: str


@runtime_checkable
class Destination(Protocol):
    """A place for a store, or for a part of one. `put` and `commit` are called from many threads."""

    url: str

    def existing(self) -> FeatureStore | None:
        """The store that is there, `None` if nothing is. Raises `FormatError` if something else is in the way."""

    def begin(self, files: Mapping[str, bytes]) -> None:
        """Make the store, `recipe.json` last, so that there is no store before it is one. Others may be first."""

    def add(self, files: Mapping[str, bytes]) -> None:
        """Add the metadata of arrays to the store that is there. Others may be first."""

    def make_room(self, size: int) -> None:
        """Raise `StorageFullError` if so many bytes will not fit."""

    def put(self, name: str, content: memoryview, path: Path | None) -> bool:
        """Publish a shard.

        Args:
            name: of the shard.
            content: its bytes, which are gone after the call.
            path: a file of this machine that holds them, if there is one.

        Returns:
            Whether the shard is there now, with this content; else another writer put something else there before.
        """

    def settle(
        self,
        clip: ClipRow,
        unit: Sequence[ArrayInfo],
        ours: Mapping[str, ShardRecord],
        source: FeatureStore,
        fetch: Callable[[str], memoryview],
    ) -> Settled:
        """Make the best of a clip of which `put` found something else: whole shards stay, damaged ones are replaced.

        Args:
            clip: the clip.
            unit: an array as it is there, behind its scales if it has some.
            ours: array -> record at the source.
            source: the store that is copied.
            fetch: content of a shard of the source, until the next is fetched.

        Raises:
            FormatError: what is there is incomplete, and cannot be completed by us.
        """

    def commit(self, clip: ClipRow, records: Mapping[str, ShardRecord], arrays: Mapping[str, ArrayInfo]) -> None:
        """Commit what was put of a clip, under the metadata of the arrays that are there."""

    def finish(self, there: FeatureStore) -> Sequence[Late]:
        """Write the manifest of all that the commits there say. Returns what turned out to be there before.

        Args:
            there: the store as it was before anything was put.
        """

    def close(self) -> None:
        """Let go of what is held, whether finished or not."""


def destination(reference: str | Path) -> Destination:
    """The destination that a path, a name under the root, or an address means. Nothing is written yet.

    Raises:
        NotWritableError: an address that can only be read from.
        StoreError: the address means nothing.
    """
    if not is_remote(reference):
        return LocalDestination(place(reference))
    url = str(reference)
    if url.startswith(("http://", "https://")):
        raise NotWritableError(
            f"{url}: a web server is read from only. Copy the store to where the server takes its files, or to "
            "s3://… or hf://datasets/…."
        )
    if url.startswith("hf://"):
        from store.sharing.upload_hub import HubDestination

        return HubDestination(url)
    from store.sharing.upload import RemoteDestination

    return RemoteDestination(url)


def check_apart(source: Folder, target: Destination) -> None:
    """Raise `FormatError` if the destination is the source, or one lies inside the other."""
    if isinstance(source, LocalFolder) and isinstance(target, LocalDestination):
        ours, theirs = source.path.resolve(), target.path
        nested = ours.is_relative_to(theirs) or theirs.is_relative_to(ours)
        if nested or (theirs.exists() and theirs.samefile(ours)):
            raise FormatError(f"{target.url}: is the source, or one lies inside the other. Choose another destination.")
    elif f"{source.url}/".startswith(f"{target.url}/") or f"{target.url}/".startswith(f"{source.url}/"):
        raise FormatError(f"{target.url}: is the source, or one lies inside the other. Choose another destination.")


class LocalDestination:
    """A directory. See `Destination`.

    Args:
        path: of the store; it need not exist. A link to a directory elsewhere is followed, those inside are refused.
    """

    def __init__(self, path: Path) -> None:
        self.path = path.resolve()
        self.folder = LocalFolder(self.path)
        self.url = self.folder.url

    def existing(self) -> FeatureStore | None:
        """See `Destination.existing`."""
        if (self.path / RECIPE).exists():
            return FeatureStore(self.folder)
        if self.path.exists() and not self.path.is_dir():
            raise FormatError(f"{self.path}: a file is in the way. Move it, or choose another destination.")
        if self.path.exists() and any(self.path.iterdir()):
            raise FormatError(
                f"{self.path}: a folder that is no feature store (no recipe.json) is in the way. Move it, or choose "
                f"another destination, such as a new folder inside: {self.path.name}/NAME."
            )
        return None

    def begin(self, files: Mapping[str, bytes]) -> None:
        """See `Destination.begin`: a draft beside, then one rename."""
        draft = self.path.with_name(f".{self.path.name}.{uuid.uuid4().hex[:12]}{PARTIAL}")
        try:
            (draft / COMMITS).mkdir(parents=True)
            _write_files(draft, files)
            os.rename(draft, self.path)
            sync_directory(self.path.parent)
        except OSError as error:
            if not (self.path / RECIPE).exists():  # else another process was first: join its store
                raise_for(error, self.path)
        finally:
            shutil.rmtree(draft, ignore_errors=True)

    def add(self, files: Mapping[str, bytes]) -> None:
        """See `Destination.add`: each array by one rename of its folder."""
        draft = self.path / f".arrays.{uuid.uuid4().hex[:12]}{PARTIAL}"
        try:
            draft.mkdir()
            _write_files(draft, files)
            for file in files:
                array = file.split("/")[1]
                try:
                    os.rename(draft / GROUP / array, self.path / GROUP / array)
                except OSError:
                    if not (self.path / GROUP / array / ZARR_JSON).exists():
                        raise
            sync_directory(self.path / GROUP)
        except OSError as error:
            raise_for(error, self.path / GROUP)
        finally:
            shutil.rmtree(draft, ignore_errors=True)

    def make_room(self, size: int) -> None:
        """See `Destination.make_room`."""
        there = next(folder for folder in (self.path, *self.path.parents) if folder.exists())
        free = shutil.disk_usage(there).free
        if size > free:
            raise StorageFullError(
                f"{self.path}: {show_size(size)} are to be copied, {show_size(free)} are free. Free some space, copy a "
                "part (--taps, --split, --limit), or choose another destination."
            )

    def put(self, name: str, content: memoryview, path: Path | None) -> bool:
        """See `Destination.put`."""
        check_name(name)
        place = self.path / name
        return (not os.path.lexists(place) and write_once(place, [content])) or _holds(place, content)

    def settle(
        self,
        clip: ClipRow,
        unit: Sequence[ArrayInfo],
        ours: Mapping[str, ShardRecord],
        source: FeatureStore,
        fetch: Callable[[str], memoryview],
    ) -> Settled:
        """See `Destination.settle`. `StoreWriter` knows how, and commits: it quantises by the scales that are there."""
        from store.writer import StoreWriter

        array = unit[-1].name
        with StoreWriter(self.path) as writer:
            writer.put(clip.row, {array: source.read(array, clip.row)})
        same = [digest_file(self.path / info.shard(clip.row)) == ours[info.name].xxh3_128 for info in unit]
        return Settled({}, not all(same))

    def commit(self, clip: ClipRow, records: Mapping[str, ShardRecord], arrays: Mapping[str, ArrayInfo]) -> None:
        """See `Destination.commit`."""
        commit_clip(self.folder, clip, records, arrays)

    def finish(self, there: FeatureStore) -> Sequence[Late]:
        """See `Destination.finish`."""
        from store.upkeep.finalize import finalize_if_stale

        finalize_if_stale(self.path)
        return ()

    def close(self) -> None:
        """See `Destination.close`."""


def commit_clip(
    folder: Folder, clip: ClipRow, records: Mapping[str, ShardRecord], arrays: Mapping[str, ArrayInfo]
) -> str:
    """Write the commit of a clip into a folder. Returns its name."""
    return write_commit(
        folder, clip.row, clip.id, len(clip.bank), records, {name: arrays[name].digest for name in records}
    )


def _write_files(base: Path, files: Mapping[str, bytes]) -> None:
    for name, content in files.items():
        check_name(name)
        path = base / name
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(path, [content])


def _holds(path: Path, content: memoryview) -> bool:
    """Whether the file has this content. Raises `FormatError` if it is a link, which could lead anywhere."""
    if path.is_symlink():
        raise FormatError(f"{path}: is a symbolic link, which could lead out of the store. Remove it.")
    return path.stat().st_size == len(content) and digest_file(path) == digest_bytes(content)

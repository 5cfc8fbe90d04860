"""A store behind a network, read like one that is here: shards whole through the cache, or frame by frame."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from store.errors import FormatError, NotWritableError
from store.files import Buffer
from store.folder import ShardFile, check_name
from store.records import FileRecord
from store.sharing.cache import NoRoomError, ShardCache
from store.sharing.places import Place, Shelf, connect
from store.sharing.trouble import damaged


class RemoteFolder:
    """The files of one store at a URL. See `store.folder.Folder`.

    It may be used from any number of threads, sent to other processes, and outlives a fork.

    Args:
        url: `s3://bucket/key`, `hf://datasets/<user>/<name>/<folder>`, `https://host/folder`, or another that fsspec
            has a package for. Credentials come from where the tools of that place look for them.
        cache: keeps whole shards; `None` reads frames one by one and keeps nothing.

    Raises:
        StoreNotFoundError: the URL names no remote folder.
        MissingPackageError: the package for this kind of place is not installed.
    """

    def __init__(self, url: str, cache: ShardCache | None) -> None:
        self._given, self.cache = url, cache
        self._place: Place = connect(url)
        self.url = self._place.url

    def __reduce__(self) -> tuple[type[RemoteFolder], tuple[str, ShardCache | None]]:
        return RemoteFolder, (self._given, self.cache)

    def __repr__(self) -> str:
        return f"RemoteFolder({self.url!r}, {self.cache!r})"

    def read(self, name: str, limit: int) -> bytes:
        """A whole small file; no more than `limit + 1` bytes are fetched, whatever its size.

        Raises:
            FileNotFoundError: it is not there.
            StoreNotFoundError: the hub shows no such repository, which for a private one means: to this login.
            FormatError: it has more than `limit` bytes.
            RemoteError: the network or the place refuses.
        """
        check_name(name)
        content = self._place.read(name, limit)
        if len(content) > limit:
            raise FormatError(
                f"{self.url}/{name}: has more than {limit} bytes, which no such file of a store needs. Restore it from "
                "a copy."
            )
        return content

    def exists(self, name: str) -> bool:
        """Whether a file of that name is there. One request."""
        check_name(name)
        try:
            self._place.read(name, 0)
        except FileNotFoundError:
            return False
        return True

    def names(self, under: str) -> list[str] | None:
        """Names of what lies directly inside folder `under`, sorted; empty if there is none, `None` on a web server."""
        if under:
            check_name(under)
        names = self._place.names(under)
        return None if names is None else sorted(name for name in names if name and name[0] != ".")

    def open(self, name: str, record: FileRecord) -> ShardFile:
        """Open a committed shard: from the cache, after fetching it whole, or to be fetched in parts.

        Without a cache nothing is requested yet. A cache without room for the shard is passed by, with a warning.

        Raises:
            CorruptShardError: what is there is not what was committed.
            RemoteError: the network or the place refuses.
        """
        check_name(name)
        if self.cache is None:
            return RemoteShard(self._place, name, record)
        try:
            return self.cache.open(record, lambda path: self._download(name, record, path), f"{self.url}/{name}")
        except NoRoomError as error:
            self.cache.warn_once(
                "no room",
                f"{error}. Such shards are read over the network, frame by frame, in every epoch anew. Set "
                "FEATURE_CACHE_SIZE to more, or FEATURE_CACHE to a folder on a larger disk.",
            )
            return RemoteShard(self._place, name, record)

    def write(self, name: str, buffers: Sequence[Buffer]) -> None:
        """Publish a file: whole or absent, replacing what has that name. On the hub each call is a commit of its own.

        Raises:
            NotWritableError: a web server, or a place where files appear before they are whole.
            RemoteError: the network or the place refuses.
        """
        check_name(name)
        self._place.write(name, b"".join(buffers))

    def create(self, name: str, buffers: Sequence[Buffer]) -> bool:
        """Publish a file unless there is one of that name. Returns whether it was published.

        Raises:
            NotWritableError: as `write`; and the hub, where `commit_files` does this for many files at once.
            RemoteError: the network or the place refuses.
        """
        check_name(name)
        if not isinstance(self._place, Shelf):
            raise NotWritableError(f"{self.url}: no single file can be put here without replacing another.")
        return self._place.create(name, b"".join(buffers))

    def forget(self, record: FileRecord) -> bool:
        """See `Folder.forget`: the shard in the cache."""
        if self.cache is None:
            return False
        self.cache.forget(record)
        return True

    def _download(self, name: str, record: FileRecord, path: Path) -> None:
        try:
            self._place.download(name, record.size, path)
        except FileNotFoundError as error:
            raise damaged(f"{self.url}/{name}", "is committed, but not there") from error


class RemoteShard:
    """A shard that stays where it is; every read is a request. See `store.folder.ShardFile`."""

    def __init__(self, place: Place, name: str, record: FileRecord) -> None:
        self._place, self._name, self.size = place, name, record.size

    def read_into(self, offset: int, buffers: Sequence[memoryview | bytearray]) -> int:
        """Fill the buffers one after another with the bytes from `offset` on, in one request.

        Returns:
            How many bytes were read; fewer than asked for only at the end of the shard.

        Raises:
            CorruptShardError: the file is missing, or ends before the committed size.
            RemoteError: the network or the place refuses.
        """
        views = [memoryview(buffer).cast("B") for buffer in buffers]
        start = min(offset, self.size)
        stop = min(start + sum(view.nbytes for view in views), self.size)
        if start == stop:
            return 0
        where = f"{self._place.url}/{self._name}"
        try:
            content = memoryview(self._place.fetch(self._name, start, stop))
        except FileNotFoundError as error:
            raise damaged(where, "is committed, but not there") from error
        if len(content) != stop - start:
            raise damaged(where, f"ends at byte {start + len(content)}, committed were {self.size}")
        for view in views:
            part, content = content[: view.nbytes], content[view.nbytes :]
            view[: len(part)] = part
        return stop - start

"""Copying to other places: object storage, a request for each file, and the hub, a commit for many files."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from threading import Lock

from store.arrays import GROUP, ArrayInfo
from store.clips import CLIPS, ClipRow
from store.commits import COMMITS
from store.digest import digest_bytes, digest_text
from store.errors import FormatError, NotWritableError
from store.feature_store import FeatureStore
from store.folder import Folder, LocalFolder, check_name
from store.head import RECIPE
from store.layout import PROVENANCE
from store.manifest import MANIFEST, load_manifest, write_manifest
from store.metadata import ZARR_JSON
from store.records import ShardRecord
from store.sharing.destination import Destination, commit_clip
from store.sharing.hub import commit_files
from store.sharing.remote import RemoteFolder
from store.upkeep.group import GROUP_FILE, array_documents, group_document

_OF_A_STORE = {RECIPE, CLIPS, PROVENANCE, GROUP, COMMITS}
_OF_A_REPOSITORY = {"README.md", "LICENSE"}
BATCH_FILES = 1000
BATCH_BYTES = 4 << 30
BATCH_SMALL_BYTES = 1 << 29
"""The hub limits the commits of an hour, the files of a commit, and the bytes of its small files."""
_SMALL = 10_000_000


def remote_destination(url: str) -> Destination:
    """The destination at an address. Raises `NotWritableError` for a web server."""
    if url.startswith(("http://", "https://")):
        raise NotWritableError(
            f"{url}: a web server is read from only. Copy the store to where the server takes its files, or to "
            "s3://… or hf://datasets/…."
        )
    return HubDestination(url) if url.startswith("hf://") else RemoteDestination(url)


class RemoteDestination:
    """A folder in object storage, where a file is there once its upload is complete. See `Destination`.

    Args:
        url: `s3://bucket/key`.
    """

    def __init__(self, url: str) -> None:
        self.folder: Folder = RemoteFolder(url, None)
        self.url = self.folder.url
        self._committed: dict[str, tuple[int, Mapping[str, ShardRecord]]] = {}

    def existing(self) -> FeatureStore | None:
        """See `Destination.existing`. The metadata of a copy that was cut short is no store, and not in the way."""
        names = self.folder.names("") or []
        if RECIPE in names:
            return FeatureStore(self.folder)
        if strangers := sorted(set(names) - _OF_A_STORE - _OF_A_REPOSITORY):
            raise FormatError(
                f"{self.url}: is no feature store (no recipe.json), and other files are in the way: "
                f"{', '.join(strangers[:5])}. Choose another destination, such as {self.url}/NAME."
            )
        return None

    def begin(self, files: Mapping[str, bytes]) -> None:
        """See `Destination.begin`."""
        self._publish(files, "Begin a feature store")

    def add(self, files: Mapping[str, bytes]) -> None:
        """See `Destination.add`."""
        self._publish(files, "Add arrays")

    def make_room(self, size: int) -> None:
        """See `Destination.make_room`: there is no telling."""

    def put(self, name: str, content: memoryview, path: Path | None) -> bool:
        """See `Destination.put`. What lies there without a commit is replaced."""
        self.folder.write(name, [content])
        return True

    def commit(self, clip: ClipRow, records: Mapping[str, ShardRecord], arrays: Mapping[str, ArrayInfo]) -> None:
        """See `Destination.commit`."""
        self._committed[commit_clip(self.folder, clip, records, arrays)] = clip.row, records

    def finish(self, there: FeatureStore) -> None:
        """See `Destination.finish`: consolidated metadata, then the table, then the manifest that names both."""
        if not self._committed and there.manifest is not None and there.manifest.arrays.keys() == there.arrays.keys():
            return
        now = load_manifest(self.folder, there.fingerprint, len(there.clips))
        if (now.manifest if now else None) != there.manifest:  # somebody else finished a copy in the meantime
            there = FeatureStore(self.folder)
        records = dict(there.committed)
        for row, arrays in self._committed.values():
            records[row] = {**records.get(row, {}), **arrays}
        with tempfile.TemporaryDirectory(prefix="store-push-") as draft:
            folder, group = LocalFolder(Path(draft)), _group(there)
            manifest = write_manifest(
                folder,
                there.fingerprint,
                len(there.clips),
                {name: info.digest for name, info in there.arrays.items()},
                digest_bytes(group),
                [*{*there.commits, *self._committed}],
                records,
            )
            names = (manifest.table.file, MANIFEST)
            files = {GROUP_FILE: group} | {name: (folder.path / name).read_bytes() for name in names}
            self._publish(files, "Add the manifest")

    def close(self) -> None:
        """See `Destination.close`."""

    def _publish(self, files: Mapping[str, bytes | Path], message: str) -> None:
        for name, content in files.items():
            self.folder.write(name, [content if isinstance(content, bytes) else content.read_bytes()])


class HubDestination(RemoteDestination):
    """A folder in a hub repository. Whole clips are gathered, and added in few commits. See `Destination`.

    Shards that are not on this machine wait among the temporary files (`TMPDIR`), one batch of them at most.

    Args:
        url: `hf://datasets/<user>/<name>[/<folder>]`.
    """

    def __init__(self, url: str) -> None:
        super().__init__(url)
        self._given = url
        self._lock = Lock()
        self._put: dict[str, Path] = {}
        self._batch: dict[str, Path] = {}
        self._sizes: list[int] = []
        self._clips = 0
        self._spool = tempfile.TemporaryDirectory(prefix="store-push-")

    def put(self, name: str, content: memoryview, path: Path | None) -> bool:
        """See `Destination.put`."""
        check_name(name)
        if path is None:
            path = self._spooled / digest_text(name)
            path.write_bytes(content)
        self._put[name] = path
        return True

    def commit(self, clip: ClipRow, records: Mapping[str, ShardRecord], arrays: Mapping[str, ArrayInfo]) -> None:
        """See `Destination.commit`: the clip joins the batch, shards and commit together."""
        name = commit_clip(LocalFolder(self._spooled), clip, records, arrays)
        shards = [arrays[array].shard(clip.row) for array in records]
        files = {shard: self._put.pop(shard) for shard in shards}
        files[f"{COMMITS}/{name}"] = self._spooled / COMMITS / name
        sizes = [path.stat().st_size for path in files.values()]
        with self._lock:
            if not _fits(self._sizes + sizes):
                self._flush()
            self._batch |= files
            self._sizes += sizes
            self._clips += 1
            self._committed[name] = clip.row, records

    def finish(self, there: FeatureStore) -> None:
        """See `Destination.finish`."""
        with self._lock:
            self._flush()
        super().finish(there)

    def close(self) -> None:
        """See `Destination.close`."""
        self._spool.cleanup()

    @property
    def _spooled(self) -> Path:
        return Path(self._spool.name)

    def _flush(self) -> None:
        if self._batch:
            self._publish(self._batch, f"Add {self._clips} clips")
        for path in self._batch.values():
            if path.is_relative_to(self._spooled):
                path.unlink()
        self._batch, self._sizes, self._clips = {}, [], 0

    def _publish(self, files: Mapping[str, bytes | Path], message: str) -> None:
        commit_files(self._given, files, message)


def _group(there: FeatureStore) -> bytes:
    """The group's `zarr.json` with the metadata of all arrays, as `finalize` makes it."""
    files = there.head.files
    coordinates = [name.split("/")[1] for name in files if name.endswith(f"/{ZARR_JSON}") and name != GROUP_FILE]
    documents = array_documents(there.folder, {*coordinates, *there.arrays})
    for name, info in there.arrays.items():
        if digest_bytes(documents.get(name, b"")) != info.digest:
            raise FormatError(
                f"{there.folder.url}/{GROUP}/{name}/{ZARR_JSON}: was changed by others. Run the same command again."
            )
    return group_document(there.attrs, documents)


def _fits(sizes: Sequence[int]) -> bool:
    small = sum(size for size in sizes if size < _SMALL)
    return len(sizes) <= BATCH_FILES and sum(sizes) <= BATCH_BYTES and small <= BATCH_SMALL_BYTES

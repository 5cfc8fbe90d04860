"""Copying stores to object storage: a request for each file, none of which replaces a sound shard."""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from store.arrays import GROUP, ArrayInfo
from store.clips import CLIPS, ClipRow
from store.commits import COMMITS
from store.digest import digest_bytes
from store.errors import FormatError
from store.feature_store import FeatureStore
from store.files import Buffer
from store.folder import LocalFolder
from store.head import RECIPE
from store.layout import PROVENANCE
from store.manifest import MANIFEST, write_manifest
from store.metadata import ZARR_JSON
from store.records import ShardRecord
from store.sharing.agree import agree, differ
from store.sharing.cache import ShardCache
from store.sharing.destination import Late, Settled, commit_clip
from store.sharing.remote import RemoteFolder
from store.upkeep.group import GROUP_FILE, array_documents, group_document

log = logging.getLogger(__name__)

_OF_A_STORE = {RECIPE, CLIPS, PROVENANCE, GROUP, COMMITS}
_OF_A_REPOSITORY = {"README.md", "LICENSE"}
_ATTEMPTS = 3
"""Others may be first again."""


class RemoteDestination:
    """A folder in object storage, where a file is there once its upload is complete. See `Destination`.

    A shard never takes the place of another, so several copies of one recipe may go to one place at once, where the
    place can put a file if it is absent: S3, Google, Azure. Among servers that speak S3 are some that cannot; there
    only one copy may run at a time.

    Args:
        url: `s3://bucket/key`.
    """

    def __init__(self, url: str) -> None:
        self.folder = _Destination(url, None)
        self.url = self.folder.url
        self._changed = False

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
        for name, content in files.items():
            if name == RECIPE:
                self.folder.create(name, [content])
            else:  # a copy that was cut short, of whatever recipe, may have left another
                self.folder.write(name, [content])

    def add(self, files: Mapping[str, bytes]) -> None:
        """See `Destination.add`."""
        for name, content in files.items():
            self.folder.create(name, [content])

    def make_room(self, size: int) -> None:
        """See `Destination.make_room`: there is no telling."""

    def put(self, name: str, content: memoryview, path: Path | None) -> bool:
        """See `Destination.put`."""
        for _ in range(_ATTEMPTS):
            if self.folder.create(name, [content]):
                return True
            try:
                there = self.folder.read(name, len(content))
            except FileNotFoundError:  # taken back since
                continue
            except FormatError:  # it is longer
                return False
            return len(there) == len(content) and digest_bytes(there) == digest_bytes(content)
        return False

    def settle(
        self,
        clip: ClipRow,
        unit: Sequence[ArrayInfo],
        ours: Mapping[str, ShardRecord],
        source: FeatureStore,
        fetch: Callable[[str], memoryview],
    ) -> Settled:
        """See `Destination.settle`. Values are not quantised anew by the scales of another writer."""
        for _ in range(_ATTEMPTS):
            records, missing = agree(self.folder, clip, unit, ours)
            for info in unit:
                if info.name in missing and not self._place(info.shard(clip.row), fetch(info.name), missing[info.name]):
                    break
            else:
                return Settled(records, differ(records, ours))
        raise FormatError(
            f"{self.url}/{unit[-1].shard(clip.row)}: was changed by others again and again. Run the same command again."
        )

    def commit(self, clip: ClipRow, records: Mapping[str, ShardRecord], arrays: Mapping[str, ArrayInfo]) -> None:
        """See `Destination.commit`."""
        commit_clip(self.folder, clip, records, arrays)
        self._changed = True

    def finish(self, there: FeatureStore) -> Sequence[Late]:
        """See `Destination.finish`: consolidated metadata, then the table, then the manifest that names both."""
        from store.upkeep.finalize import is_current

        if not self._changed and is_current(there):
            return ()
        for _ in range(_ATTEMPTS):
            there = FeatureStore(self.folder)
            if is_current(there):
                return ()
            self._write_manifest(there)
        log.warning("%s: others kept writing; whoever copies there next completes the manifest", self.url)
        return ()

    def close(self) -> None:
        """See `Destination.close`."""

    def _place(self, name: str, content: memoryview, damaged: bool) -> bool:
        """Put a shard where there is none, or in the place of a damaged one."""
        if not damaged:
            return self.folder.create(name, [content])
        log.warning("%s/%s: replaced, since what was there is damaged", self.url, name)
        self.folder.write(name, [content])
        return True

    def _write_manifest(self, there: FeatureStore) -> None:
        with tempfile.TemporaryDirectory(prefix="store-push-") as draft:
            folder, group = LocalFolder(Path(draft)), _group(there)
            manifest = write_manifest(
                folder,
                there.fingerprint,
                len(there.clips),
                {name: info.digest for name, info in there.arrays.items()},
                digest_bytes(group),
                there.commits,
                there.committed,
            )
            names = (manifest.table.file, MANIFEST)
            files = {GROUP_FILE: group} | {name: (folder.path / name).read_bytes() for name in names}
            self._publish(files, "Add the manifest")

    def _publish(self, files: Mapping[str, bytes], message: str) -> None:
        for name, content in files.items():
            self.folder.write(name, [content])


class _Destination(RemoteFolder):
    """A folder that need not read again the commits that went there through it: a commit never changes.

    Attributes:
        written: name -> content of those commits, as long as they are there.
    """

    def __init__(self, url: str, cache: ShardCache | None) -> None:
        super().__init__(url, cache)
        self.written: dict[str, bytes] = {}

    def names(self, under: str) -> list[str] | None:
        """See `Folder.names`."""
        names = super().names(under)
        if under == COMMITS:
            there = {f"{COMMITS}/{name}" for name in names or ()}
            self.written = {name: content for name, content in self.written.items() if name in there}
        return names

    def read(self, name: str, limit: int) -> bytes:
        """See `Folder.read`."""
        return self.written[name] if name in self.written else super().read(name, limit)

    def write(self, name: str, buffers: Sequence[Buffer]) -> None:
        """See `Folder.write`."""
        super().write(name, buffers)
        if name.startswith(f"{COMMITS}/"):
            self.written[name] = b"".join(buffers)


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

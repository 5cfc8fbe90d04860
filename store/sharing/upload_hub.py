"""Copying stores to a hub: whole clips are gathered, and each commit of the hub adds many of them."""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from threading import Lock

from store.arrays import ArrayInfo
from store.clips import ClipRow
from store.commits import COMMITS
from store.digest import digest_text
from store.errors import FormatError
from store.feature_store import FeatureStore
from store.folder import LocalFolder, check_name
from store.head import RECIPE
from store.records import ShardRecord
from store.sharing.agree import agree, differ
from store.sharing.destination import Late, commit_clip
from store.sharing.hub import Revision, commit_files
from store.sharing.upload import RemoteDestination

log = logging.getLogger(__name__)

BATCH_FILES = 1000
BATCH_BYTES = 4 << 30
BATCH_SMALL_BYTES = 1 << 29
"""The hub limits the commits of an hour, the files of a commit, and the bytes of its small files."""
_SMALL = 10_000_000


@dataclass
class _Clip:
    """A clip that waits for its commit.

    Attributes:
        clip, arrays: what it is.
        records: array -> record of our shard.
        shards: array -> file that holds it.
        commits: what is to be committed -> the file that says so, for every state of the hub that was met.
    """

    clip: ClipRow
    arrays: Mapping[str, ArrayInfo]
    records: Mapping[str, ShardRecord]
    shards: Mapping[str, Path]
    commits: list[tuple[Mapping[str, ShardRecord], str]]

    def units(self) -> list[tuple[ArrayInfo, ...]]:
        """The arrays, each behind its scales."""
        infos = [self.arrays[name] for name in self.records]
        scales = {info.scale for info in infos}
        return [
            (info,) if info.scale is None else (self.arrays[info.scale], info)
            for info in infos
            if info.name not in scales
        ]


class HubDestination(RemoteDestination):
    """A folder in a hub repository. Whole clips are gathered, and added in few commits. See `Destination`.

    A commit goes on top of the revision whose shards were looked at, so it never replaces those of another copy.
    Shards that are not on this machine wait among the temporary files (`TMPDIR`), one batch of them at most.

    Args:
        url: `hf://datasets/<user>/<name>[/<folder>]`.
    """

    def __init__(self, url: str) -> None:
        super().__init__(url)
        self._given = url
        self._lock = Lock()
        self._put: dict[str, Path] = {}
        self._batch: list[_Clip] = []
        self._sizes: list[int] = []
        self._late: list[Late] = []
        self._spool = tempfile.TemporaryDirectory(prefix="store-push-")

    def begin(self, files: Mapping[str, bytes]) -> None:
        """See `Destination.begin`."""
        commit_files(self._given, lambda there: {} if there.held([RECIPE]) else files, "Begin a feature store")

    def add(self, files: Mapping[str, bytes]) -> None:
        """See `Destination.add`."""

        def missing(there: Revision) -> Mapping[str, bytes]:
            held = there.held(files)
            return {name: content for name, content in files.items() if name not in held}

        commit_files(self._given, missing, "Add arrays")

    def put(self, name: str, content: memoryview, path: Path | None) -> bool:
        """See `Destination.put`. What is there is seen when the clip is committed."""
        check_name(name)
        if path is None:
            path = self._spooled / digest_text(name)
            path.write_bytes(content)
        self._put[name] = path
        return True

    def commit(self, clip: ClipRow, records: Mapping[str, ShardRecord], arrays: Mapping[str, ArrayInfo]) -> None:
        """See `Destination.commit`: the clip joins the batch, shards and commit together."""
        shards = {name: self._put.pop(arrays[name].shard(clip.row)) for name in records}
        commit = self._write_commit(clip, records, arrays)
        sizes = [path.stat().st_size for path in (*shards.values(), self._spooled / commit)]
        with self._lock:
            if not _fits(self._sizes + sizes):
                self._flush()
            self._batch.append(_Clip(clip, arrays, records, shards, [(records, commit)]))
            self._sizes += sizes
            self._changed = True

    def finish(self, there: FeatureStore) -> Sequence[Late]:
        """See `Destination.finish`."""
        with self._lock:
            self._flush()
        super().finish(there)
        return self._late

    def close(self) -> None:
        """See `Destination.close`."""
        self._spool.cleanup()

    @property
    def _spooled(self) -> Path:
        return Path(self._spool.name)

    def _flush(self) -> None:
        if not self._batch:
            return
        late: list[Late] = []
        files: dict[str, Path] = {}

        def choose(there: Revision) -> Mapping[str, Path]:
            paths = {
                each.arrays[name].shard(each.clip.row): each.shards[name]
                for each in self._batch
                for name in each.shards
            }
            held = {name: found.same(paths[name]) for name, found in there.held(paths).items()}
            late.clear()
            files.clear()
            for each in self._batch:
                files.update(self._choose(each, held, late))
            return files

        commit_files(self._given, choose, f"Add {len(self._batch)} clips")
        self._late += late
        for name, path in files.items():
            if name.startswith(f"{COMMITS}/"):
                self.folder.written[name] = path.read_bytes()
        for each in self._batch:
            commits = (self._spooled / name for _, name in each.commits)
            for path in (*each.shards.values(), *commits):
                if path.is_relative_to(self._spooled):
                    path.unlink()
        self._batch, self._sizes = [], []

    def _choose(self, each: _Clip, held: Mapping[str, bool], late: list[Late]) -> Mapping[str, Path]:
        """What to add of a clip.

        Args:
            each: the clip.
            held: shard that is there -> whether it is the same as ours.
            late: takes up what another copy was first with.
        """
        row, records = each.clip.row, dict(each.records)
        files: dict[str, Path] = {}
        for unit in each.units():
            found = {info.name: held.get(info.shard(row)) for info in unit}
            missing: Iterable[str] = [name for name, same in found.items() if same is None]
            if False in found.values():
                problem = ""
                try:
                    agreed, missing = agree(self.folder, each.clip, unit, each.records)
                    records.update(agreed)
                except FormatError as error:
                    problem, missing = str(error), ()
                    for info in unit:
                        del records[info.name]
                if problem or differ(records, {info.name: each.records[info.name] for info in unit}):
                    size = sum(each.records[info.name].size for info in unit)
                    late.append(Late(each.clip.id, unit[-1].name, len(unit), size, problem))
            files |= {each.arrays[name].shard(row): each.shards[name] for name in missing}
        if records:
            commit = next((name for said, name in each.commits if said == records), None)
            if commit is None:
                commit = self._write_commit(each.clip, records, each.arrays)
                each.commits.append((records, commit))
            files[commit] = self._spooled / commit
        return files

    def _write_commit(self, clip: ClipRow, records: Mapping[str, ShardRecord], arrays: Mapping[str, ArrayInfo]) -> str:
        return f"{COMMITS}/{commit_clip(LocalFolder(self._spooled), clip, records, arrays)}"

    def _publish(self, files: Mapping[str, bytes], message: str) -> None:
        commit_files(self._given, files, message)


def _fits(sizes: Sequence[int]) -> bool:
    small = sum(size for size in sizes if size < _SMALL)
    return len(sizes) <= BATCH_FILES and sum(sizes) <= BATCH_BYTES and small <= BATCH_SMALL_BYTES

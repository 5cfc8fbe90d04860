"""What the directory of a store holds, read so that damage is written down and does not end the run.

`FeatureStore` refuses a store with one damaged document. Here every document is judged on its own.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TypeVar

from pydantic import ValidationError

from store.arrays import GROUP, ArrayInfo
from store.clips import CLIPS, ClipRow, load_clips
from store.commits import COMMITS, NAME_PATTERN, Commit, read_commit, row_of, taken_back
from store.committed import Committed
from store.digest import digest_bytes
from store.documents import parse_json, unseal
from store.errors import CorruptShardError, FormatError, StoreNotFoundError
from store.folder import LocalFolder
from store.head import FORMAT, RECIPE, Head, load_head
from store.manifest import MANIFEST, RECORD, Manifest, Merged
from store.metadata import ZARR_JSON, read_array
from store.upkeep.group import GROUP_FILE, array_documents, group_document
from store.upkeep.listing import MOST_BYTES, digest_of

_MOST_CLIPS = 1 << 30
LINK = "is a symbolic link, which could lead out of the store"
T = TypeVar("T")


@dataclass(frozen=True, order=True)
class BadFile:
    """A file that is not what it must be.

    Attributes:
        row, array: of a shard; -1 and "" for any other file.
        name: relative and POSIX, as everywhere in a store.
        problem: what is wrong with it.
        damaged: `False` if it merely cannot be read now (permissions, a network drive that does not answer).
    """

    row: int
    array: str
    name: str
    problem: str
    damaged: bool = True


class Inventory:
    """The documents of a store on this machine.

    Args:
        path: its directory.
        every_commit: read those too that a sound manifest has merged.

    Attributes:
        head, clips, merged: what the documents say; `None` for one that is damaged, `merged` also if there is none.
        commits: every sound commit that was read, by name.
        committed: row -> array -> record, as a `FeatureStore` would have it, of all sound documents together.
        taken_back: rows of which a commit is gone that the manifest has merged.
        arrays: of every array that is committed or lies on disk, its metadata; `None` if it is damaged.
        metadata: array name -> digests that commits and manifest give of its `zarr.json`; one, if all is well.
        bad: every bad file found on the way.

    Raises:
        StoreNotFoundError: there is no `recipe.json`.
        FormatError: the store is of another version of the format.
    """

    def __init__(self, path: Path, *, every_commit: bool = False) -> None:
        self.path, self.folder = path, LocalFolder(path)
        self.bad: list[BadFile] = []
        if not (path / RECIPE).exists():
            raise StoreNotFoundError(f"{path}: no feature store (no {RECIPE}). List stores with `python -m store ls`.")
        self._refuse_other_versions()
        self.head: Head | None = self._judge(RECIPE, lambda: load_head(self.folder))
        self.clips: list[ClipRow] | None = self._judge(CLIPS, self._read_clips)
        self.merged: Merged | None = None
        self.finalized = os.path.lexists(path / MANIFEST)
        if self.finalized and (manifest := self._judge(MANIFEST, self._read_manifest)):
            self.merged = self._judge(manifest.table.file, lambda: self._read_table(manifest))
        self.taken_back: set[int] = set()
        self.commits = self._read_commits(every_commit)
        self.committed = self._committed()
        self._in_group = self._visible(GROUP)
        self.metadata: dict[str, set[str]] = {}
        self.arrays = self._read_arrays()
        self._judge(GROUP_FILE, self._check_group)

    @property
    def names(self) -> list[str]:
        """Arrays of which something is committed, in order."""
        found = {name for commit in self.commits.values() for name in commit.arrays}
        return sorted(found.union(self.merged.manifest.arrays if self.merged else ()))

    def is_bad(self, *names: str) -> bool:
        """Whether one of these files is among the bad ones."""
        return any(bad.name in names for bad in self.bad)

    def note(self, name: str, problem: str, *, damaged: bool = True) -> None:
        """Write down a bad file."""
        self.bad.append(BadFile(-1, "", name, problem, damaged))

    def _judge(self, name: str, read: Callable[[], T]) -> T | None:
        """What `read` returns, or `None` and a note about the file `name`."""
        try:
            return read()
        except FileNotFoundError:
            self.note(name, "missing")
        except OSError as error:
            self.note(name, f"cannot be read ({error.strerror})", damaged=False)
        except (FormatError, ValidationError) as error:
            text = " ".join(str(error).removeprefix(f"{self.folder.url}/{name}: ").split())
            self.note(name, text.partition(". ")[0].removesuffix("."))  # what to do about it stands below all of them
        return None

    def _refuse_other_versions(self) -> None:
        """An older or newer store is not a damaged one: nothing of it may be judged, let alone dropped."""
        try:
            content = self.folder.read(RECIPE, MOST_BYTES)
            document = parse_json(content, RECIPE)
            if "schema_version" not in document:
                unseal(content, RECIPE)
        except (OSError, FormatError):
            return
        if document.get("format") != FORMAT:
            load_head(self.folder)

    def _read_clips(self) -> list[ClipRow]:
        content = self.folder.read(CLIPS, _MOST_CLIPS)
        unseal(content, f"{self.folder.url}/{CLIPS}")
        return load_clips(self.folder, self.head.files.get(CLIPS) if self.head else digest_bytes(content))

    def _read_manifest(self) -> Manifest:
        content = self.folder.read(MANIFEST, MOST_BYTES)
        manifest = Manifest.model_validate(unseal(content, f"{self.folder.url}/{MANIFEST}"))
        if self.head and manifest.fingerprint != self.head.recipe.fingerprint:
            raise FormatError(f"belongs to the store {manifest.fingerprint}, not to this one")
        if self.clips and manifest.clips != len(self.clips):
            raise FormatError(f"is of {manifest.clips} clips, the clip table has {len(self.clips)}")
        if any(row_of(name) >= manifest.clips for name in manifest.commits):
            raise FormatError("names commits of rows that the clip table does not have")
        if manifest.table.size != RECORD.itemsize * manifest.clips * len(manifest.arrays):
            raise FormatError(f"names a table of {manifest.table.size} bytes, which is no whole table")
        return manifest

    def _read_table(self, manifest: Manifest) -> Merged:
        name = manifest.table.file
        digest, size = digest_of(self.path / name), (self.path / name).stat().st_size
        if size != manifest.table.size:
            raise FormatError(f"has {size} bytes, {MANIFEST} says {manifest.table.size}")
        if digest != manifest.table.xxh3_128:
            raise FormatError(f"its content differs from what {MANIFEST} says")
        try:
            return Merged(manifest, self.folder.open(name, manifest.table), f"{self.folder.url}/{MANIFEST}")
        except CorruptShardError as error:
            raise FormatError("was replaced while it was looked at") from error

    def _read_commits(self, every: bool) -> dict[str, Commit]:
        if not (self.path / COMMITS).exists():
            self.note(COMMITS, "missing: nothing says which clips exist")
        listed = [name for name in self._visible(COMMITS) if re.fullmatch(NAME_PATTERN, name)]
        merged = set(self.merged.manifest.commits if self.merged else ())
        self.taken_back = {row_of(name) for name in taken_back(self.folder, merged, listed)}
        names = [name for name in listed if every or name not in merged or row_of(name) in self.taken_back]
        with ThreadPoolExecutor(8, thread_name_prefix="commits") as pool:
            read = pool.map(lambda name: self._judge(f"{COMMITS}/{name}", partial(self._read_commit, name)), names)
            return {name: commit for name, commit in zip(names, read, strict=True) if commit is not None}

    def _read_commit(self, name: str) -> Commit | None:
        try:
            commit = read_commit(self.folder, name)
        except FileNotFoundError:  # taken back since it was listed
            return None
        length = self._n_clips()
        if (length and commit.row >= length) or (self.clips and commit.clip != self.clips[commit.row].id):
            raise FormatError(f"is of clip {commit.clip!r} in row {commit.row}, where the clip table has another")
        if unknown := commit.arrays.keys() - commit.metadata.keys():
            raise FormatError(f"says nothing of the metadata of {', '.join(sorted(unknown))}")
        return commit

    def _n_clips(self) -> int:
        return len(self.clips) if self.clips else self.merged.manifest.clips if self.merged else 0

    def _committed(self) -> Committed:
        merged = set(self.merged.manifest.commits if self.merged else ())
        since = [
            commit
            for name, commit in sorted(self.commits.items())
            if name not in merged or commit.row in self.taken_back
        ]
        since.sort(key=lambda commit: (commit.time, commit.writer))
        length = self._n_clips() or 1 + max((commit.row for commit in since), default=0)
        return Committed(length, self.merged, since, self.taken_back)

    def _read_arrays(self) -> dict[str, ArrayInfo | None]:
        expected = self.metadata
        for name, digest in self.merged.manifest.arrays.items() if self.merged else ():
            expected.setdefault(name, set()).add(digest)
        for commit in self.commits.values():
            for name, digest in commit.metadata.items():
                expected.setdefault(name, set()).add(digest)
        arrays = {}
        for name in sorted(expected.keys() | set(self._in_group) - {ZARR_JSON}):
            file = f"{GROUP}/{name}/{ZARR_JSON}"
            if name in expected or os.path.lexists(self.path / file):
                info = self._judge(file, partial(self._read_array, name, expected.get(name, set())))
                if info is not None or name in expected:
                    arrays[name] = info
        return arrays

    def _read_array(self, name: str, expected: set[str]) -> ArrayInfo | None:
        info = read_array(self.folder, name)
        if expected and (info is None or expected != {info.digest}):
            raise FormatError("is not the one that clips were committed under")
        if info is not None and info.shape[0] != (self._n_clips() or info.shape[0]):
            raise FormatError(f"is of {info.shape[0]} clips, the clip table has {self._n_clips()}")
        return info

    def _check_group(self) -> None:
        content = self.folder.read(GROUP_FILE, MOST_BYTES)
        digest = digest_bytes(content)
        if self.merged:
            if digest != self.merged.manifest.group:
                raise FormatError(f"is not the one that {MANIFEST} names")
        elif self.head is None:
            parse_json(content, GROUP_FILE)
        elif digest != self.head.files.get(GROUP_FILE):
            # Consolidated, but nothing vouches for it: `finalize` was cut off, or the manifest is lost.
            if any(info is None for info in self.arrays.values()):
                return  # it holds what they should be
            documents = array_documents(self.folder, self._in_group)
            if content != group_document(self.head.attributes, documents):
                raise FormatError(f"is neither the one that {RECIPE} names nor what follows from {RECIPE} and arrays")

    def _visible(self, under: str) -> list[str]:
        """Names inside a folder, as `Folder.names` gives them, but a link is written down and passed over."""
        place = self.path / under
        if place.is_symlink():
            self.note(under, LINK)
            return []
        try:
            with os.scandir(place) as entries:
                found = sorted((entry.name, entry.is_symlink()) for entry in entries if entry.name[0] != ".")
        except FileNotFoundError:
            return []
        except OSError as error:
            self.note(under, f"cannot be listed ({error.strerror})", damaged=False)
            return []
        for name, link in found:
            if link:
                self.note(f"{under}/{name}", LINK)
        return [name for name, link in found if not link]

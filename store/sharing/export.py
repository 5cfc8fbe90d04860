"""Features for other tools: safetensors, npy, webdataset. An export has no digests and no commits: it is not a store.

In the folder of an export lie `export.json`, which tells what it is an export of, and the files of its format, each
whole or absent. So an export may be stopped at any moment; run again, it goes on.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from store.dtypes import INT8_CHANNEL
from store.errors import CorruptShardError, FormatError, StoreError
from store.feature_store import FeatureStore
from store.files import PARTIAL, partial_name, raise_for, sync_directory, write_atomic
from store.folder import LocalFolder
from store.progress import Progress, Silent, in_order
from store.sharing.formats import FORMATS, Format, Part
from store.sharing.selection import Selection, chosen_arrays, chosen_rows
from store.suggest import did_you_mean

EXPORT = "export.json"
_LARGEST_HALF = float(np.finfo(np.float16).max)


@dataclass
class Exported:
    """What an export did.

    Attributes:
        clips: number of clips.
        left_out: number of clips asked for that are not committed for all arrays.
        dtypes: array -> type in the files.
        files, bytes: written now.
        files_there: written before.
        failed: (file, problem) that could not be written.
    """

    clips: int
    left_out: int
    dtypes: dict[str, str]
    files: int = 0
    bytes: int = 0
    files_there: int = 0
    failed: list[tuple[str, str]] = field(default_factory=list)


def export(
    store: FeatureStore,
    out: Path,
    form: str,
    selection: Selection | None = None,
    *,
    clips_per_shard: int = 32,
    threads: int = 4,
    progress: Progress | None = None,
) -> Exported:
    """Write the features of a store for other tools. Clips that are not committed for all arrays are left out.

    Values of `int8-channel` become float16, or float32 if the largest does not fit. bfloat16 stays what it is in
    safetensors; NumPy has no such type, so elsewhere it becomes float32.

    Args:
        store: the store, here or elsewhere.
        out: folder for the files: new, empty, or that of the same export, which is then finished.
        form: `safetensors`, one file for a clip; `npy`, one file for a tap and a clip; `webdataset`, tar files.
        selection: which part; all of it by default.
        clips_per_shard: clips in a tar file.
        threads: files that are written at once.
        progress: hears how far it is.

    Raises:
        FormatError: something else is in the folder.
        StoreError: the format is unknown, or cannot hold what was selected.
    """
    selection, progress = selection or Selection(), progress or Silent()
    if form not in FORMATS:
        raise StoreError(did_you_mean("format", form, FORMATS))
    kind = FORMATS[form]
    names = chosen_arrays(store, selection)
    unlimited = replace(selection, limit=None)
    whole = chosen_rows(store, unlimited, names, whole=True)
    left_out = len(chosen_rows(store, unlimited, names)) - len(whole)
    rows = whole[: selection.limit]
    dtypes = {name: _dtype(store, name, kind) for name in names}
    parts = kind.parts(store, rows, dtypes, clips_per_shard)
    _check_names(parts)
    document = {"format": form, **kind.about(clips_per_shard), **_describe(store, rows, dtypes)}
    _begin(store, out, document)
    done = Exported(len(rows), left_out, dtypes)
    sizes = {name: store.committed.sizes(name) for name in names}
    weights = [int(sum(sizes[name][row] for row in part.rows for name in part.dtypes)) for part in parts]
    progress.start(sum(weights))
    with ThreadPoolExecutor(threads, thread_name_prefix="export") as pool:
        results = in_order(pool, lambda part: _write(store, out / part.file, part, kind), parts, 2 * threads)
        for part, weight, result in zip(parts, weights, results, strict=True):
            if isinstance(result, str):
                done.failed.append((part.file, result))
            elif result is None:
                done.files_there += 1
            else:
                done.files, done.bytes = done.files + 1, done.bytes + result
            progress.advance(weight)
    return done


def _write(store: FeatureStore, path: Path, part: Part, kind: Format) -> int | str | None:
    """Bytes that were written, `None` if the file is there, or what the problem is."""
    if path.exists():
        return None
    try:
        with _whole_file(path) as file:
            kind.write(file, store, part)
            return file.tell()
    except CorruptShardError as error:
        return str(error)


@contextmanager
def _whole_file(path: Path) -> Iterator[BinaryIO]:
    """A file to write into, which is at `path` once it is whole."""
    partial = partial_name(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with partial.open("xb") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            os.rename(partial, path)
        finally:
            partial.unlink(missing_ok=True)
        sync_directory(path.parent)
    except OSError as error:
        raise_for(error, path)


def _dtype(store: FeatureStore, name: str, kind: Format) -> str:
    """The type of an array's values in the files, the same whatever clips are selected."""
    dtype = store.info(name).dtype
    if dtype != INT8_CHANNEL:
        return kind.dtypes.get(dtype, dtype)
    records = (store.committed.record(int(row), name) for row in np.flatnonzero(store.committed.mask(name)))
    fits = all(max(-record.minimum, record.maximum) <= _LARGEST_HALF for record in records if record)
    return "float16" if fits else "float32"


def _describe(store: FeatureStore, rows: Sequence[int], dtypes: Mapping[str, str]) -> dict[str, Any]:
    infos = {name: store.info(name) for name in dtypes}
    return {
        "store": store.name,
        "fingerprint": store.fingerprint,
        "arrays": {
            name: {
                "dtype": dtypes[name],
                "stored_dtype": info.dtype,
                "dims": info.dims[1:],
                "attributes": dict(info.attrs),
            }
            for name, info in infos.items()
        },
        "clips": [store.clips[row].model_dump(mode="json") for row in rows],
    }


def _begin(store: FeatureStore, out: Path, document: Mapping[str, Any]) -> None:
    """Make the folder, or check that the export in it is this one."""
    if isinstance(store.folder, LocalFolder) and out.resolve().is_relative_to(store.folder.path.resolve()):
        raise FormatError(f"{out}: lies inside of the store. Choose another folder.")
    file = out / EXPORT
    content = json.dumps(document, indent=1, ensure_ascii=False).encode()
    if out.exists() and not out.is_dir():
        raise FormatError(f"{out}: a file is in the way. Move it, or choose another folder.")
    if file.exists():
        there = _read(file)
        wanted = json.loads(content)
        changed = [name for name in {**there, **wanted} if there.get(name) != wanted.get(name)]
        if changed:
            raise FormatError(
                f"{out}: holds another export ({', '.join(changed)} differ, see {EXPORT}). Choose another folder."
            )
        return
    try:
        out.mkdir(parents=True, exist_ok=True)
        if any(not child.name.endswith(PARTIAL) for child in out.iterdir()):
            raise FormatError(f"{out}: is not empty, and holds no export (no {EXPORT}). Choose another folder.")
    except OSError as error:
        raise_for(error, out)
    write_atomic(file, [content])


def _read(file: Path) -> dict[str, Any]:
    try:
        there = json.loads(file.read_bytes())
    except ValueError as error:
        raise FormatError(f"{file}: no JSON ({error}). Remove the folder, or choose another one.") from error
    return there if isinstance(there, dict) else {}


def _check_names(parts: Sequence[Part]) -> None:
    """Raise `StoreError` if two parts would be one file, also where upper and lower case are the same."""
    seen: set[str] = {EXPORT}
    for part in parts:
        if (key := part.file.casefold()) in seen:
            raise StoreError(f"{part.file}: two clips or arrays would have this file. Select one of them.")
        seen.add(key)

"""Which arrays a store has: from the consolidated metadata where a manifest vouches for it, else one by one."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from store.arrays import GROUP, ArrayInfo
from store.clips import ClipRow
from store.commits import Commit
from store.errors import FormatError
from store.folder import Folder
from store.manifest import MANIFEST, Manifest
from store.metadata import ZARR_JSON, parse_array, read_array, read_group


def load_arrays(
    folder: Folder, manifest: Manifest | None, since: Sequence[Commit], clips: Sequence[ClipRow]
) -> dict[str, ArrayInfo]:
    """Metadata of all arrays, sorted by name.

    Args:
        folder: of the store.
        manifest: the merged commits, if there are any.
        since: commits that were made since.
        clips: the clip table.

    Raises:
        FormatError: metadata are damaged, are not those that clips were committed under, or do not fit the clip table.
    """
    arrays = _consolidated(folder, manifest)
    for name in folder.names(GROUP) or ():
        if name == ZARR_JSON or name in arrays:
            continue
        try:
            info = read_array(folder, name)
        except (FileNotFoundError, NotADirectoryError):  # `verify` says so; who asks for it hears of no such array
            continue
        if info is not None:
            arrays[name] = info
    for name, digest in _committed_digests(manifest, since):
        if name in arrays and arrays[name].digest != digest:
            raise FormatError(
                f"{folder.url}/{GROUP}/{name}/{ZARR_JSON}: is not the one that clips were committed under. "
                "Restore it from a copy of the store."
            )
    _check_sizes(folder, arrays, clips)
    return dict(sorted(arrays.items()))


def _consolidated(folder: Folder, manifest: Manifest | None) -> dict[str, ArrayInfo]:
    """Arrays from the consolidated metadata, if the manifest vouches for it."""
    if manifest is None:
        return {}
    group, digest = read_group(folder)
    where = f"{folder.url}/{GROUP}/{ZARR_JSON}"
    if digest != manifest.group:
        if folder.names(GROUP) is None:
            raise FormatError(f"{where}: is not what {MANIFEST} names. Finalize the store and push it again.")
        return {}  # arrays were added since; each is read on its own
    found = {}
    consolidated = group.get("consolidated_metadata") or {"metadata": {}}
    entries = consolidated.get("metadata") if isinstance(consolidated, dict) else None
    if not isinstance(entries, dict) or not all(isinstance(entry, dict) for entry in entries.values()):
        raise FormatError(f"{where}: its consolidated metadata are no objects. Restore it from a copy of the store.")
    for name, metadata in entries.items():
        if name in manifest.arrays:
            info = parse_array(name, metadata, manifest.arrays[name], where)
            if info is not None:
                found[name] = info
    return found


def _committed_digests(manifest: Manifest | None, since: Sequence[Commit]) -> Iterator[tuple[str, str]]:
    if manifest is not None:
        yield from manifest.arrays.items()
    for commit in since:
        yield from commit.metadata.items()


def _check_sizes(folder: Folder, arrays: dict[str, ArrayInfo], clips: Sequence[ClipRow]) -> None:
    wrong = [name for name, info in arrays.items() if info.shape[0] != len(clips)]
    if wrong:
        raise FormatError(f"{folder.url}: arrays {', '.join(wrong)} do not have {len(clips)} clips.")
    longest = max(len(clip.bank) for clip in clips)
    short = [name for name, info in arrays.items() if info.framed and info.shape[1] < longest]
    if short:
        raise FormatError(
            f"{folder.url}: arrays {', '.join(short)} have fewer frames than the longest bank, {longest}."
        )

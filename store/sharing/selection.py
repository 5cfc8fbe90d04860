"""Which part of a store is meant: some arrays, some clips. Names that are not there fail with the nearest that are."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from store.arrays import SCALE
from store.errors import FormatError, MissingClipError, StoreError, UnknownArrayError
from store.folder import check_name
from store.readable import Readable
from store.suggest import did_you_mean


@dataclass(frozen=True)
class Selection:
    """A part of a store; what is empty means all of it.

    Attributes:
        arrays: taps, or other arrays. The scales of an `int8-channel` array come with it.
        splits: names of splits.
        clips: ids of clips, or their rows.
        limit: only so many clips, the first ones.
    """

    arrays: Sequence[str] = ()
    splits: Sequence[str] = ()
    clips: Sequence[str] = ()
    limit: int | None = None


def chosen_arrays(store: Readable, selection: Selection) -> list[str]:
    """The arrays that are meant, scales left out, in the order of the store.

    Raises:
        UnknownArrayError: the store has no such array.
        FormatError: an array has a name that could lead out of a folder.
        StoreError: the store has no array at all.
    """
    others = [name for name, info in store.arrays.items() if not info.is_tap and not _is_scale(store, name)]
    known = [*store.taps, *others]
    if not known:
        raise StoreError(f"{store.url}: has no arrays. Extract some first: `python -m extract`.")
    for name in selection.arrays:
        if name not in known:
            raise UnknownArrayError(f"{store.name}: {did_you_mean('tap or array', name, known)}")
    chosen = [name for name in known if not selection.arrays or name in selection.arrays]
    for name in chosen:
        check_name(name)
        if "/" in name:
            raise FormatError(f"{store.url}: {name!r} is no name of an array. Restore the store from a copy.")
    return chosen


def chosen_rows(store: Readable, selection: Selection, arrays: Sequence[str], *, whole: bool = False) -> list[int]:
    """The committed clips that are meant, as rows in order.

    Args:
        store: the store.
        selection: splits, clips and limit of it are used.
        arrays: a clip counts if it is committed for any of these.
        whole: it counts only if it is committed for all of these.

    Raises:
        MissingClipError: a clip or split is unknown, one asked for by name is not committed, or none is left.
    """
    splits = sorted({clip.split for clip in store.clips})
    for split in selection.splits:
        if split not in splits:
            raise MissingClipError(f"{store.name}: {did_you_mean('split', split, splits)}")
    named = _named(store, selection.clips)
    meant = [
        clip.row
        for clip in store.clips
        if (not selection.splits or clip.split in selection.splits) and (not selection.clips or clip.row in named)
    ]
    held = committed_for(store, arrays, np.logical_and if whole else np.logical_or)
    missing = [row for row in meant if not held[row]]
    if missing and selection.clips:
        names = ", ".join(store.clips[row].id for row in missing[:5])
        raise MissingClipError(
            f"{store.name}: {len(missing)} of the clips asked for are not committed for {_words(arrays)}: {names}"
            f"{', …' if len(missing) > 5 else ''}. Finish the store with `python -m extract`, or leave them out."
        )
    rows = [row for row in meant if held[row]][: selection.limit]
    if not rows:
        raise MissingClipError(
            f"{store.name}: none of the {len(meant)} clips asked for is committed for {_words(arrays)}. "
            "Finish the store with `python -m extract`, or ask for others."
        )
    return rows


def committed_for(
    store: Readable, arrays: Sequence[str], combine: Callable[..., NDArray[np.bool_]]
) -> NDArray[np.bool_]:
    """Which rows are committed: (clip,), the masks of the arrays combined."""
    held = store.mask(arrays[0])
    for name in arrays[1:]:
        held = combine(held, store.mask(name))
    return held


def _named(store: Readable, clips: Sequence[str]) -> set[int]:
    """Rows of clips by id, or by row where no clip has that id."""
    if not clips:
        return set()
    rows = {clip.id: clip.row for clip in store.clips}
    found = set()
    for name in clips:
        if name in rows:
            found.add(rows[name])
        elif name.isascii() and name.isdigit() and int(name) < len(store.clips):
            found.add(int(name))
        else:
            raise MissingClipError(
                f"{store.name}: {did_you_mean('clip', name, rows)}. "
                f"Name clips by id or by row, 0 … {len(store.clips) - 1}."
            )
    return found


def _is_scale(store: Readable, name: str) -> bool:
    base = name.removesuffix(SCALE)
    return base != name and base in store.arrays and store.arrays[base].scale == name


def _words(arrays: Sequence[str]) -> str:
    return ", ".join(arrays) if len(arrays) <= 4 else f"{', '.join(arrays[:4])} … ({len(arrays)} arrays)"

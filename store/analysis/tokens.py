"""The tokens of a clip, as float64 and a few at a time; all of them, or some that are drawn for each clip."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from store.digest import digest_text
from store.errors import ArrayValueError, StoreError, UnknownArrayError
from store.readable import Readable
from store.suggest import did_you_mean

SLAB = 1 << 25
"""Bytes of float64 values in work at once, if one token is not more."""


def chosen_taps(features: Readable, asked: Sequence[str]) -> list[str]:
    """Taps by name in execution order, or all of them.

    Raises:
        UnknownArrayError: the store has no such tap; names the nearest.
        StoreError: it has none at all, or one that is not channels last.
    """
    if not features.taps:
        raise StoreError(f"{features.name}: holds no taps. Name a store of features, such as store/svd.")
    for name in asked:
        if name not in features.taps:
            raise UnknownArrayError(f"{features.name}: {did_you_mean('tap', name, features.taps)}")
    taps = [name for name in features.taps if not asked or name in asked]
    for name in taps:
        if features.info(name).dims[-1] != "channel":
            raise StoreError(
                f"{features.name}: tap {name} has dimensions {features.info(name).dims}, the last of which is not "
                "channel. Leave it out: --taps."
            )
    return taps


def drawn(clip: str, count: int, most: int | None) -> NDArray[np.int64] | None:
    """Which of `count` tokens of a clip are looked at, ascending; `None` means all.

    At most `most` are drawn without replacement, seeded by the clip's id: never by order, tap or process. So taps of
    one grid are looked at in the same places, and one more clip changes nothing for the others.
    """
    if most is None or most >= count:
        return None
    rng = np.random.default_rng(int(digest_text(clip), 16))
    return np.sort(rng.choice(count, most, replace=False))


def slabs(features: Readable, tap: str, row: int, most: int | None) -> Iterator[NDArray[np.float64]]:
    """Tokens of a clip: (token, channel) each, values as `Readable.read` gives them.

    Only the frames of the clip's bank are there: a short bank has fewer tokens.

    Raises:
        ArrayValueError: a value is not finite, which no writer of ours lets pass.
        MissingClipError, CorruptShardError: as `Readable.read`.
    """
    values = features.read(tap, row)
    flat = values.reshape(-1, values.shape[-1])
    clip = features.clips[row].id
    places = drawn(clip, len(flat), most)
    flat = flat if places is None else flat[places]
    step = max(1, SLAB // (8 * flat.shape[1]))
    for start in range(0, len(flat), step):
        yield finite(flat[start : start + step].astype(np.float64), features, tap, clip)


def finite(slab: NDArray[np.float64], features: Readable, tap: str, clip: str) -> NDArray[np.float64]:
    """The slab. Raises `ArrayValueError` if a value of it is not finite."""
    if not math.isfinite(float(slab.sum())):
        raise ArrayValueError(
            f"{features.name}: {tap} of clip {clip} has values that are not finite, which no writer of this "
            "project lets pass. Extract the clip again, or leave the tap out: --taps."
        )
    return slab

"""Statistics of every tap of a store: of its channels, of its tokens' norms, and of the directions they use."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from store.analysis.components import Components, check_components, components
from store.analysis.covariance import check_channels, panels, scatter
from store.analysis.moments import Moments, fold_moments, merge_moments
from store.analysis.passes import over_clips
from store.analysis.rank import participation_ratio, rankme, singular_values
from store.analysis.tokens import chosen_taps
from store.errors import StoreError
from store.progress import Progress
from store.readable import Readable


@dataclass(frozen=True)
class TapStatistics:
    """Of one tap.

    Attributes:
        tap: its name.
        clips, channels: how many.
        moments: of each channel.
        norms: of the L2 norms of the tokens, as of one channel.
        rankme: of the tokens as they are; `None` if ranks were left out.
        rankme_centred: of the tokens less their mean.
        participation: ratio, of the covariance.
        components: if some were asked for.
    """

    tap: str
    clips: int
    channels: int
    moments: Moments
    norms: Moments
    rankme: float | None = None
    rankme_centred: float | None = None
    participation: float | None = None
    components: Components | None = None


def statistics(
    store: Readable | str | Path,
    *,
    taps: Sequence[str] = (),
    split: str | None = None,
    limit: int | None = None,
    max_tokens: int | None = None,
    ranks: bool = True,
    k: int = 0,
    progress: Progress | None = None,
) -> list[TapStatistics]:
    """Statistics of the taps of a store, each in two or more passes over the clips that all of them have.

    The first pass takes the mean, the others the covariance around it (`covariance.scatter`). Dask runs them; see
    `passes.over_clips`. Time is linear in tokens · channels².

    Args:
        store: open, or by reference.
        taps: by name; all if empty.
        split: only clips of this split.
        limit: only so many clips, the first ones.
        max_tokens: at most so many tokens of each clip, drawn by its id.
        ranks: whether RankMe and participation ratio are computed.
        k: how many principal components.
        progress: hears how far it is, in bytes that are read.

    Raises:
        UnknownArrayError, MissingClipError: there is no such tap, or no clip with all of them.
        StoreError: fewer tokens than 2, or too many channels or components.
    """
    from store.fusion.opening import open_features

    features = store if isinstance(store, Readable) else open_features(store)
    names = chosen_taps(features, taps)
    rows = features.rows(split, names)[:limit]
    widths = {name: features.info(name).shape[-1] for name in names}
    if ranks or k:
        for name, channels in widths.items():
            check_channels(features.name, name, channels, "Leave it out (--taps), or its ranks (--no-ranks).")
    passes = {name: 1 + (len(panels(channels)) if ranks or k else 0) for name, channels in widths.items()}
    if progress is not None:
        progress.start(sum(passes[name] * _size(features, name, rows) for name in names))
    return [_of_tap(features, name, rows, max_tokens, ranks, k, progress) for name in names]


def _of_tap(
    features: Readable,
    tap: str,
    rows: Sequence[int],
    most: int | None,
    ranks: bool,
    k: int,
    progress: Progress | None,
) -> TapStatistics:
    size = _size(features, tap, rows)
    fold = partial(fold_moments, tap, most)
    known, norms = over_clips([features], rows, fold, merge_moments, progress=progress, size=size)
    found = TapStatistics(tap, len(rows), len(known.mean), known, norms)
    if known.count < 2:
        raise StoreError(f"{features.name}: {tap} has {known.count} token, and its spread needs 2. Take more clips.")
    if k:
        check_components(features.name, tap, k, known.count, found.channels)
    if not (ranks or k):
        return found
    matrix = scatter(features, tap, rows, known.mean, most, progress)
    first = components(matrix, known.mean, known.count, k) if k else None
    if not ranks:
        return TapStatistics(tap, len(rows), found.channels, known, norms, components=first)
    ratio = participation_ratio(matrix)
    # Σ x xᵀ = Σ (x - mean) (x - mean)ᵀ + n mean meanᵀ: tokens as they are, from those around their mean.
    raw = singular_values(matrix + known.count * np.outer(known.mean, known.mean), known.count)
    centred = singular_values(matrix, known.count)
    return TapStatistics(tap, len(rows), found.channels, known, norms, rankme(raw), rankme(centred), ratio, first)


def _size(features: Readable, tap: str, rows: Sequence[int]) -> int:
    return int(features.sizes(tap)[list(rows)].sum())

"""Principal components of a tap."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from store.analysis.covariance import check_channels, scatter
from store.analysis.moments import fold_moments, merge_moments
from store.analysis.passes import over_clips
from store.analysis.tokens import chosen_taps
from store.errors import StoreError
from store.readable import Readable


class Components(NamedTuple):
    """Principal components: x ≈ mean + Σ_k ((x - mean) · vectors[k]) vectors[k].

    Attributes:
        mean: (channel,).
        vectors: orthonormal, the largest variance first: (component, channel). Of each, the entry that is largest in
            magnitude is positive; of several such, the first.
        variance: of the tokens along each, divided by their count: (component,).
        share: of the variance of all channels together: (component,).
    """

    mean: NDArray[np.float64]
    vectors: NDArray[np.float64]
    variance: NDArray[np.float64]
    share: NDArray[np.float64]


def pca(
    store: Readable | str | Path,
    tap: str,
    k: int,
    *,
    split: str | None = None,
    limit: int | None = None,
    max_tokens: int | None = None,
    rows: Sequence[int] | None = None,
) -> Components:
    """The first k principal components of a tap, from its covariance in float64. See `statistics` for the arguments.

    Args:
        store: open, or by reference.
        tap, k: what, and how many.
        split, limit, max_tokens: of which clips and tokens.
        rows: of exactly these clips, instead of `split` and `limit`.

    Raises:
        UnknownArrayError, MissingClipError: there is no such tap, or no clip of it.
        StoreError: more components than channels, or than tokens can span; or too many channels.
    """
    from store.fusion.opening import open_features

    features = store if isinstance(store, Readable) else open_features(store)
    chosen_taps(features, [tap])
    channels = features.info(tap).shape[-1]
    check_channels(features.name, tap, channels, "Leave the tap out.")
    rows = features.rows(split, [tap])[:limit] if rows is None else rows
    known, _ = over_clips([features], rows, partial(fold_moments, tap, max_tokens), merge_moments)
    check_components(features.name, tap, k, known.count, channels)
    return components(scatter(features, tap, rows, known.mean, max_tokens), known.mean, known.count, k)


def check_components(name: str, tap: str, k: int, tokens: int, channels: int) -> None:
    """Raise `StoreError` if tokens and channels have no k components."""
    most = min(tokens - 1, channels)
    if not 1 <= k <= most:
        raise StoreError(
            f"{name}: {tap} has no {k} principal components: {tokens} tokens of {channels} channels have "
            f"{most}. Ask for fewer, or look at more tokens."
        )


def components(matrix: NDArray[np.float64], mean: NDArray[np.float64], tokens: int, k: int) -> Components:
    """Components from a scatter matrix (`covariance.scatter`), which is left as it is."""
    from scipy.linalg import eigh

    channels = len(mean)
    values, vectors = eigh(matrix, subset_by_index=(channels - k, channels - 1), check_finite=False)
    rows = np.ascontiguousarray(vectors.T[::-1])
    largest = np.take_along_axis(rows, np.abs(rows).argmax(1)[:, None], 1)
    variance = np.maximum(values[::-1], 0.0) / tokens
    total = float(np.trace(matrix)) / tokens
    return Components(mean, rows * np.sign(largest), variance, variance / total if total else variance)

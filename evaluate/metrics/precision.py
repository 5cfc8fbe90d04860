"""Average precision of all classes under all resamples: every class is ranked once, and then only sums are taken."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int
from numpy.typing import NDArray

from evaluate.metrics.base import ratio

if TYPE_CHECKING:
    from scipy.sparse import csr_array

_RESAMPLES = 256
"""At a time: the sums of one class stay in a core's cache."""
_BLOCK = 8
"""Rows that are summed up at once."""
_LOWER = np.tri(_BLOCK)


class _Ranking(NamedTuple):
    """The positives of one class, from the highest score down, in rows that are padded to blocks.

    Attributes:
        scenes: of the positive in each row; one more than there are for padding.
        entered: samples of each scene that enter with each row.
        last: of each row the one with which all samples of its score have entered; None if that is itself everywhere.
    """

    scenes: Int[np.ndarray, " row"]
    entered: csr_array
    last: Int[np.ndarray, " row"] | None


def class_average_precision(
    scores: Float[np.ndarray, "scene window class"],
    labels: Bool[np.ndarray, "scene window class"],
    weights: Float[np.ndarray, "resample scene"],
    *,
    ordered: bool = False,
) -> Float[np.ndarray, "resample class"]:
    """Return AP = sum_n (R_n - R_{n-1}) P_n of each class, all windows pooled, for each row of scene weights.

    Only where a positive enters does recall rise, so sums of weights are needed there alone.

    Args:
        scores: higher ranks first.
        labels: which samples are positives.
        weights: of each scene, and so of each of its windows.
        ordered: whether of equal scores the sample that comes first ranks higher; else equal scores enter together,
            as in `sklearn.metrics.average_precision_score`.

    Returns:
        NaN where no positive has weight.
    """
    number, windows, classes = scores.shape
    orders = np.argsort(-scores.reshape(-1, classes), axis=0, kind="stable")
    rankings = [
        _ranking(scores[..., k].ravel()[order], labels[..., k].ravel()[order], order // windows, number, ordered)
        for k, order in enumerate(orders.T)
    ]
    found = np.full((len(weights), classes), np.nan)
    for start in range(0, len(weights), _RESAMPLES):
        some = slice(start, start + _RESAMPLES)
        drawn = np.zeros((number + 1, len(weights[some])))
        drawn[:-1] = weights[some].T
        for column, ranking in enumerate(rankings):
            if ranking is not None:
                found[some, column] = _weighted(ranking, drawn)
    return found


def _ranking(
    scores: Float[np.ndarray, " sample"],
    labels: Bool[np.ndarray, " sample"],
    scenes: Int[np.ndarray, " sample"],
    number: int,
    ordered: bool,
) -> _Ranking | None:
    """Return the ranking of samples that come from the highest score down; None if none is a positive."""
    from scipy.sparse import csr_array

    ranks = np.flatnonzero(labels)
    if not len(ranks):
        return None
    ends = ranks if ordered else np.searchsorted(-scores, -scores[ranks], side="right") - 1
    rows = -(-len(ranks) // _BLOCK) * _BLOCK
    padded = np.full(rows, number)
    padded[: len(ranks)] = scenes[ranks]
    counts = np.bincount(np.searchsorted(ends, np.arange(ends[-1] + 1)), minlength=rows)
    starts = np.concatenate([[0], np.cumsum(counts)])
    entered = csr_array((np.ones(starts[-1]), scenes[: starts[-1]], starts), shape=(rows, number + 1))
    last = np.arange(rows)
    last[: len(ranks)] = np.searchsorted(ends, ends, side="right") - 1
    return _Ranking(padded, entered, None if (last == np.arange(rows)).all() else last)


def _weighted(ranking: _Ranking, drawn: Float[np.ndarray, "scene resample"]) -> Float[np.ndarray, " resample"]:
    gained = drawn[ranking.scenes]
    hits, claims = _summed_up(gained), _summed_up(ranking.entered @ drawn)
    whole = hits[-1].copy()
    if ranking.last is not None:
        hits, claims = hits[ranking.last], claims[ranking.last]
    # Hits are 0 where claims are.
    precision = np.divide(hits, claims, out=hits, where=True if claims[0].min() > 0 else claims > 0)
    gained *= precision
    return ratio(gained.sum(axis=0), whole)


def _summed_up(rows: Float[np.ndarray, "row resample"]) -> Float[np.ndarray, "row resample"]:
    """Return the sum of each row and those above it: within blocks by a product, then over blocks."""
    blocks: NDArray[np.float64] = np.matmul(_LOWER, rows.reshape(-1, _BLOCK, rows.shape[1]))
    for block, above in zip(blocks[1:], blocks[:-1], strict=True):
        block += above[-1]
    return blocks.reshape(rows.shape)

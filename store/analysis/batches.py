"""HSIC of linear kernels between taps, in token space: the mean over small batches of tokens."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import numpy as np
from numpy.typing import NDArray

from store.analysis.matching import Matched, Rows, size
from store.analysis.passes import over_clips
from store.errors import StoreError
from store.progress import Progress
from store.readable import Readable

CLIPS = 16
"""Clips of a batch."""
TOKENS = 32
"""Tokens of a clip in a batch, if it is not said otherwise."""
MOST_TOKENS = 64
LEAST = 4
"""Tokens that the unbiased estimator needs."""


def hsic_of_batches(
    sources: Sequence[Readable], rows: Sequence[Rows], plan: Matched, progress: Progress | None = None
) -> tuple[NDArray[np.float64], int]:
    """The mean of the unbiased HSIC_1 over batches, between all sides; and the number of tokens.

    Minibatch CKA (Nguyen et al. 2021, arXiv:2010.15327, equations 2 and 3) is the ratio of such means. Its batches are
    drawn from all tokens; here a batch takes `plan.most` tokens of each of 16 clips that lie far from each other in the
    clip table, and every clip is in one batch. Tokens of one clip resemble each other, and a batch has somewhat more
    pairs of such tokens than one that is drawn from all clips.

    Raises:
        StoreError: a batch has fewer tokens than 4.
    """
    count = -(-len(rows) // CLIPS)
    batches = [list(rows[number::count]) for number in range(count)]
    bytes_read = size(sources, plan.sides, rows)
    if progress is not None:
        progress.start(bytes_read)
    total, tokens = over_clips(
        sources, batches, partial(_fold, plan), _merge, progress=progress, size=bytes_read, clips=1
    )
    return total / count, tokens


Sum = tuple[NDArray[np.float64], int]


def _fold(plan: Matched, sources: Sequence[Readable], batches: Sequence[Sequence[Rows]]) -> Sum:
    sides = range(len(plan.sides))
    total: Sum = np.zeros((len(sides), len(sides))), 0
    for batch in batches:
        clips = [plan.clip(sources, rows, sides) for rows in batch]
        tokens = sum(len(clip[0]) for clip in clips)
        if tokens < LEAST:
            raise StoreError(
                f"{sources[0].name}: a batch of {len(batch)} clips has {tokens} tokens, and the debiased estimator "
                f"needs {LEAST}. Take more clips or tokens, or --estimator biased --method features."
            )
        kernels = [unbiased_kernel(np.concatenate([clip[number] for clip in clips])).reshape(-1) for number in sides]
        stacked = np.stack(kernels)
        total = _merge(total, (stacked @ stacked.T / (tokens * (tokens - 3)), tokens))
    return total


def _merge(a: Sum, b: Sum) -> Sum:
    return a[0] + b[0], a[1] + b[1]


def unbiased_kernel(tokens: NDArray[np.float64]) -> NDArray[np.float64]:
    """The linear kernel of (token, channel), centred so that products of two of them are HSIC_1 times n (n - 3).

    U-centring (Székely & Rizzo 2014, doi:10.1214/14-AOS1255, definition 2): zeros on the diagonal, and outside of it
    k - row sum / (n - 2) - column sum / (n - 2) + sum / ((n - 1)(n - 2)). The sum of its products with another one is
    the bracket of HSIC_1 in Song et al. 2012. It does not change with the mean of the tokens, which is taken off first
    so that nothing cancels.
    """
    count = len(tokens)
    centred = tokens - tokens.mean(0)
    kernel = centred @ centred.T
    np.fill_diagonal(kernel, 0.0)
    sums = kernel.sum(0) / (count - 2)
    kernel += sums.sum() / (count - 1) - sums[:, None] - sums
    np.fill_diagonal(kernel, 0.0)
    return np.asarray(kernel)

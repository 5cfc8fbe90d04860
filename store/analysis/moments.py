"""Count, mean, central moments, extremes and zeros of every channel, in one pass that may be cut anywhere."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from store.analysis.tokens import slabs
from store.readable import Readable

_LINES = 256
"""Tokens that are taken together: what is computed in between stays in the cache."""


@dataclass(frozen=True)
class Moments:
    """Of all tokens, for every channel.

    Attributes:
        count: number of tokens.
        mean: (channel,).
        m2, m3, m4: sums of the powers of the distance from the mean: (channel,).
        minimum, maximum: (channel,).
        zeros: tokens in which the channel is exactly 0: (channel,).
    """

    count: int
    mean: NDArray[np.float64]
    m2: NDArray[np.float64]
    m3: NDArray[np.float64]
    m4: NDArray[np.float64]
    minimum: NDArray[np.float64]
    maximum: NDArray[np.float64]
    zeros: NDArray[np.int64]

    @property
    def std(self) -> NDArray[np.float64]:
        """Standard deviation, divided by the count: (channel,)."""
        return np.asarray(np.sqrt(self.m2 / self.count))

    @property
    def constant(self) -> NDArray[np.bool_]:
        """Channels that have one value in all tokens: (channel,)."""
        return np.asarray(self.minimum == self.maximum)

    @property
    def kurtosis(self) -> NDArray[np.float64]:
        """Excess kurtosis n m4 / m2² - 3, 0 for a normal distribution; NaN for constant channels: (channel,)."""
        spread = np.where(self.constant | (self.m2 == 0), np.nan, self.m2)
        return np.asarray(self.count * (self.m4 / spread / spread) - 3)


def moments_of(values: NDArray[np.float64]) -> Moments:
    """Moments of (token, channel), at least one token."""
    mean = values.mean(0)
    distance = values - mean
    square = distance * distance
    return Moments(
        count=len(values),
        mean=mean,
        m2=square.sum(0),
        m3=np.einsum("tc,tc->c", square, distance),
        m4=np.einsum("tc,tc->c", square, square),
        minimum=values.min(0),
        maximum=values.max(0),
        zeros=np.count_nonzero(values == 0, axis=0).astype(np.int64),
    )


def merged(a: Moments, b: Moments) -> Moments:
    """Moments of both together (Pébay 2008, Sandia report SAND2008-6212, equations 2.1 and 3.1 for powers 2 to 4)."""
    count = a.count + b.count
    delta = b.mean - a.mean
    p, q = a.count / count, b.count / count
    step = delta * delta * (a.count * q)
    return Moments(
        count=count,
        mean=a.mean + delta * q,
        m2=a.m2 + b.m2 + step,
        m3=a.m3 + b.m3 + step * delta * (p - q) + 3 * delta * (p * b.m2 - q * a.m2),
        m4=a.m4
        + b.m4
        + step * delta * delta * (p * p - p * q + q * q)
        + 6 * delta * delta * (p * p * b.m2 + q * q * a.m2)
        + 4 * delta * (p * b.m3 - q * a.m3),
        minimum=np.minimum(a.minimum, b.minimum),
        maximum=np.maximum(a.maximum, b.maximum),
        zeros=a.zeros + b.zeros,
    )


Both = tuple[Moments, Moments]
"""Of the channels, and of the tokens' L2 norms as if these were one channel more."""


def fold_moments(tap: str, most: int | None, sources: Sequence[Readable], rows: Sequence[int]) -> Both:
    """Moments of some clips of a tap, for `over_clips`."""
    total: Both | None = None
    for row in rows:
        for slab in slabs(sources[0], tap, row, most):
            for start in range(0, len(slab), _LINES):
                lines = slab[start : start + _LINES]
                norms = np.sqrt(np.einsum("tc,tc->t", lines, lines))[:, None]
                here = moments_of(lines), moments_of(norms)
                total = here if total is None else merge_moments(total, here)
    assert total is not None
    return total


def merge_moments(a: Both, b: Both) -> Both:
    """Both together."""
    return merged(a[0], b[0]), merged(a[1], b[1])

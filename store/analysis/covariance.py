"""The scatter matrix of a tap, in panels of columns, so that what a worker adds up stays small."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from operator import add

import numpy as np
from numpy.typing import NDArray

from store.analysis.passes import over_clips
from store.analysis.tokens import slabs
from store.errors import StoreError
from store.progress import Progress
from store.readable import Readable

PANEL = 1 << 26
"""Bytes of a panel: 2896 channels are one panel and one pass; 9216 channels are 11."""
MOST_CHANNELS = 12288
"""The matrix has 1.2 GB then, and its eigenvalues need a second one."""


def panels(channels: int) -> list[tuple[int, int]]:
    """First and last column of each panel."""
    width = max(1, PANEL // (8 * channels))
    return [(start, min(start + width, channels)) for start in range(0, channels, width)]


def check_channels(name: str, tap: str, channels: int, remedy: str) -> None:
    """Raise `StoreError` if a tap is too wide for its covariance."""
    if channels > MOST_CHANNELS:
        raise StoreError(
            f"{name}: {tap} has {channels} channels, and a covariance of more than {MOST_CHANNELS} is not computed "
            f"({channels**2 * 8 / 1e9:.1f} GB). {remedy}"
        )


def scatter(
    features: Readable,
    tap: str,
    rows: Sequence[int],
    mean: NDArray[np.float64],
    most: int | None = None,
    progress: Progress | None = None,
) -> NDArray[np.float64]:
    """Sum over tokens of (x - mean) (x - mean)ᵀ, in float64: (channel, channel).

    Every panel is one pass over the clips, which computes only what is not known by symmetry: reading a clip again is
    cheap beside its product. A projection to fewer channels would be cheaper still, but has another rank.

    Args:
        features, tap, rows: of what.
        mean: of the same tokens: (channel,).
        most: tokens of a clip, see `drawn`.
        progress: hears of the bytes of every pass.
    """
    channels = len(mean)
    whole = np.empty((channels, channels))
    size = int(features.sizes(tap)[list(rows)].sum())
    for start, stop in panels(channels):
        fold = partial(_fold, tap, most, mean, start, stop)
        panel = over_clips([features], rows, fold, add, progress=progress, size=size)
        whole[start:, start:stop] = panel
        whole[start:stop, start:] = panel.T
    return whole


def _fold(
    tap: str,
    most: int | None,
    mean: NDArray[np.float64],
    start: int,
    stop: int,
    sources: Sequence[Readable],
    rows: Sequence[int],
) -> NDArray[np.float64]:
    total = np.zeros((len(mean) - start, stop - start))
    for row in rows:
        for slab in slabs(sources[0], tap, row, most):
            slab -= mean
            total += slab[:, start:].T @ slab[:, start:stop]  # of all columns, BLAS computes one triangle only
    return total

"""Whether two models differ on the same scenes: tests of paired differences, and their correction for being many."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from jaxtyping import Bool, Float
from numpy.typing import ArrayLike, NDArray

from evaluate.errors import InputError
from evaluate.metrics.base import Arrays, Protocol
from evaluate.repeats import repeat_shares

FLIPS = 20_000
"""Random sign flips where there are too many to try all."""
EXACT_SCENES = 14
"""Up to so many scenes all sign flips are tried."""
_STEP = 0.1


@dataclass(frozen=True)
class Contributions:
    """What each scene says of a metric: `value` is their mean over the scenes that say something.

    `scenes` is NaN where the scene has nothing to measure. `exact` tells whether they are the scenes' own values, so
    that the metric is their mean; if not, they are what the metric would be, to first order, if all scenes were alike.
    """

    value: float
    scenes: NDArray[np.float64]
    exact: bool


def influences(protocol: Protocol, statistics: Arrays) -> dict[str, Float[np.ndarray, " scene"]]:
    """Return by how much each metric moves per weight that a scene is given at the cost of all others.

    The infinitesimal jackknife (Jaeckel 1972; Efron 1982, "The Jackknife, the Bootstrap and Other Resampling Plans",
    chapter 6), as a central difference. Of a mean over scenes it is x_i - mean. Leaving whole scenes out instead
    would lose the classes that only one scene has.
    """
    scenes = len(next(iter(statistics.values())))
    step = _STEP / scenes
    others, own = np.ones((scenes, scenes)), scenes * np.eye(scenes)
    weights = np.concatenate([others + step * (own - 1), others - step * (own - 1)])
    moved = protocol.reduce_weighted(statistics, weights)
    return {name: (moved[name][:scenes] - moved[name][scenes:]) / (2 * step) for name in protocol.metrics}


def contributions(protocol: Protocol, repeats: Sequence[Arrays], draws: Sequence[str], metric: str) -> Contributions:
    """Return what each scene says of the mean over repeats of a metric.

    Args:
        protocol: whose metric.
        repeats: statistics of each repeat on the same scenes, in the same order.
        draws: which draw of the noise each repeat saw; see `evaluate.repeats`.
        metric: one of `protocol.metrics`.
    """
    shares = repeat_shares(draws)
    found = [_contributions(protocol, statistics, metric) for statistics in repeats]
    return Contributions(
        float(shares @ [one.value for one in found]),
        shares @ np.stack([one.scenes for one in found]),
        all(one.exact for one in found),
    )


def _contributions(protocol: Protocol, statistics: Arrays, metric: str) -> Contributions:
    scenes = len(next(iter(statistics.values())))
    alone = protocol.reduce_weighted(statistics, np.eye(scenes))[metric]
    moved = influences(protocol, statistics)[metric]
    value = protocol.reduce(statistics)[metric]
    # A scene without a positive of any class has no mAP of its own, but its false alarms count in the pool.
    silent = np.isnan(alone) & ~(np.abs(moved) > 1e-9 * max(abs(value), 1e-12))
    said = value + moved
    if silent.any() and not silent.all():
        rows = {name: array[~silent] for name, array in statistics.items()}
        said[~silent] = value + influences(protocol, rows)[metric]
    said[silent] = np.nan
    exact = np.allclose(said[~silent], alone[~silent], rtol=1e-7, atol=1e-9)
    return Contributions(value, said, bool(exact))


def sign_flip_test(differences: ArrayLike, *, seed: int = 0, flips: int = FLIPS) -> float:
    """Return the two-sided p of the mean of paired differences under flips of their signs.

    Fisher's test (1935, "The Design of Experiments", section 21): if two models are exchangeable within each scene,
    every difference could as well have had the other sign. All 2^n flips are tried for up to `EXACT_SCENES` scenes;
    else p = (1 + hits) / (1 + flips), which is never 0 (Phipson & Smyth 2010).

    Args:
        differences: one per scene; NaN is left out. NaN is returned if nothing is left.
        seed: of random flips.
        flips: how many random ones.
    """
    known = np.asarray(differences, np.float64)
    known = known[np.isfinite(known)]
    if not len(known):
        return float("nan")
    # Ties must count as such in spite of rounding.
    least = abs(known.sum()) - 1e-6 * np.abs(known).sum()
    if len(known) <= EXACT_SCENES:
        return float(np.mean(np.abs(_all_signs(len(known)) @ known) >= least))
    signs = _random_signs(len(known), seed, flips)
    hits = int(np.count_nonzero(np.abs(signs @ known.astype(np.float32)) >= least))
    return (1 + hits) / (1 + flips)


def smallest_p(scenes: int) -> float:
    """Return the least p that `sign_flip_test` can give with so many scenes: 2 of 2^n flips, or 1 of `FLIPS`."""
    if scenes < 1:
        return float("nan")
    return 2.0 ** (1 - scenes) if scenes <= EXACT_SCENES else 1 / (1 + FLIPS)


def holm(p: ArrayLike) -> NDArray[np.float64]:
    """Return p adjusted for being many: at most alpha of all families of tests have one false find at level alpha.

    Holm 1979, "A simple sequentially rejective multiple test procedure", Scandinavian Journal of Statistics 6. NaN is
    no test: it stays NaN and is not counted.

    Raises:
        InputError: a p is not in [0, 1].
    """
    raw = np.asarray(p, np.float64)
    tested = np.flatnonzero(np.isfinite(raw))
    if np.any((raw[tested] < 0) | (raw[tested] > 1)):
        raise InputError(f"p must lie in [0, 1]; got {raw[tested].min()} .. {raw[tested].max()}")
    order = tested[np.argsort(raw[tested], kind="stable")]
    adjusted = np.full(raw.shape, np.nan)
    steps = raw[order] * np.arange(len(order), 0, -1)
    adjusted[order] = np.minimum(np.maximum.accumulate(steps), 1.0)
    return adjusted


def _all_signs(number: int) -> Float[np.ndarray, "flip scene"]:
    flipped: Bool[np.ndarray, "flip scene"] = (np.arange(2**number)[:, None] >> np.arange(number)) & 1 > 0
    return np.where(flipped, -1.0, 1.0)


@lru_cache(maxsize=2)
def _random_signs(number: int, seed: int, flips: int) -> NDArray[np.float32]:
    signs = np.random.default_rng([seed, number]).integers(0, 2, (flips, number), dtype=np.int8)
    return signs.astype(np.float32) * 2 - 1

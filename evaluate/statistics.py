"""How sure one may be: the Bayesian bootstrap over scenes, for a number and for the difference to a control.

Scenes are what a test set is drawn from (frames of one scene resemble each other), so scenes are what is resampled.
Every resample keeps every scene and draws its weight (Rubin 1981, "The Bayesian bootstrap", Annals of Statistics 9).
For means it agrees with drawing whole scenes; for averages over classes it does not lose the classes that only one
scene has (docs/decisions/005-bayesian-bootstrap.md).
Probes that were tested on equally many scenes get the same draws; a difference of two draws is therefore paired.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property, lru_cache

import numpy as np
from jaxtyping import Float
from numpy.typing import NDArray

from evaluate.errors import InputError
from evaluate.metrics.base import Arrays, Protocol

RESAMPLES = 1000
LEVEL = 0.95


@dataclass(frozen=True)
class Interval:
    """A value with its percentile interval; all NaN where there is nothing to measure."""

    value: float
    low: float
    high: float

    def overlaps(self, other: Interval) -> bool:
        """Whether both intervals share a point."""
        return self.low <= other.high and other.low <= self.high

    @property
    def excludes_zero(self) -> bool:
        """Whether zero lies outside the interval: for a difference, that its sign is clear."""
        return self.low > 0 or self.high < 0


def resample(scenes: int, *, seed: int = 0, resamples: int = RESAMPLES) -> Float[np.ndarray, "resample scene"]:
    """Return the weight of each scene in each resample: flat Dirichlet rows that sum to `scenes`. Read only."""
    if scenes < 1:
        raise InputError("the bootstrap needs at least one scene; got none")
    return _weights(scenes, seed, resamples)


@lru_cache(maxsize=8)
def _weights(scenes: int, seed: int, resamples: int) -> NDArray[np.float64]:
    """Drawn once for all probes that were tested on as many scenes."""
    weights: NDArray[np.float64] = np.random.default_rng(seed).dirichlet(np.ones(scenes), size=resamples) * scenes
    weights.flags.writeable = False
    return weights


def percentile_interval(value: float, draws: Float[np.ndarray, " resample"], level: float = LEVEL) -> Interval:
    """Return the interval that holds the middle `level` of the draws (Efron & Tibshirani 1993, chapter 13).

    Resamples in which there was nothing to measure (NaN) are left out.
    """
    known = draws[np.isfinite(draws)]
    if not len(known) or math.isnan(value):
        return Interval(value, math.nan, math.nan)
    known.sort()
    low, high = (_quantile(known, share) for share in ((1 - level) / 2, (1 + level) / 2))
    return Interval(value, low, high)


def _quantile(rising: Float[np.ndarray, " value"], share: float) -> float:
    """Return what `numpy.quantile` does, which takes ten times as long to find out what it was asked."""
    place = share * (len(rising) - 1)
    first = math.floor(place)
    low, high = (float(rising[min(k, len(rising) - 1)]) for k in (first, first + 1))
    return low + (high - low) * (place - first)


@dataclass(frozen=True)
class Estimate:
    """Metrics of one probe over some scenes, with their values under the resamples."""

    values: dict[str, float]
    draws: dict[str, NDArray[np.float64]]

    @cached_property
    def _intervals(self) -> dict[str, Interval]:
        """Computed once: a report shows most of them several times."""
        return {name: percentile_interval(self.values[name], draws) for name, draws in self.draws.items()}

    def interval(self, metric: str) -> Interval:
        """Return a metric with its interval."""
        return self._intervals[metric]

    def minus(self, control: Estimate, metric: str) -> Interval:
        """Return the paired difference to a control that was estimated from the same scenes with the same resamples."""
        difference = self.values[metric] - control.values[metric]
        return percentile_interval(difference, self.draws[metric] - control.draws[metric])


def estimate(protocol: Protocol, statistics: Arrays, *, seed: int = 0, resamples: int = RESAMPLES) -> Estimate:
    """Return every metric of the protocol over all given scenes, and under the bootstrap over them.

    One scene says nothing of others: its draws are NaN, and there is no interval.
    """
    scenes = len(next(iter(statistics.values())))
    if scenes == 1:
        return Estimate(protocol.reduce(statistics), dict.fromkeys(protocol.metrics, np.full(resamples, np.nan)))
    weights = resample(scenes, seed=seed, resamples=resamples)
    # The value is the row that weighs every scene once: what does not depend on weights is worked out once for both.
    found = protocol.reduce_weighted(statistics, np.concatenate([np.ones((1, scenes)), weights]))
    return Estimate(
        {name: float(values[0]) for name, values in found.items()}, {name: values[1:] for name, values in found.items()}
    )


def estimate_classes(
    protocol: Protocol, statistics: Arrays, *, seed: int = 0, resamples: int = RESAMPLES
) -> dict[str, list[Interval]]:
    """Return every per-class metric of the protocol with its interval, one entry per class; of one scene without it."""
    scenes = len(next(iter(statistics.values())))
    if scenes == 1:
        known = protocol.per_class(statistics)
        return {name: [Interval(float(v), math.nan, math.nan) for v in values] for name, values in known.items()}
    draws = protocol.per_class_weighted(statistics, resample(scenes, seed=seed, resamples=resamples))
    return {
        name: [percentile_interval(float(value), draws[name][:, k]) for k, value in enumerate(values)]
        for name, values in protocol.per_class(statistics).items()
    }

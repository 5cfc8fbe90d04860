"""How sure one may be where a tap has several probes: seeds of training, and draws of the noise in the features.

Three factors make such a number vary: which scenes are in the test set, which noise was drawn for the features, and
the seed a probe was trained with. Seeds are nested in draws (every store has probes of its own); scenes are crossed
with both (every probe meets all of them).

The estimate is the mean over draws of the mean over seeds. Its interval weighs scenes as `evaluate.statistics` does
and, independently, redraws the repeats: crossed factors one by one, after Owen (2007, "The pigeonhole bootstrap",
Annals of Applied Statistics 1), which is never too narrow but for the number of levels. Of nested factors the
outermost with several levels is redrawn with all that is in it (Davison & Hinkley 1997, "Bootstrap Methods and their
Application", section 3.8): draws of the noise, or seeds where there is one draw. The spread of draws holds that of
seeds already; redrawing both would count seeds twice.

Of n levels n - 1 are drawn with replacement. Then the variance of the redrawn mean is s^2 / n without bias, however
small n is (Rao & Wu 1988, "Resampling inference with complex survey data", Journal of the American Statistical
Association 83); drawing n of n makes it (n - 1) / n of that, half of it for two seeds.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float
from numpy.typing import NDArray

from evaluate.errors import InputError
from evaluate.metrics.base import Arrays, Protocol
from evaluate.statistics import (
    RESAMPLES,
    Estimate,
    Interval,
    estimate,
    estimate_classes,
    percentile_interval,
    resample,
)


def redraw(
    levels: int, *, seed: int = 0, resamples: int = RESAMPLES, stream: str = ""
) -> Float[np.ndarray, "resample level"]:
    """Return the weight of each level of a factor in each resample: rows that sum to 1, from n - 1 draws of n.

    Args:
        levels: how many there are; the weight of a single one is always 1.
        seed, resamples: of the bootstrap.
        stream: what is redrawn. Equal names get equal weights, others independent ones.
    """
    if levels < 1:
        raise InputError("a factor needs at least one level; got none")
    if levels == 1:
        return np.ones((resamples, 1))
    generator = np.random.default_rng([seed, zlib.crc32(stream.encode())])
    drawn = generator.multinomial(levels - 1, np.full(levels, 1 / levels), size=resamples)
    return np.asarray(drawn / (levels - 1), np.float64)


def repeat_shares(draws: Sequence[str]) -> Float[np.ndarray, " repeat"]:
    """Return the share of each repeat in the estimate: every draw counts the same, and so does every seed of a draw."""
    number = len(set(draws))
    return np.array([1 / (number * list(draws).count(draw)) for draw in draws])


def repeat_weights(
    draws: Sequence[str], *, seed: int = 0, resamples: int = RESAMPLES, stream: str = ""
) -> Float[np.ndarray, "resample repeat"]:
    """Return the share of each repeat in each resample: draws are redrawn with their seeds, or seeds if all share one.

    Args:
        draws: which draw of the noise each repeat saw.
        seed, resamples, stream: as for `redraw`.
    """
    names = list(dict.fromkeys(draws))
    if len(names) == 1:
        return redraw(len(draws), seed=seed, resamples=resamples, stream=stream)
    drawn = redraw(len(names), seed=seed, resamples=resamples, stream=stream)
    return np.stack([drawn[:, names.index(draw)] / list(draws).count(draw) for draw in draws], axis=1)


def estimate_repeats(
    protocol: Protocol,
    repeats: Sequence[Arrays],
    draws: Sequence[str],
    *,
    seed: int = 0,
    resamples: int = RESAMPLES,
    stream: str = "",
) -> Estimate:
    """Return every metric as its mean over repeats, and under the bootstrap over scenes and repeats.

    Of one repeat it is `evaluate.statistics.estimate`. A metric that one repeat cannot measure has no mean: NaN.

    Args:
        protocol: whose metrics.
        repeats: statistics of each repeat on the same scenes, in the same order.
        draws: which draw of the noise each repeat saw.
        seed, resamples: of the bootstrap.
        stream: names what was repeated; estimates of different names are redrawn independently.
    """
    if len(repeats) == 1:
        return estimate(protocol, repeats[0], seed=seed, resamples=resamples)
    found = [estimate(protocol, statistics, seed=seed, resamples=resamples) for statistics in repeats]
    shares = repeat_shares(draws)
    weights = repeat_weights(draws, seed=seed, resamples=resamples, stream=stream)
    return Estimate(
        {name: float(shares @ [one.values[name] for one in found]) for name in protocol.metrics},
        {name: _mixed(weights, np.stack([one.draws[name] for one in found], axis=1)) for name in protocol.metrics},
    )


def estimate_repeated_classes(
    protocol: Protocol,
    repeats: Sequence[Arrays],
    draws: Sequence[str],
    *,
    seed: int = 0,
    resamples: int = RESAMPLES,
    stream: str = "",
) -> dict[str, list[Interval]]:
    """Return every per-class metric as its mean over repeats with its interval; arguments as `estimate_repeats`."""
    if len(repeats) == 1:
        return estimate_classes(protocol, repeats[0], seed=seed, resamples=resamples)
    scenes = len(next(iter(repeats[0].values())))
    alone = scenes == 1  # says nothing of other scenes
    over = resample(scenes, seed=seed, resamples=resamples)
    drawn = [protocol.per_class_weighted(statistics, over) for statistics in repeats]
    known = [protocol.per_class(statistics) for statistics in repeats]
    shares = repeat_shares(draws)
    weights = repeat_weights(draws, seed=seed, resamples=resamples, stream=stream)
    result = {}
    for name in known[0]:
        values = shares @ np.stack([one[name] for one in known])
        cube = np.stack([one[name] for one in drawn], axis=1)
        result[name] = [
            percentile_interval(float(value), _mixed(weights, np.where(alone, np.nan, cube[:, :, k])))
            for k, value in enumerate(values)
        ]
    return result


def _mixed(
    weights: Float[np.ndarray, "resample repeat"], values: Float[np.ndarray, "resample repeat"]
) -> Float[np.ndarray, " resample"]:
    # A repeat that was not drawn has no say, also where it is NaN.
    mixed: NDArray[np.float64] = np.where(weights > 0, weights * values, 0.0).sum(axis=1)
    return mixed

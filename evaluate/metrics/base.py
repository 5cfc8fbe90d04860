"""What a protocol is: one scene becomes sufficient statistics, many scenes become numbers.

A protocol reduces statistics under *scene weights*: the point estimate weighs every scene once, and a bootstrap
resample draws a weight for every scene. Both go through
`Protocol.reduce_weighted`, so a confidence interval can never be computed by other rules than the number it
surrounds.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from jaxtyping import Float, Shaped
from numpy.typing import ArrayLike, NDArray

from evaluate.errors import InputError

Arrays = Mapping[str, NDArray[Any]]


@dataclass(frozen=True)
class MetricInfo:
    """How to read one metric. With unit `%` the value is a fraction and is shown times 100."""

    title: str
    unit: str
    higher_is_better: bool
    description: str

    @property
    def arrow(self) -> str:
        """An arrow that points where better is."""
        return "↑" if self.higher_is_better else "↓"

    def better(self, value: float, than: float) -> bool:
        """Whether `value` beats `than`. NaN beats nothing, and everything else beats NaN."""
        if math.isnan(value) or math.isnan(than):
            return math.isnan(than) and not math.isnan(value)
        return value > than if self.higher_is_better else value < than

    def format(self, value: float, unit: bool = True) -> str:
        """Return the value as people read it: `71.2 %`, `0.183 m`, and `n/a` for NaN."""
        if math.isnan(value):
            return "n/a"
        text = f"{100 * value:.1f}" if self.unit == "%" else f"{value:.3f}"
        return f"{text} {self.unit}" if unit and self.unit else text


class Protocol(ABC):
    """A task's evaluation rules, with id and version.

    Args:
        classes: names of classes `1 .. K`; empty for tasks without classes.
        family: which set of rules: `standard`, or the name of another (`evaluate.protocols`).
    """

    task: ClassVar[str]
    version: ClassVar[int] = 1
    primary: ClassVar[str]
    metrics: ClassVar[Mapping[str, MetricInfo]]
    class_metrics: ClassVar[Mapping[str, MetricInfo]] = {}
    dims: ClassVar[Mapping[str, tuple[str, ...]]]
    """Name of every statistic -> names of its axes within one scene."""
    holds_lock: ClassVar[bool] = False
    """Whether `score_scene` is long work that holds Python's lock, so that threads would wait for each other."""

    def __init__(self, classes: Sequence[str] = (), family: str = "standard") -> None:
        self.classes = tuple(classes)
        self.family = family

    @property
    def id(self) -> str:
        """`family/task@version`; records with different ids are never put into one column."""
        return f"{self.family}/{self.task}@{self.version}"

    @abstractmethod
    def score_scene(self, prediction: Arrays, target: Arrays) -> dict[str, NDArray[Any]]:
        """Return the sufficient statistics of one scene; their shapes are the same for all scenes.

        Raises:
            InputError: an array is missing, has a wrong shape, or holds values that cannot be scored.
        """

    @abstractmethod
    def reduce_weighted(
        self, statistics: Arrays, weights: Float[np.ndarray, "resample scene"]
    ) -> dict[str, Float[np.ndarray, " resample"]]:
        """Return each metric for each row of scene weights. The leading axis of every statistic is the scene."""

    def per_class_weighted(
        self, statistics: Arrays, weights: Float[np.ndarray, "resample scene"]
    ) -> dict[str, Float[np.ndarray, "resample class"]]:
        """Return each per-class metric for each row of scene weights; empty for tasks without classes."""
        return {}

    def reduce(self, statistics: Arrays) -> dict[str, float]:
        """Return the metrics over the given scenes (leading axis); a scene may be there more than once."""
        return {name: float(value[0]) for name, value in self.reduce_weighted(statistics, _once(statistics)).items()}

    def per_class(self, statistics: Arrays) -> dict[str, NDArray[np.float64]]:
        """Return each per-class metric over the given scenes: one value per class, NaN where a class is absent."""
        return {name: value[0] for name, value in self.per_class_weighted(statistics, _once(statistics)).items()}


def _once(statistics: Arrays) -> NDArray[np.float64]:
    scenes = len(next(iter(statistics.values())))
    return np.ones((1, scenes))


def scene_mean(
    values: Float[np.ndarray, " scene"], weights: Float[np.ndarray, "resample scene"]
) -> Float[np.ndarray, " resample"]:
    """Return the weighted mean over scenes. NaN scenes (nothing to measure) are left out; NaN if none is left."""
    known = np.isfinite(values)
    return ratio(weights[:, known] @ values[known], weights[:, known].sum(axis=1))


def scene_means(
    values: Mapping[str, Float[np.ndarray, " scene"]], weights: Float[np.ndarray, "resample scene"]
) -> dict[str, Float[np.ndarray, " resample"]]:
    """Return `scene_mean` of several values at once: two matrix products for all of them."""
    columns = np.stack([np.asarray(value, np.float64) for value in values.values()], axis=1)
    known = np.isfinite(columns)
    means = ratio(weights @ np.where(known, columns, 0.0), weights @ known.astype(np.float64))
    return dict(zip(values, means.T, strict=True))


def weighted_sum(
    values: Shaped[np.ndarray, "scene ..."], weights: Float[np.ndarray, "resample scene"]
) -> Float[np.ndarray, "resample ..."]:
    """Return the sum over scenes of weight times value, for each row of weights."""
    flat = np.asarray(values, np.float64).reshape(len(values), -1)
    total: NDArray[np.float64] = (weights @ flat).reshape(len(weights), *values.shape[1:])
    return total


def ratio(numerator: ArrayLike, denominator: ArrayLike) -> NDArray[np.float64]:
    """Return numerator / denominator in the numerator's shape, NaN where the denominator is 0."""
    top = np.asarray(numerator, np.float64)
    bottom = np.broadcast_to(np.asarray(denominator, np.float64), top.shape)
    quotient: NDArray[np.float64] = np.divide(top, bottom, out=np.full(top.shape, np.nan), where=bottom != 0)
    return quotient


def median(values: Shaped[np.ndarray, " value"]) -> float:
    """Return what `numpy.median` does of finite numbers in float64, several times as fast; NaN of none.

    Its partition around two places at once does not use the processor's vector instructions, one around one does.
    """
    half = len(values) // 2
    if not len(values):
        return float("nan")
    parted = np.partition(values, half)
    upper = float(parted[half])
    return upper if len(values) % 2 else (float(parted[:half].max()) + upper) / 2


def take(arrays: Arrays, name: str, dims: str, role: str) -> NDArray[Any]:
    """Return `arrays[name]` after a check that it has the axes that `dims` names, separated by spaces.

    Raises:
        InputError: the array is missing or has another number of axes.
    """
    if name not in arrays:
        raise InputError(f"{role} lacks {name!r} ({dims}); got {sorted(arrays) or 'nothing'}")
    array = np.asarray(arrays[name])
    if array.ndim != len(dims.split()):
        raise InputError(f"{role} {name!r} has shape {array.shape}; expected the axes ({', '.join(dims.split())})")
    return array


def same_shape(prediction: NDArray[Any], target: NDArray[Any], name: str) -> None:
    """Raise InputError unless both arrays have the same shape."""
    if prediction.shape != target.shape:
        raise InputError(
            f"prediction of {name!r} has shape {prediction.shape}, its target {target.shape}; they must agree"
        )

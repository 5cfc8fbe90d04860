"""Who is better than whom: all pairs of models on one task, and who wins on each aspect, corrected for being many."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from evaluate.aspects import ASPECTS
from evaluate.metrics.base import MetricInfo
from evaluate.models import ModelResult, TapResult
from evaluate.paired import holm, sign_flip_test, smallest_p
from evaluate.statistics import Interval
from evaluate.table import Axis

ALPHA = 0.05
"""Chance of one false win or more among all tests that are corrected together."""


@dataclass(frozen=True)
class Pair:
    """The best taps of two models on the test scenes of both.

    Attributes:
        first, second: the models.
        scenes: on how many test scenes both have a value.
        difference: first minus second, paired; `None` without a common scene. Its interval covers scenes and, where
            there are several, seeds and draws of the noise.
        p: of `evaluate.paired.sign_flip_test` over the common scenes; NaN where it cannot be had.
        p_holm: p corrected for all pairs that were tested together.
        exact: whether p is that of the scenes' own values, or of their influence on a pooled metric.
        winner: the better one, where `p_holm` is at most alpha and the interval of the difference lies clear of zero.
    """

    first: ModelResult
    second: ModelResult
    scenes: int
    difference: Interval | None
    p: float
    p_holm: float
    exact: bool
    winner: ModelResult | None

    @property
    def least_p(self) -> float:
        """The least p that so many scenes can give: where it is above alpha, no pair can win."""
        return smallest_p(self.scenes)

    def turned(self) -> Pair:
        """Return the same pair with second minus first."""
        return replace(
            self,
            first=self.second,
            second=self.first,
            difference=negative(self.difference) if self.difference else None,
        )


@dataclass(frozen=True)
class Comparisons:
    """All pairs of the models of an axis, in the axis's order."""

    axis: Axis
    metric: str
    alpha: float
    models: tuple[ModelResult, ...]
    pairs: tuple[Pair, ...]

    @property
    def info(self) -> MetricInfo:
        """The metric that was compared."""
        return self.axis.protocol.metrics[self.metric]

    @property
    def tests(self) -> int:
        """Number of tests that were corrected together."""
        return sum(not math.isnan(pair.p) for pair in self.pairs)

    def pair(self, first: ModelResult, second: ModelResult) -> Pair | None:
        """Return the pair as first minus second; `None` if one was not compared."""
        for pair in self.pairs:
            if (pair.first, pair.second) == (first, second):
                return pair
            if (pair.second, pair.first) == (first, second):
                return pair.turned()
        return None

    def wins(self) -> NDArray[np.int64]:
        """Return (model, model): 1 where the row wins, -1 where the column does, 0 where neither can be said to."""
        place = {id(model): index for index, model in enumerate(self.models)}
        table = np.zeros((len(self.models), len(self.models)), np.int64)
        for pair in self.pairs:
            if pair.winner is not None:
                sign = 1 if pair.winner is pair.first else -1
                row, column = place[id(pair.first)], place[id(pair.second)]
                table[row, column], table[column, row] = sign, -sign
        return table


@dataclass(frozen=True)
class WinMatrix:
    """Who wins on one aspect of one data set, all tasks and pairs corrected together.

    Attributes:
        aspect, dataset: what was asked for, where.
        family: of the protocols.
        tasks: that have at least two models.
        models: labels, those with most wins first.
        wins: (model, model): number of tasks on which the row's model beats the column's.
        tested: (model, model): number of tasks on which both were compared.
        tests: number of tests that were corrected together.
        alpha: of all of them together.
    """

    aspect: str
    dataset: str
    family: str
    tasks: tuple[str, ...]
    models: tuple[str, ...]
    wins: NDArray[np.int64]
    tested: NDArray[np.int64]
    tests: int
    alpha: float

    def beats(self, first: str, second: str) -> bool:
        """Whether a model wins on a task or more against the other, and loses on none."""
        row, column = self.models.index(first), self.models.index(second)
        return bool(self.wins[row, column] > 0 and self.wins[column, row] == 0)


def negative(interval: Interval) -> Interval:
    """Return the interval of minus the value."""
    return Interval(-interval.value, -interval.high, -interval.low)


def gain(metric: MetricInfo, difference: Interval) -> Interval:
    """Return a difference so that above zero is better, whichever way the metric points."""
    return difference if metric.higher_is_better else negative(difference)


def compare(axis: Axis, metric: str | None = None, *, alpha: float = ALPHA, controls: bool = False) -> Comparisons:
    """Return all pairs of models of an axis, Holm-corrected over the pairs.

    Args:
        axis: one task on one data set.
        metric: what is compared; the primary one if none is named.
        alpha: chance of one false win or more among all pairs.
        controls: also compare controls. They are left out by default: every test more makes all others weaker.
    """
    models = tuple(model for model in axis.models if controls or not model.is_control)
    name = metric or axis.protocol.primary
    pairs = _judged(_pairs(axis, models, name), alpha)
    return Comparisons(axis, name, alpha, models, tuple(pairs))


def who_wins(axes: Sequence[Axis], *, alpha: float = ALPHA) -> list[WinMatrix]:
    """Return one matrix per data set, family of protocols and aspect, on the primary metrics, without controls.

    A model is known by its label. Holm's correction is over all pairs of all tasks of the aspect.
    """
    found = []
    for dataset, family in dict.fromkeys((axis.dataset, axis.protocol.family) for axis in axes):
        for aspect, tasks in ASPECTS.items():
            group = [
                axis
                for axis in axes
                if (axis.dataset, axis.protocol.family) == (dataset, family) and axis.task in tasks
            ]
            if matrix := _matrix(aspect, dataset, family, group, alpha):
                found.append(matrix)
    return found


def _matrix(aspect: str, dataset: str, family: str, axes: Sequence[Axis], alpha: float) -> WinMatrix | None:
    tested = [
        (axis.task, pair)
        for axis in axes
        for pair in _pairs(axis, [model for model in axis.models if not model.is_control], axis.protocol.primary)
    ]
    if not tested:
        return None
    judged = _judged([pair for _, pair in tested], alpha)
    labels = list(dict.fromkeys(model.label for pair in judged for model in (pair.first, pair.second)))
    wins = np.zeros((len(labels), len(labels)), np.int64)
    met = np.zeros_like(wins)
    for pair in judged:
        row, column = labels.index(pair.first.label), labels.index(pair.second.label)
        if not math.isnan(pair.p):
            met[row, column] += 1
            met[column, row] += 1
        if pair.winner is not None:
            wins[(row, column) if pair.winner is pair.first else (column, row)] += 1
    score = wins.sum(axis=1) - wins.sum(axis=0)
    order = sorted(range(len(labels)), key=lambda k: (-score[k], labels[k]))
    return WinMatrix(
        aspect,
        dataset,
        family,
        tuple(dict.fromkeys(task for task, _ in tested)),
        tuple(labels[k] for k in order),
        wins[np.ix_(order, order)],
        met[np.ix_(order, order)],
        sum(not math.isnan(pair.p) for pair in judged),
        alpha,
    )


def _judge(metric: MetricInfo, pair: Pair, p_holm: float, alpha: float) -> Pair:
    """Return the pair with its corrected p and its winner."""
    if pair.difference is None or not pair.difference.excludes_zero or not p_holm <= alpha:
        return replace(pair, p_holm=p_holm, winner=None)
    better = metric.better(pair.difference.value, 0.0)
    return replace(pair, p_holm=p_holm, winner=pair.first if better else pair.second)


def paired_test(axis: Axis, first: TapResult, second: TapResult, metric: str) -> tuple[int, float, bool]:
    """Return (number of scenes on which both have a value, p, whether p is exact) of two taps; p is NaN without any."""
    common = first.scenes
    if second.scenes != common:
        common = tuple(sorted(set(first.scenes) & set(second.scenes)))
    if not common:
        return 0, math.nan, False
    here, there = (axis.contributions(tap, common, metric) for tap in (first, second))
    apart = here.scenes - there.scenes
    return int(np.isfinite(apart).sum()), sign_flip_test(apart, seed=axis.seed), here.exact and there.exact


def _pairs(axis: Axis, models: Sequence[ModelResult], metric: str) -> list[tuple[MetricInfo, Pair]]:
    info = axis.protocol.metrics[metric]
    found = []
    for first, second in combinations(models, 2):
        scenes, p, exact = paired_test(axis, first.best, second.best, metric)
        difference = axis.difference(first.best, second.best, metric)
        found.append((info, Pair(first, second, scenes, difference, p, math.nan, exact, None)))
    return found


def _judged(pairs: Sequence[tuple[MetricInfo, Pair]], alpha: float) -> list[Pair]:
    adjusted = holm([pair.p for _, pair in pairs])
    return [_judge(info, pair, float(p), alpha) for (info, pair), p in zip(pairs, adjusted, strict=True)]

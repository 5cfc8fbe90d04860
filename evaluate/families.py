"""Kinds of backbones against each other: the mean of the vision-language models minus that of the video generators.

Two intervals are given, since two questions are asked. *These models* holds the models fixed and covers test scenes
(and seeds): whether the gap between the means of exactly these models would be there on other scenes. *Models like
these* also redraws the models of each kind (`evaluate.repeats.redraw`), as if they were drawn independently from all
models of their kind. They are not (releases share data, code and weights, and nobody drew them), and a handful of
them spans little: the second interval is a rough guide, and below `FEW_MODELS` of a kind nothing is claimed from it.

Models are compared that were probed alike: with one head, and trained on one data set. Where there are several heads,
there are as many means, and nobody chooses between them (docs/decisions/012-what-is-chosen-on-what.md).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, get_args

import numpy as np
from jaxtyping import Float

from evaluate.aspects import aspect_of
from evaluate.models import ModelResult
from evaluate.repeats import redraw
from evaluate.schema import Kind
from evaluate.statistics import Estimate, Interval, percentile_interval
from evaluate.table import Axis

KINDS: tuple[Kind, ...] = tuple(kind for kind in get_args(Kind) if kind not in ("control", "fusion"))
FEW_MODELS = 5
"""Below so many models of a kind, nothing is claimed about the kind."""
TITLES = {"vlm": "VLM", "vgm": "VGM", "encoder": "encoder"}


class Probed(NamedTuple):
    """What models must agree in to be averaged: the head (`None`: not trained), and where else it was trained."""

    head: str | None
    trained_on: str | None


@dataclass(frozen=True)
class FamilyMean:
    """The mean over the models of one kind of the metric at their best taps, on the test scenes that all share.

    Attributes:
        axis: where.
        metric: its name.
        aspect: what the task asks for.
        kind: of the models.
        probed: how all models of all kinds were probed.
        models: their labels, one per backbone.
        scenes: number of test scenes.
        interval: over models and scenes; of one model over scenes alone.
        fixed: over scenes alone, for exactly these models.
    """

    axis: Axis
    metric: str
    aspect: str
    kind: Kind
    probed: Probed
    models: tuple[str, ...]
    scenes: int
    interval: Interval
    fixed: Interval


@dataclass(frozen=True)
class FamilyGap:
    """The mean of one kind minus that of another.

    Attributes:
        first, second: the kinds' means.
        difference: first minus second over models and scenes.
        fixed: the same over scenes alone, for exactly these models.
        better: the kind with the better mean; `None` if they are equal.
        separated: whether every model of the better kind is better than every model of the other.
        claim: what may be said, and what not, in a sentence.
    """

    first: FamilyMean
    second: FamilyMean
    difference: Interval
    fixed: Interval
    better: Kind | None
    separated: bool
    claim: str


def family_means(axes: Sequence[Axis], metric: str | None = None) -> list[FamilyMean]:
    """Return the mean of each kind with each head on each axis that has a trained model of it, in the order of axes.

    Where a backbone has several runs with one head (other sizes of its input, say), the run that is best on val counts.
    Where the models have no test scene in common, there is none. Fusions are of no kind.

    Args:
        axes: as `evaluate.table.build` returns them.
        metric: the primary one of each axis if none is named; else axes without it are left out.
    """
    return [mean for axis in axes for members in _members(axis) for mean, _, _ in _means(axis, members, metric)]


def family_gaps(
    axes: Sequence[Axis], first: Kind = "vlm", second: Kind = "vgm", metric: str | None = None
) -> list[FamilyGap]:
    """Return first minus second on each axis, with each head that models of both have; see `family_means`."""
    gaps = []
    for axis in axes:
        for members in _members(axis):
            found = {mean.kind: (mean, redrawn, values) for mean, redrawn, values in _means(axis, members, metric)}
            if first in found and second in found:
                gaps.append(_gap(found[first], found[second]))
    return gaps


@dataclass(frozen=True)
class _Draws:
    models: Float[np.ndarray, " resample"]
    fixed: Float[np.ndarray, " resample"]


Members = Mapping[Kind, Sequence[ModelResult]]


def probed_of(model: ModelResult) -> Probed:
    """Return how a model was probed."""
    return Probed(model.head, model.info.trained_on)


def _members(axis: Axis) -> list[Members]:
    """Return the models of each kind, one per backbone, for each way to probe, in the order in which they lead."""
    metric = axis.protocol.metrics[axis.protocol.primary]
    chosen: dict[tuple[Probed, str], ModelResult] = {}
    for model in axis.models:
        if model.is_control or model.info.kind not in KINDS:
            continue
        key = probed_of(model), model.info.model
        if key not in chosen or metric.better(model.best.val, chosen[key].best.val):
            chosen[key] = model
    found: dict[Probed, dict[Kind, list[ModelResult]]] = {}
    for (probed, _), model in chosen.items():
        found.setdefault(probed, {}).setdefault(model.info.kind, []).append(model)
    return [{kind: members[kind] for kind in KINDS if kind in members} for members in found.values()]


def _means(axis: Axis, members: Members, metric: str | None) -> list[tuple[FamilyMean, _Draws, list[float]]]:
    name = metric or axis.protocol.primary
    scenes = _common([model for models in members.values() for model in models])
    if not scenes or name not in axis.protocol.metrics:
        return []
    found = []
    for kind, models in members.items():
        estimates = [axis.estimate(model.best, scenes) for model in models]
        values = [estimate.values[name] for estimate in estimates]
        draws = _draws(axis, kind, estimates, name)
        value = float(np.mean(values))
        mean = FamilyMean(
            axis,
            name,
            aspect_of(axis.task),
            kind,
            probed_of(models[0]),
            tuple(model.label for model in models),
            len(scenes),
            percentile_interval(value, draws.models),
            percentile_interval(value, draws.fixed),
        )
        found.append((mean, draws, values))
    return found


def _draws(axis: Axis, kind: Kind, estimates: Sequence[Estimate], metric: str) -> _Draws:
    values = np.stack([estimate.draws[metric] for estimate in estimates], axis=1)
    weights = redraw(len(estimates), seed=axis.seed, resamples=axis.resamples, stream=f"models of kind {kind}")
    return _Draws((weights * values).sum(axis=1), values.mean(axis=1))


def _common(models: Sequence[ModelResult]) -> tuple[str, ...]:
    if not models:
        return ()
    first = models[0].best.scenes
    if all(model.best.scenes == first for model in models):
        return first
    return tuple(sorted(set.intersection(*(set(model.best.scenes) for model in models))))


def _gap(first: tuple[FamilyMean, _Draws, list[float]], second: tuple[FamilyMean, _Draws, list[float]]) -> FamilyGap:
    (here, mine, values), (there, yours, others) = first, second
    metric = here.axis.protocol.metrics[here.metric]
    value = here.interval.value - there.interval.value
    difference = percentile_interval(value, mine.models - yours.models)
    fixed = percentile_interval(value, mine.fixed - yours.fixed)
    better = here.kind if metric.better(value, 0.0) else there.kind if metric.better(-value, 0.0) else None
    sign = 1.0 if metric.higher_is_better else -1.0
    best, rest = (values, others) if better == here.kind else (others, values)
    separated = better is not None and min(sign * v for v in best) > max(sign * v for v in rest)
    return FamilyGap(
        here, there, difference, fixed, better, separated, _claim(here, there, difference, fixed, better, separated)
    )


def _claim(
    here: FamilyMean, there: FamilyMean, difference: Interval, fixed: Interval, better: Kind | None, separated: bool
) -> str:
    one, two = TITLES[here.kind], TITLES[there.kind]
    counts = f"{len(here.models)} {one} and {len(there.models)} {two} on {here.scenes} test scenes"
    if math.isnan(fixed.value):
        return f"Nothing can be said: some of {counts} have no value."
    if better is None:
        return f"No difference between the means of {counts}."
    ahead = TITLES[better]
    if not fixed.excludes_zero:
        return f"{ahead} has the better mean of {counts}, but not by more than other test scenes could turn."
    models = f"Of {counts}, the mean of {ahead} is better beyond the choice of test scenes"
    whole = f"; every {ahead} is better than every {two if better == here.kind else one}" if separated else ""
    few = min(len(here.models), len(there.models))
    if few < FEW_MODELS:
        return f"{models}{whole}. Nothing is claimed about other models: {few} of a kind is too few."
    if not difference.excludes_zero:
        return f"{models}{whole}, but not beyond the choice of models."
    return f"{models}{whole}, and beyond the choice of models, as far as these stand for their kind."

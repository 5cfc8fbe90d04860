"""What the numbers say, in sentences: one headline per axis, and notes that keep it honest."""

from __future__ import annotations

from collections.abc import Sequence

from evaluate.metrics.base import MetricInfo
from evaluate.statistics import LEVEL, Interval
from evaluate.table import Axis

FEW_SCENES = 20
"""Below this, a bootstrap is known to be too narrow, and the report says so."""


def with_interval(metric: MetricInfo, interval: Interval) -> str:
    """Return `71.2 % [66.0, 76.3]`."""
    low, high = (metric.format(bound, unit=False) for bound in (interval.low, interval.high))
    return f"{metric.format(interval.value)} [{low}, {high}]"


def signed(metric: MetricInfo, interval: Interval) -> str:
    """Return a difference: `+33.1 points [28.0, 39.5]`, in points for shares and in the metric's unit otherwise."""
    unit = " points" if metric.unit == "%" else f" {metric.unit}" if metric.unit else ""
    value, low, high = (_plus(metric.format(v, unit=False)) for v in (interval.value, interval.low, interval.high))
    return f"{value}{unit} [{low}, {high}]"


def headline(axis: Axis) -> str:
    """Return one sentence: who leads with which tap, what its control reaches, whether the two can be told apart."""
    metric = axis.protocol.metrics[axis.protocol.primary]
    leader = axis.leader
    here = axis.interval(leader.best)
    start = (
        f"On {axis.task}, {leader.label} {leader.best.probe.tap} reaches {metric.title} {with_interval(metric, here)}"
    )
    control = axis.control(leader)
    if control is None:
        return f"{start}; there is no control to compare it with."
    there = axis.interval(control.best)
    who = "its untrained twin" if control is axis.twin(leader) else f"the control {control.label}"
    ended = "overlap" if here.overlaps(there) else "do not overlap"
    sentence = f"{start}; {who} {with_interval(metric, there)}: the intervals {ended}"
    difference = axis.difference(leader.best, control.best)
    if difference is None:
        return f"{sentence}."
    clear = "clear of zero" if difference.excludes_zero else "not clear of zero"
    return f"{sentence}, and scene by scene the difference is {signed(metric, difference)}, {clear}."


def notes(axes: Sequence[Axis]) -> list[str]:
    """Return what a reader must know before trusting the numbers."""
    taps = [tap for axis in axes for model in axis.models for tap in model.taps]
    fewest = min(len(tap.scenes) for tap in taps)
    found = [
        f"Intervals are {100 * LEVEL:.0f} % percentile intervals of a Bayesian bootstrap over test scenes "
        f"({axes[0].resamples} "
        f"resamples, seed {axes[0].seed}). They cover which scenes happened to be in the test set; they do not cover "
        "training noise (one probe is shown per tap), the noise drawn for diffusion features, or another data set.",
        "Of the probes of a tap, and of the taps of a model, the best was chosen on val; every number shown is from "
        "test, unless it says val. Models are ordered by their test value.",
    ]
    if fewest < FEW_SCENES:
        found.append(
            f"The smallest test set has {_count(fewest, 'scene')}. With fewer than {FEW_SCENES}, percentile intervals "
            "tend to be too narrow: take a lead that is small against its interval as a hint, not as a finding."
        )
    uneven = [axis for axis in axes if len({tap.scenes for model in axis.models for tap in model.taps}) > 1]
    if uneven:
        found.append(
            f"Not all models were tested on the same scenes ({', '.join(_name(axis, axes) for axis in uneven)}): their "
            "values are not strictly comparable. Differences use the common scenes only."
        )
    alone = sorted(
        {model.label for axis in axes for model in axis.models if not model.is_control and not axis.twin(model)}
    )
    if alone:
        found.append(f"No untrained twin was probed for {', '.join(alone)}: how much is owed to training is not known.")
    if not any(model.info.kind == "control" for axis in axes for model in axis.models):
        found.append("Neither raw pixels nor position alone were probed, so the floor of each task is not known.")
    return found


def _plus(text: str) -> str:
    return text.replace("-", "−") if text.startswith("-") or text == "n/a" else f"+{text}"


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def _name(axis: Axis, axes: Sequence[Axis]) -> str:
    several = len({other.dataset for other in axes}) > 1
    return f"{axis.task} on {axis.dataset}" if several else axis.task

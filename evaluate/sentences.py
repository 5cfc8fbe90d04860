"""What the numbers say, in sentences: one headline per axis, and notes that keep it honest."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from math import isnan

from evaluate.metrics.base import MetricInfo
from evaluate.protocols import SCENE_UNITS
from evaluate.statistics import LEVEL, Interval
from evaluate.table import Axis, ModelResult, TapResult

FEW_SCENES = 20
"""Below this, a bootstrap is known to be too narrow, and the report says so."""


def with_interval(metric: MetricInfo, interval: Interval) -> str:
    """Return `71.2 % [66.0, 76.3]`; without brackets where there is no interval."""
    low, high = (metric.format(bound, unit=False) for bound in (interval.low, interval.high))
    return metric.format(interval.value) + ("" if isnan(interval.low) else f" [{low}, {high}]")


def signed(metric: MetricInfo, interval: Interval) -> str:
    """Return a difference: `+33.1 points [28.0, 39.5]`, in points for shares and in the metric's unit otherwise."""
    unit = " points" if metric.unit == "%" else f" {metric.unit}" if metric.unit else ""
    value, low, high = (_plus(metric.format(v, unit=False)) for v in (interval.value, interval.low, interval.high))
    return f"{value}{unit}" + ("" if isnan(interval.low) else f" [{low}, {high}]")


def headline(axis: Axis) -> str:
    """Return who leads with which tap, and whether its untrained twin and the strongest control do better or worse."""
    metric = axis.protocol.metrics[axis.protocol.primary]
    leader = axis.leader
    here = axis.interval(leader.best)
    start = (
        f"On {axis.task}, {leader.label} {leader.best.probe.tap} reaches {metric.title} {with_interval(metric, here)}"
    )
    rivals = axis.rivals(leader)
    if not rivals:
        return f"{start}; there is no control to compare it with."
    found = [_against(axis, rival) for rival in rivals]
    # What beats the leader comes first.
    told = "; ".join(sorted(found, key=lambda sentence: " does better " not in sentence))
    sign = "above" if metric.higher_is_better else "below"
    legend = f" Differences are {leader.label} minus control, paired over resampled scenes; {sign} zero it is better."
    return f"{start}; {told}.{legend if 'difference' in told else ''}"


def beaten(axis: Axis) -> str:
    """Return which controls do better than the leader, in a few words; empty if none does."""
    by = [rival for rival in axis.rivals(axis.leader) if axis.beats(rival, axis.leader)]
    return f"Beaten by {' and '.join(_who(axis, rival) for rival in by)}." if by else ""


def notes(axes: Sequence[Axis]) -> list[str]:
    """Return what a reader must know before trusting the numbers."""
    taps = [tap for axis in axes for model in axis.models for tap in model.taps]
    fewest = min(len(tap.scenes) for tap in taps)
    found = [
        f"Intervals are {100 * LEVEL:.0f} % percentile intervals of a Bayesian bootstrap over test scenes "
        f"({axes[0].resamples} "
        f"resamples, seed {axes[0].seed}). {_covered(taps)}",
        "Of the probes of a tap, and of the taps of a model, the best was chosen on val; every number shown is from "
        f"test, unless it says val. {_chosen_on(taps)} "
        "Models are ordered by their test value, so the leading model of a task is picked by the same test scenes that "
        "its value is from: where several are close, the leader's value is a little flattering.",
    ]
    if any(axis.protocol.class_metrics for axis in axes):
        found.append(
            "Intervals of metrics that average over classes are a little off-centre, and a class that is seen in one "
            "test scene only can have an interval of zero width, which says that nothing is known of its spread."
        )
    if fewest == 1:
        found.append("One test scene says nothing of others: where there is no other, there is no interval.")
    own = sorted({axis.dataset for axis in axes if axis.length_unit == SCENE_UNITS})
    if own:
        found.append(
            f"Lengths on {', '.join(own)} are in {SCENE_UNITS}, since the data has no metres: the unit of a clip is "
            "its median depth or, without depth, the spread of its cameras."
        )
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


def _covered(taps: Sequence[TapResult]) -> str:
    """Return what intervals cover, which depends on whether anything was repeated."""
    seeds = max(Counter(tap.draws).most_common(1)[0][1] for tap in taps)
    draws = max(len(set(tap.draws)) for tap in taps)
    repeated = [f"{seeds} training seeds"] * (seeds > 1) + [f"{draws} draws of the noise in the features"] * (draws > 1)
    if not repeated:
        return (
            "They cover which scenes happened to be in the test set; they do not cover training noise (one probe is "
            "shown per tap), the noise drawn for diffusion features, or another data set."
        )
    return (
        f"They cover which scenes happened to be in the test set and, where a tap was repeated, up to "
        f"{' and '.join(repeated)}: a tap's value is the mean of its repeats, none of which was chosen. They do not "
        "cover another data set."
    )


def _chosen_on(taps: Sequence[TapResult]) -> str:
    """Return how many scenes the choice of taps rests on."""
    counts = {tap.val_scenes for tap in taps if tap.val_scenes}
    said = [f"The choice rests on {_span(counts, 'val scene')}."] if counts else []
    if any(not tap.val_scenes for tap in taps):
        said.append(
            "Where a paper's rules know no val split, the best tap was chosen on the test scenes that it is reported "
            "on, as that paper does: its value is flattered."
        )
    return " ".join(said)


def _who(axis: Axis, rival: ModelResult) -> str:
    return "its untrained twin" if rival is axis.twin(axis.leader) else f"the control {rival.label}"


def _against(axis: Axis, rival: ModelResult) -> str:
    metric = axis.protocol.metrics[axis.protocol.primary]
    leader = axis.leader
    here, there = axis.interval(leader.best), axis.interval(rival.best)
    if isnan(here.low) or isnan(there.low):
        overlap = "without an interval"
    else:
        overlap = f"the intervals {'overlap' if here.overlaps(there) else 'do not overlap'}"
    verdict = "better" if axis.beats(rival, leader) else "worse" if axis.beats(leader, rival) else "no better or worse"
    does = f"{_who(axis, rival)} does {verdict} ({with_interval(metric, there)}, {overlap})"
    difference = axis.difference(leader.best, rival.best)
    if difference is None:
        return f"{does}, on scenes of its own"
    clear = "clear of zero" if difference.excludes_zero else "not clear of zero"
    return f"{does}: difference {signed(metric, difference)}, {clear}"


def _plus(text: str) -> str:
    return text.replace("-", "−") if text.startswith("-") or text == "n/a" else f"+{text}"


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def _span(numbers: set[int], noun: str) -> str:
    few, many = min(numbers), max(numbers)
    return _count(few, noun) if few == many else f"{few} to {_count(many, noun)}"


def _name(axis: Axis, axes: Sequence[Axis]) -> str:
    several = len({other.dataset for other in axes}) > 1
    return f"{axis.task} on {axis.dataset}" if several else axis.task

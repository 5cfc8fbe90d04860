"""The leaderboard: one table per aspect, a column per task, numbers with their intervals as text and as a drawing."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from evaluate.aspects import ASPECTS
from evaluate.figures import Looks
from evaluate.figures.style import KINDS
from evaluate.metrics.base import MetricInfo
from evaluate.models import ModelResult
from evaluate.selectivity import Control, Selectivity, selectivities
from evaluate.sentences import signed
from evaluate.sizes import counted, parameters, readable
from evaluate.statistics import Interval
from evaluate.table import Axis

_CONTROLS: Mapping[Control, str] = {
    "untrained": "the same backbone untrained",
    "shuffled": "probes with shuffled labels",
}


@dataclass(frozen=True)
class Cell:
    """One number; `low`, `at` and `high` are places in percent of the column's width."""

    value: str
    bounds: str
    sort: float | None
    """None sorts last, whichever way."""
    low: float
    at: float
    high: float
    best: bool
    tap: str
    difference: str
    """To the controls that the model is held against; empty if there is none."""


@dataclass(frozen=True)
class Column:
    """A task, or on a task the difference to a control; `better` is the order in which good ones come first."""

    task: str
    title: str
    description: str
    better: str
    control: str
    digits: int
    """Letters of the longest number, by which the others are aligned."""


@dataclass(frozen=True)
class Line:
    """One model."""

    label: str
    model: str
    kind: str
    size: str
    group: str
    hue: str
    control: bool
    run: str
    """Fragment of the page that says how the numbers of its first run were made."""
    cells: list[Cell | None]


@dataclass(frozen=True)
class Board:
    """Everything of one aspect on one data set that may stand in one table."""

    key: str
    title: str
    columns: list[Column]
    lines: list[Line]


def boards(axes: Sequence[Axis], looks: Looks, anchors: Mapping[Path, str]) -> list[Board]:
    """Return one board per data set, family of protocols and aspect; lines in the order of their first task.

    Args:
        axes: what `evaluate.table.build` returned.
        looks: of all models.
        anchors: path of a run -> fragment of the page that says how its numbers were made.
    """
    found = []
    several = len({axis.dataset for axis in axes}) > 1
    families = {axis.protocol.family for axis in axes}
    for dataset, family in dict.fromkeys((axis.dataset, axis.protocol.family) for axis in axes):
        for aspect, tasks in ASPECTS.items():
            mine = [axis for axis in axes if (axis.dataset, axis.protocol.family) == (dataset, family)]
            mine = [axis for axis in mine if axis.task in tasks]
            if mine:
                title = f"{aspect} on {dataset}" if several else aspect
                title += f" ({family})" if len(families) > 1 else ""
                found.append(
                    _board(re.sub(r"[^\w-]", "-", f"{dataset}-{family}-{aspect}"), title, mine, looks, anchors)
                )
    return found


def _board(key: str, title: str, axes: list[Axis], looks: Looks, anchors: Mapping[Path, str]) -> Board:
    columns = [column for axis in axes for column in (_column(axis), *_selectivity(axis))]
    models = {model.label: model for axis in axes for model in axis.models}
    lines = [
        Line(
            label=label,
            model=model.info.model,
            kind=model.info.kind,
            size=_described(model),
            group=looks[model.info.model].group,
            hue=f"var({looks[model.info.model].variable})",
            control=model.is_control,
            run=anchors[model.run.path],
            cells=[cells.get(label) for _, cells in columns],
        )
        for label, model in models.items()
    ]
    return Board(key, title, [column for column, _ in columns], lines)


def bounds(metric: MetricInfo, interval: Interval) -> str:
    """Return `66.0 – 76.3`."""
    low, high = (metric.format(bound, unit=False) for bound in (interval.low, interval.high))
    return f"{low}\N{THIN SPACE}–\N{THIN SPACE}{high}"


def _described(model: ModelResult) -> str:
    size = parameters(model.info)
    named = "" if counted(model.info) else " by name"
    said = [KINDS[model.info.kind]] + ([f"{readable(size)}{named}"] if size else [])
    return " · ".join(said)


def _selectivity(axis: Axis) -> Iterator[tuple[Column, dict[str, Cell]]]:
    """Yield a column per control that was probed, in which above zero is better, whichever way the metric points."""
    metric = axis.protocol.metrics[axis.protocol.primary]
    found = selectivities(axis)
    for control, said in _CONTROLS.items():
        mine = [one for one in found if one.control == control]
        if mine:
            cells = {one.model.label: _gained(metric, one) for one in mine}
            description = f"{metric.title} of the best tap minus that of {said}, paired over test scenes"
            yield Column(axis.task, f"minus {control}", description, "descending", control, _longest(cells)), cells


def _gained(metric: MetricInfo, one: Selectivity) -> Cell:
    value, low, high = (
        _minus(metric.format(side, unit=False))
        for side in (one.difference.value, one.difference.low, one.difference.high)
    )
    return Cell(
        value=value if value.startswith("−") or value == "n/a" else f"+{value}",
        bounds=f"{low}\N{THIN SPACE}…\N{THIN SPACE}{high}",
        sort=None if one.gain.value != one.gain.value else one.gain.value,
        low=0.0,
        at=0.0,
        high=0.0,
        best=one.selective,
        tap="",
        difference=f"{signed(metric, one.difference)} against {one.twin.label}",
    )


def _minus(text: str) -> str:
    """Return a number with a typographic minus; none for what rounds to zero."""
    return text.replace("-", "−" if text.strip("-0.") else "")


def _longest(cells: Mapping[str, Cell]) -> int:
    return max(len(cell.value) for cell in cells.values())


def _column(axis: Axis) -> tuple[Column, dict[str, Cell]]:
    metric = axis.protocol.metrics[axis.protocol.primary]
    intervals = {model.label: axis.interval(model.best) for model in axis.models}
    known = [side for one in intervals.values() for side in (one.low, one.value, one.high) if side == side]
    first, last = (min(known), max(known)) if known else (0.0, 1.0)
    width = (last - first) or 1.0

    def at(value: float) -> float:
        return round(100 * (value - first) / width, 1) if value == value else 0.0

    cells = {
        model.label: Cell(
            value=metric.format(intervals[model.label].value, unit=False),
            bounds=bounds(metric, intervals[model.label]),
            sort=None if intervals[model.label].value != intervals[model.label].value else intervals[model.label].value,
            low=at(intervals[model.label].low),
            at=at(intervals[model.label].value),
            high=at(intervals[model.label].high),
            best=model is axis.leader,
            tap=model.best.probe.tap,
            difference=_difference(axis, model, metric),
        )
        for model in axis.models
    }
    title = f"{metric.title}{f' ({metric.unit})' if metric.unit else ''} {metric.arrow}"
    better = "descending" if metric.higher_is_better else "ascending"
    return Column(axis.task, title, metric.description, better, "", _longest(cells)), cells


def _difference(axis: Axis, model: ModelResult, metric: MetricInfo) -> str:
    found = [(rival, axis.difference(model.best, rival.best)) for rival in axis.rivals(model)]
    return "; ".join(f"{signed(metric, difference)} against {rival.label}" for rival, difference in found if difference)

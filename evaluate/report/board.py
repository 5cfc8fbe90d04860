"""The leaderboard: one table per aspect, a column per task, numbers with their intervals as text and as a drawing."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from evaluate.aspects import ASPECTS
from evaluate.figures import Looks
from evaluate.figures.style import KINDS
from evaluate.metrics.base import MetricInfo
from evaluate.models import ModelResult
from evaluate.sentences import signed
from evaluate.sizes import parameters, readable
from evaluate.statistics import Interval
from evaluate.table import Axis


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
    axes: list[Axis]
    metrics: list[MetricInfo]
    lines: list[Line]
    digits: list[int]
    """Letters of the longest number of each column, by which the others are aligned."""


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
    columns = [_column(axis) for axis in axes]
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
            cells=[column.get(label) for column in columns],
        )
        for label, model in models.items()
    ]
    metrics = [axis.protocol.metrics[axis.protocol.primary] for axis in axes]
    digits = [max(len(cell.value) for cell in column.values()) for column in columns]
    return Board(key, title, axes, metrics, lines, digits)


def bounds(metric: MetricInfo, interval: Interval) -> str:
    """Return `66.0 – 76.3`."""
    low, high = (metric.format(bound, unit=False) for bound in (interval.low, interval.high))
    return f"{low}\N{THIN SPACE}–\N{THIN SPACE}{high}"


def _described(model: ModelResult) -> str:
    size = parameters(model.info)
    said = [KINDS[model.info.kind]] + ([readable(size)] if size else [])
    return " · ".join(said)


def _column(axis: Axis) -> dict[str, Cell]:
    metric = axis.protocol.metrics[axis.protocol.primary]
    intervals = {model.label: axis.interval(model.best) for model in axis.models}
    known = [side for one in intervals.values() for side in (one.low, one.value, one.high) if side == side]
    first, last = (min(known), max(known)) if known else (0.0, 1.0)
    width = (last - first) or 1.0

    def at(value: float) -> float:
        return round(100 * (value - first) / width, 1) if value == value else 0.0

    return {
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


def _difference(axis: Axis, model: ModelResult, metric: MetricInfo) -> str:
    found = [(rival, axis.difference(model.best, rival.best)) for rival in axis.rivals(model)]
    return "; ".join(f"{signed(metric, difference)} against {rival.label}" for rival, difference in found if difference)

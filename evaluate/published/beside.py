"""What was measured beside what was published: model by model, and whether the same kind of model comes out ahead.

Only numbers of the protocols that the table names are put beside it, on its data sets, of models that were trained
there: never those of `standard`, whose rules differ. A column is measured with one head for all models: where there are
several, with the one that most models of the table were probed with, of equals the smallest. No score chooses it
(docs/decisions/012-what-is-chosen-on-what.md).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from evaluate.aspects import aspect_of
from evaluate.errors import InputError
from evaluate.families import FamilyGap, family_gaps
from evaluate.models import ModelResult
from evaluate.published.tables import Column, Row, Table
from evaluate.schema import Kind
from evaluate.statistics import Interval
from evaluate.table import Axis


@dataclass(frozen=True)
class Beside:
    """One published number, and what was measured of it; all in the unit of the metric here.

    Attributes:
        row, column: of the table.
        published: the number.
        measured: the best tap on test, with its interval; `None` if it was not measured.
        difference: measured minus published, the latter taken as exact: it was printed without an interval.
        inside: whether the published number lies in the measured interval.
        tap, head, label, dataset, protocol: what was measured; `None` if nothing was.
        caveat: why the difference is no more than a hint, if it is.
    """

    row: Row
    column: Column
    published: float
    measured: Interval | None
    difference: Interval | None
    inside: bool | None
    tap: str | None
    head: str | None
    label: str | None
    dataset: str | None
    protocol: str | None
    caveat: str | None


@dataclass(frozen=True)
class Ordering:
    """Whether the kind that the table has ahead is ahead in what was measured.

    Attributes:
        column: of the table; `aspect` is what its task asks for.
        ahead, behind: the kinds, as published.
        published: mean of `ahead` minus mean of `behind` over all rows of the table.
        published_same: the same over the models alone that were measured; `None` if a kind was not.
        measured: the same of what was measured; `None` if a kind was not.
        reproduced: whether the measured difference points the published way; `None` if a kind was not measured.
        verdict: that in a sentence, with how sure it is.
    """

    column: Column
    aspect: str
    ahead: Kind
    behind: Kind
    published: float
    published_same: float | None
    measured: FamilyGap | None
    reproduced: bool | None
    verdict: str


@dataclass(frozen=True)
class Comparison:
    """A published table beside what was measured.

    Attributes:
        table: what was published.
        cells: by row, then by column.
        orderings: by column, of those whose aspect has a published ordering.
        missing: models of the table that can be run here, and of which nothing was measured.
        partial: model -> columns that were not measured, of those with something measured.
        unknown: rows whose model is not among the models here.
        elsewhere: what was measured by these rules on other data, and is therefore not beside the table.
        heads: task -> (the head that is shown, the others that were probed), where there are several.
    """

    table: Table
    cells: tuple[Beside, ...]
    orderings: tuple[Ordering, ...]
    missing: tuple[str, ...]
    partial: Mapping[str, tuple[str, ...]]
    unknown: tuple[str, ...]
    elsewhere: tuple[str, ...]
    heads: Mapping[str, tuple[str, ...]]

    @property
    def measured(self) -> int:
        """How many of the published numbers have a measured one beside them."""
        return sum(cell.measured is not None for cell in self.cells)


def put_beside(table: Table, axes: Sequence[Axis]) -> Comparison:
    """Return the table beside the axes.

    Args:
        table: what was published.
        axes: of `evaluate.table.build(runs, family=table.family)`.

    Raises:
        InputError: an axis is of another family of protocols.
    """
    for axis in axes:
        if axis.protocol.family != table.family:
            raise InputError(
                f"{axis.protocol.id} on {axis.dataset} cannot be put beside {table.source}, only {table.family!r} can; "
                f"pass build(runs, family={table.family!r})"
            )
    found = {column.name: _measured(table, column, axes) for column in table.columns}
    cells = tuple(_cell(table, row, column, found[column.name]) for row in table.rows for column in table.columns)
    used = [where.axis for where in found.values() if where]
    known = [row.model for row in table.rows if row.model]
    done = {cell.row.model for cell in cells if cell.measured}
    gaps = {
        row.model: tuple(
            cell.column.name for cell in cells if cell.row is row and cell.column.metric and not cell.measured
        )
        for row in table.rows
        if row.model in done
    }
    return Comparison(
        table,
        cells,
        tuple(
            _ordering(table, column, found[column.name])
            for column in table.columns
            if aspect_of(column.task) in table.ordering
        ),
        tuple(model for model in known if model not in done),
        {model: names for model, names in gaps.items() if model and names},
        tuple(row.name for row in table.rows if row.model is None),
        tuple(f"{axis.task} on {axis.dataset}" for axis in axes if all(axis is not one for one in used)),
        {where.axis.task: where.heads for where in found.values() if where and len(where.heads) > 1},
    )


@dataclass(frozen=True)
class _Measured:
    """Where a column is measured: the models that were trained there with the first of the heads."""

    axis: Axis
    models: tuple[ModelResult, ...]
    heads: tuple[str, ...]


def _measured(table: Table, column: Column, axes: Sequence[Axis]) -> _Measured | None:
    known = {row.model for row in table.rows}
    for dataset in column.datasets:
        for axis in axes:
            if (axis.task, axis.dataset) == (column.task, dataset) and column.metric in axis.protocol.metrics:
                own = [model for model in axis.models if not model.is_control and model.info.trained_on is None]
                heads = _heads([model for model in own if model.info.model in known])
                alike = tuple(model for model in own if model.best.probe.head in heads[:1])
                return _Measured(axis, alike, heads)
    return None


def _heads(models: Sequence[ModelResult]) -> tuple[str, ...]:
    """Return the heads of some models: that of most backbones first, of equals the smallest."""
    sizes: dict[str, list[int]] = {}
    backbones: dict[str, set[str]] = {}
    for model in models:
        probe = model.best.probe
        sizes.setdefault(probe.head, []).append(probe.parameters)
        backbones.setdefault(probe.head, set()).add(model.info.model)
    return tuple(sorted(sizes, key=lambda head: (-len(backbones[head]), min(sizes[head]), head)))


def _model_of(where: _Measured, name: str) -> ModelResult | None:
    """Return the model of that name; of several runs the best on val."""
    metric = where.axis.protocol.metrics[where.axis.protocol.primary]
    best: ModelResult | None = None
    for model in where.models:
        if model.info.model == name and (best is None or metric.better(model.best.val, best.best.val)):
            best = model
    return best


def _cell(table: Table, row: Row, column: Column, where: _Measured | None) -> Beside:
    value = table.value(row, column)
    model = _model_of(where, row.model) if where and row.model else None
    if where is None or model is None or column.metric is None:
        return Beside(row, column, value, None, None, None, None, None, None, None, None, column.caveat)
    axis = where.axis
    measured = axis.interval(model.best, column.metric)
    if math.isnan(measured.value):
        return Beside(row, column, value, None, None, None, None, None, None, None, None, "It has no value here.")
    difference = Interval(measured.value - value, measured.low - value, measured.high - value)
    inside = None if math.isnan(measured.low) else measured.low <= value <= measured.high
    caveats = [column.caveat, _other_views(model, column)]
    return Beside(
        row,
        column,
        value,
        measured,
        difference,
        inside,
        model.best.probe.tap,
        model.best.probe.head,
        model.label,
        axis.dataset,
        axis.protocol.id,
        " ".join(caveat for caveat in caveats if caveat) or None,
    )


def _other_views(model: ModelResult, column: Column) -> str | None:
    views = model.info.config.get("views")
    if views is None:
        return f"The run does not say how many views a sample had; published: {column.views}."
    return None if views == column.views else f"{views} views per sample instead of {column.views}."


def _ordering(table: Table, column: Column, where: _Measured | None) -> Ordering:
    aspect = aspect_of(column.task)
    ahead, behind = table.ordering[aspect]
    known = {row.model for row in table.rows if row.model}
    published = _mean_gap(table, column, ahead, behind, None)
    assert published is not None  # a table that orders two kinds has rows of both
    gap: FamilyGap | None = None
    models = tuple(model for model in where.models if model.info.model in known) if where else ()
    if where and models:
        gaps = family_gaps([replace(where.axis, models=models)], ahead, behind, column.metric)
        gap = next((gap for gap in gaps if not math.isnan(gap.fixed.value)), None)
    measured = {model.info.model for model in models}
    same = _mean_gap(table, column, ahead, behind, measured)
    reproduced = None if gap is None else gap.better == ahead
    return Ordering(
        column,
        aspect,
        ahead,
        behind,
        published,
        same,
        gap,
        reproduced,
        _verdict(table, column, ahead, behind, gap, measured),
    )


def _mean_gap(table: Table, column: Column, ahead: Kind, behind: Kind, models: set[str] | None) -> float | None:
    first, second = (table.mean(column, kind, models) for kind in (ahead, behind))
    return None if first is None or second is None else first - second


def _verdict(table: Table, column: Column, ahead: Kind, behind: Kind, gap: FamilyGap | None, measured: set[str]) -> str:
    said = f"{ahead.upper()} before {behind.upper()} on {column.title}"
    if gap is None:
        kinds = {row.kind for row in table.rows if row.model in measured}
        what = (
            "nothing was measured"
            if not kinds
            else "only one kind was measured"
            if len(kinds) == 1
            else "a model has no value, or no test scene is common to all"
        )
        return f"{said}: cannot be said, {what}."
    sure = (
        "clear of zero over test scenes" if gap.fixed.excludes_zero else "but within what other test scenes could turn"
    )
    return f"{said}: {'' if gap.better == ahead else 'not '}reproduced, {sure} ({_counts(table, gap)})."


def _counts(table: Table, gap: FamilyGap) -> str:
    return " and ".join(
        f"{len(mean.models)} of {sum(row.kind == mean.kind for row in table.rows)} {mean.kind.upper()}"
        for mean in (gap.first, gap.second)
    )

"""The tables that were published, as they were printed: one JSON file each, with source, units and direction."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cache
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field

from evaluate.errors import InputError, did_you_mean
from evaluate.schema import Kind

_HERE = Path(__file__).parent
TABLES = {"paper": "arxiv-2605.28132.json", "vidfm3d": "arxiv-2512.19949.json"}
"""What `--compare` takes -> file."""


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Column(_Frozen):
    """One column of a published table.

    Attributes:
        name, title: as printed, and as people read it.
        printed: unit that it is printed in.
        scale: what a printed number is multiplied by to be in the unit of the metric here.
        higher_is_better: which way is better.
        task, metric: what measures it here; metric is `None` if nothing does.
        datasets: on which data sets it may be measured here.
        views: per sample.
        caveat: why a difference is no more than a hint, if it is.
    """

    name: str
    title: str
    printed: str
    scale: float
    higher_is_better: bool
    task: str
    metric: str | None
    datasets: tuple[str, ...]
    views: int
    caveat: str | None


class Row(_Frozen):
    """One model of a published table: its printed name, its name here if it is known here, and its printed numbers."""

    name: str
    model: str | None
    kind: Kind
    values: tuple[float, ...]


class Table(_Frozen):
    """A published table.

    Attributes:
        id, title, source, url: where it is from.
        family: of the protocols whose numbers may be put beside it, and no others.
        note: what a reader must know of it.
        ordering: aspect -> (kind said to be better, the other).
        columns, rows: as printed.
        printed_means: kind -> means over its rows, as printed.
    """

    id: str
    title: str
    source: str
    url: str
    family: str
    note: str
    ordering: Mapping[str, tuple[Kind, Kind]]
    columns: tuple[Column, ...] = Field(min_length=1)
    printed_means: Mapping[Kind, tuple[float, ...]]
    rows: tuple[Row, ...] = Field(min_length=1)

    def value(self, row: Row, column: Column) -> float:
        """Return a number in the unit of the metric here."""
        return row.values[self.columns.index(column)] * column.scale

    def mean(self, column: Column, kind: Kind, models: set[str] | None = None) -> float | None:
        """Return the mean over the rows of a kind, of some models if they are named; `None` if there is none."""
        values = [
            self.value(row, column) for row in self.rows if row.kind == kind and (models is None or row.model in models)
        ]
        return sum(values) / len(values) if values else None


@cache
def published(name: str) -> Table:
    """Return a published table.

    Raises:
        InputError: there is no table of that name in `TABLES`.
    """
    if name not in TABLES:
        raise InputError(f"no published table {name!r} to compare with. {did_you_mean(name, TABLES)}")
    return Table.model_validate(json.loads((_HERE / TABLES[name]).read_text("utf-8")))


def name_of(table: Table) -> str:
    """Return what `--compare` calls a table."""
    return next(name for name in TABLES if published(name) == table)

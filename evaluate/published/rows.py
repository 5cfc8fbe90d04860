"""A comparison as rows and as a document, for programs and for pages."""

from __future__ import annotations

import math
from typing import Any, Literal

from evaluate.aspects import aspect_of
from evaluate.published.beside import Comparison, Ordering
from evaluate.statistics import Interval


def comparison_rows(comparison: Comparison) -> list[dict[str, Any]]:
    """Return one flat row per published number, for JSON, CSV or a page."""
    return [
        {
            "table": comparison.table.id,
            "source": comparison.table.source,
            "printed_model": cell.row.name,
            "model": cell.row.model,
            "kind": cell.row.kind,
            "column": cell.column.name,
            "aspect": aspect_of(cell.column.task),
            "task": cell.column.task,
            "metric": cell.column.metric,
            "higher_is_better": cell.column.higher_is_better,
            "published": cell.published,
            "measured": _known(cell.measured, "value"),
            "measured_low": _known(cell.measured, "low"),
            "measured_high": _known(cell.measured, "high"),
            "difference": _known(cell.difference, "value"),
            "inside": cell.inside,
            "tap": cell.tap,
            "head": cell.head,
            "dataset": cell.dataset,
            "protocol": cell.protocol,
            "caveat": cell.caveat,
        }
        for cell in comparison.cells
    ]


def comparison_document(comparison: Comparison) -> dict[str, Any]:
    """Return everything as what JSON can hold."""
    return {
        "table": comparison.table.model_dump(mode="json", exclude={"columns", "rows", "printed_means"}),
        "cells": comparison_rows(comparison),
        "orderings": [_ordering_row(ordering) for ordering in comparison.orderings],
        "missing": list(comparison.missing),
        "partial": {model: list(names) for model, names in comparison.partial.items()},
        "unknown": list(comparison.unknown),
        "elsewhere": list(comparison.elsewhere),
        "heads": {task: list(heads) for task, heads in comparison.heads.items()},
    }


def _ordering_row(ordering: Ordering) -> dict[str, Any]:
    gap = ordering.measured
    difference, fixed = (gap.difference, gap.fixed) if gap else (None, None)
    return {
        "column": ordering.column.name,
        "aspect": ordering.aspect,
        "ahead": ordering.ahead,
        "behind": ordering.behind,
        "published": ordering.published,
        "published_same_models": ordering.published_same,
        "measured": _known(difference, "value"),
        "measured_low": _known(difference, "low"),
        "measured_high": _known(difference, "high"),
        "measured_low_these_models": _known(fixed, "low"),
        "measured_high_these_models": _known(fixed, "high"),
        "models": {mean.kind: list(mean.models) for mean in (gap.first, gap.second)} if gap else {},
        "reproduced": ordering.reproduced,
        "verdict": ordering.verdict,
    }


def _known(interval: Interval | None, side: Literal["value", "low", "high"]) -> float | None:
    """Return None for what is not known, since JSON has no NaN."""
    value = math.nan if interval is None else getattr(interval, side)
    return None if math.isnan(value) else value

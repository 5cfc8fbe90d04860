"""The results for programs and for papers: rows for CSV and JSON, tables for Markdown."""

from __future__ import annotations

import csv
import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from evaluate.metrics.base import MetricInfo
from evaluate.published.found import comparisons, markdown
from evaluate.sentences import headline, notes, signed, with_interval
from evaluate.statistics import Interval
from evaluate.table import Axis, ModelResult, TapResult


def rows(axes: Sequence[Axis]) -> Iterator[dict[str, Any]]:
    """Yield one flat row per tap and metric; shares are fractions, and what is not known is None."""
    for axis in axes:
        for model in axis.models:
            for tap in model.taps:
                for name in axis.protocol.metrics:
                    yield _row(axis, model, tap, name)


def write_csv(axes: Sequence[Axis], file: Path) -> None:
    """Write `rows` as CSV."""
    table = list(rows(axes))
    with file.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.DictWriter(stream, fieldnames=list(table[0]))
        writer.writeheader()
        writer.writerows(table)


def write_markdown(axes: Sequence[Axis], file: Path) -> None:
    """Write headlines, one table per axis, and the notes as Markdown."""
    lines = ["# Results", ""]
    lines += [f"- {headline(axis)}" for axis in axes]
    for axis in axes:
        metric = axis.protocol.metrics[axis.protocol.primary]
        lines += ["", f"## {axis.task} on {axis.dataset}", "", f"{metric.title} {metric.arrow}: {metric.description}"]
        lines += [f"(protocol `{axis.protocol.id}`, test scenes: {len(axis.leader.best.scenes)}).", ""]
        lines += ["| model | tap | test | difference to control | control |", "|---|---|---|---|---|"]
        lines += [_markdown_row(axis, model, metric) for model in axis.models]
    lines += [line for comparison in comparisons(axes) for line in markdown(comparison)]
    lines += ["", "## Notes", "", *(f"- {note}" for note in notes(axes)), ""]
    file.write_text("\n".join(lines), "utf-8")


def _markdown_row(axis: Axis, model: ModelResult, metric: MetricInfo) -> str:
    control = axis.control(model)
    difference = axis.difference(model.best, control.best) if control else None
    cells = [
        f"*{model.label}*" if model.is_control else f"**{model.label}**",
        f"`{model.best.probe.tap}`",
        with_interval(metric, axis.interval(model.best)),
        signed(metric, difference) if difference else "",
        control.label if control and difference else "",
    ]
    return f"| {' | '.join(cells)} |"


def _row(axis: Axis, model: ModelResult, tap: TapResult, name: str) -> dict[str, Any]:
    probe, info = tap.probe, model.info
    control = axis.control(model)
    difference = axis.difference(tap, control.best, name) if control else None
    return {
        "dataset": axis.dataset,
        "task": axis.task,
        "protocol": axis.protocol.id,
        "metric": name,
        "primary": name == axis.protocol.primary,
        "higher_is_better": axis.protocol.metrics[name].higher_is_better,
        "model": info.model,
        "kind": info.kind,
        "untrained": info.untrained,
        "shuffled": model.shuffled,
        "run": info.name,
        "tap": probe.tap,
        "chosen_on_val": tap is model.best,
        **_bounds("", axis.interval(tap, name)),
        "val": _known(tap.val) if name == axis.protocol.primary else None,
        "control": control.label if control and difference else None,
        **_bounds("difference_", difference),
        "test_scenes": len(tap.scenes),
        **probe.model_dump(
            include={"site", "depth", "noise", "head", "learning_rate", "weight_decay", "seed", "parameters"}
        ),
        "probe": probe.id,
        "features_fingerprint": info.features_fingerprint,
        "targets_fingerprint": info.targets_fingerprint,
    }


def _bounds(prefix: str, interval: Interval | None) -> dict[str, float | None]:
    names = (f"{prefix}value" if prefix else "value", f"{prefix}low", f"{prefix}high")
    bounds = (interval.value, interval.low, interval.high) if interval else (math.nan,) * 3
    return dict(zip(names, map(_known, bounds), strict=True))


def _known(value: float) -> float | None:
    return None if math.isnan(value) else value

"""What stands where on the page: everything is computed here, the template only lays it out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from evaluate.figures import VARIABLES, class_bars, layer_curves, palette
from evaluate.metrics.base import MetricInfo
from evaluate.records import Run
from evaluate.report.clouds import Cloud, cloud
from evaluate.report.pictures import Panels, panels
from evaluate.schema import Example
from evaluate.sentences import beaten, headline, notes, signed, with_interval
from evaluate.statistics import Interval
from evaluate.table import Axis, ModelResult, TapResult

_HERE = Path(__file__).parent
MAX_EXAMPLES = 2
"""Scenes shown per task; every one weighs some hundred kilobytes."""


@dataclass(frozen=True)
class Bar:
    """One row of a leaderboard; positions in percent of the track's width."""

    label: str
    tap: str
    colour: str
    control: bool
    value: str
    bounds: str
    width: float
    low: float
    high: float
    difference: str
    noise: str


@dataclass(frozen=True)
class Shown:
    """An example with its pictures and, for depth, its point clouds."""

    example: Example
    title: str
    pictures: Panels
    cloud: Cloud | None


@dataclass(frozen=True)
class Section:
    """All of one axis."""

    key: str
    title: str
    axis: Axis
    metric: MetricInfo
    headline: str
    beaten: str
    """By which controls the leader is beaten; empty if by none."""
    leader: str
    tap: str
    value: str
    bounds: str
    bars: list[Bar]
    curve: str
    classes: str | None
    examples: list[Shown]
    table: list[list[str]]


def write_report(axes: Sequence[Axis], file: Path) -> None:
    """Write the page; it holds everything it shows and asks the network for nothing."""
    file.write_text(render(axes), "utf-8")


def render(axes: Sequence[Axis]) -> str:
    """Return the page as HTML; the same runs, seed and code give the same bytes."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined
    from markupsafe import Markup

    environment = Environment(
        loader=FileSystemLoader(_HERE / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["svg"] = Markup
    static = {name: Markup((_HERE / "static" / name).read_text("utf-8")) for name in ("style.css", "viewer.js")}
    return environment.get_template("report.html.j2").render(_context(axes), static=static)


def _context(axes: Sequence[Axis]) -> dict[str, Any]:
    colours = {model: f"var({VARIABLES[colour]})" for model, colour in palette(axes).items()}
    runs = list({model.run.path: model.run for axis in axes for model in axis.models}.values())
    models = sorted({run.info.model for run in runs if run.info.kind != "control"})
    datasets = sorted({axis.dataset for axis in axes})
    scenes = sorted({len(tap.scenes) for axis in axes for model in axis.models for tap in model.taps})
    return {
        "models": models or sorted({run.info.model for run in runs}),
        "datasets": datasets,
        "scenes": f"{scenes[0]}" if len(scenes) == 1 else f"{scenes[0]} to {scenes[-1]}",
        "heads": sorted({probe.head for run in runs for probe in run.info.probes}),
        "probes": sum(len(run.info.probes) for run in runs),
        "runs": sorted(runs, key=lambda run: run.info.name),
        "sections": [_section(axis, axes, colours) for axis in axes],
        "legend": [(model, colours[model]) for model in models],
        "twins": any(run.info.untrained for run in runs),
        "shuffled": any(run.info.shuffled for run in runs),
        "controls": sorted({run.info.model for run in runs if run.info.kind == "control"}),
        "notes": notes(axes),
        "versions": _versions(runs),
        "started": max(run.info.created for run in runs),
        "level": "95\N{NO-BREAK SPACE}%",
    }


def _section(axis: Axis, axes: Sequence[Axis], colours: dict[str, str]) -> Section:
    metric = axis.protocol.metrics[axis.protocol.primary]
    best = axis.interval(axis.leader.best)
    several = len({other.dataset for other in axes}) > 1
    return Section(
        key=f"{axis.dataset}-{axis.task}",
        title=f"{axis.task} on {axis.dataset}" if several else axis.task,
        axis=axis,
        metric=metric,
        headline=headline(axis),
        beaten=beaten(axis),
        leader=axis.leader.label,
        tap=axis.leader.best.probe.tap,
        value=metric.format(best.value),
        bounds=_bounds(metric, best),
        bars=_bars(axis, metric, colours),
        curve=layer_curves(axis, palette(axes)),
        classes=class_bars(axis, palette(axes)) if axis.protocol.class_metrics else None,
        examples=_examples(axis),
        table=[_row(axis, model, tap) for model in axis.models for tap in model.taps],
    )


def _bars(axis: Axis, metric: MetricInfo, colours: dict[str, str]) -> list[Bar]:
    intervals = [axis.interval(model.best) for model in axis.models]
    known = [bound for interval in intervals for bound in (interval.value, interval.high) if bound == bound]
    end = 1.0 if metric.unit == "%" else max([*known, 1e-9]) * 1.04
    return [
        Bar(
            label=model.label,
            tap=model.best.probe.tap,
            colour=colours[model.info.model],
            control=model.is_control,
            value=metric.format(interval.value, unit=False),
            bounds=_bounds(metric, interval),
            width=_percent(interval.value / end),
            low=_percent(interval.low / end),
            high=_percent(interval.high / end),
            difference=_difference(axis, model, metric),
            noise=model.best.probe.noise or "",
        )
        for model, interval in zip(axis.models, intervals, strict=True)
    ]


def _difference(axis: Axis, model: ModelResult, metric: MetricInfo) -> str:
    found = [(rival, axis.difference(model.best, rival.best)) for rival in axis.rivals(model)]
    return "; ".join(f"{signed(metric, difference)} against {rival.label}" for rival, difference in found if difference)


def _examples(axis: Axis) -> list[Shown]:
    leader = axis.leader
    mine = [example for example in leader.run.examples() if example.task == axis.task]
    chosen = [example for example in mine if example.probe_id == leader.best.probe.id] or mine
    taps = {probe.id: probe.tap for probe in leader.info.probes}
    shown: list[Shown] = []
    for example in chosen:
        pictures = panels(example, axis.protocol.classes)
        if pictures is not None and len(shown) < MAX_EXAMPLES:
            tap = taps.get(example.probe_id, example.probe_id)
            title = f"{leader.label} {tap} on {example.split} scene {example.scene}"
            shown.append(Shown(example, title, pictures, None if shown else cloud(example)))
    return shown


def _row(axis: Axis, model: ModelResult, tap: TapResult) -> list[str]:
    metrics = axis.protocol.metrics
    val = metrics[axis.protocol.primary].format(tap.val, unit=False)
    cells = [with_interval(info, axis.interval(tap, name)) for name, info in metrics.items()]
    return [model.label, tap.probe.tap, "★" if tap is model.best else "", val, *cells]


def _versions(runs: Sequence[Run]) -> dict[str, str]:
    found: dict[str, set[str]] = {}
    for run in runs:
        for name, version in run.info.versions.items():
            found.setdefault(name, set()).add(version)
    return {name: ", ".join(sorted(versions)) for name, versions in sorted(found.items())}


def _bounds(metric: MetricInfo, interval: Interval) -> str:
    low, high = (metric.format(bound, unit=False) for bound in (interval.low, interval.high))
    return f"{low} – {high}"


def _percent(share: float) -> float:
    return round(100 * min(max(share, 0.0), 1.0), 2) if share == share else 0.0

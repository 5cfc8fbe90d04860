"""What stands where on the page: everything is computed here, the templates only lay it out."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from evaluate.figures import FIGURES, Drawn, Looks, draw, looks
from evaluate.figures.style import KINDS, variables
from evaluate.metrics.base import MetricInfo
from evaluate.models import ModelResult, TapResult
from evaluate.records import Run
from evaluate.report.board import boards, bounds
from evaluate.report.overview import gaps, wins
from evaluate.report.published import beside_published
from evaluate.report.shown import Shown, examples
from evaluate.scenes import ranked
from evaluate.sentences import beaten, headline, notes, with_interval
from evaluate.table import Axis

_HERE = Path(__file__).parent
_STATIC = ("base.css", "tables.css", "figures.css", "viewer.js", "tables.js", "models.js")
_EXTREMES = 5
"""Hardest and easiest scenes listed per task."""


@dataclass(frozen=True)
class Section:
    """All of one axis."""

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
    kind: str
    scenes: list[tuple[str, str, str]]
    """Hardest, then easiest scenes: name, value, value of the control."""
    control: str
    examples: list[Shown]
    table: list[tuple[str, ModelResult, list[str]]]
    """Rows of all taps: group of the model, model, cells."""


def write_report(axes: Sequence[Axis], file: Path, command: str = "", figures: Sequence[Drawn] | None = None) -> None:
    """Write the page; it holds everything it shows and asks the network for nothing."""
    file.write_text(render(axes, command, figures), "utf-8")


def render(axes: Sequence[Axis], command: str = "", figures: Sequence[Drawn] | None = None) -> str:
    """Return the page as HTML; the same runs, seed and code give the same bytes.

    Args:
        axes: what `evaluate.table.build` returned.
        command: what makes this page, to be shown in it.
        figures: those of `evaluate.figures.draw`, if they were drawn already.
    """
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
    static = {name: Markup((_HERE / "static" / name).read_text("utf-8")) for name in _STATIC}
    static["hues.css"] = Markup(_hues())
    drawn: dict[str, list[Drawn]] = {kind: [] for kind in FIGURES}
    for figure in draw(axes) if figures is None else figures:
        drawn[figure.kind].append(figure)
    context = _context(axes) | {"static": static, "figures": drawn, "command": command}
    return environment.get_template("report.html.j2").render(context)


def _context(axes: Sequence[Axis]) -> dict[str, Any]:
    shown = looks(axes)
    runs = list({run.path: run for axis in axes for model in axis.models for run in model.runs}.values())
    runs.sort(key=lambda run: (run.info.name, str(run.path)))
    anchors = {run.path: f"run-{number}" for number, run in enumerate(runs)}
    models = sorted({run.info.model for run in runs if run.info.kind != "control"})
    scenes = sorted({len(tap.scenes) for axis in axes for model in axis.models for tap in model.taps})
    learned = [probe for run in runs for probe in run.info.probes if probe.parameters]
    found = boards(axes, shown, anchors)
    kinds = [kind for kind in KINDS if any(run.info.kind == kind for run in runs)]
    return {
        "models": models or sorted({run.info.model for run in runs}),
        "datasets": sorted({axis.dataset for axis in axes}),
        "scenes": f"{scenes[0]}" if len(scenes) == 1 else f"{scenes[0]} to {scenes[-1]}",
        "heads": sorted({probe.head for probe in learned}),
        "probes": len(learned),
        "runs": runs,
        "anchors": anchors,
        "configs": {run.path: json.dumps(run.info.config, indent=1, sort_keys=True) for run in runs},
        "boards": found,
        "selective": any(column.control for board in found for column in board.columns),
        "wins": wins(axes),
        "gaps": gaps(axes),
        "published": beside_published(axes),
        "sections": [_section(axis, axes, shown) for axis in axes],
        "kinds": [(kind, KINDS[kind]) for kind in kinds],
        "legend": [(model, shown[model]) for model in models],
        "twins": any(run.info.untrained for run in runs),
        "shuffled": any(model.shuffled for axis in axes for model in axis.models),
        "controls": sorted({run.info.model for run in runs if run.info.kind == "control"}),
        "notes": notes(axes),
        "versions": _versions(runs),
        "started": max(run.info.created for run in runs),
        "level": "95\N{NO-BREAK SPACE}%",
    }


def _section(axis: Axis, axes: Sequence[Axis], shown: Looks) -> Section:
    metric = axis.protocol.metrics[axis.protocol.primary]
    best = axis.interval(axis.leader.best)
    several = len({other.dataset for other in axes}) > 1
    control = axis.control(axis.leader)
    scenes = ranked(axis, axis.leader)
    count = min(_EXTREMES, len(scenes) // 2)
    listed = [*scenes[:count], *scenes[len(scenes) - count :]]
    return Section(
        title=f"{axis.task} on {axis.dataset}" if several else axis.task,
        axis=axis,
        metric=metric,
        headline=headline(axis),
        beaten=beaten(axis),
        leader=axis.leader.label,
        tap=axis.leader.best.probe.tap,
        value=metric.format(best.value),
        bounds=bounds(metric, best),
        kind=axis.leader.info.kind,
        scenes=[
            (item.scene, metric.format(item.value, unit=False), metric.format(item.control, unit=False))
            for item in listed
        ],
        control=control.label if control else "",
        examples=examples(axis, scenes),
        table=[
            (shown[model.info.model].group, model, _row(axis, model, tap))
            for model in axis.models
            for tap in model.taps
        ],
    )


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


def _hues() -> str:
    """Return the colours of models as CSS variables, in light and in dark."""
    light, dark = (
        "; ".join(f"{name}: {colour}" for name, colour in variables(dark=dark).items()) for dark in (False, True)
    )
    return f":root {{ {light} }}\n@media (prefers-color-scheme: dark) {{ :root {{ {dark} }} }}"

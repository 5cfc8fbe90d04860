"""Figures as SVG that fits into a page: its fonts, its width, and its colours in light and dark.

Colours are written as the names of CSS variables (`palette` says which), so one figure serves both themes.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from io import StringIO
from typing import TYPE_CHECKING, Any

import numpy as np

from evaluate.statistics import Interval
from evaluate.table import Axis, ModelResult, TapResult

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Okabe & Ito (2008), yellow left out: it cannot be read on white.
OKABE_ITO = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")
INK, MUTED, RULE = "#111112", "#777778", "#ddddde"
_MARKERS = "os^Dv"
_PLACES = (0.5, 0.2, 0.8)
"""Middles of the places where models without depth stand."""
VARIABLES = {INK: "--ink", MUTED: "--muted", RULE: "--rule"} | {hue: f"--model-{k}" for k, hue in enumerate(OKABE_ITO)}

_STYLE: Any = {
    "svg.fonttype": "none",
    "text.parse_math": False,
    "font.size": 9.5,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": MUTED,
    "axes.labelcolor": MUTED,
    "axes.linewidth": 0.8,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": RULE,
    "grid.linewidth": 0.8,
    "text.color": INK,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.major.size": 0,
    "ytick.major.size": 0,
    "lines.linewidth": 1.8,
    "figure.facecolor": "none",
    "axes.facecolor": "none",
}


def palette(axes: Sequence[Axis]) -> dict[str, str]:
    """Return model -> colour, the same for all axes; a twin has its model's colour, other controls are grey."""
    infos = [model.info for axis in axes for model in axis.models]
    models = sorted({info.model for info in infos if info.kind != "control"})
    hues = {model: OKABE_ITO[index % len(OKABE_ITO)] for index, model in enumerate(models)}
    return hues | {info.model: MUTED for info in infos if info.kind == "control"}


def layer_curves(axis: Axis, colours: Mapping[str, str]) -> str:
    """Return the primary metric over the depth of the site, with bands of the interval; controls dashed."""
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    metric = axis.protocol.metrics[axis.protocol.primary]
    scale = 100.0 if metric.unit == "%" else 1.0
    with rc_context(_STYLE):
        figure = Figure(figsize=(4.8, 3.0), layout="constrained")
        plot = figure.add_subplot()
        flats = lone = 0
        for model in sorted(axis.models, key=lambda model: not model.is_control):
            colour = colours[model.info.model]
            if _is_flat(model) and len(model.taps) > 1:
                _draw_points(plot, axis, model, _PLACES[lone % len(_PLACES)], colour, scale)
                lone += 1
                continue
            for rank, taps in enumerate(_lines(model).values()):
                _draw_line(plot, axis, model, taps, colour, scale, _MARKERS[rank % len(_MARKERS)])
            if len(_lines(model)) > 1:
                _name_noise(plot, axis, model, colour, scale)
            if _is_flat(model):
                value = scale * axis.interval(model.best).value
                # At alternate ends, since the lines of controls tend to lie close together.
                end, align = ((1, "right"), (0, "left"))[flats % 2]
                plot.annotate(
                    model.label, (end, value), (0, 2), textcoords="offset points", ha=align, color=MUTED, size=8
                )
                flats += 1
        plot.set_xlim(-0.03, 1.03)
        plot.set_xticks([0, 0.25, 0.5, 0.75, 1], ["first", "", "relative depth of the site", "", "last"])
        plot.set_ylabel(f"{metric.title}{f' ({metric.unit})' if metric.unit else ''} {metric.arrow}")
        plot.grid(visible=False, axis="x")
        title = f"{axis.task}: {metric.title} of every tap over the relative depth of its site"
        return to_svg(figure, f"curve-{axis.dataset}-{axis.task}", title)


def class_bars(axis: Axis, colours: Mapping[str, str]) -> str:
    """Return one bar per class for the leader's best tap, sorted, with interval; a mark where its control stands."""
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    name, metric = next(iter(axis.protocol.class_metrics.items()))
    leader, control = axis.leader, axis.control(axis.leader)
    here = axis.classes(leader.best)[name]
    there = axis.classes(control.best)[name] if control else []
    order = sorted(range(len(here)), key=lambda k: (np.isnan(here[k].value), -np.nan_to_num(here[k].value)))
    with rc_context(_STYLE):
        figure = Figure(figsize=(4.8, 0.9 + 0.27 * len(order)), layout="constrained")
        plot = figure.add_subplot()
        for row, k in enumerate(order):
            _draw_bar(plot, row, here[k], there[k] if there else None, colours[leader.info.model])
        plot.set_yticks(range(len(order)), [axis.protocol.classes[k] for k in order])
        plot.tick_params(axis="y", labelcolor=INK)
        plot.set_ylim(len(order) - 0.4, -0.6)
        plot.set_xlim(0, 101)
        plot.set_xlabel(f"{metric.title} (%) {metric.arrow}")
        plot.grid(visible=False, axis="y")
        plot.spines["left"].set_visible(False)
        title = f"{axis.task}: {metric.title} per class of {leader.label} {leader.best.probe.tap}"
        return to_svg(figure, f"classes-{axis.dataset}-{axis.task}", title)


def to_svg(figure: Figure, key: str, title: str) -> str:
    """Return the figure as an `<svg>` element with ids that begin with `key` and colours that the page may change."""
    from html import escape

    from matplotlib import rc_context

    stream = StringIO()
    with rc_context({"svg.fonttype": "none", "svg.hashsalt": key}):
        figure.savefig(stream, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    text = stream.getvalue()
    text = text[text.index("<svg") :]
    prefix = re.sub(r"[^\w-]", "-", key)
    text = re.sub(r'\bid="', f'id="{prefix}-', text)
    text = re.sub(r'(href="#|url\(#)', rf"\1{prefix}-", text)
    for hexadecimal, variable in VARIABLES.items():
        text = re.sub(hexadecimal, f"var({variable})", text, flags=re.IGNORECASE)
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = re.sub(r'(<svg[^>]*?) width="[^"]*"', r"\1", text, count=1)
    text = re.sub(r'(<svg[^>]*?) height="[^"]*"', r"\1", text, count=1)
    return text.replace("<svg", f'<svg role="img" aria-label="{escape(title)}"', 1)


def _is_flat(model: ModelResult) -> bool:
    """Whether taps lie at one depth that are not of several noise levels, so that there is none to draw them over.

    Of a fusion many do, which combine one layer with several others.
    """
    lines = _lines(model).values()
    return any(len({tap.probe.depth for tap in taps}) < len(taps) for taps in lines) or (
        len({tap.probe.depth for tap in model.taps}) == 1
    )


def _lines(model: ModelResult) -> dict[str | None, list[TapResult]]:
    lines: dict[str | None, list[TapResult]] = {}
    for tap in model.taps:
        lines.setdefault(tap.probe.noise, []).append(tap)
    return lines


def _draw_line(
    plot: Axes, axis: Axis, model: ModelResult, taps: list[TapResult], colour: str, scale: float, marker: str
) -> None:
    depths = [tap.probe.depth for tap in model.taps]
    first, last = min(depths), max(depths)
    flat = _is_flat(model)
    intervals = [axis.interval(tap) for tap in taps]
    value, low, high = (
        scale * np.array([getattr(interval, side) for interval in intervals]) for side in ("value", "low", "high")
    )
    x = np.array([(tap.probe.depth - first) / (last - first) if last > first else 0.0 for tap in taps])
    if flat:
        x, value, low, high = np.array([0.0, 1.0]), *(np.repeat(side[:1], 2) for side in (value, low, high))
    dashes = (0, (1, 1.8)) if model.info.shuffled else (0, (4, 2.5)) if model.is_control else "solid"
    band = 0.08 if model.is_control else 0.18
    plot.fill_between(x, low, high, color=colour, alpha=band, linewidth=0)
    face = "none" if model.is_control else colour
    plot.plot(
        x, value, color=colour, linestyle=dashes, marker="" if flat else marker, markersize=4, markerfacecolor=face,
        alpha=0.75 if model.is_control else 1, linewidth=1.2 if model.is_control else 1.8,
    )  # fmt: skip
    for index, tap in enumerate(taps):
        if tap is model.best and not flat:
            plot.plot(x[index], value[index], marker="o", markersize=9, markerfacecolor="none", color=colour)


def _draw_points(plot: Axes, axis: Axis, model: ModelResult, middle: float, colour: str, scale: float) -> None:
    """Draw the taps of a model with one site side by side, each with its interval and its noise level."""
    face = "none" if model.is_control else colour
    for index, tap in enumerate(model.taps):
        x = middle + 0.25 * (index / (len(model.taps) - 1) - 0.5)
        value, low, high = (scale * getattr(axis.interval(tap), side) for side in ("value", "low", "high"))
        plot.plot([x, x], [low, high], color=colour, alpha=0.5, linewidth=1.2)
        plot.plot(x, value, marker="o", markersize=4, markerfacecolor=face, color=colour, linestyle="")
        if tap is model.best:
            plot.plot(x, value, marker="o", markersize=9, markerfacecolor="none", color=colour, linestyle="")
        plot.annotate(
            tap.probe.noise or tap.probe.tap, (x, value), (6, 0), textcoords="offset points", va="center",
            color=colour, size=8,
        )  # fmt: skip


def _name_noise(plot: Axes, axis: Axis, model: ModelResult, colour: str, scale: float) -> None:
    """Write the noise levels of a model's lines at their right ends, spread so that none covers another."""
    ends = {noise: scale * axis.interval(taps[-1]).value for noise, taps in _lines(model).items()}
    for rank, noise in enumerate(sorted(ends, key=lambda noise: ends[noise])):
        drop = 9 * (rank - (len(ends) - 1) / 2)
        plot.annotate(
            noise or "", (1, ends[noise]), (5, drop), textcoords="offset points", va="center", color=colour, size=8
        )


def _draw_bar(plot: Axes, row: int, here: Interval, there: Interval | None, colour: str) -> None:
    if np.isnan(here.value):
        plot.annotate("not in the test scenes", (1, row), va="center", color=MUTED, size=8)
        return
    plot.barh(row, 100 * here.value, height=0.62, color=colour, alpha=0.55, linewidth=0)
    plot.plot([100 * here.low, 100 * here.high], [row, row], color=INK, linewidth=1.2, solid_capstyle="butt")
    if there is not None and not np.isnan(there.value):
        plot.plot(
            100 * there.value, row, marker="D", markersize=4.5, markerfacecolor="none", color=INK, linestyle="",
            clip_on=False, zorder=3,
        )  # fmt: skip

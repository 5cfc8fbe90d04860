"""The primary metric of every tap over the relative depth of its site."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from evaluate.figures.style import (
    MUTED,
    WIDTH,
    Drawn,
    Look,
    Looks,
    apart,
    axis_title,
    dashes,
    place,
    scale,
    style,
)
from evaluate.models import ModelResult, TapResult
from evaluate.table import Axis

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_PLACES = (0.5, 0.2, 0.8)
"""Middles of the places where models without depth stand."""
_CROWD = 8
"""With more lines than this, each model shows the noise level that was chosen, and controls have no band."""
_LINE_HEIGHT = 9.0
_MARKED = 20
"""Taps up to which each has a marker."""


def layer_curves(axis: Axis, axes: Sequence[Axis], looks: Looks) -> Drawn | None:
    """Return the curves of all models; None if no model was read at more than one tap."""
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

    if all(len(model.taps) < 2 for model in axis.models):
        return None
    metric = axis.protocol.metrics[axis.protocol.primary]
    with style():
        figure = Figure(figsize=(WIDTH, 3.1), layout="constrained")
        plot = figure.add_subplot()
        _draw_models(plot, axis, looks)
        plot.set_xlim(-0.03, 1.03)
        plot.set_xticks([0, 0.25, 0.5, 0.75, 1], ["first", "", "relative depth of the site", "", "last"])
        plot.set_ylabel(axis_title(axis))
        plot.grid(visible=False, axis="x")
        legend = [
            Line2D([], [], color=looks[m.info.model].colour, linestyle=dashes(m), label=m.label, linewidth=1.6)
            for m in axis.models
        ]
    crowd = " Of several noise levels the chosen one is drawn, and controls have no band." if _crowded(axis) else ""
    return Drawn(
        "curve",
        f"layers-{axis.dataset}-{axis.task}",
        f"{place(axis, axes)}: {metric.title} over depth",
        "Taps on test, over the relative depth of their site among those probed. Bands are 95 % intervals over test "
        f"scenes; the ring marks the tap chosen on val. Dashed: untrained twins and other controls.{crowd}",
        figure,
        tuple(legend),
    )


def _crowded(axis: Axis) -> bool:
    return sum(len(_lines(model)) for model in axis.models) > _CROWD


def _draw_models(plot: Axes, axis: Axis, looks: Looks) -> None:
    flats = lone = 0
    crowded = _crowded(axis)
    for model in sorted(axis.models, key=lambda model: not model.is_control):
        look = looks[model.info.model]
        if _is_flat(model) and len(model.taps) > 1:
            _draw_points(plot, axis, model, _PLACES[lone % len(_PLACES)], look)
            lone += 1
            continue
        for noise, taps in _lines(model).items():
            chosen = noise == model.best.probe.noise
            if chosen or not crowded:
                _draw_line(plot, axis, model, taps, look, chosen, band=not crowded or not model.is_control)
        if len(_lines(model)) > 1 and not crowded:
            _name_noise(plot, axis, model, look)
        if _is_flat(model):
            # At alternate ends, since the lines of controls tend to lie close together.
            end, align = ((1, "right"), (0, "left"))[flats % 2]
            value = scale(axis) * axis.interval(model.best).value
            plot.annotate(
                model.label, (end, value), (0, 2), textcoords="offset points", ha=align, color=MUTED, size=8.5,
                gid=look.group,
            )  # fmt: skip
            flats += 1


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
    plot: Axes, axis: Axis, model: ModelResult, taps: list[TapResult], look: Look, chosen: bool, *, band: bool
) -> None:
    depths = [tap.probe.depth for tap in model.taps]
    first, last = min(depths), max(depths)
    flat, faint = _is_flat(model), model.is_control or not chosen
    intervals = [axis.interval(tap) for tap in taps]
    value, low, high = (
        scale(axis) * np.array([getattr(interval, side) for interval in intervals]) for side in ("value", "low", "high")
    )
    x = np.array([(tap.probe.depth - first) / (last - first) if last > first else 0.0 for tap in taps])
    if flat:
        x, value, low, high = np.array([0.0, 1.0]), *(np.repeat(side[:1], 2) for side in (value, low, high))
    if band:
        plot.fill_between(x, low, high, color=look.colour, alpha=0.08 if faint else 0.18, linewidth=0, gid=look.group)
    plot.plot(
        x, value, color=look.colour, linestyle=dashes(model), markersize=4,
        marker="" if flat or faint or len(taps) > _MARKED else look.marker,
        alpha=0.7 if faint else 1, linewidth=1.0 if faint else 1.8, gid=look.group,
    )  # fmt: skip
    for index, tap in enumerate(taps):
        if tap is model.best and not flat:
            plot.plot(
                x[index], value[index], marker="o", markersize=9, markerfacecolor="none", color=look.colour,
                gid=look.group,
            )  # fmt: skip


def _draw_points(plot: Axes, axis: Axis, model: ModelResult, middle: float, look: Look) -> None:
    """Draw the taps of a model with one site side by side, each with its interval and its noise level."""
    face = "none" if model.is_control else look.colour
    for index, tap in enumerate(model.taps):
        x = middle + 0.25 * (index / (len(model.taps) - 1) - 0.5)
        value, low, high = (scale(axis) * getattr(axis.interval(tap), side) for side in ("value", "low", "high"))
        plot.plot([x, x], [low, high], color=look.colour, alpha=0.5, linewidth=1.2, gid=look.group)
        sizes = (4, 9) if tap is model.best else (4,)
        for size in sizes:
            plot.plot(
                x, value, marker="o", markersize=size, markerfacecolor=face if size == 4 else "none",
                color=look.colour, linestyle="", gid=look.group,
            )  # fmt: skip
        plot.annotate(
            tap.probe.noise or tap.probe.tap, (x, value), (6, 0), textcoords="offset points", va="center",
            color=look.colour, size=8.5, gid=look.group,
        )  # fmt: skip


def _name_noise(plot: Axes, axis: Axis, model: ModelResult, look: Look) -> None:
    """Write the noise levels of a model's lines at their right ends, spread so that none covers another."""
    ends = {noise: scale(axis) * axis.interval(taps[-1]).value for noise, taps in _lines(model).items()}
    ranks = sorted(ends, key=lambda noise: ends[noise])
    drops = apart([0.0] * len(ranks), _LINE_HEIGHT)
    for noise, drop in zip(ranks, drops, strict=True):
        plot.annotate(
            noise or "", (1, ends[noise]), (5, drop), textcoords="offset points", va="center", color=look.colour,
            size=8.5, gid=look.group,
        )  # fmt: skip

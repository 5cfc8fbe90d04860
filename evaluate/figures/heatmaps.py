"""The primary metric over layer and noise, one map per model that was read at several of both."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float

from evaluate.figures.style import INK, MUTED, WIDTH, Drawn, axis_title, place, scale, style
from evaluate.models import ModelResult, TapResult, tap_order
from evaluate.table import Axis

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.colors import Colormap, Normalize

_ROW = 0.26
_CELLS_WITH_NUMBERS = 11
"""Columns up to which a number fits into a cell."""
_NAMED_SITES = 6


def heatmaps(axis: Axis, axes: Sequence[Axis]) -> Drawn | None:
    """Return one map per model below each other on one scale of colours; None if no model has both layers and noise."""
    from matplotlib import colormaps
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import Normalize
    from matplotlib.figure import Figure

    models = [model for model in axis.models if _is_plane(model)]
    if not models:
        return None
    metric = axis.protocol.metrics[axis.protocol.primary]
    planes = [_plane(model) for model in models]
    values = np.concatenate([scale(axis) * _values(axis, plane).ravel() for plane in planes])
    values = values[np.isfinite(values)]
    if not len(values):
        return None
    colours = Normalize(float(values.min()), float(max(values.max(), values.min() + 1e-9)))
    ramp = colormaps["cividis" if metric.higher_is_better else "cividis_r"]
    heights = [len(plane) for plane in planes]
    with style():
        figure = Figure(figsize=(WIDTH, 0.75 + sum(0.62 + _ROW * rows for rows in heights)), layout="constrained")
        plots = figure.subplots(len(models), 1, height_ratios=[rows + 1.0 for rows in heights], squeeze=False)[:, 0]
        for plot, model, plane in zip(plots, models, planes, strict=True):
            _draw(plot, axis, model, plane, ramp, colours)
        bar = figure.colorbar(
            ScalarMappable(colours, ramp), ax=list(plots), location="bottom", aspect=45, pad=0.02, fraction=0.02
        )
        bar.outline.set_visible(False)
        bar.set_label(axis_title(axis))
    return Drawn(
        "heatmap",
        f"noise-{axis.dataset}-{axis.task}",
        f"{place(axis, axes)}: {metric.title} over layer and noise",
        "Each cell is one tap on test: sites in order of execution from left to right, noise from low to high upwards. "
        "Lighter is better, on one scale for all models. The framed cell is the tap chosen on val. Intervals are in "
        "the table of all taps.",
        figure,
    )


def _is_plane(model: ModelResult) -> bool:
    noises = {tap.probe.noise for tap in model.taps}
    return len(noises) > 1 and len({tap.probe.site for tap in model.taps}) > 1 and not model.is_control


def _plane(model: ModelResult) -> list[list[TapResult | None]]:
    """Return taps as (noise, site); what was not read is None."""
    taps = sorted(model.taps, key=lambda tap: tap_order(tap.probe))
    sites = list(dict.fromkeys(tap.probe.site for tap in taps))
    noises = list(dict.fromkeys(t.probe.noise for t in sorted(taps, key=lambda t: tap_order(t.probe)[1:3])))
    found = {(tap.probe.noise, tap.probe.site): tap for tap in taps}
    return [[found.get((noise, site)) for site in sites] for noise in noises]


def _values(axis: Axis, plane: list[list[TapResult | None]]) -> Float[np.ndarray, "noise site"]:
    return np.array([[axis.interval(tap).value if tap else np.nan for tap in row] for row in plane])


def _draw(
    plot: Axes, axis: Axis, model: ModelResult, plane: list[list[TapResult | None]], ramp: Colormap, colours: Normalize
) -> None:
    values = scale(axis) * _values(axis, plane)
    rows, columns = values.shape
    plot.pcolormesh(np.ma.masked_invalid(values), cmap=ramp, norm=colours, edgecolors="none", linewidth=0)
    plot.set_title(model.label, loc="left", size=9, color=INK)
    for spine in plot.spines.values():
        spine.set_visible(False)
    plot.grid(visible=False)
    firsts = [next(tap for tap in row if tap) for row in plane]
    plot.set_yticks(np.arange(rows) + 0.5, [tap.probe.noise or "" for tap in firsts], size=8.5)
    tops = [next(row[column] for row in plane if row[column]) for column in range(columns)]
    step = -(-columns // _NAMED_SITES)
    named = range(0, columns, step)
    plot.set_xticks([k + 0.5 for k in named], [_short(tops[k]) for k in named], size=8)
    metric = axis.protocol.metrics[axis.protocol.primary]
    for row in range(rows):
        for column in range(columns):
            tap = plane[row][column]
            if tap is None:
                plot.text(column + 0.5, row + 0.5, "·", ha="center", va="center", color=MUTED)
            elif columns <= _CELLS_WITH_NUMBERS:
                bright = np.dot(ramp(colours(values[row, column]))[:3], (0.299, 0.587, 0.114)) > 0.5
                text = metric.format(axis.interval(tap).value, unit=False).removeprefix("0")
                colour = MUTED if np.isnan(values[row, column]) else "#000000" if bright else "#ffffff"
                plot.text(column + 0.5, row + 0.5, text, ha="center", va="center", size=8, color=colour)
            if tap is model.best:
                across, up = np.array([0, 1, 1, 0, 0]) + column, np.array([0, 0, 1, 1, 0]) + row
                plot.plot(across, up, color=INK, linewidth=2.2, clip_on=False, zorder=5)


def _short(tap: TapResult | None) -> str:
    return tap.probe.site.replace("_blocks", "").replace("blocks.", "") if tap else ""

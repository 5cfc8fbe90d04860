"""Scene by scene: one tick per test scene, one row per model."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from evaluate.figures.style import INK, WIDTH, Drawn, Look, Looks, axis_title, place, scale, style
from evaluate.models import ModelResult
from evaluate.table import Axis

if TYPE_CHECKING:
    from matplotlib.axes import Axes

ROWS = 8
"""Models shown: the best, and the control that the leader is held against."""


def scene_ticks(axis: Axis, axes: Sequence[Axis], looks: Looks) -> Drawn | None:
    """Return the spread over scenes of the best taps; None if fewer than two scenes have anything to measure."""
    from matplotlib.figure import Figure

    control = axis.control(axis.leader)
    models = [model for model in axis.models if not model.is_control][:ROWS] or list(axis.models[:ROWS])
    models += [control] if control else []
    values = {model.label: np.array(list(axis.per_scene(model.best).values())) for model in models}
    if max(int(np.isfinite(found).sum()) for found in values.values()) < 2:
        return None
    metric = axis.protocol.metrics[axis.protocol.primary]
    with style():
        figure = Figure(figsize=(WIDTH, 0.75 + 0.46 * len(models)), layout="constrained")
        plot = figure.add_subplot()
        for row, model in enumerate(models):
            _draw(plot, row, axis, model, values[model.label], looks[model.info.model])
        plot.set_ylim(len(models) - 0.45, -0.75)
        plot.set_yticks([])
        plot.set_xlabel(axis_title(axis))
        plot.grid(visible=False, axis="y")
        plot.spines["left"].set_visible(False)
    left_out = sum(not model.is_control for model in axis.models) - sum(not model.is_control for model in models)
    rest = f" {left_out} weaker models are in the table only." if left_out > 0 else ""
    best = axis.leader.best
    alone = axis.contributions(best, best.scenes, axis.protocol.primary).exact
    pooled = (
        ""
        if alone
        else " The metric is not a mean over scenes but pools what is in them: the dot may lie beside the ticks."
    )
    return Drawn(
        "scenes",
        f"scenes-{axis.dataset}-{axis.task}",
        f"{place(axis, axes)}: {metric.title} scene by scene",
        "One thin tick per test scene, measured on that scene alone, for each model's best tap. The dot is the value "
        "over all scenes and the bar below it its 95 % interval: it says how sure the dot is, not how far scenes lie "
        f"apart.{pooled}{rest}",
        figure,
    )


def _draw(plot: Axes, row: int, axis: Axis, model: ModelResult, values: np.ndarray, look: Look) -> None:
    x = scale(axis) * values[np.isfinite(values)]
    # One path for all ticks of a row: NaN lifts the pen.
    plot.plot(
        np.stack([x, x, np.full_like(x, np.nan)], 1).ravel(), np.tile([row - 0.14, row + 0.14, np.nan], len(x)),
        color=look.colour, linewidth=1.0, alpha=0.55, gid=look.group,
    )  # fmt: skip
    interval = axis.interval(model.best)
    low, value, high = (scale(axis) * side for side in (interval.low, interval.value, interval.high))
    plot.plot([low, high], [row + 0.27] * 2, color=INK, linewidth=1.4, solid_capstyle="butt", gid=look.group)
    plot.plot(value, row + 0.27, marker="o", markersize=4.5, color=INK, linestyle="", gid=look.group)
    plot.annotate(
        f"{model.label}  {model.best.probe.tap}", (0, row - 0.22), xycoords=("axes fraction", "data"), va="bottom",
        size=8.5, color=INK, gid=look.group,
    )  # fmt: skip

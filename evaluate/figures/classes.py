"""Class by class: the leader's best tap beside its control."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from evaluate.figures.style import INK, MUTED, WIDTH, Drawn, Look, Looks, place, style
from evaluate.statistics import Interval
from evaluate.table import Axis

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def class_bars(axis: Axis, axes: Sequence[Axis], looks: Looks) -> Drawn | None:
    """Return one bar per class, sorted, with its interval; a diamond where the control stands. None without classes."""
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

    if not axis.protocol.class_metrics:
        return None
    name, metric = next(iter(axis.protocol.class_metrics.items()))
    leader, control = axis.leader, axis.control(axis.leader)
    here = axis.classes(leader.best)[name]
    there = axis.classes(control.best)[name] if control else []
    order = sorted(range(len(here)), key=lambda k: (np.isnan(here[k].value), -np.nan_to_num(here[k].value)))
    look = looks[leader.info.model]
    with style():
        figure = Figure(figsize=(WIDTH, 0.9 + 0.25 * len(order)), layout="constrained")
        plot = figure.add_subplot()
        for row, k in enumerate(order):
            _draw_bar(plot, row, here[k], there[k] if there else None, look)
        plot.set_yticks(range(len(order)), [axis.protocol.classes[k] for k in order])
        plot.tick_params(axis="y", labelcolor=INK)
        plot.set_ylim(len(order) - 0.4, -0.6)
        plot.set_xlim(0, 101)
        plot.set_xlabel(f"{metric.title} (%) {metric.arrow}")
        plot.grid(visible=False, axis="y")
        plot.spines["left"].set_visible(False)
        legend = [Line2D([], [], color=look.colour, linewidth=5, alpha=0.55, label=leader.label)]
        if control:
            legend.append(
                Line2D([], [], color=INK, marker="D", markerfacecolor="none", linestyle="", label=control.label)
            )
    beside = f"; the diamond is {control.label}" if control else ""
    return Drawn(
        "classes",
        f"classes-{axis.dataset}-{axis.task}",
        f"{place(axis, axes)}: {metric.title} per class",
        f"{leader.label}, {leader.best.probe.tap}: the bar is the class on all test scenes, the line its 95 % interval "
        f"over scenes{beside}. A class that one scene has alone gets a line of no length: its spread is not known.",
        figure,
        tuple(legend),
    )


def _draw_bar(plot: Axes, row: int, here: Interval, there: Interval | None, look: Look) -> None:
    if np.isnan(here.value):
        plot.annotate("not in the test scenes", (1, row), va="center", color=MUTED, size=8.5)
        return
    plot.barh(row, 100 * here.value, height=0.6, color=look.colour, alpha=0.55, linewidth=0)
    plot.plot([100 * here.low, 100 * here.high], [row, row], color=INK, linewidth=1.2, solid_capstyle="butt")
    if there is not None and not np.isnan(there.value):
        plot.plot(
            100 * there.value, row, marker="D", markersize=4.5, markerfacecolor="none", color=INK, linestyle="",
            clip_on=False, zorder=3,
        )  # fmt: skip

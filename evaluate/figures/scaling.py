"""Does size help: the primary metric over the number of parameters."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING

from evaluate.figures.style import WIDTH, Drawn, Looks, apart, axis_title, place, scale, style
from evaluate.models import ModelResult
from evaluate.sizes import counted, parameters, readable, series
from evaluate.table import Axis

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_PLOT_HEIGHT = 180
"""Of the plot in points, nearly."""


def scaling(axis: Axis, axes: Sequence[Axis], looks: Looks) -> Drawn | None:
    """Return the score over size, series joined; None unless two trained models of different sizes say theirs."""
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

    trained = [model for model in axis.models if not model.is_control]
    sized = {
        model.label: (model, size) for model in trained if (size := parameters(model.info)) and _known(axis, model)
    }
    sizes = sorted({size for _, size in sized.values()})
    if len(sizes) < 2:
        return None
    groups: dict[str, list[tuple[float, ModelResult]]] = defaultdict(list)
    several = len({model.head for model, _ in sized.values()}) > 1
    for model, size in sized.values():
        # Another head, or training on other data, is another line.
        said = [model.head or "no head"] * several + [f"trained on {name}" for name in (model.info.trained_on,) if name]
        groups[series(model.info) + (f" [{', '.join(said)}]" if said else "")].append((size, model))
    metric = axis.protocol.metrics[axis.protocol.primary]
    legend, ends = [], []
    with style():
        figure = Figure(figsize=(WIDTH, 3.1), layout="constrained")
        plot = figure.add_subplot(xscale="log")
        for name, members in sorted(groups.items()):
            members.sort(key=lambda item: item[0])
            look = looks[members[0][1].info.model]
            x = [size for size, _ in members]
            intervals = [axis.interval(model.best) for _, model in members]
            y = [scale(axis) * interval.value for interval in intervals]
            for at, interval in zip(x, intervals, strict=True):
                bounds = [scale(axis) * side for side in (interval.low, interval.high)]
                plot.plot([at, at], bounds, color=look.colour, alpha=0.5, linewidth=1.2)
            plot.plot(x, y, color=look.colour, marker=look.marker, markersize=5, linewidth=1.4)
            for at, value, (_, model) in zip(x, y, members, strict=True):
                plot.plot(at, value, marker=look.marker, markersize=5, color=looks[model.info.model].colour)
            ends.append((name, x[-1], y[-1]))
            legend.append(Line2D([], [], color=look.colour, marker=look.marker, label=name))
        named = _spaced(sizes)
        plot.set_xticks(named, [readable(size) for size in named], size=8.5)
        plot.set_xticks([], minor=True)
        plot.margins(x=0.14)
        _name(plot, ends, (sizes[0] * sizes[-1]) ** 0.5)
        plot.set_xlabel("parameters of the backbone")
        plot.set_ylabel(axis_title(axis))
        plot.grid(visible=False, axis="x")
    unknown = [model.label for model in trained if model.label not in sized]
    rest = f" Of unknown size or score and not drawn: {', '.join(unknown)}." if unknown else ""
    return Drawn(
        "scaling",
        f"scaling-{axis.dataset}-{axis.task}",
        f"{place(axis, axes)}: {metric.title} over size",
        f"Best tap of each trained model over {_source(sized.values())}; lines join a series, bars are 95 % "
        f"intervals over test scenes. Models of a series can differ in more than size.{rest}",
        figure,
        tuple(legend),
    )


def _name(plot: Axes, ends: Sequence[tuple[str, float, float]], middle: float) -> None:
    """Write the name of each series at its last point, moved up or down where names would collide."""
    plot.autoscale_view()
    heights = [plot.transAxes.inverted().transform(plot.transData.transform((x, y)))[1] for _, x, y in ends]
    for (name, x, y), height, wanted in zip(ends, heights, apart(heights, 0.06), strict=True):
        side = -1 if x > middle else 1
        place = (7 * side, 5 + (wanted - height) * _PLOT_HEIGHT)
        plot.annotate(name, (x, y), place, textcoords="offset points", size=8, ha="right" if side < 0 else "left")


def _source(sized: Collection[tuple[ModelResult, float]]) -> str:
    """Return where sizes are from."""
    named = [model.label for model, _ in sized if not counted(model.info)]
    if not named:
        return "the parameters of its loaded backbone"
    if len(named) == len(sized):
        return "the nominal size that its name states"
    return f"the parameters of its loaded backbone, or the nominal size that its name states ({', '.join(named)})"


def _known(axis: Axis, model: ModelResult) -> bool:
    return not math.isnan(axis.interval(model.best).value)


def _spaced(sizes: Sequence[float]) -> list[float]:
    """Return the sizes whose names fit below the axis, both ends among them."""
    least = 0.11 * math.log(sizes[-1] / sizes[0])
    kept = [sizes[0]]
    for size in sizes[1:-1]:
        if math.log(size / kept[-1]) >= least and math.log(sizes[-1] / size) >= least:
            kept.append(size)
    return [*kept, sizes[-1]]

"""Who knows what: semantics against geometry, one point per model."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from evaluate.aspects import ASPECTS
from evaluate.figures.style import HUES, INK, KINDS, MUTED, WIDTH, Drawn, Look, Looks, apart, axis_title, scale, style
from evaluate.models import ModelResult
from evaluate.sizes import counted, parameters, readable
from evaluate.statistics import Interval
from evaluate.table import Axis

if TYPE_CHECKING:
    from matplotlib.axes import Axes


_LABEL_HEIGHT = 0.044
"""Of a label, as a share of the plot's height."""
_PLOT_HEIGHT = 240
"""Of the plot in points, nearly."""


def complementarity(dataset: str, axes: Sequence[Axis], looks: Looks) -> Iterator[Drawn]:
    """Yield the first semantic task against up to three geometric ones, where two models or more have both."""
    mine = {axis.task: axis for axis in axes if axis.dataset == dataset}
    across = next((mine[task] for task in ASPECTS["semantics"] if task in mine), None)
    if across is None:
        return
    for up in [mine[task] for task in ASPECTS["geometry"] if task in mine][:3]:
        pairs = [(model, other) for model in across.models if (other := up.counterpart(model))]
        if sum(not model.is_control for model, _ in pairs) > 1:
            yield _draw(dataset, across, up, pairs, looks)


def _draw(
    dataset: str, across: Axis, up: Axis, pairs: Sequence[tuple[ModelResult, ModelResult]], looks: Looks
) -> Drawn:
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

    with style():
        figure = Figure(figsize=(WIDTH, 4.0), layout="constrained")
        plot = figure.add_subplot()
        points = []
        for model, other in pairs:
            x, y = across.interval(model.best), up.interval(other.best)
            if x.value == x.value and y.value == y.value:
                points.append((model, scale(across) * x.value, scale(up) * y.value))
                _draw_point(plot, model, (x, scale(across)), (y, scale(up)), looks[model.info.model])
        for axis, turn, label in (
            (across, plot.invert_xaxis, plot.set_xlabel),
            (up, plot.invert_yaxis, plot.set_ylabel),
        ):
            if not axis.protocol.metrics[axis.protocol.primary].higher_is_better:
                turn()
            label(f"{axis.task}: {axis_title(axis)}")
        plot.margins(0.12, 0.08)
        _name(plot, points, looks)
        kinds = {model.info.kind: HUES[model.info.kind] for model, *_ in points if not model.is_control}
        legend = [
            Line2D([], [], color=hue, linestyle="", marker="D" if kind == "fusion" else "o", label=KINDS[kind])
            for kind, hue in kinds.items()
        ]
    sizes = sorted(size for model, *_ in points if (size := parameters(model.info)))
    said = (
        f"Size grows with the parameters of the backbone ({readable(sizes[0])} to {readable(sizes[-1])}"
        f"{_from_names([model for model, *_ in points])}); models of unknown size are small. "
        if sizes
        else ""
    )
    return Drawn(
        "complementarity",
        f"complementarity-{dataset}-{across.task}-{up.task}",
        f"{across.task} against {up.task} on {dataset}",
        "Each model at its best tap of either task; towards the upper right is better at both. Crosses are 95 % "
        f"intervals over test scenes. {said}Diamonds are fusions, hollow grey marks are controls.",
        figure,
        tuple(legend),
    )


def _from_names(models: Sequence[ModelResult]) -> str:
    known = [model for model in models if not model.is_control and parameters(model.info)]
    named = [model.label for model in known if not counted(model.info)]
    return f"; from the name: {', '.join(named)}" if named and len(named) < len(known) else "; from names" * bool(named)


def _draw_point(
    plot: Axes, model: ModelResult, across: tuple[Interval, float], up: tuple[Interval, float], look: Look
) -> None:
    (x, by_x), (y, by_y) = across, up
    faint = model.is_control
    lines: Any = {"color": look.colour, "linewidth": 0.9, "alpha": 0.3 if faint else 0.55, "gid": look.group}
    plot.plot([by_x * x.low, by_x * x.high], [by_y * y.value] * 2, **lines)
    plot.plot([by_x * x.value] * 2, [by_y * y.low, by_y * y.high], **lines)
    plot.plot(
        by_x * x.value, by_y * y.value, marker="D" if model.info.kind == "fusion" else "o",
        markersize=_diameter(model), markerfacecolor="none" if faint else look.colour,
        markeredgecolor=MUTED if faint else INK, markeredgewidth=0.7, alpha=0.9, linestyle="", gid=look.group,
    )  # fmt: skip


def _diameter(model: ModelResult) -> float:
    """Return points: area, not diameter, goes with the number of parameters; 14e9 has 15."""
    size = parameters(model.info)
    return 4.0 if model.is_control else min(max(5.0, 4.0 * (size / 1e9) ** 0.5), 20.0) if size else 5.0


def _name(plot: Axes, points: Sequence[tuple[ModelResult, float, float]], looks: Looks) -> None:
    """Write each name beside its point, on the side that has room, moved up or down where names would collide."""
    plot.autoscale_view()
    inside = [plot.transAxes.inverted().transform(plot.transData.transform((x, y))) for _, x, y in points]
    heights = apart([height for _, height in inside], _LABEL_HEIGHT)
    for (model, x, y), (share, height), wanted in zip(points, inside, heights, strict=True):
        side = -1 if share > 0.55 else 1
        place = (side * (4 + _diameter(model) / 2), (wanted - height) * _PLOT_HEIGHT)
        plot.annotate(
            model.label, (x, y), place, textcoords="offset points", va="center", ha="right" if side < 0 else "left",
            size=7.5 if model.is_control else 8, color=MUTED if model.is_control else INK,
            gid=looks[model.info.model].group,
        )  # fmt: skip

"""Figures, one kind per file: each is drawn only where the runs hold what it needs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from evaluate.figures.classes import class_bars
from evaluate.figures.complementarity import complementarity
from evaluate.figures.curves import layer_curves
from evaluate.figures.heatmaps import heatmaps
from evaluate.figures.radar import radar
from evaluate.figures.scaling import scaling
from evaluate.figures.scenes import scene_ticks
from evaluate.figures.style import Drawn, Look, Looks, looks
from evaluate.table import Axis

FIGURES = ("radar", "complementarity", "curve", "heatmap", "scaling", "classes", "scenes")
"""Kinds of figures, in the order of `draw`."""

__all__ = ["FIGURES", "Drawn", "Look", "Looks", "draw", "looks"]


def draw(axes: Sequence[Axis]) -> Iterator[Drawn]:
    """Yield every figure of the given axes, those that compare tasks first, then by kind and axis."""
    shown = looks(axes)
    for dataset in dict.fromkeys(axis.dataset for axis in axes):
        if (whole := radar(dataset, axes, shown)) is not None:
            yield whole
        yield from complementarity(dataset, axes, shown)
    found = [
        *(layer_curves(axis, axes, shown) for axis in axes),
        *(heatmaps(axis, axes) for axis in axes),
        *(scaling(axis, axes, shown) for axis in axes),
        *(class_bars(axis, axes, shown) for axis in axes),
        *(scene_ticks(axis, axes, shown) for axis in axes),
    ]
    yield from (figure for figure in found if figure is not None)

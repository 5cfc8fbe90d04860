"""One polygon per model over all tasks, in the manner of the overview figures of probing papers."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

from evaluate.figures.style import MUTED, WIDTH, Drawn, Looks, style
from evaluate.models import ModelResult
from evaluate.table import Axis

_FULL = 4
"""Up to so many models are drawn in full; of more, the best of each kind, and the rest thin."""
_INNER = 0.12
"""Radius of the worst: a polygon that collapses to the centre hides its other corners."""


def radar(dataset: str, axes: Sequence[Axis], looks: Looks) -> Drawn | None:
    """Return the radar of a data set; None below three tasks, or below two models that were probed on all of them."""
    from matplotlib.figure import Figure

    mine = [axis for axis in axes if axis.dataset == dataset]
    models = _everywhere(mine)
    if len(mine) < 3 or len(models) < 2:
        return None
    shares, ends = _normalised(mine, models)
    if not np.isfinite(shares).all():
        return None
    strong = _strong(shares, models)
    angles = np.linspace(0, 2 * np.pi, len(mine), endpoint=False)
    with style():
        figure = Figure(figsize=(WIDTH, 3.9), layout="constrained")
        plot = figure.add_subplot(projection="polar", theta_offset=np.pi / 2, theta_direction=-1)
        for index in sorted(range(len(models)), key=lambda k: k in strong):
            look = looks[models[index].info.model]
            corners = np.append(shares[index], shares[index][:1])
            turn = np.append(angles, angles[:1])
            bold = index in strong
            plot.plot(
                turn, corners, color=look.colour, linewidth=2 if bold else 0.9, alpha=1 if bold else 0.55,
                marker=look.marker if bold else "", markersize=4, gid=look.group, label=models[index].label,
            )  # fmt: skip
            if bold:
                plot.fill(turn, corners, color=look.colour, alpha=0.07, linewidth=0, gid=look.group)
        plot.set_ylim(0, 1)
        plot.set_yticks([_INNER, (1 + _INNER) / 2, 1], [])
        plot.spines["polar"].set_visible(False)
        labels = [_spoke(axis, worst, best) for axis, (worst, best) in zip(mine, ends, strict=True)]
        plot.set_xticks(angles, labels, size=8)
        plot.tick_params(axis="x", labelcolor=MUTED, pad=0)
        for label, angle in zip(plot.get_xticklabels(), angles, strict=True):
            side, height = np.sin(angle), np.cos(angle)
            label.set_horizontalalignment("left" if side > 0.1 else "right" if side < -0.1 else "center")
            label.set_verticalalignment("bottom" if height > 0.1 else "top" if height < -0.1 else "center")
        legend = [line for line in plot.get_lines() if line.get_marker() or len(strong) == len(models)]
        handles = tuple(line for line in legend if str(line.get_label()) and not str(line.get_label()).startswith("_"))
    thin = "" if len(strong) == len(models) else " Drawn in full: the model of each kind with the largest mean radius."
    return Drawn(
        "radar",
        f"radar-{dataset}",
        f"All tasks on {dataset}",
        "One polygon per trained model at its best tap of each task; further out is better. Each spoke runs from the "
        "worst of all models and controls (inner ring) to the best (rim), as written at its end, so that "
        f"areas and different spokes cannot be compared. It shows no intervals: a small gap can be chance.{thin}",
        figure,
        handles,
    )


def _everywhere(axes: Sequence[Axis]) -> list[ModelResult]:
    """Return the models of the first axis that are no controls and were probed on all axes."""
    return [model for model in axes[0].models if not model.is_control and all(axis.counterpart(model) for axis in axes)]


def _normalised(
    axes: Sequence[Axis], models: Sequence[ModelResult]
) -> tuple[Float[np.ndarray, "model axis"], list[tuple[float, float]]]:
    """Return radii in [inner, 1], and (worst, best) of each axis among all its models."""
    shares = np.empty((len(models), len(axes)))
    ends = []
    for column, axis in enumerate(axes):
        found = {model.label: axis.interval(model.best).value for model in axis.models}
        known = [value for value in found.values() if value == value]
        low, high = (min(known), max(known)) if known else (np.nan, np.nan)
        worst, best = (low, high) if axis.protocol.metrics[axis.protocol.primary].higher_is_better else (high, low)
        for row, model in enumerate(models):
            here = axis.counterpart(model)
            assert here is not None  # `_everywhere`
            share = (found[here.label] - worst) / (best - worst) if best != worst else 1.0
            shares[row, column] = _INNER + (1 - _INNER) * share
        ends.append((worst, best))
    return shares, ends


def _strong(shares: Float[np.ndarray, "model axis"], models: Sequence[ModelResult]) -> set[int]:
    if len(models) <= _FULL:
        return set(range(len(models)))
    order = sorted(range(len(models)), key=lambda k: -shares[k].mean())
    firsts: dict[str, int] = {}
    for index in order:
        firsts.setdefault(models[index].info.kind, index)
    return set(firsts.values())


def _spoke(axis: Axis, worst: float, best: float) -> str:
    metric = axis.protocol.metrics[axis.protocol.primary]
    return f"{axis.task}\n{metric.title}\n{metric.format(worst, unit=False)} → {metric.format(best, unit=False)}"

"""Scene by scene: the hardest and the easiest test scenes of a model."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from evaluate.metrics.base import MetricInfo

if TYPE_CHECKING:
    from evaluate.models import ModelResult
    from evaluate.table import Axis


@dataclass(frozen=True)
class SceneValue:
    """The primary metric of one scene alone, and of the control there (NaN where it was not tested or has none)."""

    scene: str
    value: float
    control: float


def ranked(axis: Axis, model: ModelResult) -> list[SceneValue]:
    """Return the test scenes of a model's best tap from worst to best; those with nothing to measure are left out."""
    control = axis.control(model)
    theirs = axis.per_scene(control.best) if control else {}
    metric = axis.protocol.metrics[axis.protocol.primary]
    order = worst_to_best(axis.per_scene(model.best), metric)
    return [SceneValue(scene, value, theirs.get(scene, math.nan)) for scene, value in order]


def worst_to_best(values: Mapping[str, float], metric: MetricInfo) -> list[tuple[str, float]]:
    """Return scenes with their values; equals in the order of their names, and those that are NaN are left out."""
    sign = 1 if metric.higher_is_better else -1
    known = [(scene, value) for scene, value in values.items() if not math.isnan(value)]
    return sorted(known, key=lambda item: (sign * item[1], item[0]))

"""Scene by scene: the hardest and the easiest test scenes of a model."""

from __future__ import annotations

import math
from dataclasses import dataclass

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
    sign = 1 if axis.protocol.metrics[axis.protocol.primary].higher_is_better else -1
    known = [
        SceneValue(scene, value, theirs.get(scene, math.nan))
        for scene, value in axis.per_scene(model.best).items()
        if not math.isnan(value)
    ]
    return sorted(known, key=lambda item: (sign * item.value, item.scene))

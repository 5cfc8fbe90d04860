"""What is owed to training: a score minus that of the same backbone untrained, or of a probe with shuffled labels.

After Hewitt & Liang 2019, "Designing and Interpreting Probes with Control Tasks": a probe that does as well on a task
of its own making says little of the features. Here the control is measured by the same protocol on the same scenes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

from evaluate.comparisons import ALPHA, gain, paired_test
from evaluate.models import ModelResult, TapResult
from evaluate.paired import holm
from evaluate.statistics import Interval
from evaluate.table import Axis

Control = Literal["untrained", "shuffled"]
CONTROLS: tuple[Control, ...] = get_args(Control)


@dataclass(frozen=True)
class Selectivity:
    """The best tap of a model minus the best tap of its control.

    Attributes:
        model: what was trained.
        control: which control.
        twin: that control.
        difference: model minus control in the metric's unit, paired.
        gain: the same so that above zero the model is better.
        p: of the sign-flip test; `p_holm` is corrected for all models and controls of the axis.
        selective: whether the model is better: `p_holm` is at most alpha, and `gain` lies above zero.
    """

    model: ModelResult
    control: Control
    twin: ModelResult
    difference: Interval
    gain: Interval
    p: float
    p_holm: float
    selective: bool


def twin_of(axis: Axis, model: ModelResult, control: Control = "untrained") -> ModelResult | None:
    """Return the same backbone untrained, or the probes of the same run with shuffled labels; `None` if there are none.

    Both have the model's own head.
    """
    if control == "untrained":
        return axis.twin(model)
    if model.shuffled:
        return None
    mine = (model.run.path, model.head)
    return next((m for m in axis.models if m.shuffled and (m.run.path, m.head) == mine), None)


def selectivity(
    axis: Axis,
    model: ModelResult,
    control: Control = "untrained",
    *,
    tap: str | None = None,
    metric: str | None = None,
) -> Interval | None:
    """Return score minus control in the metric's unit, with the paired interval over the common test scenes.

    Args:
        axis: one task on one data set.
        model: one of its models.
        control: the untrained twin, or the probe with shuffled labels.
        tap: which tap, the same of both; without it the best tap of each, as chosen on val.
        metric: the primary one if none is named.

    Returns:
        The difference; `None` where the control, or the tap in one of them, was not probed, or no scene is common.
    """
    twin = twin_of(axis, model, control)
    pair = _taps(model, twin, tap) if twin else None
    return axis.difference(*pair, metric) if pair else None


def selectivities(axis: Axis, metric: str | None = None, *, alpha: float = ALPHA) -> list[Selectivity]:
    """Return the selectivity of every model against each control that was probed, Holm-corrected over all of them."""
    name = metric or axis.protocol.primary
    info = axis.protocol.metrics[name]
    found = [
        (model, control, twin, difference)
        for model in axis.models
        if not model.is_control
        for control in CONTROLS
        if (twin := twin_of(axis, model, control)) and (difference := axis.difference(model.best, twin.best, name))
    ]
    raw = [paired_test(axis, model.best, twin.best, name)[1] for model, _, twin, _ in found]
    return [
        Selectivity(model, control, twin, difference, won, p, p_holm, p_holm <= alpha and won.low > 0)
        for (model, control, twin, difference), won, p, p_holm in zip(
            found, [gain(info, difference) for *_, difference in found], raw, _holm(raw), strict=True
        )
    ]


def _holm(p: Sequence[float]) -> list[float]:
    return [float(value) for value in holm(p)]


def _taps(model: ModelResult, twin: ModelResult, tap: str | None) -> tuple[TapResult, TapResult] | None:
    if tap is None:
        return model.best, twin.best
    here, there = model.by_tap.get(tap), twin.by_tap.get(tap)
    return (here, there) if here and there else None

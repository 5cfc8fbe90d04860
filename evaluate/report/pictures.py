"""What a probe saw: the frames of an example beside truth and prediction, as small images that live inside the page."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from evaluate.metrics.grouping import match
from evaluate.report.paint import (
    NOTHING,
    WRONG,
    Bar,
    Claim,
    Key,
    Panels,
    Row,
    coloured,
    css,
    distinct,
    gradient,
    jpeg,
    lengths,
    painted,
    png,
)
from evaluate.report.places import camera_panels, match_panels, normal_panels, point_panels
from evaluate.schema import Example

MAX_ERROR = 0.5
"""Relative error of depth at which the error map is saturated."""
MOST_CLAIMS, LEAST_FALSE = 12, 4
"""Classes shown of one example of tagging: all that are there, and of the others those that the probe is surest of."""
_FEATURES = "features: principal components as red, green, blue"


def panels(example: Example, classes: Sequence[str], unit: str = "m") -> Panels | None:
    """Return the panels of an example, lengths in `unit`, or None if it has nothing that can be drawn."""
    arrays = example.arrays
    if "rgb" not in arrays:
        return None
    for needed, draw in _DRAWN.items():
        if set(needed) <= set(arrays):
            drawn = draw(example, classes, unit)
            first = [Row("frame", [jpeg(view) for view in arrays["rgb"]])]
            if "features_pca" in arrays:
                first.append(Row(_FEATURES, [png(view) for view in arrays["features_pca"]], cells=True))
            return replace(drawn, rows=[*first, *drawn.rows])
    return None


def _depth(example: Example, classes: Sequence[str], unit: str) -> Panels:
    truth, guess = (example.arrays[name] for name in ("depth", "depth_pred"))
    valid = truth > 0
    low, high = (float(bound) for bound in np.percentile(truth[valid], (1, 99))) if valid.any() else (0.0, 1.0)
    high = max(high, low + 1e-3)
    error = np.abs(guess - truth) / np.where(valid, truth, 1)
    return Panels(
        [
            Row("depth, truth", [jpeg(view) for view in coloured((truth - low) / (high - low), "viridis_r", valid)]),
            Row("depth, predicted", [jpeg(view) for view in coloured((guess - low) / (high - low), "viridis_r")]),
            Row("relative error", [jpeg(view) for view in coloured(error / MAX_ERROR, "inferno", valid)]),
        ],
        bars=[
            Bar("depth", gradient("viridis_r"), lengths(low, high, unit)),
            Bar(
                "relative error", gradient("inferno"), ("0 %", f"{50 * MAX_ERROR:.0f} %", f"≥ {100 * MAX_ERROR:.0f} %")
            ),
        ],
    )


def _instances(example: Example, classes: Sequence[str], unit: str) -> Panels:
    """Clusters take the colour of the instance they are matched to; those matched to nothing are shades of grey."""
    rgb, truth, guess = (example.arrays[name] for name in ("rgb", "instance", "instance_pred"))
    instances = [int(k) for k in np.unique(truth) if k > 0]
    colours = dict(zip(instances, distinct(len(instances)), strict=True))
    pairs = match(guess.astype(np.int64) - 1, truth)
    matched = {cluster + 1: colours[instance] for instance, cluster in pairs.items()}
    rest = [int(k) for k in np.unique(guess) if k > 0 and int(k) not in matched]
    shades = {k: (s, s, s + 4) for k, s in zip(rest, np.linspace(90, 175, max(len(rest), 1)).astype(int), strict=False)}
    return Panels(
        [
            Row("instances, truth", painted(rgb, truth, colours)),
            Row("clusters, predicted", painted(rgb, guess, matched | shades)),
        ],
        [
            *(Key(f"instance {k}", css(colours[k])) for k in instances),
            Key("cluster of no instance", css((132, 132, 136))),
            Key("none", css(NOTHING)),
        ],
    )


def _segmentation(example: Example, classes: Sequence[str], unit: str) -> Panels:
    rgb, truth, guess = (example.arrays[name] for name in ("rgb", "classes", "classes_pred"))
    present = [int(k) for k in np.union1d(truth, guess) if 0 < k <= len(classes)]
    colours = dict(zip(present, distinct(len(present)), strict=True))
    right = np.where(truth == 0, 0, np.where(truth == guess, 1, 2))
    return Panels(
        [
            Row("classes, truth", painted(rgb, truth, colours)),
            Row("classes, predicted", painted(rgb, guess, colours)),
            Row("wrong pixels", painted(rgb, right, {1: (214, 220, 226), 2: WRONG})),
        ],
        [
            *(Key(classes[k - 1], css(colours[k])) for k in present),
            Key("wrong", css(WRONG)),
            Key("no label", css(NOTHING)),
        ],
    )


def _tags(example: Example, classes: Sequence[str], unit: str) -> Panels:
    scores, there = example.arrays["scores"], example.arrays["labels"].astype(bool)
    count = int(there.sum()) + max(LEAST_FALSE, MOST_CLAIMS - int(there.sum()))
    order = sorted(range(len(scores)), key=lambda k: (not there[k], -scores[k], k))[:count]
    claims = [Claim(classes[k], float(scores[k]), bool(there[k])) for k in order]
    return Panels([], claims=sorted(claims, key=lambda claim: -claim.score))


_DRAWN: dict[tuple[str, ...], Callable[[Example, Sequence[str], str], Panels]] = {
    ("depth", "depth_pred"): _depth,
    ("instance", "instance_pred"): _instances,
    ("classes", "classes_pred"): _segmentation,
    ("scores", "labels"): _tags,
    ("points", "points_pred", "points_valid"): point_panels,
    ("normals", "normals_pred"): normal_panels,
    ("cam_to_world", "cam_to_world_pred"): camera_panels,
    ("queries", "positions", "matches", "visible"): match_panels,
}
"""Arrays that an example must have -> what draws them; the first that fits is taken."""

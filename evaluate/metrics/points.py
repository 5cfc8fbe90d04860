"""Points: whether the shape of a scene was found, up to one similarity transform per set of views."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, NamedTuple

import numpy as np
from jaxtyping import Bool, Float
from numpy.typing import NDArray

from evaluate.errors import InputError
from evaluate.metrics.base import Arrays, MetricInfo, Protocol, ratio, same_shape, scene_means, take

MIN_POINTS = 3
"""A similarity transform of space has no unique fit to fewer points."""
NEAR = 0.1
"""Radius of `within10` and of the F-score, in mean distances of the first view."""
SAMPLED = 2048
"""Points of either side, evenly spaced among all, whose distance to the nearest point of the other side is taken."""


class Similarity(NamedTuple):
    """The map x -> scale * rotation @ x + translation."""

    scale: float
    rotation: NDArray[np.float64]
    translation: NDArray[np.float64]

    def __call__(self, points: Float[np.ndarray, "point 3"]) -> Float[np.ndarray, "point 3"]:
        """Return the points, mapped."""
        return self.scale * points @ self.rotation.T + self.translation


def umeyama(source: Float[np.ndarray, "point 3"], target: Float[np.ndarray, "point 3"]) -> Similarity:
    """Return the similarity that maps `source` to `target` with the least sum of squared distances.

    Umeyama 1991, "Least-squares estimation of transformation parameters between two point patterns", equations 40 to
    43. A source without extent can only be moved: its scale is 0.
    """
    mean_source, mean_target = source.mean(axis=0), target.mean(axis=0)
    x, y = source - mean_source, target - mean_target
    u, singular, vt = np.linalg.svd(y.T @ x / len(x))
    sign = np.array([1.0, 1.0, np.sign(np.linalg.det(u @ vt))])
    rotation = (u * sign) @ vt
    variance = np.vdot(x, x) / len(x)
    scale = float(np.sum(singular * sign) / variance) if variance > 0 else 0.0
    return Similarity(scale, rotation, mean_target - scale * rotation @ mean_source)


def mean_distance(points: Float[np.ndarray, "point 3"]) -> float:
    """Return the mean distance of points from the origin, which is the first view's camera."""
    return float(np.linalg.norm(points, axis=-1).mean())


class PointErrors(NamedTuple):
    """Every metric of one set of views; see `PointsProtocol.metrics`."""

    point_error: float = np.nan
    within10: float = np.nan
    surface_accuracy: float = np.nan
    surface_completeness: float = np.nan
    f_score10: float = np.nan
    point_error_unaligned: float = np.nan


def surface_distances(
    source: Float[np.ndarray, "point 3"], target: Float[np.ndarray, "other 3"]
) -> Float[np.ndarray, " sampled"]:
    """Return the distance from points of `source`, at most `SAMPLED` of them, to the nearest of all of `target`."""
    from scipy.spatial import cKDTree

    chosen = np.linspace(0, len(source) - 1, min(len(source), SAMPLED)).round().astype(np.int64)
    # Quick to build: such a tree answers few questions.
    tree = cKDTree(target, leafsize=32, compact_nodes=False, balanced_tree=False)
    distances, _ = tree.query(source[chosen])
    return np.asarray(distances, np.float64)


def f_score(
    accuracy: Float[np.ndarray, " point"], completeness: Float[np.ndarray, " point"], radius: float = NEAR
) -> float:
    """Return the harmonic mean of the shares of both sides' distances below `radius`; 0 if both shares are.

    Precision and recall of points as in Tanks and Temples (Knapitsch et al. 2017, section 6).
    """
    precision, recall = float(np.mean(accuracy < radius)), float(np.mean(completeness < radius))
    return 2 * precision * recall / (precision + recall) if precision + recall > 0 else 0.0


def window_errors(
    prediction: Float[np.ndarray, "view y x 3"],
    target: Float[np.ndarray, "view y x 3"],
    valid: Bool[np.ndarray, "view y x"],
) -> PointErrors:
    """Return the metrics of one set of views.

    Points lie in the first view's camera frame. Both sides are first divided by the mean distance of their own first
    view's valid points, so that errors are in units in which that distance is 1. NaN where the first view has no
    valid point or the set has fewer than `MIN_POINTS`.

    Raises:
        InputError: a predicted point is not finite at a valid pixel.
    """
    if valid.sum() < MIN_POINTS or not valid[0].any():
        return PointErrors()
    p, g = prediction[valid].astype(np.float64), target[valid].astype(np.float64)
    if not np.isfinite(p).all():
        raise InputError("predicted points hold NaN or infinity at valid pixels")
    g = g / mean_distance(target[0][valid[0]].astype(np.float64))
    extent = mean_distance(prediction[0][valid[0]].astype(np.float64))
    p = p / extent if extent > 0 else p
    fitted = umeyama(p, g)(p)
    aligned = np.linalg.norm(fitted - g, axis=-1)
    accuracy, completeness = surface_distances(fitted, g), surface_distances(g, fitted)
    return PointErrors(
        float(aligned.mean()),
        float((aligned < NEAR).mean()),
        float(accuracy.mean()),
        float(completeness.mean()),
        f_score(accuracy, completeness),
        float(np.linalg.norm(p - g, axis=-1).mean()),
    )


def take_valid(target: Arrays, points: Float[np.ndarray, "window view y x 3"]) -> Bool[np.ndarray, "window view y x"]:
    """Return `valid` of the target, all true if it has none; a pixel that is not valid counts nowhere."""
    if "valid" not in target:
        return np.ones(points.shape[:-1], bool)
    valid = take(target, "valid", "window view y x", "target").astype(bool, copy=False)
    same_shape(valid, points[..., 0], "valid")
    return valid


class PointsProtocol(Protocol):
    """Every metric is the mean over scenes of the mean over the scene's windows."""

    task = "points"
    primary = "point_error"
    metrics: ClassVar[Mapping[str, MetricInfo]] = {
        "point_error": MetricInfo(
            "point error", "", False, "mean distance after the best similarity; 1 = the first view's mean distance"
        ),
        "within10": MetricInfo("within 0.1", "%", True, "share of points closer than 0.1 after the best similarity"),
        "surface_accuracy": MetricInfo(
            "accuracy", "", False, "mean distance of aligned predicted points to the nearest true one, in that unit"
        ),
        "surface_completeness": MetricInfo(
            "completeness", "", False, "mean distance of true points to the nearest aligned predicted one, in that unit"
        ),
        "f_score10": MetricInfo(
            "F-score at 0.1", "%", True, "harmonic mean of the shares of both distances below 0.1 of that unit"
        ),
        "point_error_unaligned": MetricInfo(
            "point error, unaligned", "", False, "mean distance after division by the first view's mean distance alone"
        ),
    }
    dims: ClassVar[Mapping[str, tuple[str, ...]]] = dict.fromkeys(("windows", *metrics), ())

    def score_scene(self, prediction: Arrays, target: Arrays) -> dict[str, NDArray[Any]]:
        """Return sums over windows of `points` (window, view, y, x, 3); `valid` (window, view, y, x) in the target.

        `valid` may be left out where all pixels are.
        """
        p = take(prediction, "points", "window view y x 3", "prediction").astype(np.float64, copy=False)
        g = take(target, "points", "window view y x 3", "target").astype(np.float64, copy=False)
        same_shape(p, g, "points")
        windows = zip(p, g, take_valid(target, g), strict=True)
        errors = np.array([window_errors(*window) for window in windows]).reshape(-1, len(PointErrors._fields))
        measured = np.isfinite(errors).all(axis=1)
        return {
            "windows": np.asarray(measured.sum(), np.int64),
            **{name: np.asarray(errors[measured, column].sum()) for column, name in enumerate(PointErrors._fields)},
        }

    def reduce_weighted(
        self, statistics: Arrays, weights: Float[np.ndarray, "resample scene"]
    ) -> dict[str, Float[np.ndarray, " resample"]]:
        """Return the metrics for each row of scene weights; scenes without a measurable window are left out."""
        windows = np.asarray(statistics["windows"], np.float64)
        return scene_means({name: ratio(np.asarray(statistics[name]), windows) for name in self.metrics}, weights)

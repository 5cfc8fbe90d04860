"""Camera: how well the pose of a view relative to the first one was found, as angles and as a trajectory."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, NamedTuple

import numpy as np
from jaxtyping import Bool, Float
from numpy.typing import NDArray

from evaluate.errors import InputError
from evaluate.metrics.base import Arrays, MetricInfo, Protocol, ratio, same_shape, take
from evaluate.metrics.points import MIN_POINTS, umeyama

THRESHOLDS = (5, 15, 30)
"""Degrees below which a rotation or a direction counts as found."""
AUC_LIMIT = 30
AUC_LIMITS = (AUC_LIMIT, 15, 10, 5, 3)
MIN_BASELINE = 1e-3
"""Metres. A camera that moved less has no direction of translation that one could find."""


def rotation_angle(
    first: Float[np.ndarray, "*batch 3 3"], second: Float[np.ndarray, "*batch 3 3"]
) -> Float[np.ndarray, "*batch"]:
    """Return the angle in degrees, 0 .. 180, of the rotation between two rotations.

    From ||R1 - R2||_F = 2 sqrt(2) sin(angle / 2) (Hartley et al. 2013, Rotation Averaging, section 4), which unlike
    the arc cosine of the trace stays exact for small angles.
    """
    chord = np.linalg.norm(first - second, axis=(-2, -1)) / (2 * np.sqrt(2))
    angle: NDArray[np.float64] = np.degrees(2 * np.arcsin(np.clip(chord, 0.0, 1.0)))
    return angle


def direction_angle(
    prediction: Float[np.ndarray, "*batch 3"], target: Float[np.ndarray, "*batch 3"]
) -> Float[np.ndarray, "*batch"]:
    """Return the angle in degrees, 0 .. 180, between two translations; 180 where the prediction has no direction.

    The sign counts: forwards is not backwards. (VGGT's evaluation folds the angle at 90 degrees.)
    """
    across = np.linalg.norm(np.cross(prediction, target), axis=-1)
    along = np.sum(prediction * target, axis=-1)
    angle = np.degrees(np.arctan2(across, along))
    return np.where(np.linalg.norm(prediction, axis=-1) > 0, angle, 180.0)


def auc(
    histogram: Float[np.ndarray, "*batch degree"], pairs: Float[np.ndarray, "*batch"]
) -> Float[np.ndarray, "*batch"]:
    """Return the area under the recall curve up to `degree` degrees, from counts of errors in bins of one degree.

    As in VGGT (Wang et al. 2025) and PoseDiffusion: the mean over bins of the share of all pairs whose error lies in
    that bin or an earlier one. Pairs with larger errors are in `pairs` but in no bin.
    """
    return ratio(np.cumsum(histogram, axis=-1).mean(axis=-1), pairs)


def pair_counts(
    rotation_error: Float[np.ndarray, " pair"],
    direction_error: Float[np.ndarray, " pair"],
    moved: Bool[np.ndarray, " pair"],
) -> dict[str, NDArray[np.int64]]:
    """Return the counts of pairs that all camera metrics follow from; errors in degrees.

    `rotation_found` and `direction_found` count errors below each of `THRESHOLDS`. `histogram` counts the larger of
    both errors in bins of one degree up to `AUC_LIMIT`. Pairs that did not move count for rotation only.
    """
    found = {
        "rotation_found": [np.count_nonzero(rotation_error < limit) for limit in THRESHOLDS],
        "direction_found": [np.count_nonzero(direction_error[moved] < limit) for limit in THRESHOLDS],
    }
    worse = np.maximum(rotation_error, direction_error)[moved]
    histogram, _ = np.histogram(worse, bins=np.arange(AUC_LIMIT + 1))
    counts = {"pairs": len(moved), "moved_pairs": np.count_nonzero(moved), "histogram": histogram, **found}
    return {name: np.asarray(count, np.int64) for name, count in counts.items()}


class TrajectoryErrors(NamedTuple):
    """Errors of the poses of one window: ATE and the translation's RPE in metres, the rotation's RPE in degrees."""

    ate: float
    rpe_translation: float
    rpe_rotation: float


def trajectory_errors(
    prediction: Float[np.ndarray, "view 4 4"], target: Float[np.ndarray, "view 4 4"]
) -> TrajectoryErrors:
    """Return root mean squares over the views of one window; poses are camera-to-world, in any frame.

    ATE is the distance of camera centres after the similarity that fits the predicted ones to the true ones best
    (Umeyama 1991). RPE compares the motions between neighbouring views, C_i^-1 C_i+1: the length of the translation
    and the angle of the rotation of (true motion)^-1 (predicted motion), the prediction scaled by the same similarity
    (Sturm et al. 2012, section IV). NaN with fewer than three views, or where the true camera hardly moved.
    """
    centres = target[:, :3, 3]
    if len(target) < MIN_POINTS or np.ptp(centres, axis=0).max() < MIN_BASELINE:
        return TrajectoryErrors(np.nan, np.nan, np.nan)
    fit = umeyama(prediction[:, :3, 3], centres)
    away = np.linalg.norm(fit(prediction[:, :3, 3]) - centres, axis=-1)
    (turn, move), (true_turn, true_move) = _motions(prediction), _motions(target)
    apart = np.linalg.norm(fit.scale * move - true_move, axis=-1)
    errors = (away, apart, rotation_angle(turn, true_turn))
    return TrajectoryErrors(*(float(np.sqrt(np.mean(error**2))) for error in errors))


def _motions(
    poses: Float[np.ndarray, "view 4 4"],
) -> tuple[Float[np.ndarray, "motion 3 3"], Float[np.ndarray, "motion 3"]]:
    """Return rotation and translation of C_i^-1 C_i+1."""
    back = np.swapaxes(poses[:-1, :3, :3], -1, -2)
    return back @ poses[1:, :3, :3], np.einsum("vij,vj->vi", back, np.diff(poses[:, :3, 3], axis=0))


class CameraProtocol(Protocol):
    """Pairs (first view, other view) of all windows and scenes are pooled, and so are windows for ATE and RPE.

    Pair k is that of views 0 and k + 1, so that the pairs of a window hold the poses of all its views. ATE and RPE are
    taken of windows of which every pair is known.
    """

    task = "camera"
    primary = "auc30"
    metrics: ClassVar[Mapping[str, MetricInfo]] = {
        **{
            f"auc{limit}": MetricInfo(
                f"AUC@{limit}°",
                "%",
                True,
                f"area under the recall of max(rotation, direction) error up to {limit} degrees",
            )
            for limit in AUC_LIMITS
        },
        **{
            f"rra{limit}": MetricInfo(
                f"RRA@{limit}°", "%", True, f"share of pairs with rotation error below {limit} degrees"
            )
            for limit in THRESHOLDS
        },
        **{
            f"rta{limit}": MetricInfo(
                f"RTA@{limit}°", "%", True, f"share of pairs with direction error below {limit} degrees"
            )
            for limit in THRESHOLDS
        },
        "ate": MetricInfo("ATE", "m", False, "distance of camera centres after the best similarity, RMS of a window"),
        "rpe_translation": MetricInfo(
            "RPE translation", "m", False, "error of the motion between neighbouring views, scaled by that similarity"
        ),
        "rpe_rotation": MetricInfo("RPE rotation", "°", False, "error of the turn between neighbouring views"),
    }
    dims: ClassVar[Mapping[str, tuple[str, ...]]] = {
        "pairs": (),
        "moved_pairs": (),
        "rotation_found": ("threshold",),
        "direction_found": ("threshold",),
        "histogram": ("degree",),
        "windows": (),
        **dict.fromkeys(TrajectoryErrors._fields, ()),
    }

    def score_scene(self, prediction: Arrays, target: Arrays) -> dict[str, NDArray[Any]]:
        """Return pair counts of `rotation` (window, pair, 3, 3), `translation` (window, pair, 3); x_0 = R x_j + t.

        `known` (window, pair) bool in the target says which true poses there are; all, if it is left out. A pair that
        is not known counts nowhere. Also sums of `TrajectoryErrors` over the windows that have them.
        """
        arrays = {}
        for name, dims in (("rotation", "window pair 3 3"), ("translation", "window pair 3")):
            guess, truth = (take(source, name, dims, role).astype(np.float64) for source, role in
                            ((prediction, "prediction"), (target, "target")))  # fmt: skip
            same_shape(guess, truth, name)
            arrays[name] = guess, truth
        known = _known(target, arrays["rotation"][1])
        for name, (guess, truth) in arrays.items():
            for role, values in (("predicted", guess), ("true", truth)):
                if not np.isfinite(values[known]).all():
                    raise InputError(f"{role} {name} holds NaN or infinity at a pair that is not marked unknown")
        angles = rotation_angle(*(side[known] for side in arrays["rotation"]))
        directions = direction_angle(*(side[known] for side in arrays["translation"]))
        moved = np.linalg.norm(arrays["translation"][1][known], axis=-1) >= MIN_BASELINE
        guess, truth = (_poses(arrays["rotation"][side], arrays["translation"][side]) for side in (0, 1))
        whole = known.all(axis=1)
        errors = [trajectory_errors(*poses) for poses in zip(guess[whole], truth[whole], strict=True)]
        measured = [error for error in errors if np.isfinite(error.ate)]
        return {
            **pair_counts(angles, directions, moved),
            "windows": np.asarray(len(measured), np.int64),
            **{
                name: np.asarray(sum(getattr(error, name) for error in measured), np.float64)
                for name in TrajectoryErrors._fields
            },
        }

    def reduce_weighted(
        self, statistics: Arrays, weights: Float[np.ndarray, "resample scene"]
    ) -> dict[str, Float[np.ndarray, " resample"]]:
        """Return AUCs and recalls of the pooled pairs, ATE and RPE of the pooled windows."""
        total = {name: weights @ np.asarray(statistics[name], np.float64) for name in self.dims}
        result = {f"auc{limit}": auc(total["histogram"][:, :limit], total["moved_pairs"]) for limit in AUC_LIMITS}
        for index, limit in enumerate(THRESHOLDS):
            result[f"rra{limit}"] = ratio(total["rotation_found"][:, index], total["pairs"])
        for index, limit in enumerate(THRESHOLDS):
            result[f"rta{limit}"] = ratio(total["direction_found"][:, index], total["moved_pairs"])
        return result | {name: ratio(total[name], total["windows"]) for name in TrajectoryErrors._fields}


def _known(target: Arrays, rotation: Float[np.ndarray, "window pair 3 3"]) -> Bool[np.ndarray, "window pair"]:
    if "known" not in target:
        return np.ones(rotation.shape[:2], bool)
    known = take(target, "known", "window pair", "target").astype(bool)
    same_shape(known, rotation[..., 0, 0], "known")
    return known


def _poses(
    rotation: Float[np.ndarray, "window pair 3 3"], translation: Float[np.ndarray, "window pair 3"]
) -> Float[np.ndarray, "window view 4 4"]:
    """Return camera-to-world poses of all views; the world is the first view."""
    windows, pairs = translation.shape[:2]
    poses = np.tile(np.eye(4), (windows, pairs + 1, 1, 1))
    poses[:, 1:, :3, :3], poses[:, 1:, :3, 3] = rotation, translation
    return poses

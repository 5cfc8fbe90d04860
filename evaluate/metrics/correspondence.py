"""Correspondence: how many points were found again in another view, in its picture and in space."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from typing import Any, ClassVar

import numpy as np
from jaxtyping import Bool, Float, Int
from numpy.typing import NDArray

from evaluate.errors import InputError
from evaluate.metrics.base import Arrays, MetricInfo, Protocol, ratio, same_shape, take, weighted_sum

DIAGONAL = 800
"""Pixels are those of a picture with this diagonal, such as one of 640 x 480, whatever the size of the targets."""
PIXELS = (5, 10, 20)
CENTIMETRES = (2, 5, 10)
TURNS = (0, 15, 30, 60, 180)
"""Edges in degrees of the bins of how far the camera turned (El Banani et al. 2024, section 4, on ScanNet)."""
_SHOWN = 20
"""Threshold in pixels that the bins are reported at."""


def nearest_known(known: Bool[np.ndarray, "y x"]) -> Int[np.ndarray, "2 y x"]:
    """Return for every place of a grid the (row, column) of the known place that is nearest to it in the grid."""
    from scipy.ndimage import distance_transform_edt

    return np.asarray(distance_transform_edt(~known, return_distances=False, return_indices=True), np.int64)


def nearest_index(values: Float[np.ndarray, " value"], grid: Float[np.ndarray, " place"]) -> Int[np.ndarray, " value"]:
    """Return the index of the place nearest to each value; `grid` rises."""
    return np.searchsorted((grid[1:] + grid[:-1]) / 2, values)


def space_errors(
    matches: Float[np.ndarray, "query 2"],
    points: Float[np.ndarray, "query 3"],
    surface: Float[np.ndarray, "y x 3"],
    x: Float[np.ndarray, " x"],
    y: Float[np.ndarray, " y"],
) -> Float[np.ndarray, " query"]:
    """Return the distance in metres of each point from the surface point at its match, or at the nearest known place.

    Infinite if nothing of the surface is known (z = 0).
    """
    known = surface[..., 2] > 0
    if not known.any():
        return np.full(len(points), np.inf)
    rows, columns = nearest_known(known)[:, nearest_index(matches[:, 1], y), nearest_index(matches[:, 0], x)]
    distance: NDArray[np.float64] = np.linalg.norm(surface[rows, columns] - points, axis=-1)
    return distance


class CorrespondenceProtocol(Protocol):
    """Queries that are visible in the other view, of all pairs of views, windows and scenes, are pooled."""

    task = "correspondence"
    primary = f"recall{_SHOWN}px"
    metrics: ClassVar[Mapping[str, MetricInfo]] = {
        **{
            f"recall{limit}px": MetricInfo(
                f"recall@{limit}px",
                "%",
                True,
                f"share of visible points found within {100 * limit / DIAGONAL:g} % of the picture's diagonal "
                f"({limit} px of 640 x 480)",
            )
            for limit in PIXELS
        },
        **{
            f"recall{limit}cm": MetricInfo(
                f"recall@{limit}cm", "%", True, f"share of visible points found within {limit} cm in space"
            )
            for limit in CENTIMETRES
        },
        **{
            f"recall{_SHOWN}px_{low}_{high}": MetricInfo(
                f"recall@{_SHOWN}px, {low}–{high}°",
                "%",
                True,
                f"that recall where the camera turned by {low} to {high} degrees",
            )
            for low, high in pairwise(TURNS)
        },
    }
    dims: ClassVar[Mapping[str, tuple[str, ...]]] = {
        "queries": ("turn",),
        "found_pixel": ("turn", "threshold"),
        "found_metre": ("turn", "threshold"),
    }

    def score_scene(self, prediction: Arrays, target: Arrays) -> dict[str, NDArray[Any]]:
        """Return counts of `matches` (window, pair, query, 2), normalised, that are near enough to where points are.

        The target has, besides `positions` of that shape and `visible` (window, pair, query): `points` (window, pair,
        query, 3) and `surface` (window, pair, y, x, 3) in one frame, z = 0 where the surface is unknown; `surface_x`
        (window, x) and `surface_y` (window, y), normalised; `angle` (window, pair) in degrees; `size` (window, 2).
        """
        matches = take(prediction, "matches", "window pair query 2", "prediction").astype(np.float64)
        positions = take(target, "positions", "window pair query 2", "target").astype(np.float64)
        same_shape(matches, positions, "matches")
        visible = take(target, "visible", "window pair query", "target").astype(bool)
        if not np.isfinite(matches[visible]).all():
            raise InputError("predicted matches hold NaN or infinity at visible queries")
        size = take(target, "size", "window 2", "target").astype(np.float64)
        share = np.linalg.norm((matches - positions) * size[:, None, None], axis=-1)
        pixels = DIAGONAL * share / np.linalg.norm(size, axis=-1)[:, None, None]
        turn = np.digitize(take(target, "angle", "window pair", "target"), TURNS[1:-1])
        bins = np.arange(len(TURNS) - 1)
        counted = (turn[..., None] == bins)[..., None, :] & visible[..., None]  # window pair query bin
        centimetres = 100 * self._metres(matches, target)
        near = {
            "found_pixel": np.stack([pixels < limit for limit in PIXELS], -1),
            "found_metre": np.stack([centimetres < limit for limit in CENTIMETRES], -1),
        }
        return {
            "queries": counted.sum((0, 1, 2)),
            **{name: np.einsum("wpqb,wpqt->bt", counted, found, dtype=np.int64) for name, found in near.items()},
        }

    @staticmethod
    def _metres(
        matches: Float[np.ndarray, "window pair query 2"], target: Arrays
    ) -> Float[np.ndarray, "window pair query"]:
        points = take(target, "points", "window pair query 3", "target").astype(np.float64)
        surface = take(target, "surface", "window pair y x 3", "target")
        x, y = take(target, "surface_x", "window x", "target"), take(target, "surface_y", "window y", "target")
        errors = np.zeros(matches.shape[:3])
        for window, pair in np.ndindex(*errors.shape[:2]):
            at = window, pair
            errors[at] = space_errors(matches[at], points[at], surface[at], x[window], y[window])
        return errors

    def reduce_weighted(
        self, statistics: Arrays, weights: Float[np.ndarray, "resample scene"]
    ) -> dict[str, Float[np.ndarray, " resample"]]:
        """Return the recalls of the pooled queries; NaN where none was asked."""
        queries = weights @ np.asarray(statistics["queries"], np.float64)
        pixel, metre = (weighted_sum(np.asarray(statistics[name]), weights) for name in ("found_pixel", "found_metre"))
        result = {
            f"recall{limit}{unit}": ratio(found[:, :, k].sum(1), queries.sum(1))
            for found, limits, unit in ((pixel, PIXELS, "px"), (metre, CENTIMETRES, "cm"))
            for k, limit in enumerate(limits)
        }
        binned = ratio(pixel[:, :, PIXELS.index(_SHOWN)], queries)
        return result | {
            f"recall{_SHOWN}px_{low}_{high}": binned[:, k] for k, (low, high) in enumerate(pairwise(TURNS))
        }

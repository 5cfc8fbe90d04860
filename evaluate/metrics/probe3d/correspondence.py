"""Correspondence by the rules of Probe3D (arXiv 2404.08636): the matches that a model is surest of, pair by pair."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from typing import Any, ClassVar

import numpy as np
from jaxtyping import Float
from numpy.typing import NDArray

from evaluate.errors import InputError
from evaluate.metrics.base import Arrays, MetricInfo, Protocol, ratio, same_shape, take, weighted_sum

SUREST = 1000
"""Matches of a pair that are scored."""
DIAGONAL = 200
"""Pixels are those of a picture with this diagonal: 160 x 120. The code scales pictures of 640 x 480 down to a quarter
before it matches, and its errors are in the pixels that are left; 10 of them are 40 of the picture's own."""
PIXELS, CENTIMETRES = (5, 10, 20), (1, 2, 5)
TURNS, WIDE_TURNS = (0, 15, 30, 60, 180), (0, 30, 60, 90, 120)
"""Edges in degrees of the bins of how far the camera turned: for errors in pixels (ScanNet), in centimetres (NAVI)."""
_SHOWN_PIXEL, _SHOWN_CENTIMETRE = 10, 2
"""Thresholds that the bins are reported at."""


def _binned(limit: int, unit: str, edges: tuple[int, ...]) -> dict[str, MetricInfo]:
    return {
        f"recall{limit}{unit}_{low}_{high}": MetricInfo(
            f"recall@{limit}{unit}, {low}–{high}°",
            "%",
            True,
            f"that recall where the camera turned by {low} to {high} degrees",
        )
        for low, high in pairwise(edges)
    }


class Probe3dCorrespondenceProtocol(Protocol):
    """Every metric is the mean over pairs of views, of all windows and scenes, of the pair's own recall.

    Of every pair the `SUREST` matches count, whether or not the other view sees the point: a model chooses what it is
    asked. The code reports errors in pixels on ScanNet and in centimetres on NAVI; here both are on any data. It asks
    for as many matches of every pair, and fails where there are fewer; here these are all that count. NAVI's recalls
    at 5, 25 and 50 pixels of its crops of 512 pixels are left out.
    """

    task = "correspondence"
    primary = f"recall{_SHOWN_PIXEL}px"
    metrics: ClassVar[Mapping[str, MetricInfo]] = {
        **{
            f"recall{limit}px": MetricInfo(
                f"recall@{limit}px",
                "%",
                True,
                f"share of a pair's {SUREST} surest matches within {100 * limit / DIAGONAL:g} % of the picture's "
                f"diagonal ({limit} px of 160 x 120), mean over pairs",
            )
            for limit in PIXELS
        },
        **{
            f"recall{limit}cm": MetricInfo(
                f"recall@{limit}cm", "%", True, f"share of them within {limit} cm in space, mean over pairs"
            )
            for limit in CENTIMETRES
        },
        **_binned(_SHOWN_PIXEL, "px", TURNS),
        **_binned(_SHOWN_CENTIMETRE, "cm", WIDE_TURNS),
    }
    dims: ClassVar[Mapping[str, tuple[str, ...]]] = {
        "pairs": ("turn",),
        "found_pixel": ("turn", "threshold"),
        "wide_pairs": ("wide_turn",),
        "found_metre": ("wide_turn", "threshold"),
    }

    def score_scene(self, prediction: Arrays, target: Arrays) -> dict[str, NDArray[Any]]:
        """Return sums over pairs of the recalls of `matches` (window, pair, query), by how far the camera turned.

        A match is an index of `places`; `confidence` (window, pair, query) says how sure it is. The target has: `asked`
        (window, pair, query), the queries whose point is known; `positions` (window, pair, query, 2), where the point
        is projected to in the other view, normalised, also if that does not see it; `points` (window, pair, query, 3)
        and `surface` (window, pair, place, 3) in one frame, in metres; `places` (window, place, 2), normalised; `angle`
        (window, pair) in degrees; `size` (window, 2).
        """
        matches = take(prediction, "matches", "window pair query", "prediction")
        confidence = take(prediction, "confidence", "window pair query", "prediction")
        asked = take(target, "asked", "window pair query", "target").astype(bool)
        same_shape(matches, asked, "matches")
        same_shape(confidence, asked, "confidence")
        positions, points = (
            take(target, name, f"window pair query {size}", "target")
            for name, size in (("positions", 2), ("points", 3))
        )
        surface = take(target, "surface", "window pair place 3", "target")
        places = take(target, "places", "window place 2", "target").astype(np.float64)
        size = take(target, "size", "window 2", "target").astype(np.float64)
        angle = take(target, "angle", "window pair", "target")
        turn, wide = np.digitize(angle, TURNS[1:-1]), np.digitize(angle, WIDE_TURNS[1:])
        if not np.isfinite(confidence[asked]).all() or not np.isin(matches[asked], np.arange(places.shape[1])).all():
            raise InputError("matches of asked queries must be indices of places, and their confidence finite")
        pairs, found_pixel = np.zeros(len(TURNS) - 1), np.zeros((len(TURNS) - 1, len(PIXELS)))
        wide_pairs, found_metre = np.zeros(len(WIDE_TURNS)), np.zeros((len(WIDE_TURNS), len(CENTIMETRES)))
        for at in zip(*np.nonzero(asked.any(axis=-1)), strict=True):
            chosen = surest(confidence[at], asked[at])
            match = matches[at][chosen]
            share = np.linalg.norm((places[at[0]][match] - positions[at][chosen]) * size[at[0]], axis=-1)
            pixel = DIAGONAL * share / np.linalg.norm(size[at[0]])
            centimetre = 100 * np.linalg.norm(surface[at][match].astype(np.float64) - points[at][chosen], axis=-1)
            pairs[turn[at]] += 1
            found_pixel[turn[at]] += [np.mean(pixel < limit) for limit in PIXELS]
            wide_pairs[wide[at]] += 1
            found_metre[wide[at]] += [np.mean(centimetre < limit) for limit in CENTIMETRES]
        return {"pairs": pairs, "found_pixel": found_pixel, "wide_pairs": wide_pairs, "found_metre": found_metre}

    def reduce_weighted(
        self, statistics: Arrays, weights: Float[np.ndarray, "resample scene"]
    ) -> dict[str, Float[np.ndarray, " resample"]]:
        """Return the mean recalls of the pairs; NaN where there are none."""
        total = {name: weighted_sum(np.asarray(statistics[name]), weights) for name in self.dims}
        result = {}
        for pairs, found, limits, unit, shown, edges in (
            ("pairs", "found_pixel", PIXELS, "px", _SHOWN_PIXEL, TURNS),
            ("wide_pairs", "found_metre", CENTIMETRES, "cm", _SHOWN_CENTIMETRE, WIDE_TURNS),
        ):
            for index, limit in enumerate(limits):
                result[f"recall{limit}{unit}"] = ratio(total[found][:, :, index].sum(1), total[pairs].sum(1))
            binned = ratio(total[found][:, :, limits.index(shown)], total[pairs])
            for index, (low, high) in enumerate(pairwise(edges)):
                result[f"recall{shown}{unit}_{low}_{high}"] = binned[:, index]
        return {name: result[name] for name in self.metrics}


def surest(confidence: Float[np.ndarray, " query"], asked: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Return the asked queries with the largest confidence, `SUREST` at most; of equals, the earlier ones."""
    index = np.flatnonzero(asked)
    return index[np.argsort(-confidence[index], kind="stable")[:SUREST]]

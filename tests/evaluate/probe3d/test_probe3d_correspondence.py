"""Correspondence by Probe3D's rules, against slow, literal loops with points projected by the camera's matrix."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evaluate.errors import InputError
from evaluate.metrics.probe3d import correspondence as module
from evaluate.protocols import get_protocol

WIDTH, HEIGHT = 32, 24
"""A fifth of 160 x 120 along each axis."""
CAMERA = np.array([[30.0, 0, 16], [0, 30, 12], [0, 0, 1]])
QUERIES, PLACES = 40, 30
Scene = tuple[dict[str, np.ndarray], dict[str, np.ndarray]]


def _project(points: np.ndarray) -> np.ndarray:
    uvw = points @ CAMERA.T
    return uvw[..., :2] / uvw[..., 2:]


def _scene(seed: int, spread: float = 0.03) -> Scene:
    """Return guesses and truth of six pairs of views, in which every place has its own point of a surface."""
    rng = np.random.default_rng(seed)
    places = rng.uniform(0, (WIDTH, HEIGHT), (2, PLACES, 2))
    rays = np.concatenate([places, np.ones_like(places[..., :1])], -1) @ np.linalg.inv(CAMERA).T
    surface = rays[:, None] * rng.uniform(1, 2, (2, 3, PLACES, 1))
    matches = rng.integers(0, PLACES, (2, 3, QUERIES))
    true = np.where(rng.random(matches.shape) < 0.7, matches, rng.integers(0, PLACES, matches.shape))
    points = np.take_along_axis(surface, true[..., None], axis=2) + rng.normal(0, spread, (*matches.shape, 3))
    target = {
        "asked": rng.random(matches.shape) < 0.8,
        "positions": _project(points) / (WIDTH, HEIGHT),
        "points": points,
        "surface": surface,
        "places": places / (WIDTH, HEIGHT),
        "angle": np.array([[3.0, 15.0, 29.0], [61.0, 119.0, 150.0]]),
        "size": np.tile([WIDTH, HEIGHT], (2, 1)),
    }
    return {"matches": matches, "confidence": rng.random(matches.shape)}, target


def _reduce(*scenes: Scene) -> dict[str, float]:
    protocol = get_protocol("correspondence", family="probe3d-2404.08636")
    rows = [protocol.score_scene(*scene) for scene in scenes]
    return protocol.reduce({name: np.stack([row[name] for row in rows]) for name in rows[0]})


def _literal(*scenes: Scene, most: int) -> dict[str, float]:
    pairs: list[tuple[float, dict[str, float]]] = []
    for prediction, target in scenes:
        for at in np.ndindex(2, 3):
            asked = [query for query in range(QUERIES) if target["asked"][at][query]]
            asked.sort(key=lambda query: -prediction["confidence"][at][query])
            found: dict[str, list[bool]] = {}
            for query in asked[:most]:
                match = target["surface"][at][prediction["matches"][at][query]]
                point = target["points"][at][query]
                pixel = 5 * np.linalg.norm(_project(match) - _project(point))  # of 160 x 120
                for limit in (5, 10, 20):
                    found.setdefault(f"recall{limit}px", []).append(pixel < limit)
                for limit in (0.01, 0.02, 0.05):
                    name = f"recall{100 * limit:g}cm"
                    found.setdefault(name, []).append(math.dist(match, point) < limit)
            if asked:
                pairs.append((target["angle"][at], {name: float(np.mean(hits)) for name, hits in found.items()}))
    result = {name: np.mean([values[name] for _, values in pairs]) for name in pairs[0][1]}
    for name, edges in (("recall10px", (0, 15, 30, 60, 180)), ("recall2cm", (0, 30, 60, 90, 120))):
        for low, high in pairwise(edges):
            binned = [values[name] for angle, values in pairs if low <= angle < high]
            result[f"{name}_{low}_{high}"] = np.mean(binned) if binned else math.nan
    return result


@pytest.mark.parametrize("most", [1000, 10])
def test_recalls_are_means_over_pairs_of_the_surest_matches(most, monkeypatch):
    monkeypatch.setattr(module, "SUREST", most)
    scenes = [_scene(seed) for seed in range(3)]
    scenes[1][1]["asked"][0, 1] = False
    scenes[2][1]["asked"][1, 0] &= np.arange(QUERIES) < 4
    got = _reduce(*scenes)
    assert got == pytest.approx(_literal(*scenes, most=most), nan_ok=True)
    assert 0.1 < got["recall5px"] < got["recall20px"] < 1
    assert 0 < got["recall1cm"] < got["recall5cm"] < 1
    assert math.isnan(got["recall10px_30_60"])
    assert math.isnan(got["recall2cm_30_60"])


def test_ten_pixels_are_forty_of_a_picture_of_640_by_480():
    prediction, target = _scene(0)
    target["size"] = np.tile([640, 480], (2, 1))
    place = np.take_along_axis(target["places"][:, None], prediction["matches"][..., None], axis=2)
    for pixels, expected in ((39, 1.0), (41, 0.0)):
        target["positions"] = place + np.array([pixels / 640, 0])
        assert _reduce((prediction, target))["recall10px"] == expected


@given(st.integers(0, 99), st.floats(0.1, 9))
@settings(deadline=None, max_examples=20)
def test_only_the_order_of_confidence_matters_and_better_matches_are_never_worse(seed, power):
    prediction, target = _scene(seed)
    raised = prediction | {"confidence": prediction["confidence"] ** power - 3}
    assert _reduce((raised, target)) == pytest.approx(_reduce((prediction, target)), nan_ok=True)
    distance = np.linalg.norm(target["surface"][:, :, None] - target["points"][..., None, :], axis=-1)
    best = _reduce((prediction | {"matches": distance.argmin(-1)}, target))
    for limit in (1, 2, 5):
        assert best[f"recall{limit}cm"] >= _reduce((prediction, target))[f"recall{limit}cm"]


def test_what_is_not_asked_never_counts_and_nothing_to_ask_is_not_a_number():
    prediction, target = _scene(4)
    asked = target["asked"]
    spoiled = {
        "matches": np.where(asked, prediction["matches"], -1),
        "confidence": np.where(asked, prediction["confidence"], np.nan),
    }
    assert _reduce((spoiled, target)) == pytest.approx(_reduce((prediction, target)), nan_ok=True)
    blind = target | {"asked": np.zeros_like(asked)}
    assert all(math.isnan(value) for value in _reduce((prediction, blind)).values())


@pytest.mark.parametrize(
    "spoil", [{"confidence": np.full((2, 3, QUERIES), np.nan)}, {"matches": np.full((2, 3, QUERIES), PLACES)}]
)
def test_matches_that_cannot_be_scored_are_refused(spoil):
    prediction, target = _scene(5)
    with pytest.raises(InputError, match="indices of places"):
        _reduce((prediction | spoil, target))

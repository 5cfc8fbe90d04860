"""Correspondence against slow, literal loops."""

from __future__ import annotations

import math

import numpy as np
import pytest

from evaluate.errors import InputError
from evaluate.metrics.correspondence import nearest_index, nearest_known, space_errors
from evaluate.protocols import get_protocol

WIDTH, HEIGHT = 40, 30


def _scene(seed: int) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    rng = np.random.default_rng(seed)
    windows, pairs, queries, ny, nx = 2, 3, 20, 6, 8
    positions = rng.random((windows, pairs, queries, 2))
    surface = rng.uniform(0.5, 0.6, (windows, pairs, ny, nx, 3))
    surface[rng.random(surface.shape[:-1]) < 0.3] = 0
    target = {
        "positions": positions,
        "visible": rng.random((windows, pairs, queries)) < 0.7,
        "points": rng.uniform(0.5, 0.6, (windows, pairs, queries, 3)),
        "surface": surface,
        "surface_x": np.tile((np.arange(nx) + 0.5) / nx, (windows, 1)),
        "surface_y": np.tile((np.arange(ny) + 0.5) / ny, (windows, 1)),
        "angle": np.array([[3.0, 15.0, 29.0], [61.0, 179.0, 14.9]]),
        "size": np.tile([WIDTH, HEIGHT], (windows, 1)),
    }
    return {"matches": positions + rng.normal(0, 0.015, positions.shape)}, target


def _reduce(*scenes: tuple[dict[str, np.ndarray], dict[str, np.ndarray]]) -> dict[str, float]:
    protocol = get_protocol("correspondence")
    rows = [protocol.score_scene(*scene) for scene in scenes]
    return protocol.reduce({name: np.stack([row[name] for row in rows]) for name in rows[0]})


def _literal(pick, *scenes: tuple[dict[str, np.ndarray], dict[str, np.ndarray]]) -> dict[str, float]:
    """`pick` chooses among the distances in space of places that are equally near in the grid."""
    found: list[tuple[float, float, float]] = []
    for prediction, target in scenes:
        for window, pair, query in np.argwhere(target["visible"]):
            at = window, pair, query
            match, true = prediction["matches"][at], target["positions"][at]
            pixels = math.hypot((match[0] - true[0]) * 640, (match[1] - true[1]) * 480)
            surface = target["surface"][window, pair]
            column = min(range(8), key=lambda k: abs(target["surface_x"][window, k] - match[0]))
            row = min(range(6), key=lambda k: abs(target["surface_y"][window, k] - match[1]))
            away = {
                (j, i): (j - row) ** 2 + (i - column) ** 2 for j in range(6) for i in range(8) if surface[j, i, 2] > 0
            }
            near = [place for place, distance in away.items() if distance == min(away.values())]
            metres = pick(float(np.linalg.norm(surface[place] - target["points"][at])) for place in near)
            found.append((target["angle"][window, pair], pixels, metres))
    result = {f"recall{t}px": np.mean([p < t for _, p, _ in found]) for t in (5, 10, 20)}
    result |= {f"recall{t}cm": np.mean([100 * m < t for _, _, m in found]) for t in (2, 5, 10)}
    for low, high in ((0, 15), (15, 30), (30, 60), (60, 180)):
        binned = [p < 20 for a, p, _ in found if low <= a < high]
        result[f"recall20px_{low}_{high}"] = np.mean(binned) if binned else math.nan
    return result


def test_recalls_are_shares_of_the_visible_queries_of_all_scenes():
    scenes = [_scene(seed) for seed in range(3)]
    got, least, most = _reduce(*scenes), _literal(max, *scenes), _literal(min, *scenes)
    assert list(got) == list(least)
    for name in got:
        if name.endswith("cm"):
            assert least[name] - 1e-9 <= got[name] <= most[name] + 1e-9, name
        else:
            assert got[name] == pytest.approx(least[name], nan_ok=True), name
    assert 0 < least["recall10cm"] < 1
    assert math.isnan(got["recall20px_30_60"])
    assert 0.05 < got["recall5px"] < got["recall10px"] < got["recall20px"] < 1


def test_the_place_itself_is_perfect_and_another_is_not():
    _, target = _scene(0)
    grid = np.stack(np.meshgrid(target["surface_x"][0], target["surface_y"][0]), -1).reshape(-1, 2)
    chosen = np.random.default_rng(0).integers(len(grid), size=target["visible"].shape)
    target["positions"] = grid[chosen]
    target["surface"] = np.random.default_rng(1).uniform(1, 9, target["surface"].shape)
    flat = target["surface"].reshape(2, 3, -1, 3)
    target["points"] = np.take_along_axis(flat, chosen[..., None], axis=2)
    perfect = _reduce(({"matches": target["positions"]}, target))
    assert {value for value in perfect.values() if not math.isnan(value)} == {1.0}
    wrong = _reduce(({"matches": (target["positions"] + 0.5) % 1}, target))
    assert wrong["recall20px"] == wrong["recall10cm"] == 0


def test_hidden_queries_never_count_and_nothing_to_ask_is_not_a_number():
    prediction, target = _scene(4)
    spoiled = np.where(target["visible"][..., None], prediction["matches"], np.nan)
    assert _reduce(({"matches": spoiled}, target)) == pytest.approx(_reduce((prediction, target)), nan_ok=True)
    blind = target | {"visible": np.zeros_like(target["visible"])}
    assert all(math.isnan(value) for value in _reduce((prediction, blind)).values())
    assert _reduce((prediction, target), (prediction, blind)) == pytest.approx(
        _reduce((prediction, target)), nan_ok=True
    )
    prediction["matches"][0, 0, np.flatnonzero(target["visible"][0, 0])[0]] = np.nan
    with pytest.raises(InputError, match="NaN or infinity"):
        _reduce((prediction, target))


def test_places_are_looked_up_by_hand():
    known = np.array([[True, False, False], [False, False, True]])
    rows, columns = nearest_known(known)
    assert rows.tolist() == [[0, 0, 1], [0, 1, 1]] or rows.tolist() == [[0, 0, 1], [0, 0, 1]]
    assert columns[0, 0] == 0
    assert columns[1, 2] == 2
    assert nearest_index(np.array([-1, 0.24, 0.26, 0.9, 7]), np.array([0.0, 0.5, 1.0])).tolist() == [0, 0, 1, 2, 2]
    nowhere = space_errors(np.zeros((2, 2)), np.zeros((2, 3)), np.zeros((3, 3, 3)), np.arange(3.0), np.arange(3.0))
    assert np.isinf(nowhere).all()

"""What metrics are timed on: made-up predictions beside made-up targets of one scene, for every task and any size."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import zoom
from scipy.spatial.transform import Rotation

from evaluate.metrics.tagging import frequency_buckets
from evaluate.protocols import TASKS

Arrays = dict[str, NDArray[Any]]
Both = tuple[Arrays, Arrays]
"""(prediction, target)."""
CLASSES = [f"class {k}" for k in range(20)]
"""As many as ScanNet's benchmark has."""
CLASS_LISTS = {"tagging": CLASSES, "segmentation": CLASSES}
_THINGS = 12
_CELLS = 16
_CHANNELS = 32


@dataclass(frozen=True)
class Size:
    """Of one scene.

    Attributes:
        windows, views: of each window; tasks that go by frames get all of them.
        height, width: of the targets in pixels.
    """

    windows: int = 5
    views: int = 4
    height: int = 24
    width: int = 32


def scene(task: str, size: Size, error: float, rng: np.random.Generator) -> Both:
    """Return what `Protocol.score_scene` takes, for a probe that errs by `error` (0 = never, 1 = much)."""
    return _MADE[task](size, error, rng)


def _smooth(size: Size, frames: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """Fields (frame, y, x) between 0 and 1 without detail."""
    rough = rng.random((frames, 6, 8))
    return np.asarray(zoom(rough, (1, size.height / 6, size.width / 8), order=1), np.float64)


def _depth(size: Size, error: float, rng: np.random.Generator) -> Both:
    frames = size.windows * size.views
    true = (1 + 4 * _smooth(size, frames, rng)).astype(np.float32)
    wrong = np.exp(error * (_smooth(size, frames, rng) - 0.4 + 0.05 * rng.normal(size=true.shape)))
    true[rng.random(true.shape) < 0.1] = 0
    return {"depth": (np.maximum(true, 0.5) * wrong).astype(np.float32)}, {"depth": true}


def _points(size: Size, error: float, rng: np.random.Generator) -> Both:
    depth = 1 + 4 * _smooth(size, size.windows * size.views, rng)
    rows, columns = np.mgrid[: size.height, : size.width] / size.width - 0.5
    points = np.stack([columns * depth, rows * depth, depth], -1)
    points = points.reshape(size.windows, size.views, size.height, size.width, 3).astype(np.float32)
    valid = rng.random(points.shape[:-1]) < 0.9
    return {"points": points + error * rng.normal(size=points.shape).astype(np.float32)}, {
        "points": points,
        "valid": valid,
    }


def _normals(size: Size, error: float, rng: np.random.Generator) -> Both:
    shape = (size.windows * size.views, size.height, size.width, 3)
    true = np.stack([_smooth(size, shape[0], rng) - 0.5 for _ in range(3)], -1).astype(np.float32)
    true /= np.linalg.norm(true, axis=-1, keepdims=True)
    true[rng.random(shape[:-1]) < 0.1] = 0
    return {"normals": true + error * rng.normal(size=shape).astype(np.float32)}, {"normals": true}


def _labels(size: Size, frames: int, ids: int, rng: np.random.Generator) -> NDArray[np.uint8]:
    """Patches of ids 0 .. `ids`, the same size in every frame."""
    coarse = rng.integers(0, ids + 1, (frames, 6, 8))
    rows, columns = np.arange(size.height) * 6 // size.height, np.arange(size.width) * 8 // size.width
    return coarse[:, rows[:, None], columns].astype(np.uint8)


def _segmentation(size: Size, error: float, rng: np.random.Generator) -> Both:
    true = _labels(size, size.windows * size.views, len(CLASSES), rng)
    guess = np.where(rng.random(true.shape) < error, rng.integers(1, len(CLASSES) + 1, true.shape), np.maximum(true, 1))
    return {"classes": guess.astype(np.uint8)}, {"classes": true}


def _grouping(size: Size, error: float, rng: np.random.Generator) -> Both:
    shape = (size.windows, size.views)
    instances = _labels(size, size.windows * size.views, _THINGS, rng)
    rows = np.linspace(0, size.height - 1, _CELLS).round().astype(int)
    columns = np.linspace(0, size.width - 1, _CELLS).round().astype(int)
    codes = rng.normal(size=(_THINGS + 1, _CHANNELS))
    cells = codes[instances[:, rows[:, None], columns]]
    cells += (0.2 + error) * rng.normal(size=cells.shape)
    cells /= np.linalg.norm(cells, axis=-1, keepdims=True)
    embeddings = cells.reshape(*shape, _CELLS, _CELLS, _CHANNELS).astype(np.float32)
    return {"embeddings": embeddings}, {"instances": instances.reshape(*shape, size.height, size.width)}


def _camera(size: Size, error: float, rng: np.random.Generator) -> Both:
    shape = (size.windows, size.views - 1)
    turns = Rotation.from_rotvec(0.5 * rng.normal(size=(np.prod(shape), 3)))
    wrong = Rotation.from_rotvec(0.4 * error * rng.normal(size=(np.prod(shape), 3)))
    moves = rng.normal(size=(*shape, 3))
    return {
        "rotation": (wrong * turns).as_matrix().reshape(*shape, 3, 3),
        "translation": moves + error * rng.normal(size=moves.shape),
    }, {"rotation": turns.as_matrix().reshape(*shape, 3, 3), "translation": moves}


def _tagging(size: Size, error: float, rng: np.random.Generator) -> Both:
    labels = rng.random((size.windows, len(CLASSES))) < np.linspace(0.6, 0.05, len(CLASSES))
    logits = (labels * 2 - 1) + 3 * error * rng.normal(size=labels.shape)
    bucket = frequency_buckets(np.linspace(0.6, 0.05, len(CLASSES)))
    return {"scores": 1 / (1 + np.exp(-logits))}, {"labels": labels, "bucket": bucket}


def _correspondence(size: Size, error: float, rng: np.random.Generator) -> Both:
    """16 x 16 queries; surfaces at every fourth pixel of either axis, as probes read them."""
    pairs, queries = (size.windows, size.views - 1), 256
    high, wide = size.height // 4, size.width // 4
    place = rng.random((*pairs, queries, 2))
    rows, columns = (np.arange(high) + 0.5) / high, (np.arange(wide) + 0.5) / wide
    depth = 1 + rng.random((*pairs, high, wide))
    depth[rng.random(depth.shape) < 0.1] = 0
    surface = np.stack([columns * depth, rows[:, None] * depth, depth], -1)
    target = {
        "positions": place,
        "visible": rng.random((*pairs, queries)) < 0.7,
        "points": np.concatenate([place, np.ones((*pairs, queries, 1))], -1) * 1.5,
        "surface": surface,
        "surface_x": np.tile(columns, (size.windows, 1)),
        "surface_y": np.tile(rows, (size.windows, 1)),
        "angle": rng.uniform(0, 90, pairs),
        "size": np.tile([size.width, size.height], (size.windows, 1)),
    }
    return {"matches": np.clip(place + 0.1 * error * rng.normal(size=place.shape), 0, 1)}, target


_MADE: dict[str, Callable[[Size, float, np.random.Generator], Both]] = {
    "tagging": _tagging,
    "segmentation": _segmentation,
    "grouping": _grouping,
    "depth": _depth,
    "points": _points,
    "camera": _camera,
    "normals": _normals,
    "correspondence": _correspondence,
}
assert tuple(_MADE) == TASKS

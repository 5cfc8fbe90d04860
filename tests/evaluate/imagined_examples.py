"""Examples of every task, of one imagined room, with all arrays that a run keeps of it."""

from __future__ import annotations

import numpy as np

from evaluate.schema import Example
from tests.evaluate.imagined_rooms import Room, room
from tests.evaluate.imagined_runs import example, first_view_points, matches, prediction, surface_normals

CELLS = 4


def examples_of(task: str, probe_id: str, count: int = 3, *, error: float = 0.3, views: int = 3) -> list[Example]:
    """Return examples of `count` rooms from worst to best, by a metric of which less is better."""
    rooms = [room(10 + index, views, size=32) for index in range(count)]
    names = [f"worst 1 of {count}", *[f"median of {count}"] * (count - 2), f"best 1 of {count}"]
    return [
        kept(task, probe_id, f"room-{index}", views_, error, name, 0.9 - index / 10)
        for index, (views_, name) in enumerate(zip(rooms, names, strict=True))
    ]


def kept(task: str, probe_id: str, scene: str, views: Room, error: float, why: str = "", value: float = 0.5) -> Example:
    """Return one example as a run keeps it."""
    rng = np.random.default_rng(7)
    plain = example(task, probe_id, scene, views, error, rng)
    colours = rng.integers(0, 256, (len(views.rgb), CELLS, CELLS, 3), dtype=np.uint8)
    cameras = {"intrinsics": views.intrinsics, "cam_to_world": views.cam_to_world}
    arrays = {**plain.arrays, **cameras, "features_pca": colours, **_of_task(task, views, error, rng)}
    return Example(task, scene, "test", probe_id, [5 * view for view in range(len(views.rgb))], arrays, why, value)


def _of_task(task: str, views: Room, error: float, rng: np.random.Generator) -> dict[str, np.ndarray]:
    if task == "tagging":
        guess, target = prediction(task, views, error, rng)
        return {"scores": guess["scores"].max(0), "labels": target["labels"].any(0)}
    if task == "points":
        points = first_view_points(views).astype(np.float32)
        said = (points + rng.normal(0, error, points.shape)).astype(np.float32)
        valid = rng.random(points.shape[:3]) < 0.9
        return {"points": points, "points_pred": said, "points_valid": valid, "points_rgb": views.rgb}
    if task == "normals":
        normals = surface_normals(views)
        said = normals + rng.normal(0, error, normals.shape)
        said /= np.linalg.norm(said, axis=-1, keepdims=True)
        return {
            name: np.rint(127 * side).astype(np.int8) for name, side in (("normals", normals), ("normals_pred", said))
        }
    if task == "camera":
        said = views.cam_to_world.copy()
        said[1:, :3, 3] += rng.normal(0, error, (len(said) - 1, 3))
        return {"cam_to_world_pred": said}
    if task == "correspondence":
        guess, target = matches(views, error, rng)
        size = views.rgb.shape[1]
        at = (np.arange(0, size, 8) + 0.5) / size
        queries = np.stack(np.meshgrid(at, at), -1).reshape(-1, 2)
        return {"queries": queries, "matches": guess["matches"][0]} | {
            name: target[name][0] for name in ("positions", "visible")
        }
    return {}

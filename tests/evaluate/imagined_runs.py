"""Runs of imagined models, written through the real writer and scored by the real protocols."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from evaluate.metrics.tagging import frequency_buckets
from evaluate.protocols import TASKS, get_protocol
from evaluate.records import Example, ProbeInfo, RunInfo, RunWriter
from tests.evaluate.imagined_rooms import CLASSES, THINGS, Room, blurred_depth, coarse, room

CLASS_LISTS = {"tagging": THINGS, "segmentation": CLASSES}


def run_info(
    name: str = "net-a-rooms",
    *,
    model: str = "net-a",
    kind: str = "encoder",
    untrained: bool = False,
    taps: tuple[str, ...] = ("blocks.0", "blocks.1"),
    tasks: tuple[str, ...] = TASKS,
    **changes: object,
) -> RunInfo:
    """Return what a run of `model` says about itself."""
    probes = []
    for task in tasks:
        for depth, tap in enumerate(taps):
            site, _, noise = tap.partition("@")
            probes.append(
                ProbeInfo(
                    id=f"{task}/{tap}/lr0.001/seed0",
                    task=task,
                    tap=tap,
                    site=site,
                    depth=depth,
                    noise=noise or None,
                    head="linear",
                    learning_rate=1e-3,
                    weight_decay=0.0,
                    seed=0,
                    parameters=1000 + depth,
                )
            )
    fields: dict[str, object] = {
        "name": name,
        "model": model,
        "kind": kind,
        "untrained": untrained,
        "dataset": "rooms",
        "features_fingerprint": f"features-{name}",
        "targets_fingerprint": "targets-0123456789abcdef",
        "config": {"epochs": 3, "batch_clips": 4},
        "protocols": {task: get_protocol(task, CLASS_LISTS.get(task, ())).id for task in tasks},
        "classes": {task: CLASS_LISTS[task] for task in tasks if task in CLASS_LISTS},
        "probes": probes,
        "command": f"python -m probes.train --features store/{model} --dataset rooms",
        "created": "2026-01-02T03:04:05+00:00",
        "versions": {"python": "3.11", "torch": "2.13", "spatial-probing": "0.1.0"},
    }
    return RunInfo.model_validate(fields | changes)


def prediction(task: str, views: Room, error: float, rng: np.random.Generator) -> tuple[dict, dict]:
    """Return (prediction, target) of one scene for a probe that errs by `error` (0 = never, 1 = much)."""
    if task == "tagging":
        labels = np.stack([[(view == 4 + k).sum() > 12 for k in range(len(THINGS))] for view in views.classes])
        logits = (labels * 2 - 1) * 2.2 + rng.normal(0, 0.3 + 5 * error, labels.shape)
        bucket = frequency_buckets(np.arange(len(THINGS)))
        return {"scores": 1 / (1 + np.exp(-logits))}, {"labels": labels, "bucket": bucket}
    if task == "segmentation":
        return {"classes": coarse(views.classes, 16, rng, 0.8 * error)}, {"classes": views.classes}
    if task == "grouping":
        cells, size = 12, views.instance.shape[1]
        centres = ((np.arange(cells) + 0.5) * size / cells).astype(int)
        ids = views.instance[:, centres[:, None], centres[None, :]]
        codes = np.random.default_rng(1).normal(size=(ids.max() + 1, 16))
        embeddings = codes[ids] + rng.normal(0, 0.1 + error, (*ids.shape, 16))
        embeddings /= np.linalg.norm(embeddings, axis=-1, keepdims=True)
        return {"embeddings": embeddings[None].astype(np.float32)}, {"instances": views.instance[None]}
    if task == "depth":
        return {"depth": blurred_depth(views.depth, rng, 0.35 * error)}, {"depth": views.depth}
    if task == "points":
        points = first_view_points(views)[None]
        return (
            {"points": (points + rng.normal(0, 0.9 * error, points.shape)).astype(np.float32)},
            {"points": points.astype(np.float32), "valid": np.ones(points.shape[:-1], bool)},
        )
    if task == "normals":
        normals = surface_normals(views)
        return {"normals": normals + rng.normal(0, error, normals.shape)}, {"normals": normals}
    if task == "correspondence":
        return matches(views, error, rng)
    relative = np.linalg.inv(views.cam_to_world[0]) @ views.cam_to_world[1:]
    from scipy.spatial.transform import Rotation

    turn = Rotation.from_rotvec(rng.normal(0, 0.3 * error, (len(relative), 3))).as_matrix()
    move = relative[:, :3, 3] + rng.normal(0, 0.8 * error, (len(relative), 3))
    return (
        {"rotation": (turn @ relative[:, :3, :3])[None], "translation": move[None]},
        {"rotation": relative[None, :, :3, :3], "translation": relative[None, :, :3, 3]},
    )


def first_view_points(views: Room) -> np.ndarray:
    """Return the points (view, y, x, 3) of all pixels in the first view's camera frame."""
    size = views.depth.shape[1]
    rows, columns = np.mgrid[:size, :size] + 0.5
    rays = np.stack([columns, rows, np.ones_like(rows)], -1) @ np.linalg.inv(views.intrinsics[0]).T
    world = (rays * views.depth[..., None]) @ np.swapaxes(views.cam_to_world[:, None, :3, :3], -1, -2)
    world = world + views.cam_to_world[:, None, None, :3, 3]
    home = np.linalg.inv(views.cam_to_world[0])
    return world @ home[:3, :3].T + home[:3, 3]


def surface_normals(views: Room) -> np.ndarray:
    """Return normals (view, y, x, 3) that face the camera, from the points right of and below every pixel."""
    size = views.depth.shape[1]
    rows, columns = np.mgrid[:size, :size] + 0.5
    points = np.stack([columns, rows, np.ones_like(rows)], -1) @ np.linalg.inv(views.intrinsics[0]).T
    points = points * views.depth[..., None]
    normals = np.zeros_like(points)
    inner = points[:, :-1, :-1]
    normals[:, :-1, :-1] = np.cross(points[:, 1:, :-1] - inner, points[:, :-1, 1:] - inner)
    return normals / np.maximum(np.linalg.norm(normals, axis=-1, keepdims=True), 1e-12)


def matches(views: Room, error: float, rng: np.random.Generator) -> tuple[dict, dict]:
    """Return where every eighth pixel of the first view is in the others, and guesses that miss it."""
    size = views.depth.shape[1]
    points = first_view_points(views)
    asked = points[0, ::8, ::8].reshape(-1, 3)
    relative = np.linalg.inv(views.cam_to_world[1:]) @ views.cam_to_world[0]
    seen = asked @ np.swapaxes(relative[:, :3, :3], -1, -2) + relative[:, None, :3, 3]
    xy = (seen / seen[..., 2:]) @ views.intrinsics[0].T / size
    place = np.clip(xy[..., :2], 0, 1 - 1e-6)
    found = np.take_along_axis(points[1:].reshape(len(relative), -1, 3), _flat(place, size)[..., None], axis=1)
    inside = (seen[..., 2] > 0) & (xy[..., :2] == place).all(-1)
    turned = np.degrees(np.arccos(np.clip((np.trace(relative[:, :3, :3], axis1=1, axis2=2) - 1) / 2, -1, 1)))
    centres = (np.arange(size) + 0.5)[None] / size
    target = {
        "positions": place[None],
        "visible": (inside & (np.linalg.norm(found - asked, axis=-1) < 0.1))[None],
        "points": np.broadcast_to(asked, found.shape)[None],
        "surface": points[None, 1:],
        "surface_x": centres,
        "surface_y": centres,
        "angle": turned[None],
        "size": np.array([[size, size]]),
    }
    return {"matches": (place + rng.normal(0, 0.1 * error, place.shape))[None]}, target


def _flat(place: np.ndarray, size: int) -> np.ndarray:
    column, row = np.moveaxis((place * size).astype(int), -1, 0)
    return row * size + column


def example(task: str, probe_id: str, scene: str, views: Room, error: float, rng: np.random.Generator) -> Example:
    """Return what the report shows of one scene."""
    arrays: dict[str, np.ndarray] = {"rgb": views.rgb}
    if task == "depth":
        arrays |= {"depth": views.depth, "depth_pred": blurred_depth(views.depth, rng, 0.35 * error)}
        arrays |= {"intrinsics": views.intrinsics, "cam_to_world": views.cam_to_world}
    if task == "segmentation":
        arrays |= {"classes": views.classes, "classes_pred": coarse(views.classes, 16, rng, 0.8 * error)}
    if task == "grouping":
        guess = coarse(views.instance, 16, rng, 0.5 * error)
        guess = np.where(guess > 0, 11 - guess, np.where(rng.random(guess.shape) < 0.5, 11, 0))
        arrays |= {"instance": views.instance, "instance_pred": guess.astype(np.int32)}
    return Example(task, scene, "test", probe_id, list(range(len(views.rgb))), arrays)


def write_run(
    directory: Path,
    info: RunInfo,
    *,
    best_error: float = 0.15,
    scenes: tuple[int, int] = (3, 6),
    size: int = 48,
    views: int = 4,
) -> Path:
    """Write a run whose middle tap errs least. `scenes` = (number of val scenes, number of test scenes)."""
    val, test = scenes
    rooms = [room(index, views, size) for index in range(val + test)]
    sites = max((probe.depth for probe in info.probes), default=0) or 1
    with RunWriter(directory, info) as writer:
        for number, probe in enumerate(info.probes):
            error = best_error + 0.5 * abs(probe.depth / sites - 0.6) ** 1.5
            protocol = get_protocol(probe.task, info.classes.get(probe.task, ()))
            rng = np.random.default_rng([number, len(info.model), info.untrained])
            for index, views_ in enumerate(rooms):
                split = "val" if index < val else "test"
                statistics = protocol.score_scene(*prediction(probe.task, views_, error, rng))
                writer.add(probe.id, f"room-{index:03d}", split, statistics)
        for task in ("segmentation", "grouping", "depth"):
            probes = [probe for probe in info.probes if probe.task == task]
            if probes:
                best = min(probes, key=lambda probe: abs(probe.depth / sites - 0.6))
                rng = np.random.default_rng(5)
                writer.add_example(example(task, best.id, f"room-{val:03d}", rooms[val], best_error, rng))
    return directory


def write_demo(root: Path, *, size: int = 48, scenes: tuple[int, int] = (3, 6)) -> list[Path]:
    """Write the runs of two backbones, their untrained twins and two controls."""
    net = tuple(f"blocks.{index}" for index in (0, 2, 4, 6, 8, 10))
    video = ("down_blocks.1@t502", "mid_block@t502", "up_blocks.1@t502", "up_blocks.2@t502")
    todo = [
        ("efficientnet-lite0", "encoder", False, net, 0.12),
        ("efficientnet-lite0", "encoder", True, net, 0.55),
        ("tiny-video", "vgm", False, video, 0.08),
        ("tiny-video", "vgm", True, video, 0.6),
        ("pixels", "control", False, ("pixels",), 0.62),
        ("position", "control", False, ("position",), 0.75),
    ]
    paths = []
    for model, kind, untrained, taps, error in todo:
        name = f"{model}{'-untrained' if untrained else ''}-rooms"
        info = run_info(name, model=model, kind=kind, untrained=untrained, taps=taps)
        paths.append(write_run(root / name, info, best_error=error, size=size, scenes=scenes))
    return paths

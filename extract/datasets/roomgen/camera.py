"""Where the camera goes: a path per room with its own height, pitch, field of view and way of moving."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from extract.datasets.roomgen import views
from extract.datasets.roomgen.errors import RoomError
from extract.datasets.roomgen.layout import Room

Array = NDArray[np.float64]
Cast = Callable[[Array, Array], tuple[Array, NDArray[np.int64]]]
"""(origin (3,), directions (n, 3)) to (factor along each direction, instance id) of the first hit."""
KINDS = ("orbit", "walk", "pan", "approach")
TELLING = frozenset(
    {
        "bed",
        "toilet",
        "bath",
        "sink",
        "piano",
        "refrigerator",
        "oven",
        "game table",
        "whiteboard",
        "chair",
    }
)
"""Classes that say what a room is for: the camera likes to look at them."""
GRID = 24
"""Rays across and down with which a candidate path is judged."""


@dataclasses.dataclass(frozen=True)
class Style:
    """How a room is filmed: degrees and metres, start and end of the path."""

    kind: str
    fov: float
    height: tuple[float, float]
    pitch: tuple[float, float]
    roll: float


@dataclasses.dataclass(frozen=True)
class Path:
    """Chosen camera poses, (n, 4, 4), OpenCV camera to world, and the way of moving they came from."""

    kind: str
    poses: Array


def style(index: int, seed: int) -> Style:
    """The style of a room. Pitch and height are spread evenly over the rooms, so that no row of the image is always
    near or always far."""
    rng = np.random.default_rng([seed, index, 2])
    # low-discrepancy sequences: any run of rooms covers the whole range
    pitch_u, height_u = (0.5 + index * 0.6180339887) % 1, (0.5 + index * 0.7548776662) % 1
    fov_u = (0.5 + index * 0.5698402910) % 1
    pitch = -41 + 53 * pitch_u
    low, high = (1.45, 2.05) if pitch < -24 else ((0.95, 1.9) if pitch < -9 else (0.5, 1.45))
    height = low + (high - low) * height_u
    swing = rng.uniform(3, 10) * rng.choice([-1, 1])
    rise = rng.uniform(0, 0.25) * rng.choice([-1, 1])
    return Style(
        kind=KINDS[int(rng.integers(4))],
        fov=float(52 + 32 * fov_u),
        height=(float(np.clip(height - rise, 0.5, 2.1)), float(np.clip(height + rise, 0.5, 2.1))),
        pitch=(float(np.clip(pitch - swing, -50, 15)), float(np.clip(pitch + swing, -50, 15))),
        roll=float(rng.uniform(0, 5)),
    )


def pose(position: Array, yaw: float, pitch: float, roll: float) -> Array:
    """OpenCV camera-to-world matrix. Yaw is counter-clockwise from +x, pitch is up, roll turns the camera clockwise."""
    y, p, r = (math.radians(v) for v in (yaw, pitch, roll))
    forward = np.array([math.cos(p) * math.cos(y), math.cos(p) * math.sin(y), math.sin(p)])
    right = np.array([math.sin(y), -math.cos(y), 0.0])
    down = np.cross(forward, right)
    matrix = np.eye(4)
    matrix[:3, 0] = math.cos(r) * right + math.sin(r) * down
    matrix[:3, 1] = -math.sin(r) * right + math.cos(r) * down
    matrix[:3, 2] = forward
    matrix[:3, 3] = position
    return matrix


def _ground(rng: np.random.Generator, kind: str, anchor: Array, room: Room, t: Array) -> tuple[Array, Array]:
    """Positions in the plane (n, 2) and yaw (n,) for one random path."""
    size = np.asarray(room.size[:2])
    start = rng.uniform(0, 2 * math.pi)
    spread = float(min(size.min() * 0.75, 3.2))

    def polar(radius: Array | float, angle: Array | float) -> Array:
        return np.asarray(anchor + np.stack([radius * np.cos(angle), radius * np.sin(angle)], -1))

    if kind == "orbit":
        sweep = math.radians(rng.uniform(60, 160)) * rng.choice([-1, 1])
        at = polar(np.full_like(t, rng.uniform(0.9, spread)), start + sweep * t)
        look = np.tile(anchor, (len(t), 1))
    elif kind == "approach":
        far = rng.uniform(1.5, spread + 0.6)
        near = max(0.8, far - rng.uniform(0.9, 2.2))
        at = polar(far + (near - far) * t, start + math.radians(rng.uniform(-45, 45)) * t)
        look = np.tile(anchor, (len(t), 1))
    elif kind == "pan":
        at = polar(rng.uniform(1.0, spread), start) + t[:, None] * rng.uniform(-0.35, 0.35, 2)
        look = np.tile(anchor, (len(t), 1))
    else:
        begin = polar(rng.uniform(1.4, spread + 0.6), start)
        heading = rng.normal(0, 1, 2)
        step = heading / np.linalg.norm(heading) * rng.uniform(1.2, 3.0)
        at = begin + t[:, None] * step
        look = anchor + (t[:, None] - 0.5) * step * rng.uniform(-0.3, 0.5)
    towards = look - at
    yaw = np.degrees(np.unwrap(np.arctan2(towards[:, 1], towards[:, 0])))
    if kind == "pan":
        yaw = yaw + rng.uniform(70, 130) * rng.choice([-1, 1]) * (t - 0.5)
    else:
        turn = rng.uniform(5, 22) * np.sin(2 * math.pi * (rng.uniform(0.3, 0.8) * t + rng.random()))
        yaw = yaw + rng.uniform(-9, 9) + turn
    return at, yaw


def _clear(room: Room, position: Array) -> bool:
    """Whether the camera has room: 0.3 m to walls, 0.28 m to furniture at its height."""
    x, y, z = position
    rx, ry, rz = room.size
    if not (0.3 < x < rx - 0.3 and 0.3 < y < ry - 0.3 and 0.3 < z < rz - 0.2):
        return False
    return not any(
        item.z - 0.2 < z < item.z + item.size[2] + 0.2 and item.distance(x, y) < 0.28
        for item in room.items
        if item.cls not in ("rug",)
    )


def choose(room: Room, look: Style, cast: Cast, things: set[int], count: int = 20, tries: int = 1500) -> Path:
    """Draw paths until enough are good, and take the one that shows most."""
    rng = np.random.default_rng([room.seed, 3])
    solid = [i for i in room.items if i.cls not in ("rug", "picture", "window", "door", "curtain")]
    weights = np.array([(min(i.size[0] * i.size[2], 1.5) + 0.1) * (3 if i.cls in TELLING else 1) for i in solid])
    t = np.arange(count) / max(count - 1, 1)
    k = views.intrinsics(look.fov, GRID, GRID)
    ray = views.rays(k, GRID, GRID)
    best: tuple[float, Path] | None = None
    good = 0
    for attempt in range(tries):
        # a style that the room has no space for gives way to another, rather than to a bad view
        kind = look.kind if attempt < tries // 2 else KINDS[attempt % 4]
        strict = attempt < tries * 3 // 4
        item = solid[int(rng.choice(len(solid), p=weights / weights.sum()))]
        centre = np.asarray(room.size[:2]) / 2
        mix = rng.uniform(0.4, 1.0)
        anchor = mix * np.array([item.x, item.y]) + (1 - mix) * centre
        at, yaw = _ground(rng, kind, anchor, room, t)
        bob = 0.02 * np.sin(2 * math.pi * (3 * t + rng.random()))
        z = look.height[0] + (look.height[1] - look.height[0]) * t + bob
        positions = np.concatenate([at, z[:, None]], 1)
        if not all(_clear(room, p) for p in positions):
            continue
        pitch = look.pitch[0] + (look.pitch[1] - look.pitch[0]) * t
        roll = look.roll * np.sin(2 * math.pi * (rng.uniform(0.4, 1.0) * t + rng.random()))
        poses = np.stack([pose(*p) for p in zip(positions, yaw, pitch, roll, strict=True)])
        score = judge(poses, cast, k, ray, things, strict=strict)
        if score is None:
            continue
        score += 0.1 * rng.random()
        good += 1
        if best is None or score > best[0]:
            best = (score, Path(kind, poses))
        if good >= 14:
            break
    if best is None:
        raise RoomError(f"no camera path fits into {room.name} ({room.type}); try another seed")
    return best[1]


def judge(poses: Array, cast: Cast, k: Array, ray: Array, things: set[int], *, strict: bool) -> float | None:
    """How good a path is, None when it is not usable. Looks at every third frame through few rays."""
    chosen = poses[::3]
    depths, idents = [], []
    for matrix in chosen:
        depth, ident = cast(matrix[:3, 3], ray.reshape(-1, 3) @ matrix[:3, :3].T)
        depths.append(depth.reshape(GRID, GRID))
        idents.append(ident.reshape(GRID, GRID))
        middle = depths[-1][GRID // 3 : -GRID // 3, GRID // 3 : -GRID // 3]
        if middle.min() < 0.4 or depths[-1].min() < 0.15 or np.median(depths[-1]) < 0.8:
            return None
    shown, seen, largest = [], set(), []
    for ident in idents:
        names, counts = np.unique(ident, return_counts=True)
        found = {int(n): int(c) for n, c in zip(names, counts, strict=True) if n in things and c >= 3}
        shown.append(len(found))
        seen |= set(found)
        largest.append(max(counts) / ident.size)
    enough = float(np.mean([n >= 2 for n in shown]))
    if enough < (0.99 if strict else 0.6) or (strict and max(largest) > 0.72):
        return None
    order = np.arange(len(chosen))
    overlap = views.co_visible(np.stack(depths), chosen, k, order[::2])
    if strict and np.median(overlap) < 0.48:
        return None
    return (
        min(float(np.mean(shown)), 9) / 9
        + 1.2 * min(len(seen), 18) / 18
        # neither a still picture nor a slide show
        - 2.0 * abs(float(np.median(overlap)) - 0.58)
        - 0.4 * float(np.mean(largest))
    )

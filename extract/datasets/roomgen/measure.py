"""Measures a dataset folder: what it holds, how much views share, and how far pixel position alone explains depth."""

from __future__ import annotations

import itertools
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from extract.datasets.roomgen import catalog, stored, views

Array = NDArray[np.float64]
SPLITS = ("train", "val", "test")
VIEWS, DRAWS, STEP = 4, 10, 4
"""Views per draw, draws per room, and the pixel step of the co-visibility measure."""
POSITION_STEP = 8
"""The pixel step of the position-only baseline."""


def fourier(n: int, height: int, width: int, step: int, *, products: bool = False) -> Array:
    """Features of (t, y, x) in [0, 1]: sin and cos of pi 2^k c for k = 0..3, a constant, and on request all
    products of two features of different coordinates. Shape (n * rows * columns, features)."""
    grids = np.meshgrid(
        np.arange(n) / max(n - 1, 1),
        (np.arange(step // 2, height, step) + 0.5) / height,
        (np.arange(step // 2, width, step) + 0.5) / width,
        indexing="ij",
    )
    groups = []
    for grid in grids:
        angles = [np.pi * 2**k * grid.ravel() for k in range(4)]
        groups.append([f(a) for a in angles for f in (np.sin, np.cos)])
    columns = [np.ones(grids[0].size), *itertools.chain(*groups)]
    if products:
        for one, two in itertools.combinations(groups, 2):
            columns += [a * b for a in one for b in two]
    return np.stack(columns, -1)


class PositionBaseline:
    """Ridge regression of log depth on position, the same features for every room."""

    def __init__(self, *, products: bool, penalty: float = 1e-3) -> None:
        self.products, self.penalty = products, penalty
        self.gram: Array | None = None
        self.moment: Array | None = None
        self.seen = 0
        self.held: dict[str, list[Array]] = {split: [] for split in SPLITS}

    def add(self, split: str, depth: Array) -> None:
        """Take in one room; rooms of `train` are fitted."""
        n, height, width = depth.shape
        self.features = fourier(n, height, width, POSITION_STEP, products=self.products)
        half = POSITION_STEP // 2
        target = depth[:, half::POSITION_STEP, half::POSITION_STEP].ravel()
        log = np.log(np.maximum(target, 1e-2))
        self.held[split].append(log)
        if split == "train":
            gram, moment = self.features.T @ self.features, self.features.T @ log
            self.gram = gram if self.gram is None else self.gram + gram
            self.moment = moment if self.moment is None else self.moment + moment
            self.seen += len(log)

    def r2(self) -> dict[str, float]:
        """R^2 of log depth per split, fitted on train."""
        if self.gram is None or self.moment is None:
            return {}
        eye = np.eye(len(self.gram)) * self.penalty * self.seen
        weights = np.linalg.solve(self.gram + eye, self.moment)
        guess = self.features @ weights
        result = {}
        for split, logs in self.held.items():
            if logs:
                all_logs = np.concatenate(logs)
                left = np.concatenate([log - guess for log in logs])
                result[split] = round(1 - float((left**2).mean() / all_logs.var()), 4)
        return result


def _shared_views(room: stored.StoredRoom, depth: Array, rng: np.random.Generator) -> list[float]:
    shares = []
    for _ in range(DRAWS):
        chosen = np.sort(rng.choice(len(depth), min(VIEWS, len(depth)), replace=False))
        shares += views.co_visible(depth, room.poses, room.intrinsics, chosen, STEP)
    return shares


def _agreement(room: stored.StoredRoom, depth: Array, ident: NDArray[np.int64]) -> tuple[Array, NDArray[np.bool_]]:
    """Per neighbouring pair of frames: relative depth errors where visible in both, and whether ids agree."""
    k, poses = room.intrinsics, room.poses
    ray = views.rays(k, depth.shape[2], depth.shape[1], STEP)
    half = STEP // 2
    errors, same = [], []
    for i in range(len(depth) - 1):
        part = depth[i, half::STEP, half::STEP]
        seen, error = views.seen_by(part, poses[i], depth[i + 1], poses[i + 1], k, ray)
        errors.append(error[seen])
        points = (part[..., None] * ray) @ poses[i][:3, :3].T + poses[i][:3, 3]
        local = (points - poses[i + 1][:3, 3]) @ poses[i + 1][:3, :3]
        pixel = local[seen] / local[seen][:, 2:]
        u = np.floor(k[0, 0] * pixel[:, 0] + k[0, 2]).astype(int)
        v = np.floor(k[1, 1] * pixel[:, 1] + k[1, 2]).astype(int)
        same.append(ident[i + 1][v, u] == ident[i, half::STEP, half::STEP][seen])
    return np.concatenate(errors), np.concatenate(same)


def _quantiles(values: Any, points: tuple[float, ...] = (0, 0.1, 0.5, 0.9, 1)) -> dict[str, float]:
    data = np.asarray(values, float)
    return {f"p{round(100 * q):02d}": round(float(np.quantile(data, q)), 4) for q in points}


def measure(folder: Path) -> dict[str, Any]:
    """All numbers of the dataset card, as JSON-ready values."""
    rooms: Counter[str] = Counter()
    types: Counter[str] = Counter()
    tagged = {split: Counter[str]() for split in SPLITS}
    counts: Counter[str] = Counter()
    additive, full = PositionBaseline(products=False), PositionBaseline(products=True)
    shared: dict[str, list[float]] = {split: [] for split in SPLITS}
    luminance, things_seen, tags_per_room, centre, depths = [], [], [], [], []
    errors, same = [], []
    for number, room in enumerate(stored.read_rooms(folder)):
        split, depth, ident = room.info["split"], room.depth, room.instance
        rooms[split] += 1
        types[room.info["type"]] += 1
        tagged[split].update(room.info["tags"])
        tags_per_room.append(len([t for t in room.info["tags"] if t in catalog.THINGS]))
        counts["frames"] += len(depth)
        counts["instances"] += len(room.info["instances"])
        things = {i["id"] for i in room.info["instances"] if i["class"] in catalog.THINGS}
        counts["thing_instances"] += len(things)
        counts["depth_missing"] += int((depth == 0).sum())
        counts["pixels"] += depth.size
        known = {i["id"] for i in room.info["instances"]} | {0}
        counts["unknown_ids"] += int((~np.isin(ident, list(known))).sum())
        luminance += (room.rgb.mean((1, 2)) @ [0.2126, 0.7152, 0.0722] / 255).tolist()
        least = ident[0].size / 1000
        for frame, d in zip(ident, depth, strict=True):
            names, sizes = np.unique(frame, return_counts=True)
            things_seen.append(sum(1 for n, s in zip(names, sizes, strict=True) if n in things and s >= least))
            h, w = d.shape
            centre.append(float(d[h * 2 // 5 : h * 3 // 5, w * 2 // 5 : w * 3 // 5].min()))
        depths.append(depth[:, ::16, ::16].ravel())
        shared[split] += _shared_views(room, depth, np.random.default_rng(number))
        error, agree = _agreement(room, depth, ident)
        errors.append(error)
        same.append(agree)
        additive.add(split, depth)
        full.add(split, depth)
    files = [p for p in folder.rglob("*") if p.is_file() and p.suffix in (".jpg", ".png", ".json")]
    all_errors = np.concatenate(errors)
    return {
        "rooms": {split: rooms[split] for split in SPLITS},
        "room_types": dict(sorted(types.items())),
        "frames": counts["frames"],
        "instances": counts["instances"],
        "thing_instances": counts["thing_instances"],
        "thing_tags_per_room": _quantiles(tags_per_room),
        "rooms_with_tag": {name: [tagged[s][name] for s in SPLITS] for name in catalog.CLASSES},
        "position_only_r2_log_depth": {"additive": additive.r2(), "with_products": full.r2()},
        "shared_pixels_of_4_random_views": {
            "all": _quantiles(list(itertools.chain(*shared.values()))),
            **{split: _quantiles(values) for split, values in shared.items() if values},
        },
        "reprojection": {
            "relative_depth_error": _quantiles(all_errors, (0.5, 0.9, 0.99)),
            "same_instance": round(float(np.concatenate(same).mean()), 4),
        },
        "depth_m": _quantiles(np.concatenate(depths)),
        "depth_missing": counts["depth_missing"] / max(counts["pixels"], 1),
        "unknown_ids": counts["unknown_ids"],
        "nearest_in_central_fifth_m": _quantiles(centre),
        "things_per_frame": _quantiles(things_seen),
        "frames_with_two_things": round(float(np.mean(np.asarray(things_seen) >= 2)), 4),
        "mean_luminance": _quantiles(luminance),
        "megabytes": round(sum(p.stat().st_size for p in files) / 1e6, 2),
    }

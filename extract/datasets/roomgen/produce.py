"""One room from its number to its files, and the index of all finished rooms."""

from __future__ import annotations

import dataclasses
import json
import logging
import time
from pathlib import Path
from typing import Any

import numpy as np

from extract.datasets.roomgen import camera, catalog, encode, layout, views
from extract.datasets.roomgen.blender import quiet
from extract.datasets.roomgen.render import Frames, Quality, Renderer, caster
from extract.datasets.roomgen.scene import Builder, Built

log = logging.getLogger(__name__)
FRAMES = 20
TAG_PIXELS, TAG_FRAMES = 64, 2
"""A class is a tag of a room when at least so many pixels show it in at least so many frames (at 256 x 256)."""


def make(index: int, out: Path, pack: Path, *, seed: int, frames: int, quality: Quality) -> Path:
    """Furnish, film and write one room; a finished room is left as it is."""
    room = layout.make_room(index, seed)
    folder = out / room.name
    if (folder / "room.json").is_file():
        log.info("%s is there already", room.name)
        return folder
    start = time.monotonic()
    look = camera.style(index, seed)
    with quiet():
        built, path, pictures = _film(room, look, pack, frames, quality)
    rgb, depth, instance = pictures.rgb, pictures.depth, pictures.instance
    info: dict[str, Any] = {
        "id": room.name,
        "type": room.type,
        "split": room.split,
        "seed": [seed, index],
        "size_m": [round(v, 4) for v in room.size],
        "surfaces": {"floor": room.floor, "walls": room.walls, "feature_wall": room.feature},
        "light": {"daylight": round(room.daylight, 3), "lamp": round(room.lamp, 3)},
        "camera": {
            "path": path.kind,
            "fov_x_deg": round(look.fov, 4),
            "height_m": [round(v, 3) for v in look.height],
            "pitch_deg": [round(v, 2) for v in look.pitch],
            "roll_max_deg": round(look.roll, 2),
        },
        "n_frames": len(rgb),
        "image_size": [quality.size, quality.size],
        "intrinsics": np.round(views.intrinsics(look.fov, quality.size, quality.size), 6).tolist(),
        "cam_to_world": path.poses.tolist(),
        **_contents(built.instances, instance),
    }
    encode.write_room(folder, info, rgb, depth, instance)
    log.info(
        "%s (%s, %s): %d frames in %.0f s",
        room.name,
        room.type,
        room.split,
        len(rgb),
        time.monotonic() - start,
    )
    return folder


def _film(
    room: layout.Room, look: camera.Style, pack: Path, frames: int, quality: Quality
) -> tuple[Built, camera.Path, Frames]:
    """Build a room, choose the camera's path and render it."""
    built = Builder(room, pack).build()
    things = {item["id"] for item in built.instances if item["class"] in catalog.THINGS}
    path = camera.choose(room, look, caster(), things, count=frames)
    # rendered with the very numbers that room.json will say
    path = dataclasses.replace(path, poses=np.round(path.poses, 7))
    renderer = Renderer(built, look.fov, quality)
    try:
        rgb = renderer.pictures(path.poses)
        depth, instance = renderer.truth(path.poses)
    finally:
        renderer.close()
    return built, path, Frames(rgb, depth, instance)


def _contents(instances: list[dict[str, Any]], image: Any) -> dict[str, Any]:
    """The instances that any frame shows, how much of them, and the room's tags."""
    counts = np.stack([np.bincount(frame.ravel(), minlength=len(instances) + 1) for frame in image])
    shown = []
    for item in instances:
        per_frame = counts[:, item["id"]]
        if per_frame.any():
            shown.append({**item, "pixels": int(per_frame.sum()), "frames": int((per_frame > 0).sum())})
    least = TAG_PIXELS * image[0].size / 256**2
    tags = []
    for name in catalog.CLASSES:
        ids = [item["id"] for item in shown if item["class"] == name]
        if ids and int((counts[:, ids].sum(1) >= least).sum()) >= TAG_FRAMES:
            tags.append(name)
    return {"instances": shown, "tags": tags}


def write_index(out: Path, *, size: int = 256) -> dict[str, Any]:
    """Write rooms.json for the rooms that are finished."""
    rooms = []
    for path in sorted(out.glob("room_*/room.json")):
        info = json.loads(path.read_text(encoding="utf-8"))
        rooms.append(
            {
                "id": info["id"],
                "split": info["split"],
                "type": info["type"],
                "n_frames": info["n_frames"],
                "sha256": encode.digest(path.parent),
            }
        )
    index = {
        "name": "rooms",
        "version": "1.0",
        "licence": "CC0-1.0",
        "image_size": [size, size],
        "depth_scale": encode.DEPTH_SCALE,
        "digest": "sha256 over the sorted lines `path NUL sha256-of-content LF` of a room's files",
        "classes": [{"name": name, "kind": "stuff" if name in catalog.STUFF else "thing"} for name in catalog.CLASSES],
        "rooms": rooms,
    }
    lines = encode.flat_lists(json.dumps(index, indent=1))
    lines = lines.replace('{\n   "', '{"').replace('\n   "', ' "').replace("\n  }", "}")
    temporary = out / "rooms.json.tmp"
    temporary.write_text(lines + "\n", encoding="utf-8")
    temporary.replace(out / "rooms.json")
    return index

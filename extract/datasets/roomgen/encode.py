"""The files of a room: written once, all or nothing, with a digest over what they say."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

DEPTH_SCALE = 0.001
"""Metres per unit of a stored depth."""
NEAR_STEP = 1
"""Depth is rounded to 1 mm up to 2 m, 2 mm up to 4 m, 4 mm up to 8 m and so on: always within 0.05 % or half a
millimetre, and in smaller PNG files than millimetres everywhere."""


def round_depth(metres: NDArray[np.float32]) -> NDArray[np.uint16]:
    """Depth in metres to stored units, rounded as `NEAR_STEP` says; 0 stays 0."""
    units = np.asarray(metres, np.float64) / DEPTH_SCALE
    octave = np.maximum(np.floor(np.log2(np.maximum(units, 1.0) / 1000)), 0)
    step = NEAR_STEP * 2**octave
    return np.asarray(np.clip(np.round(units / step) * step, 0, 65535), np.uint16)


def write_room(
    folder: Path, info: dict[str, Any], rgb: NDArray[np.uint8], depth: NDArray[np.float32],
    instance: NDArray[np.uint16], *, quality: int = 90,
) -> None:  # fmt: skip
    """Write a room beside its place and move it there, so that a room that exists is whole."""
    temporary = folder.with_name(folder.name + ".tmp")
    shutil.rmtree(temporary, ignore_errors=True)
    for name in ("rgb", "depth", "instance"):
        (temporary / name).mkdir(parents=True)
    small = instance.max() < 256
    for n in range(len(rgb)):
        stem = f"{n:04d}"
        Image.fromarray(rgb[n]).save(
            temporary / "rgb" / f"{stem}.jpg", quality=quality, optimize=True, subsampling="4:2:0"
        )
        Image.fromarray(round_depth(depth[n])).save(temporary / "depth" / f"{stem}.png", optimize=True)
        ids = instance[n].astype(np.uint8) if small else instance[n]
        Image.fromarray(ids).save(temporary / "instance" / f"{stem}.png", optimize=True)
    text = json.dumps(info, indent=1, sort_keys=True)
    (temporary / "room.json").write_text(flat_lists(text) + "\n", encoding="utf-8")
    shutil.rmtree(folder, ignore_errors=True)
    temporary.rename(folder)


def flat_lists(text: str) -> str:
    """JSON with lists of numbers on one line."""
    return re.sub(r"\[\s+([-+.\deE,\s]+?)\s+\]", lambda m: "[" + re.sub(r"\s+", " ", m[1]) + "]", text)


def digest(folder: Path) -> str:
    """SHA-256 over the sorted list of `path NUL sha256-of-content LF` of a room's files."""
    whole = hashlib.sha256()
    for path in sorted(p for p in folder.rglob("*") if p.is_file()):
        content = hashlib.sha256(path.read_bytes()).hexdigest()
        whole.update(f"{path.relative_to(folder).as_posix()}\0{content}\n".encode())
    return whole.hexdigest()

"""Reads a dataset folder back, for measuring and for the card."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from extract.datasets.roomgen.errors import RoomError


@dataclasses.dataclass
class StoredRoom:
    """A room's files. Depth in metres (0 = nothing there), rgb uint8, ids as in `info["instances"]`."""

    folder: Path
    info: dict[str, Any]
    scale: float

    def _images(self, kind: str, ending: str) -> NDArray[Any]:
        images = []
        for n in range(self.info["n_frames"]):
            with Image.open(self.folder / kind / f"{n:04d}.{ending}") as image:
                images.append(np.asarray(image))
        return np.stack(images)

    @property
    def rgb(self) -> NDArray[np.uint8]:
        """Pictures (n, h, w, 3)."""
        return self._images("rgb", "jpg")

    @property
    def depth(self) -> NDArray[np.float64]:
        """Planar depth in metres (n, h, w)."""
        metres: NDArray[np.float64] = self._images("depth", "png").astype(np.float64) * self.scale
        return metres

    @property
    def instance(self) -> NDArray[np.int64]:
        """Instance ids (n, h, w)."""
        return self._images("instance", "png").astype(np.int64)

    @property
    def poses(self) -> NDArray[np.float64]:
        """Camera-to-world matrices (n, 4, 4), OpenCV."""
        return np.asarray(self.info["cam_to_world"], np.float64)

    @property
    def intrinsics(self) -> NDArray[np.float64]:
        """The 3 x 3 pinhole matrix in pixels."""
        return np.asarray(self.info["intrinsics"], np.float64)


def read_index(folder: Path) -> dict[str, Any]:
    """rooms.json of a dataset folder. Raises `RoomError` if it is missing or damaged."""
    path = folder / "rooms.json"
    if not path.is_file():
        raise RoomError(f"no rooms.json in {folder}\n  remedy: give the folder that `make` wrote")
    try:
        index: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        scaled = 0 < index["depth_scale"] < 1
        listed = all(_is_entry(room) for room in index["rooms"])
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise RoomError(
            f"{path}: cannot be read ({error!r})\n  remedy: copy it anew, or `rooms_render index`"
        ) from error
    if not (scaled and listed):
        raise RoomError(f"{path}: its depth_scale or a room is not as `make` writes it\n  remedy: `rooms_render index`")
    return index


def _is_entry(room: Any) -> bool:
    """Whether it names a folder beside rooms.json, and says its split and digest."""
    if not isinstance(room, dict) or not all(isinstance(room.get(key), str) for key in ("id", "split", "sha256")):
        return False
    return room["id"] not in ("", ".", "..") and not {"/", "\\"} & set(room["id"])


def read_rooms(folder: Path) -> Iterator[StoredRoom]:
    """The rooms that rooms.json lists, in its order."""
    index = read_index(folder)
    for entry in index["rooms"]:
        room = folder / entry["id"]
        info = json.loads((room / "room.json").read_text(encoding="utf-8"))
        yield StoredRoom(room, info, index["depth_scale"])

"""One picture that shows every room of a dataset."""

from __future__ import annotations

import colorsys
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from extract.datasets.roomgen import stored


def _depth_picture(depth: NDArray[np.float64]) -> NDArray[np.uint8]:
    near = np.clip(1 - np.log(np.maximum(depth, 0.3) / 0.5) / np.log(12), 0, 1)
    return np.repeat((255 * near).astype(np.uint8)[..., None], 3, -1)


def _id_picture(ident: NDArray[np.int64]) -> NDArray[np.uint8]:
    colours = [(0.0, 0.0, 0.0)]
    colours += [colorsys.hsv_to_rgb(k * 0.618 % 1, 0.45 + 0.4 * (k % 2), 0.95 - 0.3 * (k % 3) / 2)
                for k in range(1, int(ident.max()) + 1)]  # fmt: skip
    return (255 * np.asarray(colours)[ident]).astype(np.uint8)


def write(folder: Path, target: Path, *, truth: bool = False, columns: int = 6, tile: int = 170) -> None:
    """Write the middle frame of each room (with depth and instances beside it on request) as one PNG."""
    tiles = []
    for room in stored.read_rooms(folder):
        n = room.info["n_frames"] // 2
        images = [room.rgb[n]]
        if truth:
            images += [_depth_picture(room.depth[n]), _id_picture(room.instance[n])]
        strip = Image.fromarray(np.concatenate(images, 1)).resize((tile * len(images), tile))
        label = f"{room.info['id'][-3:]} {room.info['type']} {room.info['split']}"
        ImageDraw.Draw(strip).text((4, 3), label, fill="white", stroke_width=2, stroke_fill="black")
        tiles.append(strip)
    columns = max(columns // (3 if truth else 1), 1)
    width, height = tiles[0].size
    whole = Image.new("RGB", (columns * width, -(-len(tiles) // columns) * height))
    for k, strip in enumerate(tiles):
        whole.paste(strip, (k % columns * width, k // columns * height))
    whole.save(target)

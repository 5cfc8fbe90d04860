"""Pictures made of numbers: floors, wallpapers, rugs, paintings and the view from a window.

Each function returns float RGB in [0, 1], sRGB-encoded, shape (rows, columns, 3), row 0 at the bottom.
"""

from __future__ import annotations

import colorsys
import itertools

import numpy as np
from numpy.typing import NDArray

Image = NDArray[np.float32]
Colour = tuple[float, float, float]


def hsv(h: float, s: float, v: float) -> Colour:
    """RGB from hue (any number, 1 is once round), saturation and value."""
    return colorsys.hsv_to_rgb(h % 1, s, v)


def noise(rng: np.random.Generator, shape: tuple[int, int], cells: tuple[int, int]) -> Image:
    """Smooth periodic noise in [0, 1] with so many cells down and across."""
    grid = rng.random(cells)
    axes = []
    for size, count in zip(shape, cells, strict=True):
        at = np.arange(size) * count / size
        low = at.astype(int)
        part = at - low
        axes.append((low % count, (low + 1) % count, part * part * (3 - 2 * part)))
    (y0, y1, fy), (x0, x1, fx) = axes
    top = grid[y0][:, x0] * (1 - fx) + grid[y0][:, x1] * fx
    bottom = grid[y1][:, x0] * (1 - fx) + grid[y1][:, x1] * fx
    return np.asarray(top * (1 - fy[:, None]) + bottom * fy[:, None], np.float32)


def _tint(colour: Colour, shade: NDArray[np.float32]) -> Image:
    return np.asarray(np.clip(np.asarray(colour, np.float32) * shade[..., None], 0, 1), np.float32)


def planks(rng: np.random.Generator, colour: Colour, rows: int = 8, size: int = 512) -> Image:
    """Wooden boards along x; the picture repeats."""
    shade = np.ones((size, size), np.float32)
    high = size // rows
    for row in range(rows):
        offset = int(rng.integers(size))
        ends = [0, int(size * rng.uniform(0.4, 0.6)), size]
        band = np.ones((high, size), np.float32)
        for a, b in itertools.pairwise(ends):
            grain = noise(rng, (high, b - a), (high // 2, 3)) * 0.6
            grain += noise(rng, (high, b - a), (5, 2)) * 0.4
            board = rng.uniform(0.78, 1.08) * (0.86 + 0.28 * grain)
            board[:, :2] *= 0.55
            band[:, a:b] = board
        band[:2] *= 0.55
        shade[row * high : (row + 1) * high] = np.roll(band, offset, 1)
    return _tint(colour, shade)


def tiles(
    rng: np.random.Generator, colour: Colour, other: Colour, *, count: int = 4,
    aspect: int = 1, shift: bool = False, size: int = 512,
) -> Image:  # fmt: skip
    """Tiles with joints; a checkerboard when the colours differ, bricks when shifted and long."""
    high, wide = size // (count * aspect), size // count
    image = np.empty((size, size, 3), np.float32)
    marble = 0.9 + 0.2 * noise(rng, (size, size), (16, 16))
    for row in range(count * aspect):
        for col in range(count):
            base = colour if (row + col) % 2 == 0 else other
            tile = np.tile(np.asarray(base, np.float32), (high, wide, 1)) * rng.uniform(0.93, 1.05)
            tile[:3], tile[:, :3] = np.mean(base) * 0.62, np.mean(base) * 0.62
            image[row * high : (row + 1) * high, col * wide : (col + 1) * wide] = tile
        if shift and row % 2:
            band = image[row * high : (row + 1) * high]
            image[row * high : (row + 1) * high] = np.roll(band, wide // 2, 1)
    return np.asarray(np.clip(image * marble[..., None], 0, 1), np.float32)


def carpet(rng: np.random.Generator, colour: Colour, size: int = 512) -> Image:
    """Cut pile: speckled, a little worn; the picture repeats."""
    shade = 0.8 + 0.25 * rng.random((size, size)) + 0.15 * noise(rng, (size, size), (12, 12))
    return _tint(colour, shade.astype(np.float32))


def plaster(rng: np.random.Generator, colour: Colour, size: int = 256) -> Image:
    """Nearly plain paint; the picture repeats."""
    shade = 0.97 + 0.04 * noise(rng, (size, size), (40, 40)) + 0.03 * noise(rng, (size, size), (6, 6))
    return _tint(colour, shade)


def wallpaper(rng: np.random.Generator, colour: Colour, other: Colour, size: int = 256) -> Image:
    """Stripes, dots, diamonds or leaves; the picture repeats."""
    y, x = np.mgrid[0:size, 0:size] / size
    kind = int(rng.integers(4))
    if kind == 0:
        mask = (x * 4 % 1 < rng.uniform(0.2, 0.5)).astype(float)
    elif kind == 1:
        n = int(rng.integers(3, 6))
        u, v = x * n, y * n
        u = u + 0.5 * (np.floor(v) % 2)
        mask = (np.hypot(u % 1 - 0.5, v % 1 - 0.5) < rng.uniform(0.12, 0.3)).astype(float)
    elif kind == 2:
        mask = np.abs((x * 3 % 1) - 0.5) + np.abs((y * 3 % 1) - 0.5) < rng.uniform(0.25, 0.45)
        mask = mask.astype(float)
    else:
        wave = np.sin(2 * np.pi * (2 * x + 0.35 * np.sin(2 * np.pi * 2 * y)))
        leaf = np.sin(2 * np.pi * (6 * y + np.sin(2 * np.pi * 2 * x)))
        mask = ((wave > 0.55) | ((wave > -0.2) & (leaf > 0.6))).astype(float)
    image = np.asarray(colour) * (1 - mask[..., None]) + np.asarray(other) * mask[..., None]
    return np.asarray(np.clip(image, 0, 1).astype(np.float32), np.float32)


def wall(rng: np.random.Generator, kind: str) -> tuple[Image, float]:
    """A wall covering and the metres after which it repeats."""
    hue = float(rng.choice([0.05, 0.09, 0.13, 0.3, 0.45, 0.55, 0.6, 0.75, 0.95])) + rng.normal(0, 0.02)
    light = hsv(hue, rng.uniform(0.06, 0.3), rng.uniform(0.75, 0.94))
    if kind == "wallpaper":
        other = hsv(hue + rng.normal(0, 0.06), rng.uniform(0.15, 0.5), rng.uniform(0.5, 0.9))
        return wallpaper(rng, light, other), float(rng.uniform(0.35, 0.9))
    if kind == "bricks":
        red = hsv(rng.uniform(0.01, 0.06), rng.uniform(0.1, 0.6), rng.uniform(0.5, 0.85))
        darker: Colour = (red[0] * 0.88, red[1] * 0.88, red[2] * 0.88)
        return tiles(rng, red, darker, count=4, aspect=3, shift=True), 0.95
    if kind == "tiles":
        return tiles(rng, light, light, count=4, aspect=int(rng.integers(1, 3))), 0.8
    bold = hsv(hue, rng.uniform(0.22, 0.45), rng.uniform(0.45, 0.8))
    return plaster(rng, bold if kind == "bold" else light), 2.0


def floor(rng: np.random.Generator, kind: str) -> tuple[Image, float]:
    """A floor covering and the metres after which it repeats."""
    if kind == "planks":
        wood = hsv(rng.uniform(0.05, 0.1), rng.uniform(0.25, 0.62), rng.uniform(0.35, 0.8))
        return planks(rng, wood, rows=int(rng.choice([8, 16]))), float(rng.uniform(1.2, 1.9))
    if kind == "tiles":
        base = hsv(rng.uniform(0, 1), rng.uniform(0, 0.15), rng.uniform(0.55, 0.9))
        value = rng.uniform(0.2, 0.6)
        other = hsv(rng.uniform(0, 1), rng.uniform(0, 0.3), value) if rng.random() < 0.45 else base
        return tiles(rng, base, other), float(rng.choice([1.2, 1.8, 2.4]))
    if kind == "parquet":
        wood = hsv(rng.uniform(0.06, 0.1), rng.uniform(0.35, 0.6), rng.uniform(0.45, 0.75))
        dark: Colour = (wood[0] * 0.84, wood[1] * 0.84, wood[2] * 0.84)
        return tiles(rng, wood, dark, count=8), 1.6
    colour = hsv(rng.uniform(0, 1), rng.uniform(0.08, 0.4), rng.uniform(0.35, 0.75))
    return carpet(rng, colour), 0.8


def rug(rng: np.random.Generator, size: int = 256) -> Image:
    """A rug with a border and a pattern."""
    y, x = np.mgrid[0:size, 0:size] / size
    palette = [hsv(rng.uniform(0, 1), rng.uniform(0.25, 0.75), rng.uniform(0.3, 0.85)) for _ in range(4)]
    edge = np.minimum(np.minimum(x, 1 - x), np.minimum(y, 1 - y))
    kind = int(rng.integers(3))
    if kind == 0:
        index = (y * rng.integers(6, 14)).astype(int) % 3
    elif kind == 1:
        index = (np.maximum(abs(x - 0.5), abs(y - 0.5)) * rng.integers(8, 16)).astype(int) % 3
    else:
        index = ((abs(x * 6 % 1 - 0.5) + abs(y * 6 % 1 - 0.5)) * 3).astype(int) % 3
    index = np.where(edge < 0.06, 3, index)
    image = np.asarray(palette, np.float32)[index]
    return np.asarray(
        np.clip(image * (0.82 + 0.3 * rng.random((size, size, 1))), 0, 1).astype(np.float32),
        np.float32,
    )


def painting(rng: np.random.Generator, size: int = 128) -> Image:
    """An abstract painting: a landscape of layers, discs, or blocks."""
    y, x = np.mgrid[0:size, 0:size] / size
    hue = rng.uniform(0, 1)
    sky = np.asarray(hsv(hue, 0.35, 0.9)) * (0.75 + 0.25 * y[..., None])
    image: Image = sky.astype(np.float32)
    kind = int(rng.integers(3))
    for k in range(5):
        colour = hsv(hue + rng.uniform(-0.25, 0.25), rng.uniform(0.3, 0.8), rng.uniform(0.2, 0.9))
        if kind == 0:
            ridge = 0.7 - 0.15 * k + 0.18 * (noise(rng, (1, size), (1, 4 + k))[0] - 0.5)
            mask = y < ridge[None]
        elif kind == 1:
            mask = np.hypot(x - rng.uniform(0, 1), y - rng.uniform(0, 1)) < rng.uniform(0.08, 0.3)
        else:
            cx, cy, w, h = rng.uniform(0, 1, 4)
            mask = (abs(x - cx) < w / 3) & (abs(y - cy) < h / 3)
        image[mask] = colour
    border = np.minimum(np.minimum(x, 1 - x), np.minimum(y, 1 - y)) < 0.05
    image[border] = 0.92
    return image


def outside(rng: np.random.Generator, daylight: float, size: int = 256) -> Image:
    """What a window looks out on: sky, clouds, hills and bushes. `daylight` 0 is dusk, 1 is noon."""
    y = np.linspace(0, 1, size)[:, None]
    top, low = np.array([0.35, 0.58, 0.92]), np.array([0.86, 0.9, 0.95])
    dusk_top, dusk_low = np.array([0.07, 0.09, 0.2]), np.array([0.55, 0.33, 0.3])
    top, low = dusk_top + (top - dusk_top) * daylight, dusk_low + (low - dusk_low) * daylight
    sky = low + (top - low) * y[..., None]
    image = np.repeat(sky, size, 1).reshape(size, size, 3)
    cloud = np.clip(noise(rng, (size, size), (10, 5)) * 1.8 - 0.9, 0, 1)[..., None]
    image = image * (1 - cloud * 0.7) + cloud * 0.7 * (0.25 + 0.75 * daylight)
    for k in range(3):
        ridge = 0.42 - 0.12 * k + 0.14 * (noise(rng, (1, size), (1, 4 + 5 * k))[0] - 0.5)
        green = np.asarray(hsv(rng.uniform(0.22, 0.36), rng.uniform(0.25, 0.5), 0.55 - 0.1 * k))
        leaves = 0.75 + 0.4 * noise(rng, (size, size), (48, 48))[..., None]
        image = np.where((y < ridge[None])[..., None], green * leaves * (0.2 + 0.8 * daylight), image)
    return np.asarray(np.clip(image, 0, 1).astype(np.float32), np.float32)

"""What pictures in the page are made of: colours, legends, and images as `data:` addresses."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from dataclasses import dataclass, field
from io import BytesIO

import numpy as np
from jaxtyping import Float, Integer, UInt8
from numpy.typing import NDArray

Colour = tuple[int, int, int]
# Hues of Okabe & Ito; where more are needed, darker and lighter ones of the same.
_HUES = ("#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00", "#f0e442")
_DARKEST, _LIGHTEST = -0.65, 0.75
NOTHING: Colour = (196, 196, 200)
WRONG: Colour = (40, 42, 48)
LONGEST = 192
"""Pixels along an image's longer side; larger ones are made smaller, which the page never shows."""


@dataclass(frozen=True)
class Row:
    """One row of panels, one per view."""

    title: str
    images: list[str]
    """`data:` addresses."""
    cells: bool = False
    """Whether a pixel is a cell of a grid, to be shown as a square."""


@dataclass(frozen=True)
class Key:
    """An entry of a legend."""

    name: str
    colour: str


@dataclass(frozen=True)
class Bar:
    """A colour bar: a CSS gradient from left to right and the values at its ends and its middle."""

    title: str
    gradient: str
    ticks: tuple[str, str, str]


@dataclass(frozen=True)
class Claim:
    """How sure a probe is that a class is to be seen, and whether it is."""

    name: str
    score: float
    there: bool


@dataclass(frozen=True)
class Panels:
    """All that is shown of one example."""

    rows: list[Row]
    legend: list[Key] = field(default_factory=list)
    bars: list[Bar] = field(default_factory=list)
    claims: list[Claim] = field(default_factory=list)
    drawings: list[str] = field(default_factory=list)
    """SVG, in the page's colours."""


def painted(
    rgb: UInt8[np.ndarray, "view y x 3"], labels: Integer[np.ndarray, "view y x"], colours: Mapping[int, Colour]
) -> list[str]:
    """Return images of labels. A little of the frame's light and shade keeps shapes readable inside of one colour."""
    paint = np.full((*labels.shape, 3), NOTHING, np.float64)
    for label, colour in colours.items():
        paint[labels == label] = colour
    light = rgb.astype(np.float64).mean(axis=-1, keepdims=True)
    return [jpeg(view) for view in np.clip(0.82 * paint + 0.30 * (light - 128) + 23, 0, 255).astype(np.uint8)]


def coloured(
    values: Float[np.ndarray, "view y x"], name: str, valid: NDArray[np.bool_] | None = None
) -> UInt8[np.ndarray, "view y x 3"]:
    """Return values between 0 and 1 in the colours of a map; what is not valid is grey."""
    from matplotlib import colormaps

    image = colormaps[name](np.clip(values, 0, 1))[..., :3] * 255
    if valid is not None:
        image[~valid] = NOTHING
    return np.asarray(image, np.uint8)


def gradient(name: str) -> str:
    """Return the colours of a map as CSS."""
    from matplotlib import colormaps
    from matplotlib.colors import to_hex

    return f"linear-gradient(to right, {', '.join(to_hex(colormaps[name](t)) for t in np.linspace(0, 1, 9))})"


def lengths(low: float, high: float, unit: str) -> tuple[str, str, str]:
    """Return how both ends of a bar and its middle are called."""
    return f"{low:.1f} {unit}", f"{(low + high) / 2:.1f} {unit}", f"{high:.1f} {unit}"


def distinct(count: int) -> list[Colour]:
    """Return `count` different colours: every hue once, then the hues in as many tints as it takes."""
    tints = max(-(-count // len(_HUES)) - 1, 0)
    dark = [_DARKEST * (k + 1) / ((tints + 1) // 2) for k in range((tints + 1) // 2)]
    light = [_LIGHTEST * (k + 1) / (tints // 2) for k in range(tints // 2)]
    return [_tinted(hue, amount) for amount in (0.0, *dark, *light) for hue in _HUES][:count]


def _tinted(hue: str, amount: float) -> Colour:
    """Mix a hue with black (amounts below zero) or white."""
    end = 255 if amount > 0 else 0
    red, green, blue = (round(c + abs(amount) * (end - c)) for c in (int(hue[k : k + 2], 16) for k in (1, 3, 5)))
    return red, green, blue


def css(colour: Colour) -> str:
    """Return `#0072b2`."""
    return f"#{colour[0]:02x}{colour[1]:02x}{colour[2]:02x}"


def jpeg(image: UInt8[np.ndarray, "y x 3"], longest: int = LONGEST) -> str:
    """Return an image, made smaller if need be."""
    from PIL import Image

    picture = Image.fromarray(np.ascontiguousarray(image))
    picture.thumbnail((longest, longest), Image.Resampling.LANCZOS)
    stream = BytesIO()
    picture.save(stream, "JPEG", quality=86, optimize=True)
    return f"data:image/jpeg;base64,{base64.b64encode(stream.getvalue()).decode()}"


def png(image: UInt8[np.ndarray, "y x 3"]) -> str:
    """Return an image without loss, a pixel per cell."""
    from PIL import Image

    stream = BytesIO()
    Image.fromarray(np.ascontiguousarray(image)).save(stream, "PNG", optimize=True)
    return f"data:image/png;base64,{base64.b64encode(stream.getvalue()).decode()}"

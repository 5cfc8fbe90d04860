"""What a probe saw: the frames of an example beside truth and prediction, as small images that live inside the page."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from io import BytesIO

import numpy as np
from jaxtyping import Float, Integer, UInt8
from numpy.typing import NDArray

from evaluate.metrics.grouping import match
from evaluate.schema import Example

# Hues of Okabe & Ito; where more are needed, darker and lighter ones of the same.
_HUES = ("#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00", "#f0e442")
_DARKEST, _LIGHTEST = -0.65, 0.75
_NOTHING = (196, 196, 200)
_WRONG = (40, 42, 48)
MAX_ERROR = 0.5
"""Relative error of depth at which the error map is saturated."""


@dataclass(frozen=True)
class Row:
    """One row of panels, one per view."""

    title: str
    images: list[str]
    """`data:` addresses."""


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
class Panels:
    """All that is shown of one example."""

    rows: list[Row]
    legend: list[Key]
    bars: list[Bar]


def panels(example: Example, classes: Sequence[str]) -> Panels | None:
    """Return the panels of an example, or None if it has nothing that can be drawn."""
    arrays = example.arrays
    if {"rgb", "depth", "depth_pred"} <= set(arrays):
        return _depth(arrays["rgb"], arrays["depth"], arrays["depth_pred"])
    if {"rgb", "instance", "instance_pred"} <= set(arrays):
        return _instances(arrays["rgb"], arrays["instance"], arrays["instance_pred"])
    if {"rgb", "classes", "classes_pred"} <= set(arrays):
        return _segmentation(arrays["rgb"], arrays["classes"], arrays["classes_pred"], classes)
    return None


def _depth(
    rgb: UInt8[np.ndarray, "view y x 3"], truth: Float[np.ndarray, "view y x"], guess: Float[np.ndarray, "view y x"]
) -> Panels:
    valid = truth > 0
    low, high = (float(bound) for bound in np.percentile(truth[valid], (1, 99))) if valid.any() else (0.0, 1.0)
    high = max(high, low + 1e-3)
    error = np.abs(guess - truth) / np.where(valid, truth, 1)
    return Panels(
        [
            Row("frame", [_jpeg(view) for view in rgb]),
            Row("depth, truth", [_jpeg(view) for view in _coloured((truth - low) / (high - low), "viridis_r", valid)]),
            Row("depth, predicted", [_jpeg(view) for view in _coloured((guess - low) / (high - low), "viridis_r")]),
            Row("relative error", [_jpeg(view) for view in _coloured(error / MAX_ERROR, "inferno", valid)]),
        ],
        [],
        [
            Bar("depth", _gradient("viridis_r"), (f"{low:.1f} m", f"{(low + high) / 2:.1f} m", f"{high:.1f} m")),
            Bar(
                "relative error", _gradient("inferno"), ("0 %", f"{50 * MAX_ERROR:.0f} %", f"≥ {100 * MAX_ERROR:.0f} %")
            ),
        ],
    )


def _instances(
    rgb: UInt8[np.ndarray, "view y x 3"], truth: Integer[np.ndarray, "view y x"], guess: Integer[np.ndarray, "view y x"]
) -> Panels:
    """Clusters take the colour of the instance they are matched to; those matched to nothing are shades of grey."""
    instances = [int(k) for k in np.unique(truth) if k > 0]
    colours = dict(zip(instances, _distinct(len(instances)), strict=True))
    pairs = match(guess.astype(np.int64) - 1, truth)
    matched = {cluster + 1: colours[instance] for instance, cluster in pairs.items()}
    rest = [int(k) for k in np.unique(guess) if k > 0 and int(k) not in matched]
    shades = {k: (s, s, s + 4) for k, s in zip(rest, np.linspace(90, 175, max(len(rest), 1)).astype(int), strict=False)}
    return Panels(
        [
            Row("frame", [_jpeg(view) for view in rgb]),
            Row("instances, truth", _painted(rgb, truth, colours)),
            Row("clusters, predicted", _painted(rgb, guess, matched | shades)),
        ],
        [
            *(Key(f"instance {k}", _css(colours[k])) for k in instances),
            Key("cluster of no instance", _css((132, 132, 136))),
            Key("none", _css(_NOTHING)),
        ],
        [],
    )


def _segmentation(
    rgb: UInt8[np.ndarray, "view y x 3"],
    truth: Integer[np.ndarray, "view y x"],
    guess: Integer[np.ndarray, "view y x"],
    classes: Sequence[str],
) -> Panels:
    present = [int(k) for k in np.union1d(truth, guess) if 0 < k <= len(classes)]
    colours = dict(zip(present, _distinct(len(present)), strict=True))
    right = np.where(truth == 0, 0, np.where(truth == guess, 1, 2))
    return Panels(
        [
            Row("frame", [_jpeg(view) for view in rgb]),
            Row("classes, truth", _painted(rgb, truth, colours)),
            Row("classes, predicted", _painted(rgb, guess, colours)),
            Row("wrong pixels", _painted(rgb, right, {1: (214, 220, 226), 2: _WRONG})),
        ],
        [
            *(Key(classes[k - 1], _css(colours[k])) for k in present),
            Key("wrong", _css(_WRONG)),
            Key("no label", _css(_NOTHING)),
        ],
        [],
    )


def _painted(
    rgb: UInt8[np.ndarray, "view y x 3"],
    labels: Integer[np.ndarray, "view y x"],
    colours: dict[int, tuple[int, int, int]],
) -> list[str]:
    paint = np.full((*labels.shape, 3), _NOTHING, np.float64)
    for label, colour in colours.items():
        paint[labels == label] = colour
    # A little of the frame's light and shade keeps shapes readable inside of one colour.
    light = rgb.astype(np.float64).mean(axis=-1, keepdims=True)
    return [_jpeg(view) for view in np.clip(0.82 * paint + 0.30 * (light - 128) + 23, 0, 255).astype(np.uint8)]


def _coloured(
    values: Float[np.ndarray, "view y x"], name: str, valid: NDArray[np.bool_] | None = None
) -> UInt8[np.ndarray, "view y x 3"]:
    from matplotlib import colormaps

    image = colormaps[name](np.clip(values, 0, 1))[..., :3] * 255
    if valid is not None:
        image[~valid] = _NOTHING
    return np.asarray(image, np.uint8)


def _gradient(name: str) -> str:
    from matplotlib import colormaps
    from matplotlib.colors import to_hex

    return f"linear-gradient(to right, {', '.join(to_hex(colormaps[name](t)) for t in np.linspace(0, 1, 9))})"


def _distinct(count: int) -> list[tuple[int, int, int]]:
    """Return `count` different colours: every hue once, then the hues in as many tints as it takes."""
    tints = max(-(-count // len(_HUES)) - 1, 0)
    dark = [_DARKEST * (k + 1) / ((tints + 1) // 2) for k in range((tints + 1) // 2)]
    light = [_LIGHTEST * (k + 1) / (tints // 2) for k in range(tints // 2)]
    return [_tinted(hue, amount) for amount in (0.0, *dark, *light) for hue in _HUES][:count]


def _tinted(hue: str, amount: float) -> tuple[int, int, int]:
    """Mix a hue with black (amounts below zero) or white."""
    end = 255 if amount > 0 else 0
    red, green, blue = (round(c + abs(amount) * (end - c)) for c in (int(hue[k : k + 2], 16) for k in (1, 3, 5)))
    return red, green, blue


def _css(colour: tuple[int, int, int]) -> str:
    return f"#{colour[0]:02x}{colour[1]:02x}{colour[2]:02x}"


def _jpeg(image: UInt8[np.ndarray, "y x 3"]) -> str:
    from PIL import Image

    stream = BytesIO()
    Image.fromarray(np.ascontiguousarray(image)).save(stream, "JPEG", quality=86, optimize=True)
    return f"data:image/jpeg;base64,{base64.b64encode(stream.getvalue()).decode()}"

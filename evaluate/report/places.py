"""Pictures of geometry: points, normals, cameras, and matches between two views."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Float, UInt8

from evaluate.report.paint import Bar, Key, Panels, Row, coloured, gradient, jpeg, lengths
from evaluate.schema import Example

MAX_DISTANCE, MAX_ANGLE = 0.5, 60.0
"""Error of a point in mean distances of the first view, and of a normal in degrees, at which maps are saturated."""
NEAR = 0.025
"""A match is right if it is this close, in diagonals of the picture: 20 pixels of 640 x 480."""
_CORNERS = np.array([[[240, 228, 66], [213, 94, 0]], [[86, 180, 233], [120, 50, 170]]], np.float64)
_DOT, _CANVAS, _SHARP = 0.014, 256, 3
_WIDTH, _HEIGHT, _MARGIN, _FOOT, _WEDGE = 360, 250, 26, 18, 16
"""Of a drawing of cameras, in its own pixels."""
Poses = Float[np.ndarray, "view 4 4"]


def point_panels(example: Example, classes: Sequence[str], unit: str) -> Panels:
    """Distance along the first view's axis, true and predicted, and how far apart both points are."""
    truth, guess, valid = (example.arrays[name] for name in ("points", "points_pred", "points_valid"))
    ahead = truth[..., 2]
    low, high = (float(bound) for bound in np.percentile(ahead[valid], (1, 99))) if valid.any() else (0.0, 1.0)
    high = max(high, low + 1e-3)
    first = np.linalg.norm(truth[0][valid[0]], axis=-1)
    extent = float(first.mean()) if len(first) else 1.0
    error = np.linalg.norm(guess - truth, axis=-1) / extent
    maps = {
        "ahead of the first view, truth": coloured((ahead - low) / (high - low), "viridis_r", valid),
        "ahead of the first view, predicted": coloured((guess[..., 2] - low) / (high - low), "viridis_r"),
        "distance between them, in mean distances of the first view": coloured(error / MAX_DISTANCE, "inferno", valid),
    }
    return Panels(
        [Row(title, [jpeg(view) for view in views]) for title, views in maps.items()],
        bars=[
            Bar("ahead", gradient("viridis_r"), lengths(low, high, unit)),
            Bar("distance", gradient("inferno"), ("0", f"{MAX_DISTANCE / 2:g}", f"≥ {MAX_DISTANCE:g}")),
        ],
    )


def normal_panels(example: Example, classes: Sequence[str], unit: str) -> Panels:
    """Normals as colours, red to the right, green up, blue towards the camera; and the angle between both."""
    truth, guess = (example.arrays[name].astype(np.float64) for name in ("normals", "normals_pred"))
    valid = np.asarray(truth.any(axis=-1))
    lengths = np.linalg.norm(truth, axis=-1) * np.linalg.norm(guess, axis=-1)
    cosine = np.sum(truth * guess, axis=-1) / np.where(lengths > 0, lengths, 1)
    angle = np.degrees(np.arccos(np.clip(cosine, -1, 1)))
    maps = {
        "normals, truth": _directions(truth, valid),
        "normals, predicted": _directions(guess, np.ones_like(valid)),
        "angle between them": coloured(angle / MAX_ANGLE, "inferno", valid),
    }
    return Panels(
        [Row(title, [jpeg(view) for view in views]) for title, views in maps.items()],
        [Key("to the right", "#ff8080"), Key("up", "#80ff80"), Key("towards the camera", "#8080ff")],
        [Bar("angle", gradient("inferno"), ("0°", f"{MAX_ANGLE / 2:g}°", f"≥ {MAX_ANGLE:g}°"))],
    )


def _directions(
    normals: Float[np.ndarray, "view y x 3"], valid: Bool[np.ndarray, "view y x"]
) -> UInt8[np.ndarray, "view y x 3"]:
    shown = np.clip(127.5 + normals * (1, -1, -1), 0, 255)
    shown[~valid] = 196
    return shown.astype(np.uint8)


def match_panels(example: Example, classes: Sequence[str], unit: str) -> Panels:
    """The queries' dots have the colours of their places in the first view, wherever they are and were found."""
    rgb, queries, positions, matches, visible = (
        example.arrays[name] for name in ("rgb", "queries", "positions", "matches", "visible")
    )
    size = np.array(rgb.shape[2:0:-1])
    right = np.linalg.norm((matches - positions) * size, axis=-1) < NEAR * np.linalg.norm(size)
    colours = _place_colours(queries)
    asked = _dotted(rgb[0], queries, colours, np.ones(len(queries), bool))
    rows = {"points to be found, truth": [asked], "where the features find them": [asked]}
    for view, true, found, seen, near in zip(rgb[1:], positions, matches, visible, right, strict=True):
        rows["points to be found, truth"].append(_dotted(view, true[seen], colours[seen], np.ones(seen.sum(), bool)))
        rows["where the features find them"].append(_dotted(view, found[seen], colours[seen], near[seen]))
    share = f"{(right & visible).sum()} of {visible.sum()} found"
    return Panels(
        [Row(title, images) for title, images in rows.items()],
        [
            Key(f"filled: within {100 * NEAR:g} % of the diagonal ({share}); ring: farther off", "transparent"),
        ],
    )


def _place_colours(xy: Float[np.ndarray, "query 2"]) -> UInt8[np.ndarray, "query 3"]:
    """Mix the colours of four corners."""
    x, y = xy[:, :1], xy[:, 1:]
    mixed = (1 - y) * ((1 - x) * _CORNERS[0, 0] + x * _CORNERS[0, 1])
    mixed = mixed + y * ((1 - x) * _CORNERS[1, 0] + x * _CORNERS[1, 1])
    return np.asarray(mixed, np.uint8)


def _dotted(
    image: UInt8[np.ndarray, "y x 3"],
    xy: Float[np.ndarray, "dot 2"],
    colours: UInt8[np.ndarray, "dot 3"],
    filled: Bool[np.ndarray, " dot"],
) -> str:
    from PIL import Image, ImageDraw

    height, width = image.shape[:2]
    scale = _SHARP * _CANVAS / max(height, width)
    faint = Image.fromarray((0.45 * image.mean(axis=-1, keepdims=True).repeat(3, -1) + 20).astype(np.uint8))
    canvas = faint.resize((round(scale * width), round(scale * height)), Image.Resampling.BILINEAR)
    pen = ImageDraw.Draw(canvas)
    radius = _DOT * max(canvas.size)
    for (x, y), colour, full in zip(xy * canvas.size, colours.tolist(), filled, strict=True):
        box = (x - radius, y - radius, x + radius, y + radius)
        pen.ellipse(box, fill=tuple(colour) if full else None, outline=tuple(colour), width=round(radius / 2.5))
    return jpeg(np.asarray(canvas), _CANVAS)


def camera_panels(example: Example, classes: Sequence[str], unit: str) -> Panels:
    """Cameras from above and from the side, in the first view's frame."""
    truth, guess = (example.arrays[name].astype(np.float64) for name in ("cam_to_world", "cam_to_world_pred"))
    home = np.linalg.inv(truth[0])
    sides = [("truth", "var(--ink)", home @ truth), ("predicted", "var(--accent)", home @ guess)]
    drawings = [_plan(sides, axes, title, unit) for axes, title in (((0, 2), "from above"), ((2, 1), "from the side"))]
    keys = [Key("true cameras", "var(--ink)"), Key("predicted cameras", "var(--accent)")]
    return Panels([], keys, drawings=drawings)


def _plan(sides: Sequence[tuple[str, str, Poses]], axes: tuple[int, int], title: str, unit: str) -> str:
    """Return a drawing of cameras: of `axes`, the first goes right and the second up; y, which points down, down."""
    up = np.array([1.0, -1.0 if axes[1] == 1 else 1.0])
    flat = [poses[:, axes, 3] * up for _, _, poses in sides]
    low, high = np.concatenate(flat).min(axis=0), np.concatenate(flat).max(axis=0)
    extent = max(float((high - low).max()), 1e-3)
    room = np.array([_WIDTH, _HEIGHT - _FOOT])
    scale = float(((room - 2 * _MARGIN) / np.maximum(high - low, 0.3 * extent)).min())
    parts = []
    for (name, colour, poses), points in zip(sides, flat, strict=True):
        at = room / 2 + (points - (low + high) / 2) * (scale, -scale)
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in at)
        parts.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="1.4" opacity=".6"/>')
        ahead = poses[:, axes, 2] * up * (1, -1)
        for view, ((x, y), (u, v)) in enumerate(zip(at.tolist(), ahead.tolist(), strict=True)):
            parts.append(_camera(x, y, u, v, colour, f"{name}, view {view}"))
    parts.append(_ruler(extent, scale, title, unit))
    return (
        f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="True and predicted cameras {title}">'
        f"{''.join(parts)}</svg>"
    )


def _camera(x: float, y: float, u: float, v: float, colour: str, name: str) -> str:
    """A wedge in the direction (u, v) that the camera looks in; shorter if it looks out of the drawing."""
    left, right = (
        f"{x + _WEDGE * (u - 0.4 * side * v):.1f} {y + _WEDGE * (v + 0.4 * side * u):.1f}" for side in (1, -1)
    )
    return (
        f'<path d="M{x:.1f} {y:.1f}L{left}L{right}Z" fill="{colour}" fill-opacity=".2" stroke="{colour}"/>'
        f'<circle cx="{x:.1f}" cy="{y:.1f}" r="2.6" fill="{colour}"><title>{name}</title></circle>'
    )


def _ruler(extent: float, scale: float, title: str, unit: str) -> str:
    length = 10.0 ** math.floor(math.log10(extent))
    end, base = _MARGIN + length * scale, _HEIGHT - 8
    style = 'fill="var(--muted)" font-size="12"'
    return (
        f'<path d="M{_MARGIN} {base - 4}H{end:.1f}" stroke="var(--muted)" stroke-width="2"/>'
        f'<text x="{end + 7:.1f}" y="{base}" {style}>{length:g} {unit}</text>'
        f'<text x="{_WIDTH - _MARGIN}" y="{base}" text-anchor="end" {style}>{title}</text>'
    )

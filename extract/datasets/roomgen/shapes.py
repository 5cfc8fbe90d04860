"""Furniture we model ourselves, as lists of simple parts in the furniture's own frame."""

from __future__ import annotations

import dataclasses
import math

import numpy as np

Vec = tuple[float, float, float]


@dataclasses.dataclass(frozen=True)
class Part:
    """A box between two corners, or a (cone-shaped) cylinder that fills the same bounds, upright or along y."""

    low: Vec
    high: Vec
    material: str
    kind: str = "box"
    taper: float = 1.0


Parts = list[Part]


def _box(x0: float, x1: float, y0: float, y1: float, z0: float, z1: float, material: str) -> Part:
    return Part((x0, y0, z0), (x1, y1, z1), material)


def _disc(x: float, y: float, r: float, z0: float, z1: float, material: str, taper: float = 1.0) -> Part:
    return Part((x - r, y - r, z0), (x + r, y + r, z1), material, "cylinder", taper)


def _table(w: float, d: float, h: float, *, leg: float = 0.05, top: float = 0.035) -> Parts:
    parts = [_box(-w / 2, w / 2, -d / 2, d / 2, h - top, h, "wood")]
    for sx in (-1, 1):
        for sy in (-1, 1):
            x, y = sx * (w / 2 - leg), sy * (d / 2 - leg)
            parts.append(_box(x - leg / 2, x + leg / 2, y - leg / 2, y + leg / 2, 0, h - top, "legs"))
    return parts


def _case(w: float, d: float, h: float, rows: int, cols: int, *, doors: bool, plinth: float = 0.06) -> Parts:
    """A cabinet: a body, a plinth, and a grid of fronts with handles."""
    parts = [
        _box(-w / 2 + 0.02, w / 2 - 0.02, -d / 2 + 0.05, d / 2, 0, plinth, "dark"),
        _box(-w / 2, w / 2, -d / 2 + 0.02, d / 2, plinth, h, "wood"),
    ]
    cw, ch = w / cols, (h - plinth - 0.02) / rows
    for row in range(rows):
        for col in range(cols):
            x0, z0 = -w / 2 + col * cw, plinth + row * ch
            parts.append(
                _box(
                    x0 + 0.006,
                    x0 + cw - 0.006,
                    -d / 2,
                    -d / 2 + 0.02,
                    z0 + 0.006,
                    z0 + ch - 0.006,
                    "front",
                )
            )
            if doors:
                hx = x0 + (cw - 0.06 if col % 2 == 0 else 0.06)
                zm = z0 + min(ch / 2, 1.0)
                parts.append(_box(hx - 0.007, hx + 0.007, -d / 2 - 0.02, -d / 2, zm - 0.06, zm + 0.06, "metal"))
            else:
                xm, zm = x0 + cw / 2, z0 + ch * 0.6
                parts.append(_box(xm - 0.06, xm + 0.06, -d / 2 - 0.02, -d / 2, zm, zm + 0.014, "metal"))
    return parts


def _shelf(w: float, d: float, h: float, rng: np.random.Generator, rows: int) -> Parts:
    """An open shelf with a back and rows of books and boxes."""
    t = 0.022
    parts = [
        _box(-w / 2, -w / 2 + t, -d / 2, d / 2, 0, h, "wood"),
        _box(w / 2 - t, w / 2, -d / 2, d / 2, 0, h, "wood"),
        _box(-w / 2, w / 2, d / 2 - 0.008, d / 2, 0, h, "wood"),
    ]
    gap = (h - t) / rows
    for row in range(rows + 1):
        parts.append(_box(-w / 2 + t, w / 2 - t, -d / 2, d / 2, row * gap, row * gap + t, "wood"))
    for row in range(rows):
        x, z = -w / 2 + t + 0.01, row * gap + t
        stop = w / 2 - t - rng.uniform(0.02, 0.5) * w
        while x < stop - 0.06:
            thick = float(rng.uniform(0.018, 0.05))
            tall = float(gap - t) * float(rng.uniform(0.6, 0.92))
            front = -d / 2 + float(rng.uniform(0.02, 0.06))
            parts.append(_box(x, x + thick, front, d / 2 - 0.02, z, z + tall, f"book{rng.integers(6)}"))
            x += thick + 0.002
    return parts


def _screen(w: float, d: float, h: float) -> Parts:
    foot = 0.3 * h if h < 0.5 else 0.08
    return [
        _box(-w / 4, w / 4, -d / 2, d / 2, 0, 0.012, "dark"),
        _box(-0.03, 0.03, 0.0, 0.03, 0.01, foot + 0.05, "dark"),
        _box(-w / 2, w / 2, -0.02, 0.02, foot, h, "dark"),
        Part((-w / 2 + 0.012, -0.0215, foot + 0.012), (w / 2 - 0.012, -0.02, h - 0.012), "screen"),
    ]


def _lamp(w: float, h: float, *, hanging: bool = False) -> Parts:
    r = w / 2
    shade = 0.42 * h if h < 0.6 else 0.26
    if hanging:
        return [_disc(0, 0, 0.006, 0.2, h, "dark"), _disc(0, 0, r, 0, 0.24, "shade", 0.45)]
    return [
        _disc(0, 0, r * 0.6, 0, 0.025, "metal"),
        _disc(0, 0, 0.012, 0.02, h - shade, "metal"),
        _disc(0, 0, r, h - shade, h, "shade", 0.72),
    ]


def _piano(w: float, d: float, h: float) -> Parts:
    parts = [
        _box(-w / 2, w / 2, 0.0, d / 2, 0, h, "gloss"),
        _box(-w / 2, w / 2, -d / 2, 0.0, 0.58, 0.68, "gloss"),
        _box(-w / 2, -w / 2 + 0.06, -d / 2, 0.0, 0, 0.76, "gloss"),
        _box(w / 2 - 0.06, w / 2, -d / 2, 0.0, 0, 0.76, "gloss"),
        _box(-w / 2 + 0.06, w / 2 - 0.06, -d / 2 + 0.02, -0.1, 0.68, 0.7, "white"),
        _box(-0.35, 0.35, -0.03, 0.0, 0.85, 1.1, "wood"),
    ]
    step = (w - 0.12) / 52
    for key in range(52):
        if key % 7 not in (2, 6):
            x = -w / 2 + 0.06 + (key + 1) * step
            parts.append(_box(x - 0.006, x + 0.006, -d / 2 + 0.08, -0.1, 0.7, 0.712, "dark"))
    return parts


def _range(w: float, d: float, h: float) -> Parts:
    parts = [
        _box(-w / 2, w / 2, -d / 2 + 0.02, d / 2, 0, h - 0.02, "appliance"),
        _box(-w / 2, w / 2, -d / 2, d / 2, h - 0.02, h, "dark"),
        _box(-w / 2 + 0.03, w / 2 - 0.03, -d / 2, -d / 2 + 0.02, 0.22, 0.68, "screen_off"),
        _box(-w / 2 + 0.05, w / 2 - 0.05, -d / 2 - 0.03, -d / 2 - 0.01, 0.7, 0.72, "metal"),
    ]
    for k in range(4):
        x = -w / 2 + 0.12 + k * (w - 0.24) / 3
        parts.append(_box(x - 0.018, x + 0.018, -d / 2 - 0.01, -d / 2 + 0.02, 0.79, 0.826, "dark"))
        ring = _disc((-1) ** k * w / 4, (-1) ** (k // 2) * d / 4.5, 0.09, h, h + 0.008, "metal")
        parts.append(ring)
    return parts


def _sink_unit(w: float, d: float) -> Parts:
    top, t = 0.9, 0.03
    parts = _case(w, d, top - t, 1, 2, doors=True)
    bx, by = w * 0.32, d * 0.3
    rim = (
        ((-w / 2, -d / 2), (-bx, d / 2)),
        ((bx, -d / 2), (w / 2, d / 2)),
        ((-bx, -d / 2), (bx, -by)),
        ((-bx, by), (bx, d / 2)),
    )
    for low, high in rim:
        parts.append(Part((*low, top - t), (*high, top), "metal"))
    parts.append(_box(-bx, bx, -by, by, top - t, top - t + 0.004, "metal"))
    parts += [_disc(0, by + 0.05, 0.014, top, top + 0.25, "metal")]
    parts.append(_box(-0.012, 0.012, 0.0, by + 0.06, top + 0.23, top + 0.25, "metal"))
    return parts


def _bathtub(w: float, d: float, h: float) -> Parts:
    """Walls and a floor that meet without sharing a face: Cycles shades shared faces black."""
    t = 0.07
    return [
        _box(-w / 2, w / 2, -d / 2, -d / 2 + t, 0, h, "ceramic"),
        _box(-w / 2, w / 2, d / 2 - t, d / 2, 0, h, "ceramic"),
        _box(-w / 2, -w / 2 + t, -d / 2 + t, d / 2 - t, 0, h, "ceramic"),
        _box(w / 2 - t, w / 2, -d / 2 + t, d / 2 - t, 0, h, "ceramic"),
        _box(-w / 2 + t, w / 2 - t, -d / 2 + t, d / 2 - t, 0, 0.16, "ceramic"),
        _box(w / 2 - 0.06, w / 2 - 0.02, -0.02, 0.02, h, h + 0.16, "metal"),
        _box(w / 2 - 0.2, w / 2 - 0.02, -0.015, 0.015, h + 0.13, h + 0.16, "metal"),
    ]


def _curtain(w: float, d: float, h: float) -> Parts:
    """Folds: slats that swing to and fro."""
    folds = max(int(w / 0.022), 6)
    parts = [_box(-w / 2 - 0.02, w / 2 + 0.02, -0.012, 0.012, h - 0.02, h, "metal")]
    for k in range(folds):
        x = -w / 2 + (k + 0.5) * w / folds
        y = d * 0.33 * math.sin(2 * math.pi * x / 0.13)
        parts.append(_box(x - w / folds / 2, x + w / folds / 2, y - 0.016, y + 0.016, 0, h - 0.02, "cloth"))
    return parts


def _window(w: float, h: float) -> Parts:
    """Frame and pane; the pane stands 10 cm back in the wall."""
    f, y0, y1 = 0.05, 0.09, 0.14
    parts = [
        _box(-w / 2, w / 2, y1, y1 + 0.01, 0, h, "outside"),
        _box(-w / 2, w / 2, y0, y1, 0, f, "white"),
        _box(-w / 2, w / 2, y0, y1, h - f, h, "white"),
        _box(-w / 2 - 0.04, w / 2 + 0.04, -0.06, 0.06, -0.025, 0.0, "white"),
    ]
    bars = [-w / 2 + f / 2, w / 2 - f / 2] + ([0.0] if w > 1.2 else [])
    for x in bars:
        parts.append(_box(x - f / 2, x + f / 2, y0 - 0.004, y1, 0.001, h - 0.001, "white"))
    for a, b in ((-w / 2 - 0.01, -w / 2), (w / 2, w / 2 + 0.01)):
        parts.append(_box(a, b, 0.031, 0.16, -0.01, h + 0.01, "white"))
    for a, b in ((-0.01, 0.0), (h, h + 0.01)):
        parts.append(_box(-w / 2, w / 2, 0.031, 0.16, a, b, "white"))
    return parts


def _door(w: float, h: float) -> Parts:
    parts = [_box(-w / 2 + 0.05, w / 2 - 0.05, 0.03, 0.07, 0, h - 0.05, "paint")]
    for x in (-w / 2, w / 2 - 0.06):
        parts.append(_box(x, x + 0.06, 0.0, 0.09, 0, h - 0.06, "white"))
    parts.append(_box(-w / 2, w / 2, 0.0, 0.09, h - 0.06, h, "white"))
    for z0, z1 in ((0.15, 0.85), (1.05, h - 0.2)):
        parts.append(_box(-w / 2 + 0.18, w / 2 - 0.18, 0.02, 0.04, z0, z1, "paint"))
    parts.append(_box(w / 2 - 0.19, w / 2 - 0.08, -0.02, 0.0, 0.99, 1.015, "metal"))
    parts.append(_box(w / 2 - 0.1, w / 2 - 0.08, -0.02, 0.04, 0.99, 1.015, "metal"))
    return parts


def parts(name: str, size: Vec, rng: np.random.Generator) -> Parts:
    """The parts of one of our own shapes at a given size."""
    w, d, h = size
    if name in ("own_coffee_table", "own_side_table", "own_dining_table", "own_desk"):
        return _table(w, d, h, leg=0.06 if h > 0.6 else 0.045)
    if name in ("own_shelf", "own_low_shelf", "own_wall_shelf"):
        return _shelf(w, d, h, rng, {"own_shelf": 5, "own_low_shelf": 2, "own_wall_shelf": 1}[name])
    if name == "own_wardrobe":
        return _case(w, d, h, 1, 3, doors=True)
    if name in ("own_dresser", "own_nightstand", "own_tv_stand"):
        rows, cols = {"own_dresser": (4, 2), "own_nightstand": (2, 1), "own_tv_stand": (1, 3)}[name]
        return _case(w, d, h, rows, cols, doors=False)
    if name in ("own_counter", "own_wall_cabinet"):
        case = _case(w, d - 0.02, h - 0.03, 1, max(round(w / 0.5), 1), doors=True)
        return [*case, _box(-w / 2, w / 2, -d / 2, d / 2, h - 0.03, h, "worktop")]
    if name == "own_kitchen_sink":
        return _sink_unit(w, d)
    if name == "own_range":
        return _range(w, d, h)
    if name == "own_fridge":
        fronts = [_box(-w / 2, w / 2, -d / 2, -d / 2 + 0.05, a, b, "appliance")
                  for a, b in ((0.05, 0.65), (0.66, h))]  # fmt: skip
        handles = [_box(w / 2 - 0.07, w / 2 - 0.05, -d / 2 - 0.03, -d / 2, a, b, "metal")
                   for a, b in ((0.35, 0.6), (0.72, 1.15))]  # fmt: skip
        return [_box(-w / 2, w / 2, -d / 2 + 0.055, d / 2, 0, h, "appliance"), *fronts, *handles]
    if name in ("own_tv", "own_monitor"):
        return _screen(w, d, h)
    if name in ("own_floor_lamp", "own_table_lamp", "own_pendant"):
        return _lamp(w, h, hanging=name == "own_pendant")
    if name in ("own_speaker", "own_small_speaker"):
        cones = [(0.3, 0.34), (0.72, 0.2)]
        discs = [Part((-w * r, -d / 2 - 0.006, h * z - w * r), (w * r, -d / 2 + 0.004, h * z + w * r), "rubber",
                      "cylinder_y") for z, r in cones]  # fmt: skip
        return [_box(-w / 2, w / 2, -d / 2, d / 2, 0, h, "front"), *discs]
    if name == "own_upright_piano":
        return _piano(w, d, h)
    if name == "own_bathtub":
        return _bathtub(w, d, h)
    if name == "own_clock":
        face = Part((-w / 2, -d / 2, 0), (w / 2, d / 2, h), "dark", "cylinder_y")
        dial = Part(
            (-w / 2 + 0.02, -d / 2 - 0.004, 0.02),
            (w / 2 - 0.02, 0, h - 0.02),
            "white",
            "cylinder_y",
        )
        hands = [_box(-0.006, 0.006, -d / 2 - 0.01, -d / 2, h / 2, h * 0.85, "dark"),
                 _box(0, w * 0.25, -d / 2 - 0.01, -d / 2, h / 2 - 0.006, h / 2 + 0.006, "dark")]  # fmt: skip
        return [face, dial, *hands]
    if name == "own_picture":
        f = 0.025
        return [_box(-w / 2, w / 2, -d / 2, d / 2, 0, h, "legs"),
                Part((-w / 2 + f, -d / 2 - 0.003, f), (w / 2 - f, 0, h - f), "painting")]  # fmt: skip
    if name == "own_rug":
        return [Part((-w / 2, -d / 2, 0), (w / 2, d / 2, h), "rug")]
    if name == "own_curtain":
        return _curtain(w, d, h)
    if name == "own_window":
        return _window(w, h)
    if name == "own_door":
        return _door(w, h)
    if name == "own_ball":
        return [Part((-w / 2, -d / 2, 0), (w / 2, d / 2, h), f"book{rng.integers(6)}", "sphere")]
    if name == "own_blocks":
        cubes = [(-0.1, -0.08, 0.0), (0.02, -0.06, 0.0), (-0.05, 0.06, 0.0), (-0.05, -0.06, 0.1)]
        return [_box(x, x + 0.1, y, y + 0.1, z, z + 0.1, f"book{k}") for k, (x, y, z) in enumerate(cubes)]
    raise KeyError(f"no own shape named {name!r}")

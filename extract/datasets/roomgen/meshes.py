"""Parts and wall surfaces turned into vertices, faces and texture coordinates."""

from __future__ import annotations

import dataclasses
import math

import numpy as np

from extract.datasets.roomgen.shapes import Part

UNIT_UV = frozenset({"painting", "rug", "outside", "screen"})
"""Materials whose picture fills a face; all others repeat by the metre."""


@dataclasses.dataclass
class Mesh:
    """Faces with their own corners: `materials`, `smooth` and `uv` follow the faces."""

    vertices: list[tuple[float, float, float]] = dataclasses.field(default_factory=list)
    faces: list[tuple[int, ...]] = dataclasses.field(default_factory=list)
    uv: list[tuple[float, float]] = dataclasses.field(default_factory=list)
    materials: list[str] = dataclasses.field(default_factory=list)
    smooth: list[bool] = dataclasses.field(default_factory=list)

    def face(
        self, corners: list[tuple[float, float, float]], uv: list[tuple[float, float]],
        material: str, smooth: bool = False,
    ) -> None:  # fmt: skip
        """Add a flat face with a texture coordinate per corner."""
        start = len(self.vertices)
        self.vertices += corners
        self.faces.append(tuple(range(start, start + len(corners))))
        self.uv += uv
        self.materials.append(material)
        self.smooth.append(smooth)

    def strip(self, rings: list[list[tuple[float, float, float]]], material: str) -> None:
        """Add a flat face with a texture coordinate per corner."""
        """Smooth quads between closed rings of equally many points."""
        start, n = len(self.vertices), len(rings[0])
        for ring in rings:
            self.vertices += ring
        for r in range(len(rings) - 1):
            for k in range(n):
                a, b = start + r * n + k, start + r * n + (k + 1) % n
                self.faces.append((a, b, b + n, a + n))
                self.uv += [(k / n, r), ((k + 1) / n, r), ((k + 1) / n, r + 1), (k / n, r + 1)]
                self.materials.append(material)
                self.smooth.append(True)


_BOX = (
    ((0, 0, 0), (0, 1, 0), (1, 1, 0), (1, 0, 0)),
    ((0, 0, 1), (1, 0, 1), (1, 1, 1), (0, 1, 1)),
    ((0, 0, 0), (1, 0, 0), (1, 0, 1), (0, 0, 1)),
    ((0, 1, 0), (0, 1, 1), (1, 1, 1), (1, 1, 0)),
    ((0, 0, 0), (0, 0, 1), (0, 1, 1), (0, 1, 0)),
    ((1, 0, 0), (1, 1, 0), (1, 1, 1), (1, 0, 1)),
)
_AXES = ((0, 1), (0, 1), (0, 2), (0, 2), (1, 2), (1, 2))


def _box(mesh: Mesh, part: Part) -> None:
    low, high = np.asarray(part.low), np.asarray(part.high)
    for corners, (a, b) in zip(_BOX, _AXES, strict=True):
        unit = np.asarray(corners, float)
        points = low + unit * (high - low)
        flat = unit if part.material in UNIT_UV else points
        # boards run along the longer side
        long_first = part.material in UNIT_UV or (high - low)[a] >= (high - low)[b]
        order = (a, b) if long_first else (b, a)
        uv = [(float(p[order[0]]), float(p[order[1]])) for p in flat]
        mesh.face([(float(x), float(y), float(z)) for x, y, z in points], uv, part.material)


def _round(mesh: Mesh, part: Part, n: int = 28) -> None:
    """A cylinder (upright or along y) or a sphere inside the part's bounds."""
    low, high = np.asarray(part.low), np.asarray(part.high)
    mid, half = (low + high) / 2, (high - low) / 2

    def ring(t: float, r: float) -> list[tuple[float, float, float]]:
        out = []
        for k in range(n):
            c, s = r * math.cos(2 * math.pi * k / n), r * math.sin(2 * math.pi * k / n)
            unit = np.array([c, t, -s] if part.kind == "cylinder_y" else [c, s, t])
            x, y, z = mid + unit * half
            out.append((float(x), float(y), float(z)))
        return out

    if part.kind == "sphere":
        angles = np.linspace(-math.pi / 2 + 0.02, math.pi / 2 - 0.02, 15)
        mesh.strip([ring(math.sin(a), math.cos(a)) for a in angles], part.material)
        return
    mesh.strip([ring(-1.0, 1.0), ring(1.0, part.taper)], part.material)
    for t, r in ((-1.0, 1.0), (1.0, part.taper)):
        cap = ring(t, r)
        cap = cap if t > 0 else cap[::-1]
        mesh.face(cap, [(x, y + z) for x, y, z in cap], part.material)


def from_parts(parts: list[Part]) -> Mesh:
    """One mesh for all parts."""
    mesh = Mesh()
    for part in parts:
        (_box if part.kind == "box" else _round)(mesh, part)
    return mesh


def panel(width: float, height: float, holes: list[tuple[float, float, float, float]], material: str) -> Mesh:
    """A rectangle in the plane (x, 0, z), seen from -y, with rectangular holes (x0, x1, z0, z1) side by side in x."""
    mesh = Mesh()

    def quad(x0: float, x1: float, z0: float, z1: float) -> None:
        if x1 - x0 > 1e-4 and z1 - z0 > 1e-4:
            flat = [(x0, z0), (x1, z0), (x1, z1), (x0, z1)]
            mesh.face([(x, 0.0, z) for x, z in flat], flat, material)

    at = 0.0
    for x0, x1, z0, z1 in sorted(holes):
        quad(at, x0, 0, height)
        quad(x0, x1, 0, z0)
        quad(x0, x1, z1, height)
        at = x1
    quad(at, width, 0, height)
    return mesh

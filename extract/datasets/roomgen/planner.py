"""Puts furniture into an empty room without anything touching: the moves that room recipes are written in."""

from __future__ import annotations

import dataclasses
import math

import numpy as np

from extract.datasets.roomgen import catalog
from extract.datasets.roomgen.catalog import Model
from extract.datasets.roomgen.geometry import Placement, facing, touch

SIDES = "nesw"
_YAW = {"n": 0.0, "s": 180.0, "w": 90.0, "e": -90.0}
TABLE_LAMPS = frozenset({"own_table_lamp", "desklamp"})
ON_TABLES = frozenset({"littlePlant", "cactus", "orchids", "augalas", "tableFan", "own_small_speaker"})
HANGING = frozenset({"lamp2", "own_pendant", "ceilingFan"})


@dataclasses.dataclass
class Planner:
    """A room [0, size] that is being furnished. Every choice comes from `rng`."""

    rng: np.random.Generator
    size: tuple[float, float, float]
    items: list[Placement] = dataclasses.field(default_factory=list)
    keepouts: list[Placement] = dataclasses.field(default_factory=list)

    def chance(self, probability: float) -> bool:
        """True with the given probability."""
        return bool(self.rng.random() < probability)

    def pick(self, cls: str, *, among: frozenset[str] | None = None) -> Model:
        """A random model of a class, by default one that stands on the floor."""
        options = catalog.by_class(cls)
        if among is not None:
            options = [m for m in options if m.name in among]
        return options[int(self.rng.integers(len(options)))]

    def model(self, name: str) -> Model:
        """A model by name."""
        return catalog.models()[name]

    def wall_length(self, side: str) -> float:
        """Length of a wall in metres."""
        return self.size[0] if side in "ns" else self.size[1]

    def wall_point(self, side: str, u: float, v: float) -> tuple[float, float]:
        """The point `u` along a wall and `v` away from it."""
        rx, ry, _ = self.size
        return {"n": (u, ry - v), "s": (u, v), "w": (v, u), "e": (rx - v, u)}[side]

    def fits(self, item: Placement, margin: float = 0.01, *, host: Placement | None = None) -> bool:
        """Whether a thing is inside the room and touches nothing solid and no space kept free."""
        corners, (rx, ry, rz) = item.corners(), self.size
        inside = corners.min() > -1e-6 and corners[:, 0].max() < rx + 1e-6
        if not inside or corners[:, 1].max() > ry + 1e-6 or item.z + item.size[2] > rz:
            return False
        if not item.solid:
            return True
        others = [other for other in self.items if other.solid and other is not host]
        if host is None:
            others += self.keepouts
        return not any(touch(item, other, margin) for other in others)

    def add(
        self, model: Model, x: float, y: float, yaw: float, *, z: float | None = None,
        size: tuple[float, float, float] | None = None, margin: float = 0.01,
        host: Placement | None = None, solid: bool = True,
    ) -> Placement | None:  # fmt: skip
        """Stand a model at (x, y) if it fits."""
        z = model.elevation if z is None else z
        size = size or (model.width, model.depth, model.height)
        item = Placement(model.name, model.cls, x, y, z, yaw, size, solid)
        if not self.fits(item, margin, host=host):
            return None
        self.items.append(item)
        return item

    def keep_free(self, front_of: Placement, reach: float) -> None:
        """Keep `reach` metres before a thing's front free of other things (a door, a toilet)."""
        w, d, _ = front_of.size
        x, y = front_of.local(0.0, -(d + reach) / 2)
        space = Placement("", "", x, y, 0.0, front_of.yaw, (w, reach, 2.0), solid=True)
        self.keepouts.append(space)

    def against(
        self, model: Model | str, side: str | None = None, *, u: float | None = None,
        z: float | None = None, gap: float = 0.02, corner: bool = False, tries: int = 40,
        size: tuple[float, float, float] | None = None,
    ) -> Placement | None:  # fmt: skip
        """Stand (or hang, with z) a model with its back to a wall."""
        model = self.model(model) if isinstance(model, str) else model
        width, depth = (size or (model.width, model.depth))[:2]
        for _ in range(tries):
            wall = side or SIDES[int(self.rng.integers(4))]
            room = self.wall_length(wall) - width
            if room < 0.04:
                continue
            if u is not None:
                along = u
            elif corner:
                along = width / 2 + (0.03 if self.chance(0.5) else room - 0.03)
            else:
                along = width / 2 + self.rng.uniform(0.02, room - 0.02)
            x, y = self.wall_point(wall, along, depth / 2 + gap)
            item = self.add(model, x, y, _YAW[wall], z=z, size=size)
            if item is not None:
                return item
        return None

    def hang(self, model: Model | str, low: float, high: float, **kwargs: object) -> Placement | None:
        """Hang a model on a wall with its underside between two heights."""
        return self.against(model, z=float(self.rng.uniform(low, high)), gap=0.003, **kwargs)  # type: ignore[arg-type]

    def free(
        self, model: Model | str, *, yaw: float | None = None, border: float = 0.35,
        margin: float = 0.05, tries: int = 40, near: tuple[float, float] | None = None,
    ) -> Placement | None:  # fmt: skip
        """Stand a model anywhere on the floor, or within a metre of `near`."""
        model = self.model(model) if isinstance(model, str) else model
        rx, ry, _ = self.size
        for _ in range(tries):
            if near is None:
                x, y = self.rng.uniform(border, rx - border), self.rng.uniform(border, ry - border)
            else:
                x, y = np.asarray(near) + self.rng.uniform(-1, 1, 2)
            turn = self.rng.uniform(0, 360) if yaw is None else yaw
            item = self.add(model, float(x), float(y), float(turn), margin=margin)
            if item is not None:
                return item
        return None

    def corner(self, model: Model | str, gap: float = 0.06) -> Placement | None:
        """Stand a model in a corner, turned to the room."""
        model = self.model(model) if isinstance(model, str) else model
        rx, ry, _ = self.size
        reach = math.hypot(model.width, model.depth) / 2 * 0.92 + gap
        for index in self.rng.permutation(4):
            x = reach if index % 2 else rx - reach
            y = reach if index // 2 else ry - reach
            item = self.add(model, x, y, facing(x, y, rx / 2, ry / 2))
            if item is not None:
                return item
        return self.against(model)

    def on(
        self, host: Placement | None, model: Model | str, *, tries: int = 25,
        back: bool = False, yaw: float | None = None,
    ) -> Placement | None:  # fmt: skip
        """Stand a model on the flat top of another thing."""
        model = self.model(model) if isinstance(model, str) else model
        if host is None:
            return None
        top = catalog.models()[host.model].top
        if top is None:
            return None
        room_x = host.size[0] / 2 - model.width / 2 - 0.02
        room_y = host.size[1] / 2 - model.depth / 2 - 0.02
        if host.model in ("oakTable", "tableWithTablecloth"):
            room_x, room_y = room_x * 0.68, room_y * 0.68
        if room_x < 0 or room_y < 0:
            return None
        for _ in range(tries):
            dy = room_y if back else self.rng.uniform(-room_y, room_y)
            x, y = host.local(self.rng.uniform(-room_x, room_x), dy)
            turn = host.yaw + (self.rng.uniform(-25, 25) if yaw is None else yaw)
            item = self.add(model, x, y, float(turn), z=host.z + top, host=host)
            if item is not None:
                return item
        return None

    def seat(self, chair: Model, x: float, y: float, yaw: float, spread: float) -> bool:
        """Stand a chair turned a little off `yaw`, less and less until it fits."""
        for scale in (1.0, 0.6, 0.3, 0.0):
            turn = float(yaw + scale * self.rng.normal(0, spread))
            if self.add(chair, x, y, turn, margin=0.005) is not None:
                return True
        return False

    def seats(self, table: Placement | None, chair: Model, sides: str, count: int) -> int:
        """Stand up to `count` equal chairs around a table: on its long sides (l), its ends (e), or all round (r)."""
        if table is None:
            return 0
        w, d, _ = table.size
        spots: list[tuple[float, float]] = []
        push = chair.depth / 2 + 0.06
        if "r" in sides:
            start = self.rng.uniform(0, 360)
            for k in range(count):
                angle = math.radians(start + 360 * k / count)
                reach = w / 2 + push
                spots.append((reach * math.cos(angle), reach * math.sin(angle)))
        if "l" in sides:
            row = max(int(w // 0.62), 1)
            for k in range(row):
                dx = (k + 0.5) * w / row - w / 2
                spots += [(dx, -d / 2 - push), (dx, d / 2 + push)]
        if "e" in sides:
            spots += [(-w / 2 - push, 0.0), (w / 2 + push, 0.0)]
        seated = 0
        for k in self.rng.permutation(len(spots)):
            x, y = table.local(*spots[int(k)])
            yaw = facing(x, y, table.x, table.y)
            if "r" not in sides:
                yaw = 90 * round((yaw - table.yaw) / 90) + table.yaw
            if seated < count and self.seat(chair, x, y, yaw, 8.0):
                seated += 1
        return seated

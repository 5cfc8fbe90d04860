"""Which rooms the dataset has: their types, splits, looks and furniture, all from one seed."""

from __future__ import annotations

import dataclasses

import numpy as np

from extract.datasets.roomgen.geometry import Placement
from extract.datasets.roomgen.planner import Planner
from extract.datasets.roomgen.recipes import RECIPES

TYPES = tuple(RECIPES)
SEED = 20323
"""The seed of version 1.0, chosen among a hundred so that every class is in train and in test rooms."""


@dataclasses.dataclass(frozen=True)
class Room:
    """A furnished room, not yet built. `daylight` and `lamp` in [0, 1] say how strong each light is."""

    name: str
    index: int
    type: str
    split: str
    seed: int
    size: tuple[float, float, float]
    items: tuple[Placement, ...]
    floor: str
    walls: str
    feature: str
    daylight: float
    lamp: float
    warmth: float

    @property
    def classes(self) -> set[str]:
        """The classes of the furniture, seen or not."""
        return {item.cls for item in self.items}


def split_of(index: int) -> str:
    """Six rooms, one of each type, make a block; blocks 1 and 5 are test rooms, part of block 3 is val."""
    block, kind = divmod(index, len(TYPES))
    if block % 8 in (1, 5):
        return "test"
    return "val" if block % 8 == 3 and kind < 4 else "train"


def make_room(index: int, seed: int) -> Room:
    """Furnish one room. The same arguments give the same room."""
    rng = np.random.default_rng([seed, index])
    kind = TYPES[index % len(TYPES)]
    recipe, (x0, x1), (y0, y1) = RECIPES[kind]
    a, b = float(rng.uniform(x0, x1)), float(rng.uniform(y0, y1))
    if rng.random() < 0.5:
        a, b = b, a
    planner = Planner(rng, (a, b, float(rng.uniform(2.4, 2.95))))
    recipe(planner)
    wet = kind in ("bathroom", "kitchen")
    floors = {"planks": 0.2, "tiles": 0.7, "parquet": 0.1} if wet else {
        "planks": 0.5, "tiles": 0.1, "parquet": 0.15, "carpet": 0.25}  # fmt: skip
    walls = {"plain": 0.4, "tiles": 0.5, "bold": 0.1} if kind == "bathroom" else {
        "plain": 0.5, "wallpaper": 0.25, "bold": 0.2, "bricks": 0.05}  # fmt: skip
    floor = str(rng.choice(list(floors), p=list(floors.values())))
    wall = str(rng.choice(list(walls), p=list(walls.values())))
    feature = str(rng.choice(["wallpaper", "bricks", "bold"])) if rng.random() < 0.4 else wall
    day = bool(rng.random() < 0.75)
    return Room(
        name=f"room_{index:03d}", index=index, type=kind, split=split_of(index), seed=seed + index,
        size=planner.size, items=tuple(planner.items), floor=floor, walls=wall, feature=feature,
        daylight=float(rng.uniform(0.6, 1.0) if day else rng.uniform(0.0, 0.25)),
        lamp=float(rng.uniform(0.25, 0.7) if day else rng.uniform(0.8, 1.0)),
        warmth=float(rng.uniform(0.74, 0.95)),
    )  # fmt: skip

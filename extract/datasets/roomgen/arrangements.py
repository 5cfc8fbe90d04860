"""Arrangements that several types of room share: openings, a dining place, a desk, what hangs and lies about."""

from __future__ import annotations

from extract.datasets.roomgen import catalog
from extract.datasets.roomgen.geometry import Placement, facing
from extract.datasets.roomgen.planner import HANGING, ON_TABLES, TABLE_LAMPS, Planner

FLOOR_PLANTS = frozenset({"decorativePlant", "plant", "plantie"})
FLOOR_BOXES = frozenset({"box", "crate", "ammoBox", "barrel"})
FLOOR_TOYS = frozenset({"teddyBear", "caballito", "basketball", "own_ball", "own_blocks"})
SMALL_TOYS = frozenset({"teddyBear", "cartoon_biplane", "own_ball", "own_blocks"})


def furnish_openings(p: Planner, *, windows: int, curtains: float, radiator: float) -> None:
    """A door, windows, and what belongs to windows: curtains beside and a radiator under them."""
    door = p.against("own_door", gap=0.0)
    if door is not None:
        p.keep_free(door, 0.8)
    for _ in range(windows):
        width = float(p.rng.uniform(0.9, 2.0))
        height = float(p.rng.uniform(1.0, 1.4))
        sill = float(p.rng.uniform(0.8, 1.0))
        window = p.against("own_window", z=sill, gap=0.0, size=(width, 0.06, height))
        if window is None:
            continue
        side = wall_of(p, window)
        along = window.x if side in "ns" else window.y
        drop = min(p.size[2] - 0.06, sill + height + 0.18)
        if p.chance(curtains):
            for sign in (-1, 1):
                size = (float(p.rng.uniform(0.35, 0.55)), 0.1, drop - 0.02)
                u = along + sign * (width / 2 + size[0] / 2 + 0.01)
                p.against("own_curtain", side, u=u, z=0.02, gap=0.03, size=size, tries=1)
        if p.chance(radiator):
            model = p.pick("radiator")
            if model.height + model.elevation < sill - 0.02:
                p.against(model, side, u=along, tries=1, gap=0.03)


def wall_of(p: Planner, item: Placement) -> str:
    """The wall a thing has its back to."""
    return {0: "n", 180: "s", 90: "w", -90: "e"}[round(item.yaw)]


def wall_decor(p: Planner, *, pictures: int, clock: float, lamp: float = 0.0) -> None:
    """Pictures, perhaps a clock and a lamp on the walls."""
    for _ in range(pictures):
        size = (float(p.rng.uniform(0.35, 1.1)), 0.03, float(p.rng.uniform(0.35, 0.8)))
        p.against("own_picture", z=float(p.rng.uniform(1.15, 1.5)), gap=0.003, size=size)
    if p.chance(clock):
        p.hang(p.pick("clock"), 1.3, 1.6)
    if p.chance(lamp):
        p.hang("wallLight", 1.35, 1.55)


def ceiling_item(p: Planner, x: float, y: float, *, lamp: float, fan: float) -> None:
    """A pendant lamp or a fan under the ceiling, at a place or at the middle of the room."""
    names = [n for n, prob in (("lamp", lamp), ("fan", fan)) if p.chance(prob)]
    if names:
        model = p.pick(names[0], among=HANGING)
        if model.height < p.size[2] - 1.85:
            p.add(model, x, y, 0.0, z=p.size[2] - model.height - 0.005)


def rug(p: Planner, x: float, y: float, width: float, depth: float) -> None:
    """A rug on the floor; others may stand on it."""
    p.add(p.model("own_rug"), x, y, 0.0, z=0.002, size=(width, depth, 0.012), solid=False)


def seat_toy(p: Planner, seat: Placement, dx: float, from_back: float) -> None:
    """A teddy bear on a sofa, chair or bed, so far from its back: the middle of a corner sofa is empty."""
    top = catalog.models()[seat.model].top or 0.45
    x, y = seat.local(dx, seat.size[1] / 2 - from_back)
    p.add(p.model("teddyBear"), x, y, seat.yaw, z=seat.z + top, host=seat)


def extras(p: Planner, chances: dict[str, float]) -> None:
    """Things that may be anywhere: floor plants, boxes, toys, bags, bins, fans, guitars, floor lamps."""
    for name, chance in chances.items():
        if not p.chance(chance):
            continue
        if name == "plant":
            p.corner(p.pick("plant", among=FLOOR_PLANTS))
        elif name == "floor lamp":
            p.corner("own_floor_lamp")
        elif name == "box":
            for _ in range(int(p.rng.integers(1, 3))):
                p.against(p.pick("box", among=FLOOR_BOXES), gap=0.05)
        elif name == "toy":
            for _ in range(int(p.rng.integers(1, 4))):
                p.free(p.pick("toy", among=FLOOR_TOYS))
        elif name == "fan":
            p.free("riggedFan")
        elif name == "radiator":
            p.against(p.pick("radiator"), gap=0.03)
        elif name == "guitar":
            p.corner("electricGuitar")
        elif name == "shelf":
            p.against(["bookcase", "own_shelf", "own_low_shelf"][int(p.rng.integers(3))])
        elif name == "wall shelf":
            p.hang("own_wall_shelf", 1.25, 1.5)
        elif name == "cabinet":
            p.against(["cupboard", "own_dresser", "own_wardrobe"][int(p.rng.integers(3))])
        else:
            p.against(p.pick(name), gap=0.05)


def clutter(p: Planner, hosts: list[Placement | None], names: list[str]) -> None:
    """Small things on tops: one try for each name, on a random host."""
    small = {"plant": ON_TABLES, "lamp": TABLE_LAMPS, "toy": SMALL_TOYS, "fan": ON_TABLES}
    small["speaker"] = ON_TABLES
    flat = [host for host in hosts if host is not None]
    for name in names if flat else []:
        p.on(flat[int(p.rng.integers(len(flat)))], p.pick(name, among=small.get(name)))


def dining(p: Planner) -> Placement | None:
    """A table with chairs around it, somewhere free."""
    model = p.pick("table", among=frozenset({"oakTable", "table", "tableWithTablecloth", "own_dining_table"}))
    table = None
    for _ in range(120):
        x = p.rng.uniform(1.1, p.size[0] - 1.1) if p.size[0] > 2.3 else p.size[0] / 2
        y = p.rng.uniform(1.1, p.size[1] - 1.1) if p.size[1] > 2.3 else p.size[1] / 2
        yaw = float(90 * p.rng.integers(2))
        table = p.add(model, float(x), float(y), yaw, margin=0.25)
        if table is not None:
            break
    if table is None:
        return None
    kind = p.chance(0.2)
    chair = p.model("foldingChair") if kind else p.pick("chair")
    round_top = model.name in ("oakTable", "tableWithTablecloth")
    p.seats(table, chair, "r" if round_top else "le", int(p.rng.integers(2, 5 if round_top else 7)))
    clutter(p, [table], ["plant", "kitchenware", "kitchenware", "kitchenware"][int(p.rng.integers(3)) :])
    ceiling_item(p, table.x, table.y, lamp=0.6, fan=0.0)
    return table


def study(p: Planner) -> Placement | None:
    """A desk at a wall with a chair and what lies on desks."""
    drawing = p.chance(0.15)
    name = "technicalTable1" if drawing else ("desk" if p.chance(0.35) else "own_desk")
    desk = p.against(name, tries=50, gap=0.04)
    if desk is None:
        return None
    chair = p.pick("chair") if p.chance(0.85) else p.pick("stool")
    reach = desk.size[1] / 2 + chair.depth / 2 + float(p.rng.uniform(0.04, 0.16))
    x, y = desk.local(float(p.rng.uniform(-0.15, 0.15)), -reach)
    p.seat(chair, x, y, facing(x, y, desk.x, desk.y), 20.0)
    if name == "own_desk":
        if p.chance(0.75):
            p.on(desk, "own_monitor", back=True, yaw=0.0)
        for item, odds in (("lamp", 0.5), ("plant", 0.35), ("kitchenware", 0.4), ("speaker", 0.2)):
            if p.chance(odds):
                clutter(p, [desk], [item])
        if p.chance(0.2):
            p.on(desk, "tableFan")
    return desk

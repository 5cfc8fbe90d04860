"""What each type of room holds and how it is arranged."""

from __future__ import annotations

from collections.abc import Callable

from extract.datasets.roomgen.arrangements import (
    ceiling_item,
    clutter,
    dining,
    extras,
    furnish_openings,
    rug,
    seat_toy,
    study,
    wall_decor,
    wall_of,
)
from extract.datasets.roomgen.geometry import facing
from extract.datasets.roomgen.planner import SIDES, Planner

BEDS = frozenset({"bed1", "bed2", "bed3"})
SPEAKERS = frozenset({"own_speaker"})
OPPOSITE = {"n": "s", "s": "n", "e": "w", "w": "e"}


def living(p: Planner) -> None:
    """Sofa, low table, armchairs, television; sometimes a piano or a dining place."""
    furnish_openings(p, windows=int(p.rng.integers(1, 3)), curtains=0.7, radiator=0.55)
    sofa, coffee = None, None
    for side in p.rng.permutation(list(SIDES)):
        sofa = p.against(p.pick("sofa"), str(side), tries=12, gap=0.06)
        if sofa is not None:
            break
    if sofa is not None:
        side = wall_of(p, sofa)
        x, y = sofa.local(0.0, -sofa.size[1] / 2 - 0.75)
        if p.chance(0.65):
            rug(p, x, y, float(p.rng.uniform(2, 2.8)), float(p.rng.uniform(1.5, 2)))
        coffee = p.add(p.model("own_coffee_table"), x, y, sofa.yaw)
        for sign in (-1, 1) if p.chance(0.6) else (1,):
            ax, ay = sofa.local(sign * 1.45, -sofa.size[1] / 2 - 0.85)
            if p.chance(0.75):
                p.add(p.pick("armchair"), ax, ay, facing(ax, ay, x, y) + float(p.rng.normal(0, 12)))
        stand = None
        if p.chance(0.65):
            stand = p.against("own_tv_stand", OPPOSITE[side], tries=60)
            p.on(stand, "own_tv", yaw=0.0, back=True)
            if stand is not None and p.chance(0.6):
                for sign in (-1, 1):
                    sx, sy = stand.local(sign * 0.9, 0.0)
                    p.add(p.model("own_speaker"), sx, sy, stand.yaw)
        elif p.chance(0.5):
            p.against("televisionCabinet", OPPOSITE[side], tries=60)
        clutter(p, [coffee], ["plant"] if p.chance(0.5) else ["kitchenware", "kitchenware"])
        if p.chance(0.3):
            seat_toy(p, sofa, 0.1, 0.45)
    if p.chance(0.45):
        p.corner("pianoAQueue" if p.chance(0.4) else "own_upright_piano", gap=0.1)
    if p.size[0] * p.size[1] > 18 and p.chance(0.6):
        dining(p)
    extras(p, {"plant": 0.7, "floor lamp": 0.55, "shelf": 0.6, "cabinet": 0.3, "guitar": 0.5})
    extras(p, {"wall shelf": 0.25, "box": 0.15, "toy": 0.3, "fan": 0.15, "bag": 0.4, "radiator": 0.1})
    wall_decor(p, pictures=int(p.rng.integers(1, 4)), clock=0.3, lamp=0.15)
    ceiling_item(p, p.size[0] / 2, p.size[1] / 2, lamp=0.25, fan=0.15)


def bedroom(p: Planner) -> None:
    """Bed, bedside tables, wardrobe; sometimes a desk."""
    furnish_openings(p, windows=int(p.rng.integers(1, 3)), curtains=0.75, radiator=0.6)
    bed = p.against(p.pick("bed", among=BEDS), tries=80, gap=0.04)
    if bed is not None:
        if p.chance(0.7):
            rug(p, *bed.local(0.0, -0.7), bed.size[0] + 1.0 if bed.yaw in (0, 180) else 2.2, 2.0)
        for sign in (-1, 1):
            x, y = bed.local(sign * (bed.size[0] / 2 + 0.28), bed.size[1] / 2 - 0.24)
            if p.chance(0.75):
                stand = p.add(p.model("own_nightstand"), x, y, bed.yaw)
                clutter(p, [stand], ["lamp"] if p.chance(0.75) else ["plant"])
        if p.chance(0.4):
            seat_toy(p, bed, 0.3, 0.8)
    p.against("own_wardrobe" if p.chance(0.7) else "cupboard", tries=60)
    if p.chance(0.6):
        study(p)
    dresser = p.against("own_dresser") if p.chance(0.4) else None
    if p.chance(0.35):
        p.on(dresser, "own_tv", yaw=0.0, back=True)
    clutter(p, [dresser], ["plant", "bag"])
    if p.chance(0.2):
        p.corner("babyRockingBed")
    if p.chance(0.35):
        chair = p.corner(p.pick("armchair"))
        if chair is not None and p.chance(0.4):
            seat_toy(p, chair, 0.0, 0.4)
    extras(p, {"plant": 0.4, "shelf": 0.3, "wall shelf": 0.3, "toy": 0.45, "bag": 0.6, "fan": 0.3})
    extras(p, {"box": 0.3, "guitar": 0.25, "floor lamp": 0.25, "stool": 0.2, "bin": 0.15})
    wall_decor(p, pictures=int(p.rng.integers(0, 4)), clock=0.25, lamp=0.2)
    ceiling_item(p, p.size[0] / 2, p.size[1] / 2, lamp=0.35, fan=0.25)


def kitchen(p: Planner) -> None:
    """A run of counters with range, sink and refrigerator; a table with chairs."""
    furnish_openings(p, windows=1, curtains=0.25, radiator=0.5)
    for side in p.rng.permutation(list(SIDES)):
        run = [
            ("own_fridge" if p.chance(0.6) else "refrigerator", None),
            ("own_counter", (float(p.rng.uniform(0.5, 1.0)), 0.6, 0.9)),
            ("own_range", None),
            ("own_counter", (float(p.rng.uniform(0.5, 1.2)), 0.6, 0.9)),
            ("own_kitchen_sink", None),
        ]
        if p.chance(0.5):
            run.reverse()
        widths = [size[0] if size else p.model(name).width for name, size in run]
        length = p.wall_length(str(side))
        while sum(widths) > length - 0.05:
            run.pop(1), widths.pop(1)
        start = 0.02 if p.chance(0.5) else length - sum(widths) - 0.02
        before, counters, placed = len(p.items), [], 0
        for (name, size), width in zip(run, widths, strict=True):
            item = p.against(name, str(side), u=start + width / 2, tries=1, gap=0.0, size=size)
            placed += item is not None
            start += width + 0.012
            if item is not None and name == "own_counter":
                counters.append(item)
                if p.chance(0.75):
                    over = (width, 0.34, 0.7)
                    u = start - 0.012 - width / 2
                    p.against("own_wall_cabinet", str(side), u=u, z=1.45, gap=0.0, size=over, tries=1)
        if placed >= 4:
            break
        del p.items[before:]
    clutter(p, list(counters), ["kitchenware"] * int(p.rng.integers(1, 5)) + ["plant"])
    if dining(p) is None:
        side_table = p.against("own_side_table")
        clutter(p, [side_table], ["kitchenware"])
    if p.chance(0.3):
        for _ in range(2):
            p.free(p.pick("stool", among=frozenset({"stool", "silla2"})))
    extras(
        p,
        {"bin": 0.6, "plant": 0.35, "cabinet": 0.35, "shelf": 0.15, "wall shelf": 0.3, "box": 0.3},
    )
    extras(p, {"towel": 0.2, "bag": 0.15, "fan": 0.15, "radiator": 0.15, "toy": 0.1, "armchair": 0.1})
    wall_decor(p, pictures=int(p.rng.integers(0, 3)), clock=0.5)
    if p.chance(0.2):
        p.hang("own_tv", 1.3, 1.5)


def office(p: Planner) -> None:
    """Desks with chairs and screens, shelves, a whiteboard."""
    furnish_openings(p, windows=int(p.rng.integers(1, 3)), curtains=0.2, radiator=0.7)
    for _ in range(int(p.rng.integers(1, 4))):
        study(p)
    if p.chance(0.75):
        p.against("whiteBoard", gap=0.05, z=0.0)
    if p.chance(0.3):
        dining(p)
    if p.chance(0.2):
        p.against(p.pick("sofa"), gap=0.06)
    if p.chance(0.12):
        p.free("technicalTable2", yaw=float(90 * p.rng.integers(4)), border=0.9)
    extras(p, {"shelf": 0.75, "cabinet": 0.45, "wall shelf": 0.3, "plant": 0.6, "bin": 0.65})
    extras(
        p,
        {"bag": 0.65, "fan": 0.35, "box": 0.35, "floor lamp": 0.2, "armchair": 0.2, "guitar": 0.06},
    )
    wall_decor(p, pictures=int(p.rng.integers(0, 3)), clock=0.45, lamp=0.1)
    ceiling_item(p, p.size[0] / 2, p.size[1] / 2, lamp=0.2, fan=0.25)


def bathroom(p: Planner) -> None:
    """Bath or shower, toilet, washbasin, towels."""
    furnish_openings(p, windows=int(p.chance(0.75)), curtains=0.15, radiator=0.2)
    bath = "showerStall" if p.chance(0.5) else "own_bathtub"
    if p.chance(0.9):
        p.against(bath, corner=True, tries=60, gap=0.0)
    if p.chance(0.92):
        toilet = p.against("toiletsUnit", tries=60)
        if toilet is not None:
            p.keep_free(toilet, 0.35)
            if p.chance(0.4):
                p.against(p.pick("toilet", among=frozenset({"bidet", "urinal"})), wall_of(p, toilet))
    for _ in range(2 if p.chance(0.25) else 1):
        sink = p.against(p.pick("sink", among=frozenset({"washbasin", "modernVanity"})), tries=60)
        if sink is not None:
            p.keep_free(sink, 0.35)
    rug(p, p.size[0] / 2, p.size[1] / 2, 1.1, 0.7) if p.chance(0.55) else None
    p.hang("towel3", 0.9, 1.2) if p.chance(0.75) else None
    p.hang("towel2", 0.9, 1.2) if p.chance(0.5) else None
    extras(p, {"cabinet": 0.45, "radiator": 0.6, "plant": 0.4, "bin": 0.55, "stool": 0.3, "box": 0.25})
    extras(p, {"wall shelf": 0.4, "toy": 0.15, "fan": 0.1, "chair": 0.15})
    wall_decor(p, pictures=int(p.chance(0.35)), clock=0.12, lamp=0.5)


def playroom(p: Planner) -> None:
    """Piano, guitars, loudspeakers, games and toys."""
    furnish_openings(p, windows=int(p.rng.integers(1, 3)), curtains=0.45, radiator=0.45)
    if p.chance(0.8):
        grand = p.chance(0.6) and p.size[0] * p.size[1] > 14
        name = "pianoAQueue" if grand else "own_upright_piano"
        piano = p.free(name, yaw=float(90 * p.rng.integers(4)), border=1.0) if grand else p.against(name, tries=60)
        if piano is not None:
            x, y = piano.local(0.0, -piano.size[1] / 2 - 0.3)
            p.add(p.model("pianoBench"), x, y, piano.yaw + 180)
    if p.chance(0.9):
        game = "poolTable" if p.size[0] * p.size[1] > 17 and p.chance(0.5) else "table_football"
        p.free(game, yaw=float(90 * p.rng.integers(2)), border=0.8, margin=0.12, tries=200)
    if p.chance(0.55):
        x, y = (float(p.rng.uniform(1.2, s - 1.2)) for s in p.size[:2])
        rug(p, x, y, 2.0, 1.6)
    for _ in range(int(p.rng.integers(0, 3))):
        p.corner("electricGuitar")
    if p.chance(0.6):
        for _ in range(2):
            p.against(p.pick("speaker", among=SPEAKERS), gap=0.08)
    if p.chance(0.35):
        p.against(p.pick("sofa"), gap=0.06)
    if p.chance(0.35):
        stand = p.against("own_tv_stand")
        p.on(stand, "own_tv", yaw=0.0, back=True)
    if p.chance(0.4):
        dining(p)
    low = p.against("own_low_shelf") if p.chance(0.6) else None
    clutter(p, [low], ["toy", "toy", "plant"])
    extras(
        p,
        {
            "toy": 0.9,
            "box": 0.6,
            "stool": 0.4,
            "shelf": 0.35,
            "plant": 0.4,
            "chair": 0.4,
            "fan": 0.3,
        },
    )
    extras(p, {"whiteboard": 0.55, "armchair": 0.25, "floor lamp": 0.35, "bin": 0.2, "bag": 0.4})
    wall_decor(p, pictures=int(p.rng.integers(0, 4)), clock=0.35, lamp=0.15)
    ceiling_item(p, p.size[0] / 2, p.size[1] / 2, lamp=0.25, fan=0.2)


Recipe = Callable[[Planner], None]
RECIPES: dict[str, tuple[Recipe, tuple[float, float], tuple[float, float]]] = {
    "living": (living, (4.2, 6.4), (3.8, 5.4)),
    "bedroom": (bedroom, (3.4, 4.8), (3.4, 4.6)),
    "kitchen": (kitchen, (3.4, 5.2), (3.2, 4.6)),
    "office": (office, (3.4, 5.6), (3.2, 4.8)),
    "bathroom": (bathroom, (2.3, 3.6), (2.2, 3.2)),
    "playroom": (playroom, (4.0, 6.2), (3.8, 5.4)),
}
"""Room type to recipe and the ranges of its two floor lengths."""

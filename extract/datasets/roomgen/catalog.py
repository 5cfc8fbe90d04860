"""Which things can stand in a room: classes, furniture models, their real sizes and where they come from."""

from __future__ import annotations

import atexit
import csv
import dataclasses
import functools
import shutil
import tempfile
import zipfile
from pathlib import Path

from extract.datasets.roomgen.errors import RoomError

STUFF = ("wall", "floor", "ceiling", "window", "door")
THINGS = (
    "curtain", "rug", "picture", "chair", "armchair", "sofa", "stool", "table", "desk", "shelf",
    "cabinet", "bed", "plant", "lamp", "screen", "refrigerator", "oven", "toilet", "sink", "bath",
    "towel", "piano", "guitar", "toy", "game table", "fan", "speaker", "radiator", "whiteboard",
    "clock", "box", "bag", "kitchenware", "bin",
)  # fmt: skip
CLASSES = STUFF + THINGS
CLASS_ID = {name: index + 1 for index, name in enumerate(CLASSES)}
"""Class name to id; 0 is nothing."""

PACK = Path("/usr/share/sweethome3d/furniture/BlendSwap-CC-0.sh3f")
"""Where Debian and Ubuntu put the CC0 furniture pack."""


@dataclasses.dataclass(frozen=True)
class Model:
    """One kind of furniture; sizes in metres. `path` is its OBJ inside the pack, empty for our own shapes."""

    name: str
    cls: str
    width: float
    depth: float
    height: float
    top: float | None = None
    elevation: float = 0.0
    path: str = ""
    creator: str = ""
    title: str = ""
    source: str = ""


def _own(name: str, cls: str, size: tuple[float, float, float], top: float | None = None) -> Model:
    return Model(name, cls, *size, top=top)


OWN = (
    _own("own_coffee_table", "table", (1.0, 0.6, 0.42), 0.42),
    _own("own_side_table", "table", (0.45, 0.45, 0.5), 0.5),
    _own("own_dining_table", "table", (1.4, 0.8, 0.75), 0.75),
    _own("own_desk", "desk", (1.3, 0.65, 0.74), 0.74),
    _own("own_shelf", "shelf", (0.85, 0.3, 1.9), None),
    _own("own_low_shelf", "shelf", (1.2, 0.33, 0.85), 0.85),
    _own("own_wall_shelf", "shelf", (0.9, 0.22, 0.28), None),
    _own("own_wardrobe", "cabinet", (1.4, 0.6, 2.1), None),
    _own("own_dresser", "cabinet", (1.0, 0.45, 0.85), 0.85),
    _own("own_nightstand", "cabinet", (0.45, 0.4, 0.5), 0.5),
    _own("own_counter", "cabinet", (1.2, 0.6, 0.9), 0.9),
    _own("own_wall_cabinet", "cabinet", (1.2, 0.34, 0.7), None),
    _own("own_tv_stand", "cabinet", (1.4, 0.42, 0.48), 0.48),
    _own("own_kitchen_sink", "sink", (0.8, 0.6, 1.15), None),
    _own("own_range", "oven", (0.6, 0.6, 0.92), None),
    _own("own_fridge", "refrigerator", (0.62, 0.64, 1.8), None),
    _own("own_tv", "screen", (1.1, 0.16, 0.7), None),
    _own("own_monitor", "screen", (0.55, 0.18, 0.45), None),
    _own("own_floor_lamp", "lamp", (0.42, 0.42, 1.6), None),
    _own("own_table_lamp", "lamp", (0.26, 0.26, 0.42), None),
    _own("own_pendant", "lamp", (0.45, 0.45, 0.7), None),
    _own("own_speaker", "speaker", (0.24, 0.28, 0.85), None),
    _own("own_small_speaker", "speaker", (0.19, 0.22, 0.32), None),
    _own("own_upright_piano", "piano", (1.48, 0.6, 1.2), None),
    _own("own_bathtub", "bath", (1.65, 0.75, 0.58), None),
    _own("own_clock", "clock", (0.32, 0.04, 0.32), None),
    _own("own_picture", "picture", (0.7, 0.03, 0.5), None),
    _own("own_rug", "rug", (2.2, 1.6, 0.012), None),
    _own("own_curtain", "curtain", (0.5, 0.1, 2.3), None),
    _own("own_window", "window", (1.4, 0.06, 1.3), None),
    _own("own_door", "door", (0.9, 0.06, 2.05), None),
    _own("own_ball", "toy", (0.24, 0.24, 0.24), None),
    _own("own_blocks", "toy", (0.3, 0.3, 0.22), None),
)
"""Shapes made by `shapes.py`: what the pack lacks, or has only as the product of a brand."""


def _metres(text: str) -> float | None:
    """Centimetres as text to metres; empty or negative (the pack's 'nothing can stand here') is None."""
    return float(text) / 100 if text and float(text) >= 0 else None


@functools.cache
def models() -> dict[str, Model]:
    """Every model that may be used, by name. The pack's part is `models.tsv`: explicit CC0 only, no brands."""
    found = {model.name: model for model in OWN}
    with (Path(__file__).parent / "models.tsv").open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file, delimiter="\t"):
            found[row["model"]] = Model(
                name=row["model"],
                cls=row["class"],
                width=float(row["width_cm"]) / 100,
                depth=float(row["depth_cm"]) / 100,
                height=float(row["height_cm"]) / 100,
                top=_metres(row["top_cm"]),
                elevation=_metres(row["elevation_cm"]) or 0.0,
                path=row["path"].lstrip("/"),
                creator=row["creator"],
                title=row["title"],
                source=row["source"],
            )
    return found


def by_class(cls: str) -> list[Model]:
    """The models of a class, in a fixed order."""
    return [model for model in models().values() if model.cls == cls]


def open_pack(path: Path | None) -> Path:
    """Return a folder with the unpacked furniture. `path` is a .sh3f file or a folder; None looks at `PACK`."""
    pack = path or PACK
    if pack.is_dir():
        inside = pack / PACK.name
        if not inside.is_file():
            return pack
        pack = inside
    if not pack.is_file():
        raise RoomError(
            f"the furniture pack is not at {pack}\n"
            "  remedy: apt-get install sweethome3d-furniture, or --furniture PATH to BlendSwap-CC-0.sh3f"
        )
    target = Path(tempfile.mkdtemp(prefix="roomgen-furniture-"))
    atexit.register(shutil.rmtree, target, ignore_errors=True)
    with zipfile.ZipFile(pack) as archive:
        archive.extractall(target)
    return target

"""Which scene is in which split, and which scenes are left out."""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import xxhash
from pydantic import Field, TypeAdapter, ValidationError

from extract.datasets.dl3dv_files.scenes import LABELS, Scene
from extract.datasets.recordings.layout import split_of
from extract.errors import DataError

BY_HASH = "xxh3_128 of the scene: 80 % train, 10 % val, 10 % test"
_KEPT_BACK = "of its train, scenes with xxh3_64(scene) % 10 == 0 are val; its val is test"
DRAWN = (
    f"sorted by subset and id, shuffled by Python's random.seed(0), the first tenth is the paper's val; {_KEPT_BACK}"
)
LISTED = f"the paper's train.json and val.json; {_KEPT_BACK}"
LISTS = ("train.json", "val.json")
EXCLUDED = "excluded.txt"
OUTLIERS = frozenset(
    (
        "e9b49b6588acea0bee7b8ecd0ff34ea24dcb9a8e84e10a124ee8b8bab0983f11",
        "cc40802589f94594383488ff89249d7be1b0609a3b9cfc980698bf2854406eff",
        "88e8c9b9d50305d4c35e9f918527b4b4c2a5f69651fe63678278aa4c0fa122c9",
        "2cbef5aa4038c2674847e25d77d43a7401554f518ef4ff9f36038c6aac7c1e2b",
        "22657d48067798e7286d409f0c62cba3667f90a3e71f7ad7ba70ab54ed6f885b",
        "5b93293a6d926ce06f6efa8dbf5429df90d14077f12456c1c48402d007fe9191",
        "5d6481db3d3f5d79fba3092a4a8dcb04ba9cb20ce20f66b0dfbd5ca85edfb734",
        "6da29bd9d9b51888ac93d545aeedaf7c72a41b56f09f90ff1da3ea01ee200176",
        "023633c21f5b4a633a836e5c8eb8e5464bd133db28c3c2fc7324124eeb031105",
        "785fc27e01679d03934ac0601acf26c54f474ccc23bb313a111f56ff6d4cbdc3",
        "b917b26a4b0387001b6598ca28d7c21f003eb1285bb82fc11cf297e06128c625",
        "a8a848e57e3e74a18107d8b0166323ede27e80bd9a7ec83cca17bd77bcaf4588",
        "eb42750070f9e8d5b5569aaffb1a97626a9dcf4ac588f5092824bf183e0e3fa7",
    )
)
"""Scenes of 3K and 4K that the code of arXiv 2605.28132 leaves out of both its splits as outliers."""
_PAIRS = TypeAdapter(list[tuple[str, Annotated[str, Field(min_length=1)]]])


def read_excluded(root: Path) -> frozenset[str]:
    """Scenes that excluded.txt in the root names, one a line; `#` begins a comment. Raises `DataError`."""
    path = root / EXCLUDED
    if not path.is_file():
        return frozenset()
    try:
        lines = path.read_text().splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: cannot be read ({error}). Remedy: write one scene a line.") from error
    return frozenset(line for line in (text.partition("#")[0].strip() for text in lines) if line)


def three_way(scenes: Sequence[Scene]) -> dict[str, str]:
    """Scene -> split, by `BY_HASH`: no scene moves when others come or go."""
    return {scene.id: split_of(scene.id) for scene in scenes}


def as_the_paper(root: Path, scenes: Sequence[tuple[str, str]]) -> tuple[dict[str, str], str]:
    """Scene -> split, and the rule: `LISTED` if the lists are there, else `DRAWN` from (subset, scene) of all.

    What the paper reports on is its val, which is `test` here; a tenth of its train is kept back to choose by.
    Scenes that the lists do not name are in no split.

    Raises:
        DataError: one list is missing, is damaged, or shares a scene with the other.
    """
    rule, (train, reported) = LISTED, _read_lists(root) or ([], [])
    if not train:
        rule, (train, reported) = DRAWN, _draw(scenes)
    splits = {scene: "train" if xxhash.xxh3_64_intdigest(scene.encode()) % 10 else "val" for scene in train}
    return splits | dict.fromkeys(reported, "test"), rule


def _draw(scenes: Sequence[tuple[str, str]]) -> tuple[list[str], list[str]]:
    """(train, val) of the published rule. It shuffles whatever scenes there are, so each one more changes all."""
    order = [scene for _, scene in sorted(scenes)]
    random.Random(0).shuffle(order)
    count = max(1, int(len(order) * 0.1))
    return order[count:], order[:count]


def _read_lists(root: Path) -> tuple[list[str], list[str]] | None:
    for place in (root / LABELS, root):
        there = [(place / name).is_file() for name in LISTS]
        if any(there):
            if not all(there):
                raise DataError(f"{place}: has only one of {' and '.join(LISTS)}. Remedy: add the other, or remove it.")
            train, reported = (_read(place / name) for name in LISTS)
            if both := sorted(set(train) & set(reported)):
                raise DataError(f"{place}: {' and '.join(LISTS)} share {both[0]}. Remedy: take it out of one.")
            return train, reported
    return None


def _read(path: Path) -> list[str]:
    """Scenes of a list of [subset, scene]."""
    try:
        found = [scene for _, scene in _PAIRS.validate_json(path.read_bytes())]
    except (OSError, ValidationError) as error:
        raise DataError(f'{path}: not as expected: {error}. Remedy: write [["1K", "<scene>"], …].') from error
    if not found:
        raise DataError(f"{path}: lists no scene. Remedy: remove both lists to draw the splits.")
    return found

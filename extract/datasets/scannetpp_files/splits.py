"""Which scene is in which split."""

from __future__ import annotations

import re
from pathlib import Path

from extract.datasets._sources import Faults, content
from store.digest import digest_text

LISTS = ("nvs_sem_train.txt", "nvs_sem_val.txt")
VAL_IN = 10
"""One of so many scenes of the official train is of the split val."""
RULE = (
    "nvs_sem_val is test; of nvs_sem_train, scenes are val whose digest is a multiple of 10; other lists are not read"
)
_FAULTS = Faults("Download the lists anew.")
_LARGEST = 1 << 20
_SCENE = re.compile(r"[0-9a-f]{10}")


def read_splits(folder: Path) -> dict[str, str]:
    """Scene -> `train`, `val` or `test`, by `RULE`, sorted by scene.

    The scenes of the hidden test (`nvs_test`, `sem_test`) lack what is predicted there, so the official val list is
    what results are reported on, and a tenth of the train list is kept back to choose by.

    Raises:
        DataError: a list cannot be read, names no scene, a scene twice, or a scene of the other list.
    """
    train, test = (_read(folder / name) for name in LISTS)
    if both := sorted({*train} & {*test}):
        raise _FAULTS.damaged(folder, f"{' and '.join(LISTS)} share scenes: {', '.join(both[:5])}")
    chosen = {scene: "train" if int(digest_text(scene)[:8], 16) % VAL_IN else "val" for scene in train}
    return dict(sorted((chosen | dict.fromkeys(test, "test")).items()))


def _read(path: Path) -> list[str]:
    try:
        scenes = content(path, _LARGEST, _FAULTS).decode().split()
    except UnicodeDecodeError as error:
        raise _FAULTS.unreadable(path, error) from error
    strange = [scene for scene in scenes if not _SCENE.fullmatch(scene)]
    if strange or not scenes or len({*scenes}) < len(scenes):
        fault = f"{strange[0][:80]!r} is no scene" if strange else "is empty, or lists a scene twice"
        raise _FAULTS.damaged(path, fault)
    return scenes

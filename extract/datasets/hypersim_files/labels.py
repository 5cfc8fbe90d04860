"""From Hypersim's two pictures of labels to instances and their classes.

`semantic` has NYU40 ids and `semantic_instance` ids that are the same in all images of a scene; -1 is neither. Walls,
floors and ceilings have a class and no instance. So that no label is lost they become one instance per class: instance
c shows what has class c and no instance, and instance 41 + i what the release calls i.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from jaxtyping import Int16, UInt8, UInt16

from extract.datasets.hypersim_files.arrays import FAULTS

N_CLASSES = 40
FIRST = N_CLASSES + 1
LARGEST = 8191
"""Greatest instance id of the release that is read; the release's own greatest is 4166."""
MAX_INSTANCE = FIRST + LARGEST
NONE = -1


def instances(
    semantic: Int16[np.ndarray, "y x"], instance: Int16[np.ndarray, "y x"], where: Path
) -> UInt16[np.ndarray, "y x"]:
    """Instance ids of one image. Raises `DataError` for ids that there cannot be."""
    strange = sorted({*np.unique(semantic).tolist()} - {NONE, *range(1, FIRST)})
    if strange or instance.min() < NONE or instance.max() > LARGEST:
        raise FAULTS.damaged(
            where,
            f"it or its picture of semantics has ids that the release has not: classes {strange[:5]}, instances from "
            f"{instance.min()} to {instance.max()}",
        )
    stuff = np.where(semantic == NONE, 0, semantic)
    return np.where(instance == NONE, stuff, FIRST + instance).astype(np.uint16)


def add_classes(
    classes: UInt8[np.ndarray, " slot"],
    semantic: Int16[np.ndarray, "y x"],
    ids: UInt16[np.ndarray, "y x"],
    where: Path,
) -> None:
    """Note the class of every instance of one image in `classes`, of `MAX_INSTANCE` + 1 slots.

    Raises:
        DataError: an instance has two classes, in this image or one noted before.
    """
    label = np.where(semantic == NONE, 0, semantic).astype(np.uint8)
    pairs = np.unique(np.stack([ids.ravel(), label.ravel()]), axis=1)
    shown = pairs[:, pairs[0] > 0]
    known = classes[shown[0]]
    clash = (known > 0) & (known != shown[1])
    if clash.any() or len(np.unique(shown[0])) < shown.shape[1]:
        raise FAULTS.damaged(where, "an instance has two classes, in it or in an image before")
    classes[shown[0]] = shown[1]

"""From Hypersim's two pictures of labels to instances and their classes.

`semantic` has NYU40 ids and `semantic_instance` ids that are the same in all images of a scene; -1 is neither. Walls,
floors and ceilings have a class and no instance. So that no label is lost they become one instance per class: instance
c shows what has class c and no instance, and instance 41 + i what the release calls i.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from jaxtyping import Int16, Int64, UInt8, UInt16

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


def no_votes() -> Int64[np.ndarray, "slot label"]:
    """Pixels of every instance and class that were seen, before any was."""
    return np.zeros((MAX_INSTANCE + 1, FIRST), np.int64)


def vote(
    votes: Int64[np.ndarray, "slot label"], semantic: Int16[np.ndarray, "y x"], ids: UInt16[np.ndarray, "y x"]
) -> None:
    """Count the pixels of one image in `votes`."""
    label = np.where(semantic == NONE, 0, semantic).astype(np.int64)
    pairs, counts = np.unique(ids.astype(np.int64) * FIRST + label, return_counts=True)
    votes.reshape(-1)[pairs] += counts


def classes_of(votes: Int64[np.ndarray, "slot label"]) -> UInt8[np.ndarray, " slot"]:
    """The class that most pixels of an instance have, of those that have one; of two equal ones the first. 0 = none.

    Of the release's instances 59 have a class in part only, and 5 have two.
    """
    classes: UInt8[np.ndarray, " slot"] = np.where(votes[:, 1:].any(1), votes[:, 1:].argmax(1) + 1, 0).astype(np.uint8)
    return np.where(np.arange(len(classes)) > 0, classes, np.uint8(0))

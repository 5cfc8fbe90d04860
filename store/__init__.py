"""Features on disk: recipe, arrays, commits, and reading at the speed of memory.

>>> from store import FeatureStore, resolve
>>> features = FeatureStore.open(resolve("store/svd"))
>>> features.read("up_blocks.1@sigma1", row=0, frames=[0, 4])
"""

from store.arrays import ArrayInfo, ArraySpec
from store.clips import ClipRow, clips_digest
from store.create import Coordinate, create
from store.errors import (
    ArrayValueError,
    CorruptShardError,
    FormatError,
    MissingClipError,
    RecipeMismatchError,
    StorageFullError,
    StoreError,
    StoreNotFoundError,
    UnknownArrayError,
)
from store.feature_store import FeatureStore
from store.finalize import finalize, finalize_if_stale
from store.layout import find_stores, place, resolve, root
from store.recipe import BackboneRecipe, DatasetRecipe, NoiseRecipe, Recipe, StorageRecipe, differences
from store.writer import StoreWriter

__all__ = [
    "ArrayInfo",
    "ArraySpec",
    "ArrayValueError",
    "BackboneRecipe",
    "ClipRow",
    "Coordinate",
    "CorruptShardError",
    "DatasetRecipe",
    "FeatureStore",
    "FormatError",
    "MissingClipError",
    "NoiseRecipe",
    "Recipe",
    "RecipeMismatchError",
    "StorageFullError",
    "StorageRecipe",
    "StoreError",
    "StoreNotFoundError",
    "StoreWriter",
    "UnknownArrayError",
    "clips_digest",
    "create",
    "differences",
    "finalize",
    "finalize_if_stale",
    "find_stores",
    "place",
    "resolve",
    "root",
]

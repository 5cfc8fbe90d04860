"""Features on disk: recipe, arrays, commits, and reading at the speed of memory.

>>> from store import FeatureStore
>>> features = FeatureStore.open("store/svd")
>>> features.read("up_blocks.1@sigma1", row=0, frames=[0, 4])
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from store.arrays import ArrayInfo, ArraySpec
    from store.clips import ClipRow, clips_digest, common_bank
    from store.creation import Coordinate, create
    from store.errors import (
        ArrayValueError,
        CorruptShardError,
        FormatError,
        FusionError,
        MissingClipError,
        RecipeMismatchError,
        StorageFullError,
        StoreError,
        StoreNotFoundError,
        UnknownArrayError,
    )
    from store.feature_store import FeatureStore
    from store.fusion.fused_store import FusedStore
    from store.fusion.opening import fuse, open_features
    from store.layout import find_stores, place, resolve, root
    from store.readable import Readable
    from store.reading.batch import FeatureBatch, dequantise
    from store.reading.dataset import FeatureDataset
    from store.reading.loader import FeatureLoader
    from store.reading.ring import Ring
    from store.reading.samples import Sampler
    from store.reading.view import open as open  # not in __all__: `import *` must not hide the built-in `open`
    from store.reading.view import open_tap
    from store.recipe import (
        BackboneRecipe,
        DatasetRecipe,
        FusionRecipe,
        NoiseRecipe,
        Recipe,
        StorageRecipe,
        differences,
    )
    from store.upkeep.finalize import finalize, finalize_if_stale
    from store.writer import StoreWriter

_HOMES = {
    "store.arrays": ("ArrayInfo", "ArraySpec"),
    "store.clips": ("ClipRow", "clips_digest", "common_bank"),
    "store.creation": ("Coordinate", "create"),
    "store.errors": (
        "ArrayValueError",
        "CorruptShardError",
        "FormatError",
        "FusionError",
        "MissingClipError",
        "RecipeMismatchError",
        "StorageFullError",
        "StoreError",
        "StoreNotFoundError",
        "UnknownArrayError",
    ),
    "store.feature_store": ("FeatureStore",),
    "store.fusion.fused_store": ("FusedStore",),
    "store.fusion.opening": ("fuse", "open_features"),
    "store.layout": ("find_stores", "place", "resolve", "root"),
    "store.readable": ("Readable",),
    "store.reading.view": ("open", "open_tap"),
    "store.reading.batch": ("FeatureBatch", "dequantise"),
    "store.reading.dataset": ("FeatureDataset",),
    "store.reading.loader": ("FeatureLoader",),
    "store.reading.ring": ("Ring",),
    "store.reading.samples": ("Sampler",),
    "store.recipe": (
        "BackboneRecipe",
        "DatasetRecipe",
        "FusionRecipe",
        "NoiseRecipe",
        "Recipe",
        "StorageRecipe",
        "differences",
    ),
    "store.upkeep.finalize": ("finalize", "finalize_if_stale"),
    "store.writer": ("StoreWriter",),
}
_HOME = {name: module for module, names in _HOMES.items() for name in names}

__all__ = [
    "ArrayInfo",
    "ArraySpec",
    "ArrayValueError",
    "BackboneRecipe",
    "ClipRow",
    "Coordinate",
    "CorruptShardError",
    "DatasetRecipe",
    "FeatureBatch",
    "FeatureDataset",
    "FeatureLoader",
    "FeatureStore",
    "FormatError",
    "FusedStore",
    "FusionError",
    "FusionRecipe",
    "MissingClipError",
    "NoiseRecipe",
    "Readable",
    "Recipe",
    "RecipeMismatchError",
    "Ring",
    "Sampler",
    "StorageFullError",
    "StorageRecipe",
    "StoreError",
    "StoreNotFoundError",
    "StoreWriter",
    "UnknownArrayError",
    "clips_digest",
    "common_bank",
    "create",
    "dequantise",
    "differences",
    "finalize",
    "finalize_if_stale",
    "find_stores",
    "fuse",
    "open_features",
    "open_tap",
    "place",
    "resolve",
    "root",
]


def __getattr__(name: str) -> Any:
    """Names are imported when they are first used, so that `import store` costs nothing (PEP 562)."""
    if name not in _HOME:
        raise AttributeError(f"module 'store' has no attribute {name!r}")
    return getattr(import_module(_HOME[name]), name)

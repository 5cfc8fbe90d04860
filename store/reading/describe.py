"""Attributes of a view: what a store says of itself and of its arrays, in the flat form that netCDF allows."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from store.arrays import ArrayInfo
from store.readable import Readable
from store.recipe import canonical_json

_MARKS = {"logical_dtype", "scale"}


def store_attrs(features: Readable) -> dict[str, Any]:
    """Of the root: name, place and fingerprint of the store, what was run on what, and the group's attributes."""
    recipe = features.recipe
    said = {"store": features.name, "source": features.url, "fingerprint": features.fingerprint}
    said["dataset"] = recipe.dataset.name
    if recipe.backbone is not None:
        said["model"] = recipe.backbone.model
    return said | flat({name: value for name, value in features.attrs.items() if name not in {*said, "classes"}})


def tap_attrs(info: ArrayInfo) -> dict[str, Any]:
    """Of the node of a tap: site, depth, noise level with sigma and log-SNR, and all else that the array says."""
    attrs = {name: value for name, value in info.attrs.items() if name not in {*_MARKS, "noise"}}
    noise = info.attrs.get("noise") or {}
    return flat(attrs | {"noise_level" if name == "name" else name: value for name, value in noise.items()})


def variable_attrs(info: ArrayInfo) -> dict[str, Any]:
    """Of the values: `long_name`, `units` and the type on disk. Features are pure numbers, hence of unit 1."""
    if info.is_tap:
        noise = (info.attrs.get("noise") or {}).get("name")
        said: dict[str, Any] = {
            "long_name": f"features of {info.attrs['site']}" + (f" at noise level {noise}" if noise else ""),
            "units": "1",
        }
    else:
        own = {name: value for name, value in info.attrs.items() if name not in {*_MARKS, "description"}}
        said = {"long_name": info.attrs.get("description", info.name)} | flat(own)
    return said | {"storage_type": info.dtype}


def flat(attrs: Mapping[str, Any]) -> dict[str, Any]:
    """Attributes as texts, numbers, and lists of numbers; nested numbers are listed in C order, `None` is left out."""
    return {name: _flat(value) for name, value in attrs.items() if value is not None}


def _flat(value: Any) -> Any:
    if isinstance(value, bool):
        return int(value)
    if isinstance(value, (str, int, float)):
        return value
    if isinstance(value, (list, tuple)) and value:
        try:
            numbers = np.asarray(value)
        except ValueError:  # of unequal lengths
            return canonical_json(value)
        if numbers.dtype.kind in "iuf":
            return numbers.reshape(-1).tolist()
    return canonical_json(value)

"""What there is to say about a store, as JSON: how far it is, what made it, what every array holds."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import numpy as np
from numpy.typing import NDArray

from store.arrays import ArrayInfo
from store.commits import COMMITS
from store.documents import parse_json
from store.feature_store import FeatureStore
from store.folder import LocalFolder
from store.head import RECIPE
from store.layout import PROVENANCE
from store.manifest import MANIFEST
from store.upkeep.finalize import is_current

_MOST_BYTES = 1 << 24


def summary(store: FeatureStore) -> dict[str, Any]:
    """Name, model, data set, clips done (committed for every array) and in all, taps, arrays, bytes, age, fingerprint.

    `modified` is when commits were last made or taken back, in seconds since the epoch; 0 for a remote store.
    """
    backbone = store.recipe.backbone
    return {
        "name": store.name,
        "path": store.folder.url,
        "kind": store.recipe.kind,
        "model": backbone.model if backbone else None,
        "dataset": store.recipe.dataset.name,
        "clips_done": int(done(store).sum()),
        "clips_total": len(store.clips),
        "taps": sum(info.is_tap for info in store.arrays.values()),
        "arrays": len(store.arrays),
        "bytes": sum(int(store.committed.sizes(name).sum()) for name in store.arrays),
        "modified": _modified(store),
        "fingerprint": store.fingerprint,
    }


def describe(store: FeatureStore) -> dict[str, Any]:
    """`summary`, and: splits, taps, arrays, recipe, attributes, provenance, and whether the store is finalized.

    `finalized` is `yes`, `no`, or `stale`: commits or arrays were added or taken back since.
    """
    held = done(store)
    splits: dict[str, dict[str, int]] = {}
    for clip in store.clips:
        counts = splits.setdefault(clip.split, {"clips_done": 0, "clips_total": 0})
        counts["clips_total"] += 1
        counts["clips_done"] += int(held[clip.row])
    others = [name for name in store.arrays if not store.arrays[name].is_tap]
    return summary(store) | {
        "finalized": _finalized(store),
        "splits": splits,
        "taps": {name: _array(store, store.arrays[name]) for name in store.taps},
        "arrays": {name: _array(store, store.arrays[name]) for name in others},
        "recipe": store.recipe.model_dump(mode="json"),
        "attributes": dict(store.attrs),
        "provenance": _provenance(store),
    }


def done(store: FeatureStore) -> NDArray[np.bool_]:
    """Clips that are committed for every array: (clip,)."""
    held = np.full(len(store.clips), bool(store.arrays))
    for name in store.arrays:
        held &= store.committed.mask(name)
    return held


def _array(store: FeatureStore, info: ArrayInfo) -> dict[str, Any]:
    noise = info.attrs.get("noise") or {}
    return {
        "shape": list(info.shape[1:]),
        "dims": list(info.dims[1:]),
        "dtype": info.dtype,
        "native_grid": info.attrs.get("native_grid"),
        "sigma": noise.get("sigma"),
        "log_snr": noise.get("log_snr"),
        "fingerprint": store.tap_fingerprint(info.name),
        "clips": int(store.committed.mask(info.name).sum()),
        "bytes": int(store.committed.sizes(info.name).sum()),
    }


def _finalized(store: FeatureStore) -> str:
    if store.manifest is None:
        return "no"
    return "yes" if is_current(store) else "stale"


def _provenance(store: FeatureStore) -> dict[str, Any] | None:
    try:
        return parse_json(store.folder.read(PROVENANCE, _MOST_BYTES), f"{store.folder.url}/{PROVENANCE}")
    except FileNotFoundError:
        return None


def _modified(store: FeatureStore) -> float:
    times = [0.0]
    if isinstance(store.folder, LocalFolder):
        for name in (RECIPE, MANIFEST, COMMITS):
            with suppress(FileNotFoundError):
                times.append((store.path / name).stat().st_mtime)
    return max(times)

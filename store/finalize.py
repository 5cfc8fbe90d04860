"""Closing a store for sharing: one manifest instead of many commits, and consolidated Zarr metadata."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any

from store.feature_store import FeatureStore
from store.files import write_text_atomic


def finalize_if_stale(path: Path) -> None:
    """Finalize the store in directory `path` unless its manifest already lists exactly what is committed."""
    store = FeatureStore.open(path)
    listed = json.loads(store.layout.manifest.read_bytes()) if store.layout.manifest.exists() else {}
    if listed != _manifest(store):
        finalize(store)


def _manifest(store: FeatureStore) -> dict[str, Any]:
    return {
        "schema_version": 1,
        "fingerprint": store.fingerprint,
        "clips": {
            str(row): {name: record.model_dump(mode="json") for name, record in sorted(arrays.items())}
            for row, arrays in sorted(store.committed.items())
        },
    }


def finalize(store: FeatureStore) -> None:
    """Write `manifest.json` (the merged commits) and consolidate the Zarr metadata, for remote readers.

    May be run again after taps were added. Local readers need neither.
    """
    import zarr

    write_text_atomic(store.layout.manifest, json.dumps(_manifest(store), indent=1) + "\n")
    with warnings.catch_warnings():
        # Consolidated metadata is not in the Zarr v3 specification yet; every reader ignores or understands it.
        warnings.filterwarnings("ignore", message="Consolidated metadata is currently not part")
        zarr.consolidate_metadata(str(store.layout.group))

"""Closing a store for sharing: one manifest instead of many commits, and consolidated Zarr metadata."""

from __future__ import annotations

import json
import warnings

from store.feature_store import FeatureStore
from store.files import write_text_atomic


def finalize(store: FeatureStore) -> None:
    """Write `manifest.json` (the merged commits) and consolidate the Zarr metadata, for remote readers.

    May be run again after taps were added. Local readers need neither.
    """
    import zarr

    manifest = {
        "schema_version": 1,
        "fingerprint": store.fingerprint,
        "clips": {
            str(row): {name: record.model_dump(mode="json") for name, record in sorted(arrays.items())}
            for row, arrays in sorted(store.committed.items())
        },
    }
    write_text_atomic(store.layout.manifest, json.dumps(manifest, indent=1) + "\n")
    with warnings.catch_warnings():
        # Consolidated metadata is not in the Zarr v3 specification yet; every reader ignores or understands it.
        warnings.filterwarnings("ignore", message="Consolidated metadata is currently not part")
        zarr.consolidate_metadata(str(store.layout.group))

"""From references to features: those of one store, or of several that are fused."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from store.errors import FusionError
from store.feature_store import FeatureStore
from store.fusion.fused_store import FusedStore
from store.layout import split_reference
from store.readable import Readable


def open_features(reference: str | Path, dataset: str | None = None, fusion: str | None = None) -> Readable:
    """Open a store, or several as one.

    Args:
        reference: as for `FeatureStore.open`; several are joined by `+`, as in `store/svd+store/qwen3-vl-8b`.
        dataset: which one, if a reference holds the stores of several data sets.
        fusion: how several become one, `lnconcat` or `concat`.

    Raises:
        StoreNotFoundError: there is no such store.
        FusionError: one store and a fusion, several and none, or stores that do not fit together.
    """
    return FeatureStore.open(reference, dataset) if fusion is None else open_fused(reference, fusion, dataset)


def open_fused(reference: str | Path, mode: str, dataset: str | None = None) -> FusedStore:
    """Open the stores that `+` joins as one. Raises what `open_features` raises."""
    parts = split_reference(reference)
    if len(parts) < 2 or not all(parts):
        raise FusionError(
            f"{reference}: is not several stores, and --fusion {mode} makes one of several. Join them by +, as in "
            "store/svd+store/qwen3-vl-8b, or leave --fusion out."
        )
    return fuse(parts, mode, dataset)


def fuse(
    stores: Sequence[str | Path | FeatureStore | FusedStore], mode: str = "lnconcat", dataset: str | None = None
) -> FusedStore:
    """Several feature stores read as one, without writing anything: features of the same clips, cell by cell.

    >>> features = fuse(["store/wan2.1-t2v-14b", "store/qwen3-vl-8b"])
    >>> features.read("blocks.20@t502+llm.21", row=0)

    Args:
        stores: two or more, open or by reference. Their order is that of the channels.
        mode: `lnconcat` or `concat`, see `FusedStore`.
        dataset: which one, if a reference holds the stores of several data sets.

    Raises:
        StoreNotFoundError: a reference names no store.
        FusionError: the stores are not of the same clips, show different parts of the image, or are fusions themselves.
    """
    branches = []
    for store in stores:
        if isinstance(store, FusedStore):
            raise FusionError(
                f"{store.name}: is a fusion, which is no branch of another. Fuse all at once, or copy it first: "
                "`python -m store copy`."
            )
        branches.append(store if isinstance(store, FeatureStore) else FeatureStore.open(store, dataset))
    return FusedStore(branches, mode)

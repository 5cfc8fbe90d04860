"""A store as xarray: named dimensions, coordinates and units, over the direct reader."""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set
from dataclasses import replace
from pathlib import Path
from typing import Any

import xarray as xr
from xarray.core import indexing

from store.arrays import ArrayInfo
from store.digest import digest_text
from store.fusion.opening import open_features
from store.readable import Readable
from store.reading.axes import OF_A_CLIP, cell_centres, class_names, clip_coordinates
from store.reading.describe import store_attrs, tap_attrs, variable_attrs
from store.reading.handle import StoreHandle
from store.reading.lazy import LazyArray
from store.recipe import canonical_json
from store.suggest import did_you_mean

FEATURES = "features"
"""The variable of a tap's node."""


def open(
    reference: str | Path,
    dataset: str | None = None,
    *,
    fusion: str | None = None,
    taps: Sequence[str] | None = None,
    split: str | None = None,
    chunks: Mapping[str, int] | None = None,
) -> xr.DataTree:
    """Open a store as an `xarray.DataTree`. Nothing is read but metadata; values come when they are asked for.

    Every tap is a node of its own name with one variable `features` (clip, frame, y, x, channel), since taps differ in
    their grids. Labels are variables of the root. A label of which a dimension other than `clip` and `frame` is also
    one of the taps, or has another size elsewhere, is the only variable of a node of its own name.

    Coordinates, on every node: `clip` (its id, with an index), `row` (of the clip table), `scene`, `split`,
    `bank_frame` (clip, frame), and whatever else the store keeps. `y` and `x` are the centres of the grid cells in the
    image, which spans [0, 1] along both axes from the top left corner. Labels with an axis `class` get the names.

    A dimension of a label that has the name of a coordinate or of a label ends in `_axis`, since in xarray one name is
    one thing: `rgb` is (clip, frame, y, x, rgb_axis), `cam_to_world` is (clip, frame, row_axis, column).

    bfloat16 and `int8-channel` are float32. Frames beyond the bank of a short clip are NaN for floating-point arrays
    and 0 for integers; `bank_frame` is -1 there.

    Args:
        reference: `store/svd`, `store/svd/scannet`, a path, or `s3://…`, `hf://datasets/…`, `https://…`.
        dataset: which one, if the reference holds the stores of several data sets.
        fusion: `lnconcat` or `concat`: how the stores that `+` joins in the reference become one, see `store.fuse`.
        taps: names of the arrays to open, taps or labels; all of the store if `None`. Only clips that are committed
            for all of them are there.
        split: only clips of this split.
        chunks: sizes of dask chunks by dimension. `{}` makes one chunk of each clip; a dimension that is not named is
            not cut, `clip` apart. `None` reads without dask.

    Returns:
        A tree that may be pickled, and used by any number of threads. Close it by forgetting it.

    Raises:
        StoreNotFoundError: the reference names no store.
        FusionError: several stores and no `fusion`, or stores that do not fit together.
        UnknownArrayError: the store has no array of that name.
        MissingClipError: no clip of the split is committed for all the arrays.
        FormatError: a file of the store is damaged.
        ValueError: `chunks` names a dimension that no array has, or `taps` is empty.
    """
    features = open_features(reference, dataset, fusion)
    if isinstance(taps, str):
        raise TypeError(f"taps: expected several names, got {taps!r}. Write [{taps!r}], or use open_tap.")
    if taps is not None and not taps:
        raise ValueError("taps: names no array. Leave it out to open all.")
    view = _View(features, list(taps) if taps is not None else _all_arrays(features), split, chunks)
    return xr.DataTree.from_dict(view.nodes())


def open_tap(
    reference: str | Path,
    tap: str,
    dataset: str | None = None,
    *,
    fusion: str | None = None,
    split: str | None = None,
    chunks: Mapping[str, int] | None = None,
) -> xr.Dataset:
    """One tap of a store as an `xarray.Dataset`: what `open` has as the node of that name, in which see.

    All clips that are committed for this tap are there. A label may be named too; its variable has its own name.
    """
    features = open_features(reference, dataset, fusion)
    view = _View(features, [tap], split, chunks)
    return view.node([tap]).assign_attrs(store_attrs(features))


def _all_arrays(features: Readable) -> list[str]:
    """Taps, then labels. The scales of `int8-channel` are no array of their own here."""
    scales = {info.scale for info in features.arrays.values()}
    labels = [name for name, info in features.arrays.items() if not info.is_tap and name not in scales]
    return [*features.taps, *labels]


class _View:
    """What the nodes of one tree share. Its arrays have the names of dimensions that the tree has."""

    def __init__(
        self, features: Readable, arrays: Sequence[str], split: str | None, chunks: Mapping[str, int] | None
    ) -> None:
        self._features, self._chunks = features, chunks
        self._handle = StoreHandle(features)
        self._stored = features.coordinates()
        self._coordinates: dict[int | None, dict[str, xr.Variable]] = {}
        labels = {name for name, info in features.arrays.items() if not info.is_tap}
        taken = labels.union(OF_A_CLIP, self._stored)
        self._arrays = {name: _renamed(features.info(name), taken) for name in arrays}
        self._rows = features.rows(split, list(self._arrays))
        self._sizes: dict[str, set[int]] = {}
        for info in self._arrays.values():
            for dim, size in zip(info.dims, info.shape, strict=True):
                self._sizes.setdefault(dim, set()).add(size)
        for dim in chunks or ():
            if dim not in self._sizes:
                raise ValueError(f"chunks: {did_you_mean('dimension', dim, self._sizes)}")

    def nodes(self) -> dict[str, xr.Dataset]:
        """Path in the tree -> its node."""
        clash = {dim for dim, sizes in self._sizes.items() if len(sizes) > 1}
        taps = [info for info in self._arrays.values() if info.is_tap]
        clash |= {dim for info in taps for dim in info.dims} - {"clip", "frame"}
        root = [info.name for info in self._arrays.values() if not info.is_tap and clash.isdisjoint(info.dims)]
        nodes = {"/": self.node(root).assign_attrs(store_attrs(self._features))}
        return nodes | {f"/{name}": self.node([name]) for name in self._arrays if name not in root}

    def node(self, names: Sequence[str]) -> xr.Dataset:
        """Arrays of one node, with its coordinates."""
        infos = [self._arrays[name] for name in names]
        lengths = {info.shape[1] for info in infos if info.framed} or self._sizes.get("frame", set())
        frames = next(iter(lengths)) if len(lengths) == 1 else None
        coordinates = dict(self._shared(frames))
        for info in infos:
            coordinates |= cell_centres(info) | class_names(info, self._features.attrs)
        variables = {FEATURES if info.is_tap else info.name: self._variable(info) for info in infos}
        node = xr.Dataset(variables, coordinates, tap_attrs(infos[0]) if infos and infos[0].is_tap else {})
        node.encoding["source"] = self._features.url
        return node

    def _shared(self, frames: int | None) -> dict[str, xr.Variable]:
        """Coordinates of clips and frames, the same memory in all nodes."""
        if frames not in self._coordinates:
            self._coordinates[frames] = clip_coordinates(self._features, self._rows, frames, self._stored)
        return self._coordinates[frames]

    def _variable(self, info: ArrayInfo) -> xr.Variable:
        values: Any = indexing.LazilyIndexedArray(LazyArray(self._handle, info.name, self._rows))
        encoding = {"preferred_chunks": self._chunk_sizes(info)}
        variable = xr.Variable(info.dims, indexing.CopyOnWriteArray(values), variable_attrs(info), encoding)
        if self._chunks is None:
            return variable
        sizes = self._chunk_sizes(info)
        return variable.chunk(sizes, name=f"{info.name}-{self._token(info, sizes)}")

    def _chunk_sizes(self, info: ArrayInfo) -> dict[str, int]:
        """One chunk per clip, unless the caller says otherwise."""
        default = {dim: 1 if dim == "clip" else size for dim, size in zip(info.dims, info.shape, strict=True)}
        return default | {dim: size for dim, size in (self._chunks or {}).items() if dim in info.dims}

    def _token(self, info: ArrayInfo, sizes: Mapping[str, int]) -> str:
        """Equal for equal values: dask takes two arrays of one name for the same."""
        return digest_text(canonical_json([self._handle.url, self._handle.state, info.name, self._rows, dict(sizes)]))


def _renamed(info: ArrayInfo, taken: Set[str]) -> ArrayInfo:
    """The array with other names for the dimensions that xarray would take for a variable of that name."""
    return replace(info, dims=tuple(f"{dim}_axis" if dim in taken else dim for dim in info.dims))

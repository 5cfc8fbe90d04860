"""Fused taps: one tap of every branch, beside each other in the channels of one array."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import accumulate, pairwise, product
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from store.arrays import ArrayInfo
from store.errors import FormatError, FusionError
from store.feature_store import FeatureStore
from store.fusion.identity import DTYPE
from store.readable import Readable

DIMS = ("clip", "frame", "y", "x", "channel")
_IDENTITY = [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]]
_TOLERANCE = 1e-6
"""Of the image's height and width: two grids that lie closer lie on each other."""


class FusedTap(NamedTuple):
    """A tap that is computed as it is read.

    Attributes:
        info: as if it lay on disk.
        parts: tap of each branch.
        channels: where the channels of each branch are.
    """

    info: ArrayInfo
    parts: tuple[str, ...]
    channels: tuple[slice, ...]


def fused_taps(branches: Sequence[FeatureStore]) -> dict[str, FusedTap]:
    """One tap of every branch, in all combinations, by name: `blocks.20@t502+llm.21`; sorted by name.

    Raises:
        FusionError: a tap has no grid of cells, grids show different parts of the image, or two taps have one name.
    """
    found: dict[str, FusedTap] = {}
    for parts in product(*(branch.taps for branch in branches)):
        tap = _fused(branches, parts)
        if tap.info.name in found:
            other = found[tap.info.name].parts
            raise FusionError(f"{tap.info.name}: is both {' with '.join(parts)} and {' with '.join(other)}.")
        found[tap.info.name] = tap
    return dict(sorted(found.items()))


def _fused(branches: Sequence[FeatureStore], parts: tuple[str, ...]) -> FusedTap:
    infos = [branch.info(part) for branch, part in zip(branches, parts, strict=True)]
    for branch, info in zip(branches, infos, strict=True):
        if info.dims != DIMS:
            raise FusionError(f"{branch.name}: tap {info.name} has dimensions {info.dims}, not {DIMS}. Leave it out.")
    check_same_view(branches, infos)
    grid = min(info.shape[2] for info in infos), min(info.shape[3] for info in infos)
    bounds = [0, *accumulate(info.shape[-1] for info in infos)]
    shape = (infos[0].shape[0], min(info.shape[1] for info in infos), *grid, bounds[-1])
    info = ArrayInfo(
        name="+".join(parts),
        shape=shape,
        dtype=DTYPE,
        dims=DIMS,
        attrs=_attributes(infos),
        chunk=(1, *shape[2:]),
        codecs=("bytes", "crc32c"),
        metadata={},
        digest="",
    )
    return FusedTap(info, parts, tuple(slice(*ends) for ends in pairwise(bounds)))


def _attributes(infos: Sequence[ArrayInfo]) -> dict[str, Any]:
    """Those that every tap has, and `branches`: what each branch says of its part.

    `depth` is the sum over the branches, which does not depend on what other taps there are.
    """
    said = [info.spec().attrs for info in infos]
    attrs: dict[str, Any] = {
        "site": "+".join(each["site"] for each in said),
        "depth": sum(each["depth"] for each in said),
        "noise": _noise([each["noise"] for each in said if each.get("noise")]),
    }
    if all(each.get("native_grid") for each in said):
        attrs["native_grid"] = [min(each["native_grid"][axis] for each in said) for axis in (0, 1)]
    if any("grid_to_image" in each for each in said):
        attrs["grid_to_image"] = said[0].get("grid_to_image", _IDENTITY)
    attrs["branches"] = [
        {"tap": info.name, "grid": list(info.shape[2:4]), "channels": info.shape[-1], **each}
        for info, each in zip(infos, said, strict=True)
    ]
    return attrs


def _noise(noises: Sequence[Mapping[str, Any]]) -> dict[str, Any] | None:
    """The noise of the branches that have some: all names, and the numbers of the noisiest."""
    if not noises:
        return None
    noisiest = max(noises, key=lambda noise: float(noise.get("sigma", -math.inf)))
    names = [noise["name"] for noise in noises if "name" in noise]
    return {**noisiest, "name": "+".join(names)} if names else dict(noisiest)


def check_same_view(branches: Sequence[Readable], infos: Sequence[ArrayInfo]) -> None:
    """Raise `FusionError` unless the grids of all branches show the same part of the image; one branch for each tap."""
    maps = [_grid_to_image(info) for info in infos]
    for branch, info, there in zip(branches, infos, maps, strict=True):
        if not np.allclose(there, maps[0], rtol=0, atol=_TOLERANCE):
            raise FusionError(
                f"{branches[0].name} and {branch.name} show different parts of the image, and their cells cannot be "
                f"laid over each other: grid_to_image is {maps[0].tolist()} for {infos[0].name} and "
                f"{there.tolist()} for {info.name}. "
                "One was extracted from a crop of the frames, the other from all of them or another crop. Extract one "
                "again so that it sees what the other sees: `preprocessing` in `python -m store info` says what it "
                "does, --preset and --size change it."
            )


def _grid_to_image(info: ArrayInfo) -> NDArray[np.float64]:
    try:
        return np.asarray(info.attrs.get("grid_to_image", _IDENTITY), np.float64).reshape(2, 3)
    except (TypeError, ValueError) as error:
        raise FormatError(f"{info.name}: its attribute grid_to_image is no 2 x 3 matrix ({error}).") from error

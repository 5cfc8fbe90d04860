"""Statistics of taps as an `xarray.Dataset`, and in a file."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from store.analysis.summary import TapStatistics
from store.errors import StoreError

if TYPE_CHECKING:
    import xarray as xr

_OF_CHANNELS: dict[str, tuple[str, Callable[[TapStatistics], NDArray[Any]]]] = {
    "mean": ("mean over tokens", lambda found: found.moments.mean),
    "std": ("standard deviation over tokens, divided by their count", lambda found: found.moments.std),
    "minimum": ("least value", lambda found: found.moments.minimum),
    "maximum": ("largest value", lambda found: found.moments.maximum),
    "zeros": ("share of tokens in which the channel is 0", lambda found: found.moments.zeros / found.moments.count),
    "kurtosis": ("excess kurtosis; NaN for a constant channel", lambda found: found.moments.kurtosis),
}
_OF_TAPS: dict[str, tuple[str, Callable[[TapStatistics], float | None]]] = {
    "clips": ("clips", lambda found: found.clips),
    "tokens": ("tokens that were looked at", lambda found: found.moments.count),
    "channels": ("channels of the tap; beyond them, values are NaN", lambda found: found.channels),
    "norm_mean": ("mean L2 norm of a token", lambda found: float(found.norms.mean[0])),
    "norm_std": ("standard deviation of the L2 norm", lambda found: float(found.norms.std[0])),
    "norm_minimum": ("least L2 norm", lambda found: float(found.norms.minimum[0])),
    "norm_maximum": ("largest L2 norm", lambda found: float(found.norms.maximum[0])),
    "rankme": ("RankMe of the tokens", lambda found: found.rankme),
    "rankme_centred": ("RankMe of the tokens less their mean", lambda found: found.rankme_centred),
    "participation_ratio": ("participation ratio of the covariance", lambda found: found.participation),
}
_COUNTS = ("clips", "tokens", "channels")
_FORMS = (".nc", ".zarr")


def as_dataset(found: Sequence[TapStatistics], attrs: dict[str, Any] | None = None) -> xr.Dataset:
    """Statistics as variables over (tap, channel) and (tap).

    Taps of fewer channels end in NaN. Principal components are `components` (tap, component, channel),
    `explained_variance` and `explained_variance_share` (tap, component); their mean is `mean`.

    Args:
        found: of each tap.
        attrs: of the data set.
    """
    import xarray as xr

    widest = max(each.channels for each in found)
    variables: dict[str, Any] = {}
    for name, (text, of_channels) in _OF_CHANNELS.items():
        values = _padded([of_channels(each) for each in found], widest)
        variables[name] = (("tap", "channel"), values, {"long_name": text})
    for name, (text, of_tap) in _OF_TAPS.items():
        numbers = [of_tap(each) for each in found]
        if None not in numbers:
            dtype = np.int64 if name in _COUNTS else np.float64
            variables[name] = ("tap", np.array(numbers, dtype), {"long_name": text})
    first = [each.components for each in found if each.components is not None]
    if first:
        axes = {"long_name": "principal components: orthonormal, the largest entry of each positive"}
        vectors = np.stack([_padded(list(each.vectors), widest) for each in first])
        variables["components"] = (("tap", "component", "channel"), vectors, axes)
        for name, text, rows in (
            ("explained_variance", "variance along the component", [each.variance for each in first]),
            ("explained_variance_share", "share of the variance of all channels", [each.share for each in first]),
        ):
            variables[name] = (("tap", "component"), np.stack(rows), {"long_name": text})
    return xr.Dataset(variables, {"tap": np.array([each.tap for each in found])}, attrs or {})


def check_place(path: Path) -> None:
    """Raise `StoreError` unless statistics can be written there: a `.nc` file, or a `.zarr` folder that is new."""
    if path.suffix not in _FORMS:
        raise StoreError(
            f"{path}: unknown kind of file {path.suffix!r}. Name a file that ends in {' or '.join(_FORMS)}."
        )
    if path.suffix == ".zarr" and path.exists():
        raise StoreError(f"{path}: is already there, and no folder is overwritten. Name another, or delete it.")
    if not path.absolute().parent.is_dir():
        raise StoreError(f"{path}: there is no folder {path.absolute().parent}. Make it first.")


def write_dataset(dataset: xr.Dataset, path: Path) -> None:
    """Write a data set as netCDF (`.nc`, in place of what is there) or Zarr v2 (`.zarr`). Raises as `check_place`."""
    from store.files import partial_name

    check_place(path)
    draft = partial_name(path)
    try:
        if path.suffix == ".zarr":
            # Zarr 3 has no text of its own yet, so that other libraries could not read the names of taps.
            dataset.to_zarr(draft, mode="w-", zarr_format=2)
        else:  # without netCDF4 it is version 3, which has no 64-bit integers
            dataset.to_netcdf(draft, encoding={name: {"dtype": "float64"} for name in _COUNTS})
        os.rename(draft, path)
    finally:
        if draft.is_file():
            draft.unlink()


def _padded(rows: Sequence[NDArray[Any]], width: int) -> NDArray[np.float64]:
    values = np.full((len(rows), width), np.nan)
    for place, row in zip(values, rows, strict=True):
        place[: len(row)] = row
    return values

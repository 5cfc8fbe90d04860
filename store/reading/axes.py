"""Coordinates of a view: clips, frames, and where the cells of a grid lie in the image."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from store.arrays import ArrayInfo
from store.creation import Coordinate
from store.errors import FormatError
from store.readable import Readable

OF_A_CLIP = ("row", "scene", "split", "bank_frame")
"""Names of the coordinates along `clip` that every store has, the clip's id apart."""
_IDENTITY = ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0))
_WHOLE_IMAGE = "centre of the grid cell in the image, which spans 0 to 1 from the {}"


def clip_coordinates(
    features: Readable, rows: Sequence[int], frames: int | None, stored: Mapping[str, Coordinate]
) -> dict[str, xr.Variable]:
    """Coordinates of the axes `clip` and `frame`.

    Args:
        features: the store.
        rows: the clips that are there.
        frames: length of the axis `frame`, if there is one.
        stored: the store's own coordinates, of all its clips.
    """
    clips = [features.clips[row] for row in rows]
    found = {
        "clip": xr.Variable("clip", np.array([clip.id for clip in clips]), {"long_name": "clip id"}),
        "row": xr.Variable("clip", np.asarray(rows, np.int64), {"long_name": "row of the clip table"}),
        "scene": xr.Variable("clip", np.array([clip.scene for clip in clips]), {"long_name": "scene of the clip"}),
        "split": xr.Variable("clip", np.array([clip.split for clip in clips]), {"long_name": "split of the clip"}),
    }
    if frames is not None:
        numbers = np.full((len(clips), frames), -1, np.int32)
        for place, clip in zip(numbers, clips, strict=True):
            place[: len(clip.bank)] = clip.bank
        attrs = {"long_name": "clip frame number of this bank frame; -1 = none", "units": "1"}
        found["bank_frame"] = xr.Variable(("clip", "frame"), numbers, attrs)
    for name, coordinate in stored.items():
        sizes = dict(zip(coordinate.dims, coordinate.values.shape, strict=True))
        if sizes.get("clip", len(features.clips)) != len(features.clips):
            raise FormatError(f"{features.name}: coordinate {name} does not have {len(features.clips)} clips.")
        if name not in (*found, *OF_A_CLIP) and sizes.get("frame", frames) == frames:
            values = coordinate.values
            if "clip" in coordinate.dims:
                values = values.take(rows, axis=coordinate.dims.index("clip"))
            attrs = {"long_name": coordinate.description, "units": "1"}
            found[name] = xr.Variable(coordinate.dims, values, attrs)
    return found


def cell_centres(info: ArrayInfo) -> dict[str, xr.Variable]:
    """Coordinates `y` and `x` of an array that has both axes; nothing for others.

    The attribute `grid_to_image` is ((a, b, c), (d, e, f)) with x_image = a x + b y + c and y_image = d x + e y + f,
    all normalised to [0, 1] from the top left corner. Cell (j, i) of a (Y, X) grid has its centre at ((i + 0.5) / X,
    (j + 0.5) / Y). Without the attribute the grid spans the image.

    Raises:
        FormatError: the attribute is no such map, or one that turns the grid, so that `y` and `x` are not enough.
    """
    sizes = dict(zip(info.dims, info.shape, strict=True))
    if not {"y", "x"} <= sizes.keys():
        return {}
    try:
        (a, b, c), (d, e, f) = np.asarray(info.attrs.get("grid_to_image", _IDENTITY), np.float64).tolist()
    except (TypeError, ValueError) as error:
        raise FormatError(f"{info.name}: its attribute grid_to_image is no 2 x 3 matrix ({error}).") from error
    if b or d:
        raise FormatError(f"{info.name}: its attribute grid_to_image turns the grid, so y and x have no coordinates.")
    return {"y": _axis("y", sizes["y"], e, f, "top"), "x": _axis("x", sizes["x"], a, c, "left")}


def class_names(info: ArrayInfo, attrs: Mapping[str, Any]) -> dict[str, xr.Variable]:
    """Names of the classes along an axis `class`, if the store says them."""
    classes = attrs.get("classes") or ()
    if dict(zip(info.dims, info.shape, strict=True)).get("class") != len(classes):
        return {}
    names: NDArray[Any] = np.array([each["name"] for each in classes])
    kinds: NDArray[Any] = np.array([each["kind"] for each in classes])
    return {
        "class": xr.Variable("class", names, {"long_name": "name of the class"}),
        "class_kind": xr.Variable("class", kinds, {"long_name": "thing (countable) or stuff"}),
    }


def _axis(name: str, size: int, scale: float, offset: float, side: str) -> xr.Variable:
    centres = scale * (np.arange(size) + 0.5) / size + offset
    attrs = {"long_name": _WHOLE_IMAGE.format(side), "units": "1", "axis": name.upper()}
    return xr.Variable(name, centres, attrs)

"""An example on disk: one xarray data set, its arrays under the names of `Example`, with named axes."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from evaluate.schema import Example

if TYPE_CHECKING:
    import xarray as xr

_IMAGE = ("view", "y", "x")
_CAMERA = ("view", "row", "column")
_POINT = ("view", "point_y", "point_x")
_MATCH = ("pair", "query", "xy")
_AXES = {
    "rgb": (*_IMAGE, "channel"),
    "intrinsics": ("view", "i", "j"),
    "cam_to_world": _CAMERA,
    "cam_to_world_pred": _CAMERA,
    "normals": (*_IMAGE, "axis"),
    "normals_pred": (*_IMAGE, "axis"),
    "points": (*_POINT, "axis"),
    "points_pred": (*_POINT, "axis"),
    "points_valid": _POINT,
    "points_rgb": (*_POINT, "channel"),
    "scores": ("thing",),
    "labels": ("thing",),
    "queries": ("query", "xy"),
    "positions": _MATCH,
    "matches": _MATCH,
    "visible": ("pair", "query"),
    "features_pca": ("view", "cell_y", "cell_x", "channel"),
}
"""Axes of the arrays that are no images (view, y, x)."""


def example_dataset(example: Example) -> xr.Dataset:
    """Return an example as a data set; what it does not say is left out of the attributes."""
    import xarray as xr

    variables = {name: (_AXES.get(name, _IMAGE), array) for name, array in example.arrays.items()}
    attrs: dict[str, Any] = {name: getattr(example, name) for name in ("task", "scene", "split", "probe_id")}
    attrs |= {"frames": [int(frame) for frame in example.frames]}
    attrs |= {"why": example.why} if example.why else {}
    attrs |= {} if math.isnan(example.value) else {"value": float(example.value)}
    return xr.Dataset(variables, attrs=attrs)


def read_example(node: xr.DataTree) -> Example:
    """Return the example that a data set holds."""
    return Example(
        **{name: node.attrs[name] for name in ("task", "scene", "split", "probe_id")},
        frames=list(node.attrs["frames"]),
        arrays={str(name): array.to_numpy() for name, array in node.data_vars.items()},
        why=node.attrs.get("why", ""),
        value=float(node.attrs.get("value", math.nan)),
    )

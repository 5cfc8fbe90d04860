"""What tests of readers ask of targets, by the conventions of the project and by no code of it."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from extract.datasets.base import Targets


def arrays(targets: Targets) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
    """Depth, poses and intrinsics."""
    assert targets.depth is not None
    assert targets.cam_to_world is not None
    assert targets.intrinsics is not None
    return targets.depth, targets.cam_to_world, targets.intrinsics


def unproject(depth: NDArray[Any], pose: NDArray[Any], matrix: NDArray[Any]) -> NDArray[Any]:
    """World points (3, n) of all pixels, by the conventions of the project."""
    rows, columns = np.indices(depth.shape)
    pixels = np.stack([columns.ravel() + 0.5, rows.ravel() + 0.5, np.ones(depth.size)])
    camera = np.linalg.solve(matrix, pixels) * depth.ravel()
    world: NDArray[Any] = pose[:3, :3] @ camera + pose[:3, 3:]
    return world

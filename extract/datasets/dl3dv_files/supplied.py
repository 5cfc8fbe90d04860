"""Depth that a user lays beside the pictures of a scene, in the files that the data set `folder` reads.

<scene>/depth/       one file per frame, named as the picture is: 16-bit PNG, or .npy of floats; 0 = invalid
<scene>/scene.json   {"depth_scale", "pose_scale"}; what it does not say, dataset.json in the root says

Nobody states the unit of the poses of a scene, so depth has to be in it: value * depth_scale of a PNG (0.001 if nothing
is said) and the value of .npy are planar z in units of the poses, once these are multiplied by pose_scale.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float32

from extract.datasets._pictures import nearest
from extract.datasets.dl3dv_files.scenes import Scene
from extract.datasets.recordings.beside import DEPTH, DEPTH_ENDINGS, as_frame, lacking, pair
from extract.datasets.recordings.pictures import read_depth
from extract.datasets.recordings.settings import MILLIMETRE, SCENE, Scales, read_settings
from extract.datasets.recordings.source import Pictures


@dataclass(frozen=True)
class Supplied:
    """Depth of one scene.

    Attributes:
        folder: of its files.
        depth_scale: what values of 16-bit pictures are multiplied by.
        pose_scale: what positions of cameras are multiplied by.
        stated: whether a file says one of the two.
        files: what says them for this scene alone.
    """

    folder: Path
    depth_scale: float
    pose_scale: float
    stated: bool
    files: tuple[Path, ...]

    def paths(self, scene: Scene, numbers: Sequence[int]) -> list[Path]:
        """Files of these frames of the scene. Raises `DataError` if files fit no frame, or a frame has none."""
        pictures = Pictures([scene.path(number) for number in range(scene.total)])
        paired = pair(self.folder, DEPTH_ENDINGS, pictures)
        found = []
        for number in numbers:
            path = paired[number]
            if path is None:
                raise lacking(f"{scene.id} ({scene.names[number]})", number, DEPTH)
            found.append(path)
        return found

    def read(self, scene: Scene, numbers: Sequence[int], size: tuple[int, int]) -> Float32[np.ndarray, "frame y x"]:
        """Depth of these frames at `size` (height, width), by the nearest pixel.

        Raises:
            DataError: a file is missing, damaged, of another kind, or of another shape than the pictures.
        """
        depth = np.empty((len(numbers), *size), np.float32)
        for row, path in enumerate(self.paths(scene, numbers)):
            depth[row] = nearest(as_frame(read_depth(path, self.depth_scale), scene.size, path), size)
        return depth


def supplied_beside(folder: Path, common: Scales) -> Supplied:
    """What lies in a folder of depth, with the scales of scene.json beside it, else of `common`. Raises `DataError`."""
    path = folder.parent / SCENE
    said = read_settings(path, Scales)
    depth_scale, pose_scale = said.depth_scale or common.depth_scale, said.pose_scale or common.pose_scale
    return Supplied(
        folder=folder,
        depth_scale=depth_scale or MILLIMETRE,
        pose_scale=pose_scale or 1.0,
        stated=depth_scale is not None or pose_scale is not None,
        files=(path,) if path.is_file() else (),
    )

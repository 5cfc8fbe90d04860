"""Hypersim: rendered interiors with instances, exact depth and cameras. One clip per camera path, which is no film.

<scene>/_detail/metadata_scene.csv                                         metres per unit of positions
<scene>/_detail/cam_00/camera_keyframe_{orientations,positions}.hdf5       of every image
<scene>/images/scene_cam_00_final_preview/frame.0000.tonemap.jpg           colour
<scene>/images/scene_cam_00_geometry_hdf5/frame.0000.depth_meters.hdf5     distance to the camera's centre
                                          frame.0000.semantic.hdf5, semantic_instance.hdf5
metadata_images_split_scene_v1.csv, metadata_camera_parameters.csv         from the code repository
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from extract.datasets._names import some
from extract.datasets.base import Dataset
from extract.datasets.hypersim_files.arrays import check_h5py
from extract.datasets.hypersim_files.camera import SIZE
from extract.datasets.hypersim_files.clip import TARGET_SIZE, HypersimClip, Parts
from extract.datasets.hypersim_files.labels import MAX_INSTANCE
from extract.datasets.hypersim_files.lists import CAMERAS, IMAGES, PLACES, Trajectory, read_images, read_lenses
from extract.datasets.sampling import Sampling
from extract.datasets.scannet_files.vocabularies import NYU40
from extract.errors import DataError

log = logging.getLogger(__name__)

SCENES = ("", "scenes", "evermotion_dataset/scenes")
"""Folders below the root in which scenes are looked for; the first that has images counts."""
SHORTEST = 20
"""Camera paths of fewer images are left out."""


class Hypersim(Dataset):
    """Roberts et al., "Hypersim: A Photorealistic Synthetic Dataset for Holistic Indoor Scene Understanding", 2021.

    Making one reads the two tables and looks which folders are there. Splits are the official ones, by scene.

    Raises:
        ExtractError: h5py is not installed.
        DatasetNotFoundError: a table is missing, or there are no images.
        DataError: a table is damaged.
    """

    name = "hypersim"
    default_sampling = Sampling(window="whole")
    environment = "HYPERSIM_ROOT"
    how_to_get = f"""\
Hypersim is free under CC BY-SA 3.0: github.com/apple/ml-hypersim. Its code/python/tools/dataset_download_images.py
gets all (1.9 TB, one zip file per scene), contrib/99991/download.py single files of it. Some scenes do. Needed are,
below one DIRECTORY (scenes also in scenes/ or evermotion_dataset/scenes/):
  ai_001_001/_detail/metadata_scene.csv, cam_00/camera_keyframe_orientations.hdf5, camera_keyframe_positions.hdf5
  ai_001_001/images/scene_cam_00_final_preview/frame.0000.tonemap.jpg
  ai_001_001/images/scene_cam_00_geometry_hdf5/frame.0000.depth_meters.hdf5, .semantic.hdf5, .semantic_instance.hdf5
  {IMAGES}     from evermotion_dataset/analysis of the repository
  {CAMERAS}         from contrib/mikeroberts3000 of the repository; a clone in DIRECTORY/ml-hypersim does for both"""

    def __init__(self, root: Path | None = None, sampling: Sampling | None = None) -> None:
        super().__init__(root, sampling)
        check_h5py()
        self.version = "v1"
        self.classes = NYU40.classes
        self.image_size = SIZE
        paths = [self._table(name) for name in PLACES]
        images, lenses = read_images(paths[0]), read_lenses(paths[1])
        if unknown := sorted({each.scene for each in images} - lenses.keys()):
            raise DataError(f"{paths[1]}: has no line for {unknown[0]}. Remedy: take both tables from one checkout.")
        scenes = self._scenes(images)
        parts = [Parts.find(scenes, each) for each in images if (scenes / each.scene).is_dir()]
        parts = _complete(parts)
        if not parts:
            raise self.not_found(f"{scenes} has no images such as {Parts.find(scenes, images[0]).color(0)}")
        log.info("hypersim: %d of %d camera paths are read", len(parts), len(images))
        assert self.sampling is not None
        self._clips = [HypersimClip(each, lenses[each.trajectory.scene], self.sampling) for each in parts]

    @property
    def max_instances(self) -> int:
        """Far more than any scene has."""
        return MAX_INSTANCE

    def facts(self) -> Mapping[str, Any]:
        """How frames were chosen, the size of the target pictures, and which files are read."""
        return {
            **super().facts(),
            "target_size": list(TARGET_SIZE),
            "frames": "tonemap.jpg",
            "labels": "NYU40; an instance per class for what has none; the class of most pixels",
        }

    def clips(self) -> Sequence[HypersimClip]:
        """One clip per camera path, by scene and camera."""
        return self._clips

    def _table(self, name: str) -> Path:
        for place in PLACES[name]:
            if (path := self.root / place / name).is_file():
                return path
        places = ", ".join(str(self.root / place) for place in PLACES[name])
        raise self.not_found(f"{name} is missing; looked in {places}")

    def _scenes(self, images: Sequence[Trajectory]) -> Path:
        """The folder of scenes. A clone of the code repository has folders of scenes too, without images."""
        names = {each.scene for each in images}
        for place in SCENES:
            if any((self.root / place / name / "images").is_dir() for name in names):
                return self.root / place
        return self.root


def _complete(parts: Sequence[Parts]) -> list[Parts]:
    """Those with as much as any has, since all clips have the same targets, and with enough images."""
    there = _keep(parts, lambda each: each.has_color, "have no images")
    deep, labelled = any(each.has_depth for each in there), any(each.has_labels for each in there)
    whole = _keep(
        there,
        lambda each: each.has_depth >= deep and each.has_labels >= labelled,
        "lack the labels or the depth that other camera paths have",
    )
    return _keep(whole, lambda each: len(each.trajectory.frames) >= SHORTEST, f"have fewer than {SHORTEST} images")


def _keep(parts: Sequence[Parts], good: Callable[[Parts], bool], otherwise: str) -> list[Parts]:
    """Those that are good. Says which others are left out, and why."""
    _warn([each.id for each in parts if not good(each)], otherwise)
    return [each for each in parts if good(each)]


def _warn(names: Sequence[str], what: str) -> None:
    if names:
        log.warning("hypersim: %s %s; they are left out", some(names), what)

"""Labels of one recording: which there are, and their values at some of its frames."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path

import numpy as np
from jaxtyping import Float32, Float64, UInt16

from extract.datasets.poses.tum import DEPTH_SCALE, nearest, parse_listing
from extract.datasets.recordings.beside import DEPTH, DEPTH_ENDINGS, as_frame, lacking, pair
from extract.datasets.recordings.fit import fit_intrinsics, fit_labels
from extract.datasets.recordings.layout import TUM_LIST, Recording
from extract.datasets.recordings.pictures import read_depth, read_ids
from extract.datasets.recordings.settings import (
    INSTANCES,
    MILLIMETRE,
    SCENE,
    DatasetSettings,
    SceneSettings,
    read_instances,
    read_settings,
)
from extract.datasets.recordings.source import inside
from extract.datasets.recordings.tracks import View, cameras_of, find_track, views_of
from extract.errors import DataError

KINDS = ("depth", "instance", "classes", "poses", "intrinsics")
_TUM_DEPTH = "depth.txt"
Size = tuple[int, int]


class Labels:
    """What lies beside the frames of a recording. Making one lists folders and reads small files.

    Args:
        recording: the frames.
        settings: of the data set, where scene.json says nothing.
        shared: `instances.json` of the data set.

    Raises:
        DataError: scene.json or instances.json is not as it has to be.

    Attributes:
        present: those of `KINDS` that there are.
        names: instance id -> class name, if `classes` is present.
        shares_names: they are those of the data set.
        distorted: whether the cameras are known, and are no pinholes, so that there are no intrinsics.
        metric: whether positions are in metres.
    """

    def __init__(
        self, recording: Recording, settings: DatasetSettings, shared: Mapping[int, str | None] | None
    ) -> None:
        self.recording = recording
        folder = recording.folder
        scene = read_settings(folder / SCENE, SceneSettings) if folder else SceneSettings()
        self.tum_depth = folder is not None and recording.listing is not None and (folder / _TUM_DEPTH).is_file()
        usual = DEPTH_SCALE if self.tum_depth else MILLIMETRE
        self.depth_scale = scene.depth_scale or settings.depth_scale or usual
        pose_scale = scene.pose_scale or settings.pose_scale
        self.pose_scale = pose_scale or 1.0
        stated = scene.intrinsics or settings.intrinsics
        self.camera = stated.camera() if stated and folder else None
        own = folder / INSTANCES if folder else None
        self.shares_names = own is None or not own.is_file()
        self.names = shared if own is None or self.shares_names else read_instances(own)
        self.track = find_track(recording)
        self.metric = pose_scale is not None or (self.track is not None and self.track.format == "tum")
        self.distorted = False
        self.present = frozenset(self._look())

    def _look(self) -> list[str]:
        folder, found = self.recording.folder, []
        if folder is None:
            return []
        if self.tum_depth or (folder / DEPTH).is_dir():
            found.append("depth")
        if (folder / "instance").is_dir():
            found += ["instance"] if self.names is None else ["instance", "classes"]
        if self.track is not None:
            found.append("poses")
            try:
                cameras = cameras_of(self.track)
            except DataError:  # said when the labels of this scene are read; other scenes are none the worse
                return [*found, "intrinsics"]
            self.distorted = not all(camera.is_pinhole for camera in cameras)
            if cameras:
                return found if self.distorted else [*found, "intrinsics"]
        return [*found, "intrinsics"] if self.camera else found

    @cached_property
    def depth_files(self) -> list[Path | None]:
        """Of every frame; `None` = there is none. Raises `DataError`."""
        assert self.recording.folder is not None
        if not self.tum_depth:
            return pair(self.recording.folder / DEPTH, DEPTH_ENDINGS, self.recording.source)
        assert self.recording.listing is not None
        path = self.recording.folder / _TUM_DEPTH
        listing = parse_listing(path.read_bytes(), str(path))
        found = nearest(listing.times, self.recording.listing.times).tolist()
        return [inside(path.parent, listing.names[n], str(path)) if n >= 0 else None for n in found]

    @cached_property
    def instance_files(self) -> list[Path | None]:
        """Of every frame; `None` = there is none. Raises `DataError`."""
        assert self.recording.folder is not None
        return pair(self.recording.folder / "instance", (".png",), self.recording.source)

    @cached_property
    def views(self) -> list[View]:
        """Of every frame. Raises `DataError`."""
        if self.track is None:
            return [View(np.zeros((4, 4)), self.camera)] * self.recording.source.total
        return views_of(self.recording, self.track, self.camera, self.pose_scale)

    def files(self, numbers: Sequence[int], kinds: frozenset[str]) -> list[Path]:
        """What labels of these kinds at these frames are made of."""
        folder = self.recording.folder
        if folder is None:
            return []
        found = [folder / SCENE, folder / INSTANCES, *(self.track.files if self.track else ())]
        found += [folder / TUM_LIST] if self.recording.listing else []
        found += [folder / _TUM_DEPTH] if self.tum_depth else []
        found = [path for path in found if path.is_file()]
        for kind, files in (("depth", "depth_files"), ("instance", "instance_files")):
            if kind in kinds:
                try:
                    found += [path for path in (getattr(self, files)[n] for n in numbers) if path is not None]
                except DataError:  # which file is which frame's is not known; said when the labels are read
                    found += sorted((folder / kind).glob("*"))
        return found

    def depth(self, numbers: Sequence[int], sizes: Sequence[Size], target: Size) -> Float32[np.ndarray, "frame y x"]:
        """Metres at `target` size (height, width). A frame of TUM's that no depth picture is near has none."""
        out = np.zeros((len(numbers), *target), np.float32)
        for row, (number, size) in enumerate(zip(numbers, sizes, strict=True)):
            if (path := self._file("depth", self.depth_files[number], number)) is not None:
                out[row] = fit_labels(as_frame(read_depth(path, self.depth_scale), size, path), target)
        return out

    def instances(
        self, numbers: Sequence[int], sizes: Sequence[Size], target: Size, *, named: bool
    ) -> UInt16[np.ndarray, "frame y x"]:
        """Ids at `target` size. Raises `DataError` for ids that instances.json does not know, if they are `named`."""
        out = np.zeros((len(numbers), *target), np.uint16)
        for row, (number, size) in enumerate(zip(numbers, sizes, strict=True)):
            path = self._file("instance", self.instance_files[number], number)
            assert path is not None
            ids = as_frame(read_ids(path), size, path)
            if named and (strangers := sorted(set(np.unique(ids).tolist()) - {0} - set(self.names or ()))):
                raise DataError(
                    f"{path}: instance ids {strangers[:10]} are not in {INSTANCES}. "
                    "Remedy: add them there, null for those without a class."
                )
            out[row] = fit_labels(ids, target)
        return out

    def poses(self, numbers: Sequence[int]) -> Float64[np.ndarray, "frame 4 4"]:
        """Camera to world, OpenCV axes; all zero = unknown."""
        return np.stack([self.views[number].cam_to_world for number in numbers])

    def intrinsics(
        self, numbers: Sequence[int], sizes: Sequence[Size], target: Size
    ) -> Float64[np.ndarray, "frame 3 3"]:
        """Pinholes of pictures of `target` size; all zero = unknown, which only frames without pose are."""
        out = np.zeros((len(numbers), 3, 3))
        for row, (number, size) in enumerate(zip(numbers, sizes, strict=True)):
            if (camera := self.views[number].camera) is not None:
                matrix = camera.intrinsics(size, f"scene {self.recording.name}, frame {number}")
                out[row] = fit_intrinsics(matrix, size, target)
        return out

    def _file(self, kind: str, path: Path | None, number: int) -> Path | None:
        if path is None and not (kind == "depth" and self.tum_depth):
            raise lacking(self.recording.name, number, kind)
        return path

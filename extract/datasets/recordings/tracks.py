"""Poses and cameras of the frames of a recording: which files say them, and which entry is which frame's."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Literal

import numpy as np
from jaxtyping import Float64

from extract.datasets.poses.camera import Camera, PosedImage
from extract.datasets.poses.colmap import find_model, parse_cameras_binary, parse_cameras_text, parse_model
from extract.datasets.poses.nerfstudio import parse_cameras, parse_transforms
from extract.datasets.poses.rigid import unknown
from extract.datasets.poses.tum import nearest, parse_trajectory
from extract.datasets.recordings.layout import TRANSFORMS, Recording
from extract.datasets.recordings.source import Pictures, inside
from extract.errors import DataError

log = logging.getLogger(__name__)

TRAJECTORY = "groundtruth.txt"
MODELS = ("sparse/0", "sparse", "colmap/sparse/0", "colmap")
"""Where a COLMAP model is looked for, in this order."""
Format = Literal["nerfstudio", "tum", "colmap"]


@dataclass(frozen=True)
class Track:
    """Files that tell of poses. The first that is there counts: transforms.json, TUM's lists, a COLMAP model."""

    format: Format
    files: tuple[Path, ...]


@dataclass(frozen=True)
class View:
    """Of one frame. Attributes: pose (all zero = unknown) and camera (`None` = unknown)."""

    cam_to_world: Float64[np.ndarray, "4 4"]
    camera: Camera | None


def find_track(recording: Recording) -> Track | None:
    """Looks at names only. The frames of a video are in no such file, which is said."""
    folder = recording.folder
    if folder is None:
        return None
    found = next(filter(None, (find_model(folder / place) for place in MODELS)), None)
    track = found and Track("colmap", found)
    if recording.listing is not None and (folder / TRAJECTORY).is_file():
        track = Track("tum", (folder / TRAJECTORY,))
    if (folder / TRANSFORMS).is_file():
        track = Track("nerfstudio", (folder / TRANSFORMS,))
    if track is not None and not isinstance(recording.source, Pictures):
        log.warning(
            "scene %s: %s is not read, since it names pictures and the frames are those of a video. To use it, put the "
            "pictures that it names into %s.",
            recording.name,
            track.files[-1],
            folder / "images",
        )
        return None
    return track


def cameras_of(track: Track) -> list[Camera]:
    """All cameras, without the poses where those lie in another file. Raises `DataError`."""
    if track.format == "tum":
        return []
    if track.format == "nerfstudio":
        return parse_cameras(*_content(track.files[0]))
    parse = parse_cameras_binary if track.files[0].suffix == ".bin" else parse_cameras_text
    return list(parse(*_content(track.files[0])).values())


def views_of(recording: Recording, track: Track, camera: Camera | None, scale: float) -> list[View]:
    """Of every frame. A frame that the files do not name has no pose, and the camera of all others if they have one.

    Args:
        recording: the frames.
        track: from `find_track`.
        camera: of frames whose pose comes without one.
        scale: what positions are multiplied by.

    Raises:
        DataError: files are damaged, or name pictures that are not there.
    """
    if track.format == "tum":
        views = [View(pose, camera) for pose in _nearest_poses(recording, track)]
    elif track.format == "nerfstudio":
        views = _named_views(recording, parse_transforms(*_content(track.files[0])), track)
    else:
        cameras, images = map(_content, track.files)
        views = _named_views(recording, parse_model(cameras, images, binary=track.files[0].suffix == ".bin"), track)
    return [replace(view, cam_to_world=_scaled(view.cam_to_world, scale)) for view in views]


def _nearest_poses(recording: Recording, track: Track) -> list[Float64[np.ndarray, "4 4"]]:
    assert recording.listing is not None
    trajectory = parse_trajectory(*_content(track.files[0]))
    found = nearest(trajectory.times, recording.listing.times)
    if not (found >= 0).any():
        raise DataError(
            f"{track.files[0]}: no pose is within 20 ms of a picture: poses run from {trajectory.times[0]} to "
            f"{trajectory.times[-1]} s, pictures from {recording.listing.times[0]} to {recording.listing.times[-1]} s. "
            "Remedy: use one clock."
        )
    return [trajectory.cam_to_world[index] if index >= 0 else unknown() for index in found.tolist()]


def _named_views(recording: Recording, images: Sequence[PosedImage], track: Track) -> list[View]:
    """By name. Names of COLMAP may count from the folder of the pictures, those of nerfstudio may lack the ending."""
    assert recording.folder is not None
    assert isinstance(recording.source, Pictures)
    folder, paths = recording.folder, recording.source.paths
    numbers = {path.relative_to(folder): number for number, path in enumerate(paths)}
    bare = {path.with_suffix(""): number for path, number in numbers.items()}
    beside = paths[0].parent.relative_to(folder)
    entries: dict[int, PosedImage] = {}
    for image in images:
        name = inside(folder, image.name, str(track.files[-1])).relative_to(folder)
        tries = [name] if track.format == "nerfstudio" else [beside / name, name]
        number = next((n for each in tries for n in (numbers.get(each), bare.get(each)) if n is not None), None)
        if number is None:
            raise DataError(
                f"{track.files[-1]}: names {image.name}, which is not among the {len(paths)} pictures "
                f"({PurePosixPath(paths[0].relative_to(folder))} …). Remedy: put it there, or take the entry out."
            )
        if number in entries:
            raise DataError(f"{track.files[-1]}: names {image.name} twice. Remedy: take one entry out.")
        entries[number] = image
    cameras = [image.camera for image in images]
    common = cameras[0] if cameras and all(each == cameras[0] for each in cameras) else None
    return [
        View(entries[n].cam_to_world, entries[n].camera) if n in entries else View(unknown(), common)
        for n in range(len(paths))
    ]


def _scaled(cam_to_world: Float64[np.ndarray, "4 4"], scale: float) -> Float64[np.ndarray, "4 4"]:
    scaled = cam_to_world.copy()
    scaled[:3, 3] *= scale
    return scaled


def _content(path: Path) -> tuple[bytes, str]:
    try:
        return path.read_bytes(), str(path)
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error}). Remedy: copy the recording anew.") from error

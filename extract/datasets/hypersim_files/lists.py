"""The two tables of Hypersim's code repository that are needed (images and splits, cameras), and each scene's scale."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from io import StringIO
from pathlib import Path

import numpy as np

from extract.datasets._sources import Faults, content
from extract.datasets.hypersim_files.arrays import FAULTS
from extract.datasets.hypersim_files.camera import SIZE, Lens

IMAGES = "metadata_images_split_scene_v1.csv"
CAMERAS = "metadata_camera_parameters.csv"
PLACES = {
    IMAGES: ("", "analysis", "evermotion_dataset/analysis", "ml-hypersim/evermotion_dataset/analysis"),
    CAMERAS: ("", "analysis", "contrib/mikeroberts3000", "ml-hypersim/contrib/mikeroberts3000"),
}
"""Folders below the root in which each table is looked for, in this order."""
SPLITS = ("train", "val", "test")
_TABLES = Faults("take the file anew from github.com/apple/ml-hypersim.")
_LARGEST = 1 << 26
_SCENE, _CAMERA = re.compile(r"ai_\d{3}_\d{3}"), re.compile(r"cam_\d{2}")


@dataclass(frozen=True)
class Trajectory:
    """Images of one camera path. Attributes: split; frames = their numbers, ascending, of those that were released."""

    scene: str
    camera: str
    split: str
    frames: list[int] = field(default_factory=list)


def read_images(path: Path) -> list[Trajectory]:
    """All released images, by scene and camera.

    Raises:
        DataError: the table cannot be read, names an image twice, or a scene in two splits.
    """
    found: dict[tuple[str, str], Trajectory] = {}
    splits: dict[str, str] = {}
    columns = "scene_name", "camera_name", "frame_id", "included_in_public_release", "split_partition_name"
    for line, (scene, camera, frame, included, split) in _rows(path, columns, _TABLES):
        if included != "True":
            continue
        if not (_SCENE.fullmatch(scene) and _CAMERA.fullmatch(camera) and re.fullmatch(r"\d{1,4}", frame)):
            raise _TABLES.damaged(path, f"line {line} names the image {(scene, camera, frame)}")
        if split not in SPLITS or splits.setdefault(scene, split) != split:
            raise _TABLES.damaged(path, f"line {line} has {scene} in {split!r}, others in {splits.get(scene)!r}")
        found.setdefault((scene, camera), Trajectory(scene, camera, split)).frames.append(int(frame))
    for each in found.values():
        each.frames.sort()
        if len(set(each.frames)) < len(each.frames):
            raise _TABLES.damaged(path, f"names an image of {each.scene}, {each.camera} twice")
    return [found[key] for key in sorted(found)]


def read_lenses(path: Path) -> dict[str, Lens]:
    """Scene -> its lens. Raises `DataError` if the table cannot be read, or has what is no camera."""
    cells = [f"M_cam_from_uv_{row}{column}" for row in range(3) for column in range(3)]
    columns = "scene_name", "settings_output_img_height", "settings_output_img_width", *cells
    lenses: dict[str, Lens] = {}
    for line, (scene, *numbers) in _rows(path, columns, _TABLES):
        try:
            height, width, *matrix = map(float, numbers)
            if (height, width) != SIZE or scene in lenses:
                raise ValueError(f"{scene} has images of {width:g} x {height:g} pixels, or is listed twice")
            lenses[scene] = Lens.of(np.array(matrix).reshape(3, 3))
        except ValueError as error:
            raise _TABLES.damaged(path, f"line {line}: {error}") from error
    return lenses


def read_scale(path: Path) -> float:
    """Metres per unit of positions: `meters_per_asset_unit` in a scene's metadata_scene.csv. Raises `DataError`."""
    values = dict(row for _, row in _rows(path, ("parameter_name", "parameter_value"), FAULTS))
    try:
        scale = float(values["meters_per_asset_unit"])
    except (KeyError, ValueError) as error:
        raise FAULTS.damaged(path, f"has no number meters_per_asset_unit ({error!r})") from error
    if not 0 < scale < np.inf:
        raise FAULTS.damaged(path, f"meters_per_asset_unit is {scale}")
    return scale


def _rows(path: Path, columns: tuple[str, ...], faults: Faults) -> Iterator[tuple[int, list[str]]]:
    """Line and the cells of these columns, of all rows."""
    try:
        rows = csv.reader(StringIO(content(path, _LARGEST, faults).decode("utf-8-sig"), newline=""), strict=True)
        header = next(rows, [])
        if missing := [column for column in columns if column not in header]:
            raise faults.damaged(path, f"has no column {missing[0]}")
        places = [header.index(column) for column in columns]
        for row in rows:
            if len(row) != len(header):
                raise faults.damaged(path, f"line {rows.line_num} has {len(row)} cells, the first {len(header)}")
            yield rows.line_num, [row[place] for place in places]
    except (csv.Error, UnicodeDecodeError) as error:
        raise faults.unreadable(path, error) from error

"""A release of 7-Scenes with short sequences of a ray-cast room, written after the description on its page."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from zipfile import ZIP_DEFLATED, ZipFile

import numpy as np
from numpy.typing import NDArray

from tests.extract.scannet.tiny_scans import COLOURS, cast, png
from tests.extract.tiny_rooms import _pose

SIZE = (480, 640)
DEPTH_CAMERA = np.array([[585.0, 0, 320], [0, 585, 240], [0, 0, 1]])
COLOR_CAMERA = np.array([[525.0, 0, 320], [0, 525, 240], [0, 0, 1]])
FRAMES = 20
HOLE, SHADOW = np.s_[200:210, 300:310], np.s_[250:260, 300:310]
"""Where depth was not measured, written as 65535 and as 0."""


@dataclass(frozen=True)
class Filmed:
    """Poses, the room (as `cast` takes it), and the files of every frame."""

    poses: NDArray[np.float64]
    room: tuple[NDArray[np.float64], ...]
    files: Mapping[str, bytes]

    def seen(self, frame: int, camera: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
        return cast(self.room, self.poses[frame], camera, SIZE)


@cache
def film() -> Filmed:
    """Both cameras are at one place: what stands between the real ones is no part of the format."""
    rng = np.random.default_rng(7)
    half, radii = np.array([2.0, 2.4]), np.array([0.4, 0.35, 0.3])
    centres = np.column_stack([[-0.9, 0.1, 0.9], [1.2, 1.5, 0.9], radii])
    room = np.array([*-half, 0.0]), np.array([*half, 2.0]), centres, radii
    poses = np.stack([_pose(rng, x, half[1]) for x in np.linspace(-0.5, 0.5, FRAMES)])
    files = {}
    for k, pose in enumerate(poses):
        depth = np.round(cast(room, pose, DEPTH_CAMERA, SIZE)[0] * 1000).astype(np.uint16)
        depth[HOLE], depth[SHADOW] = 65535, 0
        colour = COLOURS[cast(room, pose, COLOR_CAMERA, SIZE)[1]].astype(np.uint8)
        files[f"frame-{k:06d}.color.png"] = png(colour)
        files[f"frame-{k:06d}.depth.png"] = png(depth)
        files[f"frame-{k:06d}.pose.txt"] = text(pose)
    return Filmed(poses, room, files)


def text(pose: NDArray[np.float64]) -> bytes:
    """As the release writes numbers: tabs after each, DOS line ends."""
    return "".join("".join(f"{each: .7e}\t " for each in row) + "\r\n" for row in pose).encode()


def write_folder(where: Path, files: Mapping[str, bytes]) -> Path:
    where.mkdir(parents=True)
    for name, content in files.items():
        (where / name).write_bytes(content)
    return where


def write_zip(where: Path, files: Mapping[str, bytes], folder: str | None = None) -> Path:
    """With the sequence's folder inside, and what Windows left there."""
    where.parent.mkdir(parents=True, exist_ok=True)
    inside = f"{where.stem}/" if folder is None else folder
    with ZipFile(where, "w", ZIP_DEFLATED) as archive:
        for name, content in {**files, "Thumbs.db": b"thumbs"}.items():
            archive.writestr(inside + name, content)
    return where


def write_release(root: Path) -> Path:
    """chess with a packed and an unpacked sequence, heads and fire with one each."""
    files = film().files
    write_zip(root / "chess/seq-01.zip", files)
    write_folder(root / "chess/seq-02", files)
    write_zip(root / "heads/seq-01.zip", files, folder="")
    write_folder(root / "fire/seq-03", files)
    for scene, train, test in (("chess", [1], [2]), ("heads", [1], []), ("fire", [], [3])):
        for name, numbers in (("Train", train), ("Test", test)):
            (root / scene / f"{name}Split.txt").write_text("".join(f"sequence{n}\r\n" for n in numbers))
        (root / scene / f"{scene}.png").write_bytes(b"a preview")
    return root

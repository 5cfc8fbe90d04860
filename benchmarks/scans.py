"""One recording of ScanNet in the release's sizes, as a `.sens` file and as ScanNet's reader exports it."""

from __future__ import annotations

import shutil
import zipfile
from io import BytesIO
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from benchmarks.plain import Files
from extract.datasets.roomgen import stored
from extract.datasets.roomgen.sens import HALF, SensFrame, write_sens
from extract.datasets.sampling import Sampling

COLOUR, DEPTH = (1296, 968), (640, 480)
"""(width, height) of the release's pictures."""
RECORDED = 1000


def release_sized(exported: Path, room: stored.StoredRoom) -> list[SensFrame]:
    """Make the only scene of an export one of the release's sizes. Returns the frames of its `.sens` file."""
    scene = next((exported / "scans").iterdir())
    (scene / f"{scene.name}.txt").unlink()  # of the sizes before
    instances, frames = [], []
    for n in range(room.info["n_frames"]):
        with Image.open(room.folder / f"instance/{n:04d}.png") as image:
            instances.append(encoded(image.resize(COLOUR, Image.Resampling.NEAREST), "PNG"))
        with Image.open(room.folder / f"depth/{n:04d}.png") as image:
            depth = np.asarray(image.resize(DEPTH, Image.Resampling.NEAREST))
        with Image.open(room.folder / f"rgb/{n:04d}.jpg") as image:
            jpeg = encoded(image.resize(COLOUR, Image.Resampling.BICUBIC), "JPEG")
        frames.append(SensFrame(jpeg, depth, room.poses[n]))
    recorded = [frames[n % len(frames)] for n in range(RECORDED)]
    write_sens(scene / f"{scene.name}.sens", recorded, _intrinsics(room), (COLOUR[1], COLOUR[0]), "rooms")
    with zipfile.ZipFile(scene / f"{scene.name}_2d-instance-filt.zip", "w") as archive:
        for n in range(RECORDED):
            archive.writestr(f"instance-filt/{n}.png", instances[n % len(instances)])
    return recorded


def as_exported(root: Path, out: Path, room: stored.StoredRoom, recorded: list[SensFrame]) -> None:
    """Write the scene of `root` anew, with folders in place of its `.sens` file."""
    shutil.copytree(root, out, ignore=shutil.ignore_patterns("*.sens"))
    scene = next((out / "scans").iterdir())
    for part in ("color", "depth", "pose", "intrinsic"):
        (scene / part).mkdir()
    packed = [encoded(Image.fromarray(frame.depth), "PNG") for frame in recorded[: room.info["n_frames"]]]
    for n, frame in enumerate(recorded):
        (scene / f"color/{n}.jpg").write_bytes(frame.jpeg)
        (scene / f"depth/{n}.png").write_bytes(packed[n % len(packed)])
        np.savetxt(scene / f"pose/{n}.txt", frame.cam_to_world, fmt="%f")
    for name, size in (("color", COLOUR), ("depth", DEPTH)):
        matrix = np.eye(4)
        matrix[:3, :3] = np.diag([size[0] / COLOUR[0], size[1] / COLOUR[1], 1]) @ _intrinsics(room)
        matrix[:2, 2] -= HALF
        np.savetxt(scene / f"intrinsic/intrinsic_{name}.txt", matrix, fmt="%f")
        np.savetxt(scene / f"intrinsic/extrinsic_{name}.txt", np.eye(4), fmt="%f")


def clip_of(recorded: list[SensFrame]) -> Files:
    """The JPEG files of the clip that is made of a recording."""
    return Files([recorded[n].jpeg for n in Sampling().choose(len(recorded))])


def encoded(image: Image.Image, form: str) -> bytes:
    """The file of a picture; JPEG of quality 90."""
    content = BytesIO()
    image.save(content, form, quality=90)
    return content.getvalue()


def _intrinsics(room: stored.StoredRoom) -> NDArray[np.float64]:
    width, height = room.info["image_size"]
    return np.asarray(np.diag([COLOUR[0] / width, COLOUR[1] / height, 1]) @ room.intrinsics)

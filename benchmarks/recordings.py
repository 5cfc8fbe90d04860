"""A recording of each data set with what its reader needs for frames, in the sizes of the releases.

Pictures are those of a shipped room, enlarged, and noise such as cameras make, without which PNG files would be far
smaller than those of the releases. Cameras are the room's; depth, where a reader wants to see it, is an empty file.
"""

from __future__ import annotations

import csv
import gzip
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import av
import numpy as np
from PIL import Image

from benchmarks.plain import RATE, Files, Film, Picture, Plain, Size
from benchmarks.scans import encoded
from extract.datasets.arkitscenes import ArkitScenes
from extract.datasets.base import Dataset
from extract.datasets.co3dv2 import Co3dV2
from extract.datasets.dl3dv import Dl3dv
from extract.datasets.folder import FolderDataset
from extract.datasets.hypersim import Hypersim
from extract.datasets.roomgen.stored import StoredRoom
from extract.datasets.sampling import Sampling
from extract.datasets.scannetpp import ScanNetPP
from extract.datasets.seven_scenes import SevenScenes

NOISE = 2.0
"""Standard deviation, of 255."""
OPENGL = np.diag([1.0, -1.0, -1.0, 1.0])
FILMED = 400
"""Frames of a video."""
GOP = 30
"""Frames from one keyframe to the next."""
DRIFT = 2
"""Pixels that a video moves from frame to frame."""


@dataclass(frozen=True)
class Recorded:
    """Attributes: open = opens the data set; clips = plain decoding of each of its clips, in their order."""

    open: Callable[[], Dataset]
    clips: Sequence[Plain]


Writer = Callable[[Path, StoredRoom], Recorded]
"""Writes into a folder that is not there yet."""


def dl3dv(root: Path, room: StoredRoom) -> Recorded:
    """150 PNG files of 960x540."""
    scene = root / "1K" / f"{1:064x}"
    files = repeated(shots(room, (540, 960), "PNG"), 150)
    write_all(scene / "images_4", [f"frame_{n:05d}.png" for n in range(1, 151)], files)
    poses = repeated(list(room.poses), 150)
    frames = [
        {"file_path": f"images/frame_{n:05d}.png", "transform_matrix": (pose @ OPENGL).tolist()}
        for n, pose in enumerate(poses, 1)
    ]
    camera = {"w": 3840, "h": 2160, "fl_x": 3000, "fl_y": 3000, "cx": 1920, "cy": 1080, "camera_model": "OPENCV"}
    (scene / "transforms.json").write_text(json.dumps({**camera, "k1": 0.01, "frames": frames}))
    return Recorded(lambda: Dl3dv(root), [Files([files[n] for n in Sampling(window="run").choose(150)])])


def seven_scenes(root: Path, room: StoredRoom) -> Recorded:
    """500 PNG files of 640x480, in a folder."""
    files = repeated(shots(room, (480, 640), "PNG"), 500)
    write_all(root / "chess/seq-01", [f"frame-{n:06d}.color.png" for n in range(500)], files)
    return Recorded(lambda: SevenScenes(root), [chosen(files)])


def seven_scenes_packed(root: Path, room: StoredRoom) -> Recorded:
    """The same in a zip file."""
    files = repeated(shots(room, (480, 640), "PNG"), 500)
    (root / "chess").mkdir(parents=True)
    with ZipFile(root / "chess/seq-01.zip", "w") as archive:
        for n, content in enumerate(files):
            archive.writestr(f"seq-01/frame-{n:06d}.color.png", content)
    return Recorded(lambda: SevenScenes(root), [chosen(files)])


def hypersim(root: Path, room: StoredRoom) -> Recorded:
    """100 JPEG files of 1024x768."""
    files = repeated(shots(room, (768, 1024), "JPEG"), 100)
    folder = root / "ai_001_001/images/scene_cam_00_final_preview"
    write_all(folder, [f"frame.{n:04d}.tonemap.jpg" for n in range(100)], files)
    columns = ["scene_name", "camera_name", "frame_id", "included_in_public_release", "split_partition_name"]
    rows = [["ai_001_001", "cam_00", n, "True", "train"] for n in range(100)]
    write_table(root / "metadata_images_split_scene_v1.csv", [columns, *rows])
    cells = [f"M_cam_from_uv_{row}{column}" for row in range(3) for column in range(3)]
    across = np.tan(np.pi / 6)  # of a field of view of 60 degrees
    lens = np.diag([across, across * 3 / 4, -1]).ravel().tolist()
    columns = ["scene_name", "settings_output_img_height", "settings_output_img_width", *cells]
    write_table(root / "metadata_camera_parameters.csv", [columns, ["ai_001_001", 768, 1024, *lens]])
    return Recorded(lambda: Hypersim(root), [chosen(files, "whole")])


def arkitscenes(root: Path, room: StoredRoom) -> Recorded:
    """500 PNG files of 256x192."""
    files = repeated(shots(room, (192, 256), "PNG"), 500)
    folder = root / "3dod/Training/41000001/41000001_frames"
    times = [f"{6845.706 + n / 10:.3f}" for n in range(500)]
    names = [f"41000001_{time}.png" for time in times]
    write_all(folder / "lowres_wide", names, files)
    write_all(folder / "lowres_depth", names, [b""] * 500)
    (folder / "lowres_wide_intrinsics").mkdir()
    (folder / "lowres_wide.traj").write_text("".join(f"{time} 0 0 0 0 0 0\n" for time in times))
    write_table(root / "3dod/metadata.csv", [["video_id", "visit_id", "fold"], ["41000001", "420011", "Training"]])
    return Recorded(lambda: ArkitScenes(root), [chosen(files)])


def scannetpp(root: Path, room: StoredRoom) -> Recorded:
    """A video of 1920x1440."""
    folder = root / "data/036bce3393/iphone"
    write_video(folder / "rgb.mkv", room, (1440, 1920))
    (folder / "depth.bin").touch()
    entry = {"intrinsic": [[1500, 0, 959.5], [0, 1500, 719.5], [0, 0, 1]], "aligned_pose": np.eye(4).tolist()}
    (folder / "pose_intrinsic_imu.json").write_text(json.dumps({f"frame_{n:06d}": entry for n in range(FILMED)}))
    (root / "splits").mkdir()
    for name, scene in (("train", "036bce3393"), ("val", "0d2ee665be")):
        (root / f"splits/nvs_sem_{name}.txt").write_text(f"{scene}\n")
    return Recorded(lambda: ScanNetPP(root), [Film(folder / "rgb.mkv", Sampling().choose(FILMED))])


def co3dv2(root: Path, room: StoredRoom) -> Recorded:
    """200 JPEG files of 800x1424."""
    files, sequence = repeated(shots(room, (1424, 800), "JPEG"), 200), "110_13051_23361"
    names = [f"frame{n:06d}.jpg" for n in range(200)]
    write_all(root / "apple" / sequence / "images", names, files)
    frames = [
        {
            "sequence_name": sequence,
            "frame_number": n,
            "image": {"path": f"apple/{sequence}/images/{name}", "size": [1424, 800]},
            "meta": {"frame_type": "train_known"},
        }
        for n, name in enumerate(names)
    ]
    score = {"sequence_name": sequence, "category": "apple", "viewpoint_quality_score": 1.3}
    for name, content in (("frame", frames), ("sequence", [score])):
        (root / f"apple/{name}_annotations.jgz").write_bytes(gzip.compress(json.dumps(content).encode()))
    (root / "apple/set_lists").mkdir()
    return Recorded(lambda: Co3dV2(root), [chosen(files, "whole")])


def folder_pictures(root: Path, room: StoredRoom) -> Recorded:
    """200 JPEG files of 1920x1080."""
    files = repeated(shots(room, (1080, 1920), "JPEG"), 200)
    write_all(root / "kitchen/images", [f"{n:04d}.jpg" for n in range(200)], files)
    return Recorded(lambda: FolderDataset(root), [chosen(files, "whole")])


def folder_video(root: Path, room: StoredRoom) -> Recorded:
    """A video of 1920x1080."""
    write_video(root / "kitchen.mp4", room, (1080, 1920))
    film = Film(root / "kitchen.mp4", Sampling(window="whole").choose(FILMED))
    return Recorded(lambda: FolderDataset(root), [film])


WRITERS: dict[str, Writer] = {
    "dl3dv": dl3dv,
    "7scenes": seven_scenes,
    "7scenes_packed": seven_scenes_packed,
    "hypersim": hypersim,
    "arkitscenes": arkitscenes,
    "scannetpp": scannetpp,
    "co3dv2": co3dv2,
    "folder": folder_pictures,
    "folder_video": folder_video,
}


def enlarged(room: StoredRoom, number: int, size: Size) -> Picture:
    """A frame of the room, stretched to `size`, with noise."""
    with Image.open(room.folder / f"rgb/{number:04d}.jpg") as image:
        smooth = np.asarray(image.resize(size[::-1], Image.Resampling.BICUBIC), np.float32)
    noise = np.random.default_rng(number).standard_normal(smooth.shape, np.float32)
    return np.clip(np.rint(smooth + NOISE * noise), 0, 255).astype(np.uint8)


def shots(room: StoredRoom, size: Size, form: str) -> list[bytes]:
    """Files of all frames of the room."""
    return [encoded(Image.fromarray(enlarged(room, n, size)), form) for n in range(room.info["n_frames"])]


def repeated(items: Sequence[Any], count: int) -> list[Any]:
    """Over and over, until they are `count`."""
    return [items[n % len(items)] for n in range(count)]


def chosen(files: Sequence[bytes], window: Any = "centre") -> Files:
    """Those of the clip of a recording."""
    return Files([files[n] for n in Sampling(window=window).choose(len(files))])


def write_all(folder: Path, names: Sequence[str], contents: Sequence[bytes]) -> None:
    """Write files into a new folder."""
    folder.mkdir(parents=True)
    for name, content in zip(names, contents, strict=True):
        (folder / name).write_bytes(content)


def write_table(path: Path, rows: Sequence[Sequence[Any]]) -> None:
    """Write a CSV file."""
    with path.open("w", newline="") as file:
        csv.writer(file).writerows(rows)


def write_video(path: Path, room: StoredRoom, size: Size) -> None:
    """H.264 of `FILMED` frames that glide along one picture of the room."""
    path.parent.mkdir(parents=True)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", RATE, {"preset": "superfast", "crf": "23", "g": str(GOP)})
        stream.height, stream.width, stream.pix_fmt = *size, "yuv420p"
        stream.time_base = stream.codec_context.time_base = Fraction(1, RATE)
        for number, picture in enumerate(gliding(room, size)):
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            frame.pts, frame.time_base = number, Fraction(1, RATE)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())


def gliding(room: StoredRoom, size: Size) -> Iterator[Picture]:
    """Parts of one picture, each a little further to the right."""
    whole = enlarged(room, 0, (size[0], size[1] + DRIFT * FILMED))
    for number in range(FILMED):
        yield np.ascontiguousarray(whole[:, DRIFT * number : DRIFT * number + size[1]])

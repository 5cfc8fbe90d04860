"""Labels of a scene that a network made: one safetensors file, as the code of arXiv 2605.28132 writes it.

    images      uint8   (frame, 3, y, x)      the pictures that the network saw
    depthmaps   float32 (frame, y, x, 1)      planar depth, in a unit of the scene's own
    confmaps    float32 (frame, y, x, 1)      confidence of depth
    intrinsic   float32 (frame, 3, 3)         pixels; the centre of the first pixel is (0, 0)
    extrinsic   float32 (frame, 3, 4)         world to camera, OpenCV axes
    start_idx   int32   ()                    frame of the scene, in the order of names, that is the first of these
    pointmaps   float32 (frame, y, x, 3)      depth unprojected; optional, and not read: the others say the same

That the first pixel's centre is (0, 0) is how VGGT's `unproject_depth_map_to_point_map` reads its own intrinsics, so
half a pixel is added here. The published files have no metadata; those of `python -m extract label` say who made them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import xxhash
from jaxtyping import Float32, Float64, Int, UInt8

from extract.datasets.dl3dv_files.errors import LABEL_FAULTS
from extract.datasets.poses.rigid import checked, inverse, pose, unknown
from store.files import write_atomic

IMAGES, DEPTH, CONFIDENCE, INTRINSIC, EXTRINSIC, START, POINTS = (
    "images",
    "depthmaps",
    "confmaps",
    "intrinsic",
    "extrinsic",
    "start_idx",
    "pointmaps",
)
_TYPES = {IMAGES: "U8", DEPTH: "F32", CONFIDENCE: "F32", INTRINSIC: "F32", EXTRINSIC: "F32", START: "I32"}
PUBLISHED = {"labeller": "vggt"}
"""What made a file that does not say it."""
_HALF = np.array([[1, 0, 0.5], [0, 1, 0.5], [0, 0, 1.0]])


@dataclass(frozen=True)
class Header:
    """What a file says without its arrays being read.

    Attributes:
        path: of the file.
        start: first frame of the scene that has labels.
        frames: how many have.
        size: (height, width) of them.
        made_by: `labeller`, and `checkpoint` where it is known.
    """

    path: Path
    start: int
    frames: int
    size: tuple[int, int]
    made_by: Mapping[str, str]


@dataclass(frozen=True)
class Labels:
    """Labels of some frames, in the conventions of `extract.datasets.base.Targets`, without a common unit."""

    images: UInt8[np.ndarray, "frame y x 3"]
    depth: Float32[np.ndarray, "frame y x"]
    confidence: Float32[np.ndarray, "frame y x"]
    cam_to_world: Float64[np.ndarray, "frame 4 4"]
    intrinsics: Float64[np.ndarray, "frame 3 3"]


def read_header(path: Path) -> Header:
    """Types, shapes and lengths. Raises `DataError` if they are not as they have to be, or contradict each other."""
    with _opened(path) as file:
        names = set(file.keys())
        if lacking := sorted(_TYPES.keys() - names):
            raise LABEL_FAULTS.damaged(path, f"has no {', '.join(lacking)}")
        slices = {name: file.get_slice(name) for name in names & {*_TYPES, POINTS}}
        shapes = {name: tuple(each.get_shape()) for name, each in slices.items()}
        for name, kind in _TYPES.items():
            if (got := slices[name].get_dtype()) != kind:
                raise LABEL_FAULTS.damaged(path, f"{name} is of type {got}, expected {kind}")
        if len(shapes[IMAGES]) != 4 or not all(shapes[IMAGES]):
            raise LABEL_FAULTS.damaged(path, f"images of shape {shapes[IMAGES]}, expected (frame, 3, y, x)")
        frames, _, height, width = shapes[IMAGES]
        expected = _shapes(frames, height, width)
        if strangers := [name for name, shape in shapes.items() if shape != expected[name]]:
            name = strangers[0]
            raise LABEL_FAULTS.damaged(path, f"{name} of shape {shapes[name]} beside images of shape {shapes[IMAGES]}")
        start, said = int(file.get_tensor(START)), file.metadata() or {}
    if start < 0:
        raise LABEL_FAULTS.damaged(path, f"{START} is {start}")
    made_by = {key: said[key] for key in ("labeller", "checkpoint") if key in said} or PUBLISHED
    return Header(path, start, frames, (height, width), made_by)


def read_labels(header: Header, rows: Sequence[int]) -> Labels:
    """Labels of these rows of a file. What is not finite or not above 0 is no depth, and has confidence 0.

    Raises:
        DataError: the file changed, or a camera is none. A pose that is not finite is unknown.
    """
    arrays = _read(header, rows)
    depth, confidence = arrays[DEPTH][..., 0], arrays[CONFIDENCE][..., 0]
    known = np.isfinite(depth) & (depth > 0) & np.isfinite(confidence)
    cameras = arrays[INTRINSIC].astype(np.float64)
    for row, camera in zip(rows, cameras, strict=True):
        plain = np.isfinite(camera).all() and np.array_equal(camera[2], (0, 0, 1)) and camera[0, 1] == camera[1, 0] == 0
        if not plain or min(camera[0, 0], camera[1, 1]) <= 0:
            raise LABEL_FAULTS.damaged(header.path, f"{INTRINSIC} of row {row} is no pinhole: {camera.tolist()}")
    return Labels(
        images=np.ascontiguousarray(arrays[IMAGES].transpose(0, 2, 3, 1)),
        depth=np.where(known, depth, np.float32(0)),
        confidence=np.where(known, np.maximum(confidence, 0), np.float32(0)),
        cam_to_world=np.stack(
            [_inverted(each, f"{header.path}, {EXTRINSIC} of row {row}") for row, each in _rows(rows, arrays)]
        ),
        intrinsics=_HALF @ cameras,
    )


def digest_labels(header: Header, rows: Sequence[int]) -> str:
    """xxh3_128 over the bytes that `read_labels` reads, and the start. Raises `DataError`."""
    state = xxhash.xxh3_128(str((header.start, header.size, list(rows))).encode())
    for row in rows:
        for array in _read(header, [row]).values():
            state.update(np.ascontiguousarray(array).tobytes())
    return state.hexdigest()


def write_labels(
    path: Path,
    images: UInt8[np.ndarray, "frame y x 3"],
    depth: Float32[np.ndarray, "frame y x"],
    confidence: Float32[np.ndarray, "frame y x"],
    intrinsic: Float32[np.ndarray, "frame 3 3"],
    extrinsic: Float32[np.ndarray, "frame 3 4"],
    start: int,
    made_by: Mapping[str, str],
) -> None:
    """Write a file, whole or not at all. Cameras are as the file has them. Raises `StoreError`."""
    from safetensors.numpy import save

    arrays: dict[str, np.ndarray] = {
        IMAGES: images.transpose(0, 3, 1, 2),
        DEPTH: depth[..., None],
        CONFIDENCE: confidence[..., None],
        INTRINSIC: intrinsic,
        EXTRINSIC: extrinsic,
        START: np.array(start, np.int32),
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    content = save({name: array.copy(order="C") for name, array in arrays.items()}, dict(made_by))
    write_atomic(path, [content])


def _shapes(frames: int, height: int, width: int) -> dict[str, tuple[int, ...]]:
    plane = (frames, height, width)
    return {
        IMAGES: (frames, 3, height, width),
        DEPTH: (*plane, 1),
        CONFIDENCE: (*plane, 1),
        INTRINSIC: (frames, 3, 3),
        EXTRINSIC: (frames, 3, 4),
        START: (),
        POINTS: (*plane, 3),
    }


def _read(header: Header, rows: Sequence[int]) -> dict[str, np.ndarray]:
    """Those rows of every array but the start. Nothing else is read: a file of 150 frames has half a gigabyte."""
    with _opened(header.path) as file:
        shapes = _shapes(header.frames, *header.size)
        found = {}
        for name in (IMAGES, DEPTH, CONFIDENCE, INTRINSIC, EXTRINSIC):
            part = file.get_slice(name)
            if tuple(part.get_shape()) != shapes[name] or part.get_dtype() != _TYPES[name]:
                raise LABEL_FAULTS.damaged(header.path, f"{name} changed while it was read")
            found[name] = np.concatenate([part[row : row + 1] for row in rows])
    return found


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    """The file for the caller alone. The library refuses a header that does not fit the length of the file."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="numpy") as file:
            yield file
    except (SafetensorError, OSError) as error:
        raise LABEL_FAULTS.unreadable(path, error) from error


def _rows(rows: Sequence[int], arrays: Mapping[str, np.ndarray]) -> Iterator[tuple[int, Float32[np.ndarray, "3 4"]]]:
    return zip(rows, arrays[EXTRINSIC], strict=True)


def _inverted(extrinsic: Float32[np.ndarray, "3 4"], where: str) -> Float64[np.ndarray, "4 4"]:
    values = extrinsic.astype(np.float64)
    motion = checked(pose(values[:, :3], values[:, 3]), where)
    return inverse(motion) if motion.any() else unknown()


def rows_of(header: Header, numbers: Int[np.ndarray, " frame"] | Sequence[int]) -> list[int]:
    """Rows of these frames of the scene. Raises `DataError` for a frame that has no labels."""
    rows = [int(number) - header.start for number in numbers]
    if strangers := [row for row in rows if not 0 <= row < header.frames]:
        last = header.start + header.frames - 1
        raise LABEL_FAULTS.damaged(
            header.path,
            f"labels frames {header.start} to {last} of the scene, but the clip needs frame "
            f"{strangers[0] + header.start} (--clip-window run lets clips begin where labels do)",
        )
    return rows

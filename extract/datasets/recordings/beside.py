"""Depth and instance pictures beside the frames of a recording: which of them belongs to which frame."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from extract.datasets.poses.camera import same_shape
from extract.datasets.recordings.source import Pictures, Source, in_order
from extract.errors import DataError

DEPTH = "depth"
"""Folder beside the frames of a recording."""
DEPTH_ENDINGS = (".png", ".npy")


def pair(folder: Path, endings: Sequence[str], source: Source) -> list[Path | None]:
    """The file of every frame; `None` = there is none for it.

    Beside pictures, files are paired by their names without endings; if no name fits, by the last number in the names.
    Beside a video there has to be one file per frame, in order.

    Raises:
        DataError: they cannot be paired, or two files belong to one frame.
    """
    files = in_order([p for p in folder.iterdir() if p.suffix.lower() in endings and not p.name.startswith(".")])
    if not isinstance(source, Pictures):
        if len(files) != source.total:
            raise DataError(
                f"{folder}: {len(files)} files, but the video has {source.total} frames. Remedy: one per frame."
            )
        return list(files)
    frames = [path.stem for path in source.paths]
    by_name = _unique(folder, [file.stem for file in files], files)
    if not by_name.keys() & set(frames):
        numbers = [_number(name) for name in frames]
        if len(set(numbers)) < len(numbers) or None in numbers:
            raise DataError(f"{folder}: no file is named as a frame is ({frames[0]} …). Remedy: name them alike.")
        by_name = _unique(folder, [_number(file.stem) or file.stem for file in files], files)
        frames = [str(number) for number in numbers]
    if strangers := sorted(by_name.keys() - set(frames)):
        raise DataError(f"{folder}: {by_name[strangers[0]].name} belongs to no frame. Remedy: name it as its frame is.")
    return [by_name.get(frame) for frame in frames]


def lacking(scene: str, number: int, kind: str) -> DataError:
    """The error for a frame without its file in the folder `kind`."""
    return DataError(
        f"scene {scene}: frame {number} has no picture in {kind}/, but others have. "
        "Remedy: add it; of depth, a picture of zeros where there is none."
    )


def as_frame(labels: np.ndarray, size: tuple[int, int], path: Path) -> np.ndarray:
    """The same. Raises `DataError` if it shows something of another shape than its frame of `size` (height, width)."""
    if not same_shape((labels.shape[0], labels.shape[1]), size):
        raise DataError(
            f"{path}: {labels.shape[1]}x{labels.shape[0]} pixels, its frame has {size[1]}x{size[0]}: another shape. "
            "Remedy: register it to the frame (another resolution of the same view is fine)."
        )
    return labels


def _unique(folder: Path, names: Sequence[str], files: Sequence[Path]) -> dict[str, Path]:
    found = dict(zip(names, files, strict=True))
    if len(found) < len(files):
        raise DataError(f"{folder}: two files belong to one frame: {max(names, key=names.count)}. Remedy: remove one.")
    return found


def _number(name: str) -> str | None:
    """The last number in a name, without leading zeros."""
    found = re.findall(r"[0-9]+", name)
    return str(int(found[-1])) if found else None

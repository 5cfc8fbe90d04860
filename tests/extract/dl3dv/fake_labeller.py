"""A labeller by the documented protocol, outside the package: a flat wall, seen by a camera that moves sideways."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
from jaxtyping import UInt8

from extract.datasets.dl3dv_files.vggt_input import vggt_pictures
from extract.labelling.base import Made


class Fake:
    name = "fake"
    calls: ClassVar[list[tuple[int, ...]]] = []
    stop_after: ClassVar[int | None] = None

    def __init__(self, checkpoint: str | None, device: str) -> None:
        self.checkpoint = checkpoint or "somewhere/fake"
        assert device == "cpu"

    def label(self, frames: UInt8[np.ndarray, "frame y x 3"]) -> Made:
        if self.stop_after is not None and len(self.calls) >= self.stop_after:
            raise KeyboardInterrupt
        self.calls.append(frames.shape)
        seen = vggt_pictures(frames)
        count, height, width = seen.shape[:3]
        depth = np.full((count, height, width), 2, np.float32)
        intrinsic = np.array([[500, 0, width / 2], [0, 500, height / 2], [0, 0, 1]], np.float32)
        extrinsic = np.tile(np.eye(3, 4, dtype=np.float32), (count, 1, 1))
        extrinsic[:, 0, 3] = np.arange(count) / 10
        return Made(seen, depth, depth / 2, np.tile(intrinsic, (count, 1, 1)), extrinsic)


class Wrong(Fake):
    def label(self, frames: UInt8[np.ndarray, "frame y x 3"]) -> Made:
        made = super().label(frames)
        return Made(made.images, made.depth[:, :7], made.confidence, made.intrinsic, made.extrinsic)


class Lost(Fake):
    """Of the first scene it finds no cameras."""

    def label(self, frames: UInt8[np.ndarray, "frame y x 3"]) -> Made:
        made = super().label(frames)
        if len(self.calls) == 1:
            made.extrinsic[0] = np.nan
        return made


class Nothing:
    def __init__(self, checkpoint: str | None, device: str) -> None:
        pass

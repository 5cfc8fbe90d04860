"""What the targets of a dataset look like, and how one clip of them is read."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Float32, Integer, UInt8
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from probes.errors import TargetsError
from probes.geometry import normals_from_depth
from probes.seeding import generator

POOL_PIXELS = 4096
"""Pixels of each frame that training keeps in memory and draws from."""


_IMAGES = {"depth", "confidence", "normals", "classes", "instance", "thing_instance"}


class LabelSpace(BaseModel):
    """The classes and image size of a dataset's targets.

    Attributes:
        names: class `k` (from 1) is `names[k - 1]`; 0 means nothing.
        things: whether each class is countable.
        height, width: size of target images in pixels.
        rates: share of training clips that show each class of tagging, for tables by frequency; `None` if not counted.
        metric: whether lengths are metres; if not, each scene has a unit of its own.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    names: tuple[str, ...] = ()
    things: tuple[bool, ...] = ()
    height: int
    width: int
    metric: bool = True
    rates: tuple[float, ...] | None = None

    @property
    def thing_ids(self) -> list[int]:
        """Ids of the thing classes, in order."""
        return [k for k, thing in enumerate(self.things, 1) if thing]

    @property
    def thing_names(self) -> list[str]:
        """Names of the thing classes, in order."""
        return [self.names[k - 1] for k in self.thing_ids]


class ClipLabels:
    """Targets of one clip, each array read when first asked for. Axes of images: (frame, y, x).

    Lengths are metres; or, where each scene has a unit of its own, such that the clip's median depth is 1, and without
    depth such that its cameras are at a root mean square distance of 1 from their centre.

    Args:
        read: returns a target array of this clip by name; raises `KeyError` if there is none.
        space: classes and image size.
    """

    def __init__(self, read: Callable[[str], NDArray[Any]], space: LabelSpace) -> None:
        self._read = read
        self.space = space

    @cached_property
    def rgb(self) -> UInt8[np.ndarray, "frame y x 3"]:
        """Colour images."""
        return self._read("rgb")

    @cached_property
    def depth(self) -> Float32[np.ndarray, "frame y x"]:
        """Planar depth; 0 where unknown."""
        return self._depth / np.float32(self._unit)

    @cached_property
    def _depth(self) -> Float32[np.ndarray, "frame y x"]:
        return self._read("depth")

    @cached_property
    def _unit(self) -> float:
        """Length of the unit in which lengths are given, in that of the targets."""
        if self.space.metric:
            return 1.0
        try:
            known = self._depth[self._depth > 0]
        except KeyError:
            centres = self._poses[self.posed, :3, 3]
            spread = np.sqrt(np.square(centres - centres.mean(0)).sum(-1).mean()) if len(centres) else 0.0
        else:
            spread = np.median(known) if len(known) else 0.0
        return float(spread) or 1.0

    @cached_property
    def normals(self) -> Float32[np.ndarray, "frame y x 3"]:
        """Unit normals of surfaces in the camera's frame, facing the camera, from depth; 0 where there is none."""
        seen = np.where(self.calibrated[:, None, None], self.depth, np.float32(0))
        return normals_from_depth(seen, self.intrinsics)

    @cached_property
    def instance(self) -> Integer[np.ndarray, "frame y x"]:
        """Instance ids, the same object having the same id in all frames; 0 = nothing."""
        return self._read("instance").astype(np.int32)

    @cached_property
    def classes(self) -> UInt8[np.ndarray, "frame y x"]:
        """Class ids; 0 = nothing."""
        classes: NDArray[Any] = self._read("instance_class")[self.instance]
        return classes

    @cached_property
    def thing_instance(self) -> Integer[np.ndarray, "frame y x"]:
        """Instance ids of things only; 0 elsewhere."""
        countable = np.array([False, *self.space.things])
        return np.where(countable[self._read("instance_class")][self.instance], self.instance, 0)

    @cached_property
    def class_pixels(self) -> Integer[np.ndarray, "frame class"]:
        """Pixels of every class in every frame; column k - 1 is class k."""
        return self._read("class_pixels")

    @cached_property
    def cam_to_world(self) -> Float[np.ndarray, "frame 4 4"]:
        """Camera poses; the identity where `posed` says that there is none."""
        poses = np.where(self.posed[:, None, None], self._poses, np.eye(4))
        poses[:, :3, 3] /= self._unit
        return poses

    @cached_property
    def posed(self) -> Bool[np.ndarray, " frame"]:
        """Whether the pose of a frame is known: in the store, an unknown one is all zero."""
        return np.asarray(self._poses.any(axis=(1, 2)))

    def require_poses(self, windows: Integer[np.ndarray, "window view"]) -> None:
        """Raise `TargetsError` if a pose that these windows show is not known."""
        if not self.posed[windows].all():
            lost = sorted(set(windows[~self.posed[windows]].tolist()))
            raise TargetsError(
                f"a clip has no pose at bank positions {lost}, and the paper's protocol cannot leave views out. "
                "Use the standard protocol, or extract without that clip."
            )

    @cached_property
    def _poses(self) -> Float[np.ndarray, "frame 4 4"]:
        return self._read("cam_to_world")

    @cached_property
    def intrinsics(self) -> Float[np.ndarray, "frame 3 3"]:
        """Camera matrices, in pixels of the target images; the identity where `calibrated` says that there is none."""
        return np.where(self.calibrated[:, None, None], self._cameras, np.eye(3))

    @cached_property
    def calibrated(self) -> Bool[np.ndarray, " frame"]:
        """Whether the camera matrix of a frame is known."""
        return np.asarray(self._cameras.any(axis=(1, 2)))

    @cached_property
    def _cameras(self) -> Float[np.ndarray, "frame 3 3"]:
        return self._read("intrinsics")

    @cached_property
    def confidence(self) -> Float32[np.ndarray, "frame y x"]:
        """How sure the network that made the depth is of it; 1 where depth was measured."""
        try:
            return self._read("confidence")
        except KeyError:
            return np.ones_like(self.depth)


class PixelPool:
    """What training keeps of one clip: random pixels of each frame. Memory is bounded, and nothing is decoded twice.

    Args:
        labels: the clip; the arrays that `fields` names are read now, and no others.
        fields: names among `depth`, `confidence`, `normals`, `classes`, `instance`, `thing_instance`, `class_pixels`,
            `cam_to_world`, `posed`, `intrinsics`, `calibrated`.
        key: what the choice of pixels is seeded by.
    """

    def __init__(self, labels: ClipLabels, fields: frozenset[str], *key: int | str) -> None:
        self.space = labels.space
        self._values: dict[str, NDArray[Any]] = {}
        images = sorted(fields & _IMAGES)
        height, width = self.space.height, self.space.width
        chosen = generator(*key, "pool")
        for name in images:
            values = getattr(labels, name)
            if "flat" not in self._values:
                self._values["flat"] = chosen.integers(height * width, size=(len(values), POOL_PIXELS), dtype=np.int32)
            flat = values.reshape(len(values), height * width, -1)
            pixels = np.take_along_axis(flat, self._values["flat"][..., None], axis=1)
            self._values[name] = pixels.reshape(len(values), POOL_PIXELS, *values.shape[3:])
        for name in sorted(fields - set(images)):
            self._values[name] = getattr(labels, name)

    def __len__(self) -> int:
        """Number of bank frames."""
        return len(next(iter(self._values.values())))

    def __getitem__(self, name: str) -> NDArray[Any]:
        """Values of one field: (frame, pixel, …) for image fields, otherwise as in `ClipLabels`."""
        return self._values[name]

    def pixels(
        self, frames: Integer[np.ndarray, " view"], index: Integer[np.ndarray, "view sample"]
    ) -> Float[np.ndarray, "view sample 2"]:
        """Image positions (x, y) in pixels of chosen entries of the pool."""
        flat = np.take_along_axis(self._values["flat"][frames], index, axis=1)
        return np.stack([flat % self.space.width, flat // self.space.width], -1) + 0.5

    def draw(
        self, valid: Bool[np.ndarray, "view pool"], count: int, rng: np.random.Generator
    ) -> tuple[Integer[np.ndarray, "view sample"], Bool[np.ndarray, "view sample"]]:
        """Draw `count` valid pool entries per view, with replacement. A view without any is marked False."""
        index = np.zeros((len(valid), count), np.int64)
        for view, mask in enumerate(valid):
            (known,) = np.nonzero(mask)
            if len(known):
                index[view] = known[rng.integers(len(known), size=count)]
        return index, np.repeat(valid.any(axis=1, keepdims=True), count, axis=1)

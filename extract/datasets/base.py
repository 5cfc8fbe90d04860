"""What a dataset is: classes, and clips whose frames and labels are decoded when they are asked for.

A dataset is one file that defines one subclass of `Dataset`. It states where its files are looked for, so that a user
without them learns what to get and where to put it.
"""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, ClassVar, Literal

import numpy as np
from jaxtyping import Float32, Float64, UInt8, UInt16

from extract.datasets.sampling import Sampling
from extract.errors import DataError, DatasetNotFoundError, ExtractError


@dataclass(frozen=True)
class ClassInfo:
    """A class of the dataset: a `thing` can be counted (chair), `stuff` cannot (wall)."""

    name: str
    kind: Literal["thing", "stuff"]


@dataclass(frozen=True)
class Targets:
    """Labels of a clip at its bank frames. `None` means that the dataset has no such labels.

    Attributes:
        rgb: the frames themselves, at the size of the other pictures, which may be smaller than `Dataset.image_size`.
        depth: planar z along the optical axis in metres, 0 = invalid.
        instance: instance ids, 0 = nothing. The same thing has the same id in every frame of the clip.
        instance_class: class id of each instance id, for ids 0 … `Dataset.max_instances`; 0 = no such instance.
            Class id k is `Dataset.classes[k - 1]`.
        cam_to_world: camera poses, OpenCV axes (x right, y down, z forward), metres; all zero = unknown.
        intrinsics: pinhole matrices in pixels of these pictures; each spans [0, width] x [0, height].
        confidence: of `depth`, where a network made it: at least 0, more is surer, the scale is the network's own.
    """

    rgb: UInt8[np.ndarray, "frame y x 3"]
    depth: Float32[np.ndarray, "frame y x"] | None
    instance: UInt16[np.ndarray, "frame y x"] | None
    instance_class: UInt8[np.ndarray, " slot"] | None
    cam_to_world: Float64[np.ndarray, "frame 4 4"] | None
    intrinsics: Float64[np.ndarray, "frame 3 3"] | None
    confidence: Float32[np.ndarray, "frame y x"] | None = None


class Clip(ABC):
    """An ordered run of frames of one scene. Making one reads no picture.

    Attributes:
        id: unique in the dataset; safe as a file name.
        scene: what the clip shows. Clips of one scene never lie in two splits.
        split: `train`, `val` or `test`.
        n_frames: number of frames.
        bank: frame numbers that features and targets are kept for, ascending.
    """

    id: str
    scene: str
    split: str
    n_frames: int
    bank: tuple[int, ...]

    def check_frames(self, indices: Sequence[int]) -> None:
        """Raise `DataError` unless the clip has frames with these numbers."""
        if strangers := [index for index in indices if not 0 <= index < self.n_frames]:
            raise DataError(
                f"clip {self.id}: there is no frame {strangers[0]}. Remedy: ask for 0 to {self.n_frames - 1}."
            )

    @abstractmethod
    def frames(self, indices: Sequence[int]) -> UInt8[np.ndarray, "n y x 3"]:
        """Decode the RGB frames with these numbers, in this order.

        Raises:
            DataError: a file is missing, truncated, or of another size; or there is no frame with such a number.
        """

    @abstractmethod
    def targets(self) -> Targets:
        """Labels at the bank frames. Raises `DataError` for files that are missing, truncated or contradictory."""

    @abstractmethod
    def digest(self) -> str:
        """xxh3_128 of the source files (images and labels), 32 hexadecimal digits. Raises `DataError`."""


class Dataset(ABC):
    """A dataset in a directory.

    Args:
        root: the directory; without it the variable `environment` is read, then `shipped` is used.
        sampling: which frames of a recording make a clip, instead of `default_sampling`.

    Attributes:
        name: as in `--dataset`. An object may have a name of its own, under which its stores are kept.
        version: of the files that were found; it becomes part of the recipe.
        classes: class id k is `classes[k - 1]`.
        image_size: (height, width) of every frame, in pixels.
    """

    name: str
    environment: ClassVar[str]
    """Environment variable that points at the directory."""
    how_to_get: ClassVar[str]
    """What to get, from where, and which files have to lie below the directory."""
    shipped: ClassVar[Path | None] = None
    """Directory that comes with this project, if one does."""
    default_sampling: ClassVar[Sampling | None] = None
    """Which frames of a recording make a clip; `None` if the dataset itself is made of clips."""
    depth_unit: str = "m"
    """Of depths and positions, as the CF conventions write it: `m`, or `1` where each scene has a scale of its own."""

    version: str
    classes: Sequence[ClassInfo]
    image_size: tuple[int, int]
    damaged: Mapping[str, str] = MappingProxyType({})
    """Clip id, or name of what would hold clips, -> what is wrong, of recordings that cannot be read at all.

    They are not among `clips()`, and are all known once that was called.
    """

    def __init__(self, root: Path | None = None, sampling: Sampling | None = None) -> None:
        if sampling is not None and self.default_sampling is None:
            raise ExtractError(
                f"dataset {self.name}: its clips are as they are; leave out --clip-frames, --clip-window and --bank."
            )
        self.sampling = sampling or self.default_sampling
        self.root = self.find(root)

    @property
    @abstractmethod
    def max_instances(self) -> int:
        """Greatest instance id of any clip; what `Targets.instance_class` is as long as, less one."""

    @abstractmethod
    def clips(self) -> Sequence[Clip]:
        """All clips of all splits, in an order that never changes."""

    def facts(self) -> Mapping[str, Any]:
        """Further JSON values that change frames or labels (units, class maps). They enter the recipe."""
        return {} if self.sampling is None else {"sampling": self.sampling.model_dump(mode="json")}

    @classmethod
    def name_in(cls, root: Path | None) -> str:
        """Name under which the stores of what lies in a directory are kept; it need not be there.

        Raises:
            DataError: the file that says it is damaged.
        """
        return cls.name

    @classmethod
    def find(cls, root: Path | None) -> Path:
        """The directory to read. Raises `DatasetNotFoundError` with what to do if there is none."""
        variable = os.environ.get(cls.environment)
        if root is not None:
            found, where = root.expanduser(), "given by --root"
        elif variable:
            found, where = Path(variable).expanduser(), f"given by {cls.environment}"
        elif cls.shipped is not None:
            found, where = cls.shipped, "shipped with this project"
        else:
            raise cls.not_found(f"{cls.environment} is not set and --root was not given")
        if not found.is_dir():
            raise cls.not_found(f"{found} ({where}) is not a directory")
        return found

    @classmethod
    def not_found(cls, why: str) -> DatasetNotFoundError:
        """The error that says why the dataset was not found, what to get, and how to point at it."""
        return DatasetNotFoundError(
            f"dataset {cls.name}: {why}.\n{cls.how_to_get}\n"
            f"Then point at it: --root DIRECTORY, or export {cls.environment}=DIRECTORY"
        )

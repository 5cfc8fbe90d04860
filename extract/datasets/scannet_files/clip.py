"""A clip of ScanNet: frames chosen from one scan, and the targets at its bank."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float32, Float64, UInt8, UInt16

from extract.datasets._pictures import laid_onto, nearest, rescaled, resized
from extract.datasets.base import Clip, Targets
from extract.datasets.sampling import Sampling
from extract.datasets.scannet_files.errors import damaged, unreadable
from extract.datasets.scannet_files.instances import InstanceArchive
from extract.datasets.scannet_files.labels import instance_classes, read_objects
from extract.datasets.scannet_files.recording import Cameras
from extract.datasets.scannet_files.scan import TARGET_SIZE, Scan
from extract.datasets.scannet_files.splits import room_of
from extract.remembered import remembered
from store.digest import digest_bytes, digest_text
from store.recipe import canonical_json

log = logging.getLogger(__name__)

_DIGEST = "clip of ScanNet, 1"
"""How a digest is made; the number is raised when that changes, so that none is remembered that was made otherwise."""


@dataclass(frozen=True)
class Shared:
    """What all clips of the dataset have in common.

    Attributes:
        sampling: which frames make a clip.
        image_size: (height, width) of its frames.
        class_of: raw category -> class id; `None` = no scan has labels.
    """

    sampling: Sampling
    image_size: tuple[int, int]
    class_of: Mapping[str, int] | None


class ScanNetClip(Clip):
    """Frames of one scan. The scene is the room, of which there may be several scans."""

    def __init__(self, scan: Scan, split: str, shared: Shared) -> None:
        self.id = scan.id
        self.scene = room_of(scan.id)
        self.split = split
        self.chosen = shared.sampling.choose(len(scan.recording.numbers), scan.id)
        self.n_frames = len(self.chosen)
        self.bank = shared.sampling.bank_of(self.n_frames)
        self.scan = scan
        self.recording = scan.recording
        self.archive = InstanceArchive(scan.archive)
        self.shared = shared

    def frames(self, indices: Sequence[int]) -> UInt8[np.ndarray, "n y x 3"]:
        """Decode these frames; those of the few scans with another size are stretched to the size of the dataset."""
        self.check_frames(indices)
        images = np.empty((len(indices), *self.shared.image_size, 3), np.uint8)
        for row, index in enumerate(indices):
            images[row] = resized(self.recording.color(self.chosen[index]), self.shared.image_size)
        return images

    def targets(self) -> Targets:
        """Decode the bank. All pictures have `TARGET_SIZE` and the place and intrinsics of the colour camera."""
        cameras = self.recording.cameras()
        matrix = rescaled(cameras.color, cameras.color_size, TARGET_SIZE)
        class_of = self.shared.class_of
        objects = {} if class_of is None else read_objects(self.scan.aggregation)
        return Targets(
            rgb=np.stack([resized(self.recording.color(k), TARGET_SIZE) for k in self._positions]),
            depth=self._depth(cameras, matrix),
            instance=None if class_of is None else self._instances(objects, cameras.color_size),
            instance_class=None if class_of is None else instance_classes(objects, class_of),
            cam_to_world=np.stack([self.recording.pose(k) for k in self._positions]),
            intrinsics=np.repeat(matrix[None], len(self.bank), axis=0),
        )

    def digest(self) -> str:
        """Over what the clip is made of: its frames, depth, poses and instances at the bank, cameras and categories.

        It is not over the whole recording, of which a clip is a fiftieth. It is remembered until a file changes.
        """
        scan, labelled = self.scan, self.shared.class_of is not None
        files = self.recording.files(self.chosen, self._positions)
        if labelled:
            files = [*files, scan.archive, scan.aggregation]
        read = [str(self.recording.where.resolve()), self.chosen, self._positions, labelled]
        try:
            return remembered(_DIGEST, canonical_json(read), files, self._read_digest)
        except OSError as error:
            raise unreadable(Path(error.filename or scan.folder), error) from error

    def _read_digest(self) -> str:
        log.debug("reading clip %s to know its content; it is remembered", self.id)
        return digest_text("\n".join(f"{name}\0{digest_bytes(content)}" for name, content in self._sources()))

    def _sources(self) -> Iterator[tuple[str, bytes]]:
        """Name and bytes of all that is read; names are the same in a `.sens` file and in exported folders."""
        recording = self.recording
        yield "head", recording.head()
        for k in self.chosen:
            yield f"color/{recording.numbers[k]}", recording.read("color", k)
        for k in self._positions:
            yield f"pose/{recording.numbers[k]}", recording.read("pose", k)
            if recording.has_depth:
                yield f"depth/{recording.numbers[k]}", recording.read("depth", k)
        if self.shared.class_of is not None:
            for number, content in self.archive.read(self._numbers).items():
                yield f"instance/{number}", content
            yield "aggregation", self.scan.aggregation.read_bytes()

    @property
    def _positions(self) -> list[int]:
        """Bank frames, counted in the recording."""
        return [self.chosen[index] for index in self.bank]

    @property
    def _numbers(self) -> list[int]:
        """Frame numbers of the bank."""
        return [self.recording.numbers[k] for k in self._positions]

    def _depth(self, cameras: Cameras, matrix: Float64[np.ndarray, "3 3"]) -> Float32[np.ndarray, "frame y x"] | None:
        if cameras.depth is None:
            return None
        if not cameras.registered:
            raise damaged(
                self.recording.where,
                "its extrinsic matrices are not the identity, so depth is seen from beside the colour camera; "
                "ScanNet releases depth that was moved there",
            )
        seen = (self.recording.depth(k) for k in self._positions)
        return np.stack([laid_onto(depth, cameras.depth, matrix, TARGET_SIZE) for depth in seen])

    def _instances(self, objects: Mapping[int, str], size: tuple[int, int]) -> UInt16[np.ndarray, "frame y x"]:
        contents = self.archive.read(self._numbers)
        pictures = [nearest(self.archive.decode(n, content, size), TARGET_SIZE) for n, content in contents.items()]
        images = np.stack(pictures).astype(np.uint16)
        if strangers := sorted(set(np.unique(images).tolist()) - {0, *objects}):
            raise damaged(self.archive.path, f"instances {strangers} are no objects of {self.scan.aggregation.name}")
        return images

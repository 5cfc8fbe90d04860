"""A clip of DL3DV: consecutive frames of a scene, and the labels at its bank."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float64, UInt8

from extract.datasets._pictures import resized
from extract.datasets.base import Clip, Targets
from extract.datasets.dl3dv_files.errors import LABEL_FAULTS, damaged, unreadable
from extract.datasets.dl3dv_files.scenes import Scene
from extract.datasets.dl3dv_files.sft import Header, digest_labels, read_labels, rows_of
from extract.datasets.dl3dv_files.supplied import Supplied
from extract.datasets.dl3dv_files.vggt_input import vggt_pictures
from extract.datasets.poses.camera import Camera, PosedImage
from extract.datasets.poses.rigid import unknown
from extract.datasets.sampling import Sampling
from extract.remembered import remembered
from store.digest import digest_files, digest_text
from store.recipe import canonical_json

ALIKE = 24.0
"""Mean difference, of 255, between a frame and the picture that its labels are of. Other filters and JPEG make a few,
another scene makes 40 and more."""
_DIGEST = "clip of DL3DV, 1"
"""How a digest is made; the number is raised when that changes, so that none is remembered that was made otherwise."""


@dataclass(frozen=True)
class Shared:
    """What all clips of the data set have in common.

    Attributes:
        sampling: which frames make a clip.
        image_size: (height, width) of its frames.
        poses, intrinsics: whether the poses and intrinsics of the release are targets.
    """

    sampling: Sampling
    image_size: tuple[int, int]
    poses: bool
    intrinsics: bool


class Dl3dvClip(Clip):
    """Frames of one scene. Depth is what a user supplied, or a network made it, and the cameras too."""

    def __init__(
        self, scene: Scene, split: str, shared: Shared, labels: Header | None = None, supplied: Supplied | None = None
    ) -> None:
        self.id = self.scene = scene.id
        self.split = split
        self.recording = scene
        self.labels = labels
        self.supplied = supplied
        self.shared = shared
        self.chosen = self._choose()
        self.n_frames = len(self.chosen)
        self.bank = shared.sampling.bank_of(self.n_frames)

    def _choose(self) -> list[int]:
        """As sampling says; a run begins where the labels do, which is the same for labels of the published code."""
        sampling, total = self.shared.sampling, self.recording.total
        if sampling.window == "run" and self.labels is not None:
            start = self.labels.start
            return list(range(start, min(start + sampling.frames, total)))
        return sampling.choose(total, self.id)

    def frames(self, indices: Sequence[int]) -> UInt8[np.ndarray, "n y x 3"]:
        """Decode these frames; those of scenes with another size are stretched to that of the data set."""
        self.check_frames(indices)
        images = np.empty((len(indices), *self.shared.image_size, 3), np.uint8)
        for row, index in enumerate(indices):
            images[row] = resized(self.recording.picture(self.chosen[index]), self.shared.image_size)
        return images

    def targets(self) -> Targets:
        """Labels of the network at its own size, if there are any; else the cameras of the release, supplied depth."""
        return self._released() if self.labels is None else self._labelled(self.labels)

    def digest(self) -> str:
        """Over the clip's pictures, and the labels of the bank or the files of poses and of depth at the bank.

        Remembered until a file changes. Reads the poses too, and pairs depth with pictures, so that a scene that lacks
        a file is known before anything is written.
        """
        track = self.recording.track
        pictures = [self.recording.path(number) for number in self.chosen]
        poses = list(track.files) if track is not None else []
        beside = [] if self.labels is None else [self.labels.path]
        depth = self._depth_files()
        read = [str(self.recording.folder.resolve()), self.chosen, self.bank, self.recording.total]

        def make() -> str:
            self.recording.posed()
            used = poses if self.labels is None else []
            parts = [digest_files(self.recording.folder, [*pictures, *used, *depth])]
            if self.labels is not None:
                parts.append(digest_labels(self.labels, self._rows(self.labels)))
            return digest_text("\n".join(parts))

        try:
            return remembered(_DIGEST, canonical_json(read), [*pictures, *poses, *beside, *depth], make)
        except OSError as error:
            raise unreadable(Path(error.filename or self.recording.folder), error) from error

    def _released(self) -> Targets:
        numbers, size = [self.chosen[index] for index in self.bank], self.shared.image_size
        posed = self.recording.posed() if self.shared.poses else {}
        common = _common([image.camera for image in posed.values()])
        cameras = [posed[number].camera if number in posed else common for number in numbers]
        return Targets(
            rgb=self.frames(self.bank),
            depth=self.supplied.read(self.recording, numbers, size) if self.supplied else None,
            instance=None,
            instance_class=None,
            cam_to_world=_poses(posed, numbers, self._pose_scale()) if self.shared.poses else None,
            intrinsics=np.stack([self._matrix(camera, size) for camera in cameras]) if self.shared.intrinsics else None,
        )

    def _labelled(self, header: Header) -> Targets:
        labels = read_labels(header, self._rows(header))
        seen = vggt_pictures(np.stack([self.recording.picture(self.chosen[index]) for index in self.bank]))
        if seen.shape != labels.images.shape:
            size, expected = labels.images.shape[1:3], seen.shape[1:3]
            raise LABEL_FAULTS.damaged(
                header.path, f"labels of {size[1]}x{size[0]} pixels, expected {expected[1]}x{expected[0]}"
            )
        apart = np.abs(seen.astype(np.int16) - labels.images).mean(axis=(1, 2, 3))
        if apart.max() > ALIKE:
            number = self.chosen[self.bank[int(apart.argmax())]]
            raise LABEL_FAULTS.damaged(
                header.path,
                f"is of other pictures: {apart.max():.0f} of 255 from {self.recording.names[number]} in the mean",
            )
        return Targets(
            rgb=labels.images,
            depth=labels.depth,
            instance=None,
            instance_class=None,
            cam_to_world=labels.cam_to_world,
            intrinsics=labels.intrinsics,
            confidence=labels.confidence,
        )

    def _rows(self, header: Header) -> list[int]:
        return rows_of(header, [self.chosen[index] for index in self.bank])

    def _depth_files(self) -> list[Path]:
        """Supplied depth of the bank, and what says its unit."""
        if self.supplied is None:
            return []
        numbers = [self.chosen[index] for index in self.bank]
        return [*self.supplied.files, *self.supplied.paths(self.recording, numbers)]

    def _pose_scale(self) -> float:
        return self.supplied.pose_scale if self.supplied else 1.0

    def _matrix(self, camera: Camera | None, size: tuple[int, int]) -> Float64[np.ndarray, "3 3"]:
        """For pictures of `size`; all zero = unknown. The file's numbers are of the pictures in `images`."""
        if camera is None:
            return np.zeros((3, 3))
        where = f"{self.recording.track and self.recording.track.files[0]}"
        if camera.size is None:
            raise damaged(where, "says neither w nor h, so that it is not known which pictures its intrinsics are of")
        return camera.intrinsics(size, where)


def _poses(posed: dict[int, PosedImage], numbers: Sequence[int], scale: float) -> Float64[np.ndarray, "frame 4 4"]:
    """Camera to world, positions times `scale`; all zero for frames that structure from motion did not place."""
    poses = np.stack([posed[number].cam_to_world if number in posed else unknown() for number in numbers])
    poses[:, :3, 3] *= scale
    return poses


def _common(cameras: Sequence[Camera]) -> Camera | None:
    """The camera of all, if it is one."""
    return cameras[0] if cameras and all(each == cameras[0] for each in cameras) else None

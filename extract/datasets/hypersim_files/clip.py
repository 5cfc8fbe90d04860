"""A clip of Hypersim: images of one camera path, and the targets at its bank."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float32, Float64, UInt8, UInt16

from extract.datasets._pictures import decode, nearest, rescaled, resized
from extract.datasets._sources import content
from extract.datasets.base import Clip, Targets
from extract.datasets.hypersim_files.arrays import FAULTS, LARGEST, read_array
from extract.datasets.hypersim_files.camera import SIZE, Lens, planar
from extract.datasets.hypersim_files.labels import classes_of, instances, no_votes, vote
from extract.datasets.hypersim_files.lists import Trajectory, read_scale
from extract.datasets.sampling import Sampling
from extract.remembered import remembered
from store.digest import digest_bytes, digest_text
from store.recipe import canonical_json

TARGET_SIZE = (480, 640)
"""(height, width) of target pictures, as those of ScanNet."""
_FLOATS, _IDS = ("<f2", "<f4"), ("<i2",)
_POSES = ("<f8", "<f4")
_DIGEST = "clip of Hypersim, 1"
"""How a digest is made; the number is raised when that changes, so that none is remembered that was made otherwise."""


@dataclass(frozen=True)
class Parts:
    """Where the files of a camera path lie, and which of its parts are there.

    Attributes:
        folder: of the scene.
        trajectory: which images.
        has_color, has_depth, has_labels: those of the first image are there.
    """

    folder: Path
    trajectory: Trajectory
    has_color: bool
    has_depth: bool
    has_labels: bool

    @classmethod
    def find(cls, scenes: Path, trajectory: Trajectory) -> Parts:
        """Looks for the files of the first image."""
        parts = cls(scenes / trajectory.scene, trajectory, False, False, False)
        first = trajectory.frames[0]
        labels = [parts.geometry("semantic", first), parts.geometry("semantic_instance", first)]
        return cls(
            parts.folder,
            trajectory,
            parts.color(first).is_file(),
            parts.geometry("depth_meters", first).is_file(),
            all(path.is_file() for path in labels),
        )

    @property
    def id(self) -> str:
        """`ai_001_001-cam_00`."""
        return f"{self.trajectory.scene}-{self.trajectory.camera}"

    @property
    def scale(self) -> Path:
        """Metres per unit."""
        return self.folder / "_detail/metadata_scene.csv"

    def keyframes(self, what: str) -> Path:
        """Orientations or positions of all images."""
        return self.folder / "_detail" / self.trajectory.camera / f"camera_keyframe_{what}.hdf5"

    def color(self, frame: int) -> Path:
        """An image, tone mapped."""
        return self._image("final_preview", frame, "tonemap.jpg")

    def geometry(self, what: str, frame: int) -> Path:
        """Depth or labels of an image."""
        return self._image("geometry_hdf5", frame, f"{what}.hdf5")

    def _image(self, kind: str, frame: int, ending: str) -> Path:
        return self.folder / "images" / f"scene_{self.trajectory.camera}_{kind}" / f"frame.{frame:04d}.{ending}"


class HypersimClip(Clip):
    """Images of one camera path, in its order. They are far apart: the next shows another part of the room."""

    def __init__(self, parts: Parts, lens: Lens, sampling: Sampling) -> None:
        frames = parts.trajectory.frames
        self.id = parts.id
        self.scene = parts.trajectory.scene
        self.split = parts.trajectory.split
        self.chosen = [frames[k] for k in sampling.choose(len(frames), parts.id)]
        self.n_frames = len(self.chosen)
        self.bank = sampling.bank_of(self.n_frames)
        self.parts = parts
        self.lens = lens

    def frames(self, indices: Sequence[int]) -> UInt8[np.ndarray, "n y x 3"]:
        """Decode these images."""
        self.check_frames(indices)
        images = np.empty((len(indices), *SIZE, 3), np.uint8)
        for row, index in enumerate(indices):
            images[row] = self._color(self.chosen[index])
        return images

    def targets(self) -> Targets:
        """Decode the bank, at `TARGET_SIZE`. Labels are those of the nearest pixel."""
        poses, matrix = self._poses(), rescaled(self.lens.intrinsics, SIZE, TARGET_SIZE)
        ids, classes = self._labels() if self.parts.has_labels else (None, None)
        return Targets(
            rgb=np.stack([resized(self._color(frame), TARGET_SIZE) for frame in self._bank]),
            depth=self._depths() if self.parts.has_depth else None,
            instance=ids,
            instance_class=classes,
            cam_to_world=poses,
            intrinsics=np.repeat(matrix[None], len(self._bank), axis=0),
        )

    def digest(self) -> str:
        """Over the clip's images, depth and labels at the bank, all poses, the scale, and the lens.

        That of the files is remembered until one changes.
        """
        files = self._files()
        place = canonical_json([str(path) for path in [self.parts.folder.resolve(), *files]])
        try:
            read = remembered(_DIGEST, place, files, lambda: self._read_digest(files))
        except OSError as error:
            raise FAULTS.unreadable(error.filename or self.parts.folder, error) from error
        lens = [self.lens.intrinsics.round(6).tolist(), self.lens.rotation.round(9).tolist()]
        return digest_text(f"{read}\0{canonical_json(lens)}")

    @property
    def _bank(self) -> list[int]:
        return [self.chosen[index] for index in self.bank]

    def _files(self) -> list[Path]:
        parts = self.parts
        files = [parts.scale, parts.keyframes("orientations"), parts.keyframes("positions")]
        files += [parts.color(frame) for frame in self.chosen]
        kinds = ["depth_meters"] * parts.has_depth + ["semantic", "semantic_instance"] * parts.has_labels
        return files + [parts.geometry(kind, frame) for frame in self._bank for kind in kinds]

    def _read_digest(self, files: Sequence[Path]) -> str:
        folder = self.parts.folder
        return digest_text(
            "\n".join(f"{file.relative_to(folder)}\0{digest_bytes(content(file, LARGEST, FAULTS))}" for file in files)
        )

    def _color(self, frame: int) -> UInt8[np.ndarray, "y x 3"]:
        path = self.parts.color(frame)
        return decode(content(path, LARGEST, FAULTS), "JPEG", "RGB", path, SIZE, FAULTS)

    def _depths(self) -> Float32[np.ndarray, "frame y x"]:
        lengths = nearest(self.lens.ray_lengths(), TARGET_SIZE)
        paths = [self.parts.geometry("depth_meters", frame) for frame in self._bank]
        return np.stack([planar(nearest(read_array(path, SIZE, _FLOATS), TARGET_SIZE), lengths) for path in paths])

    def _labels(self) -> tuple[UInt16[np.ndarray, "frame y x"], UInt8[np.ndarray, " slot"]]:
        ids = np.empty((len(self._bank), *TARGET_SIZE), np.uint16)
        votes = no_votes()
        for row, frame in enumerate(self._bank):
            where = self.parts.geometry("semantic_instance", frame)
            semantic = nearest(read_array(self.parts.geometry("semantic", frame), SIZE, _IDS), TARGET_SIZE)
            instance = nearest(read_array(where, SIZE, _IDS), TARGET_SIZE)
            ids[row] = instances(semantic, instance, where)
            vote(votes, semantic, ids[row])
        return ids, classes_of(votes)

    def _poses(self) -> Float64[np.ndarray, "frame 4 4"]:
        paths = self.parts.keyframes("orientations"), self.parts.keyframes("positions")
        orientations = read_array(paths[0], (None, 3, 3), _POSES).astype(np.float64)
        positions = read_array(paths[1], (None, 3), _POSES).astype(np.float64) * read_scale(self.parts.scale)
        if not max(self._bank) < len(orientations) == len(positions):
            raise FAULTS.damaged(
                paths[1],
                f"{len(positions)} positions and {len(orientations)} orientations; there are images up to number "
                f"{max(self.parts.trajectory.frames)}",
            )
        return np.stack(
            [
                self.lens.cam_to_world(orientations[frame], positions[frame], f"{paths[0]}: image {frame}")
                for frame in self._bank
            ]
        )

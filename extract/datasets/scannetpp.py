"""ScanNet++: rooms filmed with an iPhone, with the depth of its LiDAR and poses aligned to the laser scan.

data/<scene>/iphone/rgb.mkv                       video, 1920x1440
data/<scene>/iphone/depth.bin                     depth of every frame, 256x192
data/<scene>/iphone/pose_intrinsic_imu.json       pose and intrinsics of frames
splits/nvs_sem_train.txt, nvs_sem_val.txt         the official split lists
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt8

from extract.datasets._names import some
from extract.datasets._pictures import resized
from extract.datasets.base import Clip, Dataset, Targets
from extract.datasets.poses.camera import same_shape
from extract.datasets.recordings.source import Video
from extract.datasets.recordings.video import check_header
from extract.datasets.sampling import Sampling
from extract.datasets.scannetpp_files.cameras import Entry, cam_to_world, intrinsics, read_entries
from extract.datasets.scannetpp_files.depth import SIZE, read_depth
from extract.datasets.scannetpp_files.errors import FAULTS
from extract.datasets.scannetpp_files.splits import LISTS, RULE, read_splits
from extract.remembered import remembered
from store.digest import digest_files

log = logging.getLogger(__name__)

VIDEO, DEPTH, CAMERAS = PARTS = ("rgb.mkv", "depth.bin", "pose_intrinsic_imu.json")
IMAGE_SIZE = (720, 960)
"""(height, width): half of the video's, since 81 frames of 1920x1440 are 0.7 GB."""
SHORTEST = 20
"""Recordings of fewer frames are refused; those of the release have thousands."""
_DIGEST = "clip of ScanNet++, 1"
"""How a digest is made; the number is raised when that changes, so that none is remembered that was made otherwise."""


class ScanNetPP(Dataset):
    """Yeshwanth et al., "ScanNet++: A High-Fidelity Dataset of 3D Indoor Scenes", arXiv:2308.11417, version 2.

    One clip per scene, of its iPhone video. Making one reads the split lists and looks which files there are. A scene
    that was not downloaded, or lacks a file, is left out with a warning.

    Raises:
        DatasetNotFoundError: there are no split lists, or no scenes that they name.
        DataError: a split list is damaged.
    """

    name = "scannetpp"
    environment = "SCANNETPP_ROOT"
    default_sampling = Sampling()
    how_to_get = f"""\
ScanNet++ is given to those who accept its terms of use: https://kaldir.vc.in.tum.de/scannetpp (an account brings a
download script and a token). Let it get, for the splits nvs_sem_train and nvs_sem_val, the assets of the iPhone, so
that there are below one DIRECTORY:
  data/<scene>/iphone/{VIDEO}                     the video
  data/<scene>/iphone/{DEPTH}                   depth
  data/<scene>/iphone/{CAMERAS}     poses and intrinsics
  splits/{LISTS[0]}, {LISTS[1]}       the official split lists
Nothing has to be extracted. Pictures of the DSLR, meshes and annotations are not read."""

    def __init__(self, root: Path | None = None, sampling: Sampling | None = None) -> None:
        super().__init__(root, sampling)
        self.version = "v2"
        self.classes = []
        self.image_size = IMAGE_SIZE
        absent = [name for name in LISTS if not (self.root / "splits" / name).is_file()]
        if absent:
            raise self.not_found(f"{' and '.join(absent)} missing in {self.root / 'splits'}")
        self._clips = self._open(read_splits(self.root / "splits"))
        if not self._clips:
            raise self.not_found(f"{self.root / 'data'} holds no scene that {LISTS[0]} or {LISTS[1]} names")

    @property
    def max_instances(self) -> int:
        """0: objects are annotated on the mesh, and in no picture."""
        return 0

    def clips(self) -> Sequence[ScanNetPPClip]:
        """One clip per scene, sorted by name."""
        return self._clips

    def facts(self) -> Mapping[str, Any]:
        """Which camera it is, which poses, how pictures came to their sizes, and how scenes came into splits."""
        return dict(super().facts()) | {
            "camera": "iphone",
            "poses": "aligned_pose",
            "target_size": list(SIZE),
            "resize": "rgb: Pillow bilinear, antialiased",
            "splits": RULE,
        }

    def _open(self, splits: Mapping[str, str]) -> list[ScanNetPPClip]:
        clips = []
        lacking: dict[str, list[str]] = {}
        for scene, split in splits.items():
            folder = self.root / "data" / scene / "iphone"
            absent = [part for part in PARTS if not (folder / part).is_file()]
            if absent:
                why = "were not downloaded" if len(absent) == len(PARTS) else f"lack {', '.join(absent)}"
                lacking.setdefault(why, []).append(scene)
            else:
                assert self.sampling is not None
                clips.append(ScanNetPPClip(folder, scene, split, self.sampling))
        for why, names in lacking.items():
            log.warning("scenes %s %s; %d in all; they are left out", some(names), why, len(names))
        return clips


class ScanNetPPClip(Clip):
    """Frames of one scene's video, as `Dataset.sampling` chooses them among those that have a pose."""

    def __init__(self, folder: Path, scene: str, split: str, sampling: Sampling) -> None:
        self.folder = folder
        self.id = self.scene = scene
        self.split = split
        self.sampling = sampling
        self.video = Video(folder / VIDEO)

    @cached_property
    def n_frames(self) -> int:  # type: ignore[override]
        """Number of frames. Reads the file of poses. Raises `DataError`."""
        return len(self._chosen[0])

    @cached_property
    def bank(self) -> tuple[int, ...]:  # type: ignore[override]
        """Of this many frames."""
        return self.sampling.bank_of(self.n_frames)

    def frames(self, indices: Sequence[int]) -> UInt8[np.ndarray, "n y x 3"]:
        """Decode these frames at half the size of the video."""
        self.check_frames(indices)
        numbers = np.array([self._chosen[0][index] for index in indices], np.int64)
        images = np.empty((len(indices), *IMAGE_SIZE, 3), np.uint8)
        for number, image in self._decode(numbers.tolist()):
            images[numbers == number] = resized(image, IMAGE_SIZE)
        return images

    def targets(self) -> Targets:
        """Decode the bank. All pictures have the size of depth."""
        chosen, entries = self._chosen
        numbers = [chosen[index] for index in self.bank]
        rgb, poses, matrices = [], [], []
        for number, image in self._decode(numbers):
            entry, where = entries[number], f"{self.folder / CAMERAS}, frame {number}"
            rgb.append(resized(image, SIZE))
            poses.append(cam_to_world(entry, where))
            matrices.append(intrinsics(entry, (image.shape[0], image.shape[1]), SIZE, where))
        return Targets(
            rgb=np.stack(rgb),
            depth=read_depth(self.folder / DEPTH, numbers),
            instance=None,
            instance_class=None,
            cam_to_world=np.stack(poses),
            intrinsics=np.stack(matrices),
        )

    def digest(self) -> str:
        """Over the three files, read once per machine: it is remembered until one of them changes."""
        files = [self.folder / part for part in PARTS]
        try:
            return remembered(_DIGEST, str(self.folder.resolve()), files, lambda: digest_files(self.folder, files))
        except OSError as error:
            raise FAULTS.unreadable(error.filename or self.folder, error) from error

    @cached_property
    def _chosen(self) -> tuple[list[int], dict[int, Entry]]:
        """Number in the video of each frame of the clip, and what is known of the cameras of its bank."""
        path = self.folder / CAMERAS
        entries = read_entries(path)
        if len(entries) < SHORTEST:
            raise FAULTS.damaged(path, f"has {len(entries)} frames; a recording has at least {SHORTEST}")
        numbers = list(entries)
        chosen = [numbers[position] for position in self.sampling.choose(len(numbers), self.scene)]
        return chosen, {chosen[index]: entries[chosen[index]] for index in self.sampling.bank_of(len(chosen))}

    def _decode(self, numbers: Sequence[int]) -> Iterator[tuple[int, UInt8[np.ndarray, "y x 3"]]]:
        """Number and picture of these frames of the video, ascending, each once."""
        path = self.video.path
        check_header(path)
        if numbers and max(numbers) >= self.video.total:
            what = f"has {self.video.total} frames, and {CAMERAS} tells of frame {max(numbers)}"
            raise FAULTS.damaged(path, what)
        for number, image, turned in self.video.decode(numbers):
            if turned or not same_shape((image.shape[0], image.shape[1]), SIZE):
                shape = f"{image.shape[1]}x{image.shape[0]} pixels{', turned' if turned else ''}"
                raise FAULTS.damaged(path, f"frame {number} has {shape}; the release has 1920x1440, as depth lies")
            yield number, image

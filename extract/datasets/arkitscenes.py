"""ARKitScenes: real rooms filmed with an iPad, with the depth of its LiDAR, in the layout of `3dod` or of `raw`.

3dod/{Training,Validation}/<video>/<video>_frames/{lowres_wide, lowres_depth, lowres_wide_intrinsics}/, lowres_wide.traj
raw/{Training,Validation}/<video>/{lowres_wide, lowres_depth, lowres_wide_intrinsics}/, lowres_wide.traj
{3dod,raw}/metadata.csv, or {3dod,raw}_train_val_splits.csv      which videos show one place
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float32, UInt8

from extract.datasets._names import some
from extract.datasets._pictures import decode
from extract.datasets._sources import content
from extract.datasets.arkitscenes_files.recording import (
    COLOUR,
    DEPTH,
    FAULTS,
    SIZE,
    WITHIN,
    Frame,
    intrinsics_file,
    list_frames,
    missing_parts,
    read_intrinsics,
)
from extract.datasets.arkitscenes_files.visits import FOLDS, RULE, TRAINING, VALIDATION, find_visits, place_video
from extract.datasets.base import Clip, Dataset, Targets
from extract.datasets.sampling import Sampling
from extract.errors import DataError
from extract.remembered import remembered
from store.digest import digest_files, digest_text

log = logging.getLogger(__name__)

RELEASES = ("3dod", "raw")
SHORTEST = 20
"""Videos of fewer frames are left out, as arXiv 2605.28132 does with ScanNet's."""
PER_METRE = 1000
"""Units of depth per metre."""
LARGEST = 1 << 24
"""Bytes of a picture; the plain pixels of one are a hundredth of it."""
_DIGEST = "clip of ARKitScenes, 1"
"""How a digest is made; the number is raised when that changes, so that none is remembered that was made otherwise."""


class ArkitScenes(Dataset):
    """Baruch et al., "ARKitScenes: A Diverse Real-World Dataset for 3D Indoor Scene Understanding Using Mobile RGB-D
    Data", arXiv:2111.08897. One clip per video. The scene is the visit: one place, filmed one to some times.

    Making one lists the videos. The first call of `clips` lists their frames and reads their trajectories.

    Raises:
        DatasetNotFoundError: there is no video, or both releases are there.
        DataError: a table of visits is damaged.
    """

    name = "arkitscenes"
    environment = "ARKITSCENES_ROOT"
    default_sampling = Sampling()
    how_to_get = """\
ARKitScenes is Apple's, under its own licence (read it): github.com/apple/ARKitScenes. Its script gets 3dod (623 GB):
  python3 download_data.py 3dod --video_id_csv threedod/3dod_train_val_splits.csv --download_dir DIRECTORY
or, of the raw videos, what is read here:
  python3 download_data.py raw --video_id_csv raw/raw_train_val_splits.csv --download_dir DIRECTORY \\
    --raw_dataset_assets lowres_wide lowres_depth lowres_wide_intrinsics lowres_wide.traj
It unpacks them to DIRECTORY/3dod/Training/<video>/<video>_frames/ or DIRECTORY/raw/Training/<video>/, and puts
metadata.csv there, which says which videos show one place."""

    def __init__(self, root: Path | None = None, sampling: Sampling | None = None) -> None:
        super().__init__(root, sampling)
        self.version = "v1"
        self.classes = []
        self.image_size = SIZE
        self._folder = self._find_release()
        self._videos = self._find_videos()
        framed = any((folder / f"{folder.name}_frames").is_dir() for folder in self._videos)
        self.release = "3dod" if framed else "raw"
        visits = find_visits([self._folder, self.root], self.release)
        shown = (folder.name for folder, fold in self._videos.items() if fold == VALIDATION)
        self._visits = visits.reserving(shown) if visits else None
        if self._visits is None:
            log.warning(
                "dataset %s: no metadata.csv or %s_train_val_splits.csv with visits is in %s: every video is a scene "
                "of its own, and one place may be in two splits",
                self.name,
                self.release,
                self._folder,
            )

    @property
    def max_instances(self) -> int:
        """0: there are 3D boxes of objects, and no masks."""
        return 0

    def facts(self) -> Mapping[str, Any]:
        """Which of the two releases this is, which frames count, and how videos came into splits."""
        return dict(super().facts()) | {
            "release": self.release,
            "frames": f"with colour, depth and a pose within {WITHIN} s",
            "recording_frames": f">= {SHORTEST}",
            "depth": "of every confidence",
            "orientation": "as recorded",
            "scene": "video" if self._visits is None else "visit",
            "splits": RULE,
        }

    def clips(self) -> Sequence[ArkitClip]:
        """One clip per video, by name. The first call lists frames and trajectories, and sets `damaged`.

        Raises:
            DatasetNotFoundError: no video can be read, and none is damaged.
        """
        return self._clips

    @cached_property
    def _clips(self) -> Sequence[ArkitClip]:
        clips: list[ArkitClip] = []
        damaged: dict[str, str] = {}
        left_out: dict[str, list[str]] = {}
        for folder in sorted(self._videos, key=lambda folder: folder.name):
            try:
                clip = self._make_clip(folder)
            except DataError as error:
                damaged[folder.name] = str(error)
                continue
            if isinstance(clip, str):
                left_out.setdefault(clip, []).append(folder.name)
            else:
                clips.append(clip)
        for why, names in left_out.items():
            log.warning("dataset %s: videos that %s are left out (%d): %s", self.name, why, len(names), some(names))
        self.damaged = damaged
        if not clips and not damaged:
            raise self.not_found(f"none of the {len(self._videos)} videos in {self._folder} can be read")
        return clips

    def _make_clip(self, video: Path) -> ArkitClip | str:
        """The clip of a video, or why there is none. Raises `DataError` if the video is damaged."""
        assert self.sampling is not None
        placed = place_video(video.name, self._videos[video], self._visits)
        if placed is None:
            return f"are of {TRAINING}, but of a visit that {VALIDATION} shows too,"
        folder = video / f"{video.name}_frames" if self.release == "3dod" else video
        if absent := missing_parts(folder):
            return f"lack {', '.join(absent)}"
        frames = list_frames(folder, video.name)
        if len(frames) < SHORTEST:
            return f"have fewer than {SHORTEST} frames with colour, depth and a pose"
        chosen = [frames[position] for position in self.sampling.choose(len(frames), video.name)]
        return ArkitClip(folder, video.name, placed, chosen, self.sampling)

    def _find_release(self) -> Path:
        found = [path for path in (self.root, *(self.root / name for name in RELEASES)) if _has_folds(path)]
        if len(found) > 1:
            both = " and ".join(map(str, found))
            raise self.not_found(f"{both} are there, and hold the same videos; say which: --root {found[-1]}")
        if not found:
            raise self.not_found(f"{self.root} has no 3dod/{TRAINING}, raw/{TRAINING} or {TRAINING}")
        return found[0]

    def _find_videos(self) -> dict[Path, str]:
        """Folder of every video -> its fold."""
        found = {
            path: fold
            for fold in FOLDS
            if (self._folder / fold).is_dir()
            for path in (self._folder / fold).iterdir()
            if path.name.isascii() and path.name.isdecimal() and path.is_dir()
        }
        names = Counter(path.name for path in found)
        if twice := sorted(name for name, count in names.items() if count > 1):
            raise DataError(
                f"{self._folder}: {some(twice)} in both {TRAINING} and {VALIDATION}. Remedy: keep the one that the "
                "tables of github.com/apple/ARKitScenes say."
            )
        if not found:
            raise self.not_found(f"{self._folder} has no video")
        return found


class ArkitClip(Clip):
    """Frames of one video, as `Dataset.sampling` chooses them."""

    def __init__(
        self, folder: Path, video: str, placed: tuple[str, str], chosen: Sequence[Frame], sampling: Sampling
    ) -> None:
        self.folder = folder
        self.id = video
        self.scene, self.split = placed
        self.chosen = chosen
        self.n_frames = len(chosen)
        self.bank = sampling.bank_of(self.n_frames)

    def frames(self, indices: Sequence[int]) -> UInt8[np.ndarray, "n y x 3"]:
        """Decode these frames."""
        self.check_frames(indices)
        images = np.empty((len(indices), *SIZE, 3), np.uint8)
        for row, index in enumerate(indices):
            images[row] = self._colours(self.chosen[index])
        return images

    def targets(self) -> Targets:
        """Decode colour, depth and camera of the bank frames."""
        cameras = [read_intrinsics(intrinsics_file(self.folder, frame.name)) for frame in self._kept]
        return Targets(
            rgb=np.stack([self._colours(frame) for frame in self._kept]),
            depth=np.stack([self._depth(frame) for frame in self._kept]),
            instance=None,
            instance_class=None,
            cam_to_world=np.stack([frame.cam_to_world for frame in self._kept]),
            intrinsics=np.stack(cameras),
        )

    def digest(self) -> str:
        """Over the clip's colour pictures, and depth, cameras and poses of the bank. Files are read once."""
        files = [self._path(COLOUR, frame) for frame in self.chosen]
        files += [self._path(DEPTH, frame) for frame in self._kept]
        files += [intrinsics_file(self.folder, frame.name) for frame in self._kept]
        place = "\0".join(map(str, [self.folder.resolve(), *files]))
        try:
            pictures = remembered(_DIGEST, place, files, lambda: digest_files(self.folder, files))
        except OSError as error:
            raise FAULTS.unreadable(f"clip {self.id}: {error.filename}", error) from error
        return digest_text("\0".join([pictures, *(repr(frame) for frame in self._kept)]))

    @property
    def _kept(self) -> list[Frame]:
        """Bank frames."""
        return [self.chosen[index] for index in self.bank]

    def _colours(self, frame: Frame) -> UInt8[np.ndarray, "y x 3"]:
        path = self._path(COLOUR, frame)
        return decode(content(path, LARGEST, FAULTS), "PNG", "RGB", path, SIZE, FAULTS)

    def _depth(self, frame: Frame) -> Float32[np.ndarray, "y x"]:
        path = self._path(DEPTH, frame)
        values = decode(content(path, LARGEST, FAULTS), "PNG", "I;16", path, SIZE, FAULTS)
        return (values / PER_METRE).astype(np.float32)

    def _path(self, part: str, frame: Frame) -> Path:
        return self.folder / part / f"{frame.name}.png"


def _has_folds(path: Path) -> bool:
    return any((path / fold).is_dir() for fold in FOLDS)

"""7-Scenes: seven rooms filmed by hand with a Kinect, some times each, with depth and camera poses.

<scene>/seq-01/, or <scene>/seq-01.zip as the release packs it      frames: colour, depth, pose
<scene>/TrainSplit.txt, TestSplit.txt                               the sequences there are, as `sequence1`
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt8

from extract.datasets._pictures import laid_onto
from extract.datasets._sources import content
from extract.datasets.base import ClassInfo, Clip, Dataset, Targets
from extract.datasets.sampling import Sampling
from extract.datasets.seven_scenes_files.recording import FAULTS, SIZE, Kind, Recording, find_recordings, open_recording
from extract.errors import DataError
from extract.remembered import remembered
from store.digest import digest_bytes, digest_text
from store.recipe import canonical_json

log = logging.getLogger(__name__)

SPLITS = {
    "chess": "train",
    "fire": "test",
    "heads": "val",
    "office": "train",
    "pumpkin": "train",
    "redkitchen": "train",
    "stairs": "test",
}
"""Scene -> split. The two kitchens (pumpkin, redkitchen) are in one, since they may share furniture."""
LISTS = ("TrainSplit.txt", "TestSplit.txt")
DEPTH_FOCAL, COLOR_FOCAL = 585.0, 525.0
"""Pixels. The first is the release's, for the depth camera; it has none for colour, where users of it take 525."""
SHORTEST = 20
"""Sequences of fewer frames are left out."""
_LARGEST_LIST = 1 << 16
_DIGEST = "clip of 7-Scenes, 1"
"""How a digest is made; the number is raised when that changes, so that none is remembered that was made otherwise."""


def pinhole(focal: float) -> np.ndarray:
    """3x3 intrinsics of pictures of `SIZE`. The release's principal point (320, 240) is their middle."""
    return np.array([[focal, 0, SIZE[1] / 2], [0, focal, SIZE[0] / 2], [0, 0, 1]])


class SevenScenes(Dataset):
    """Shotton et al., "Scene Coordinate Regression Forests for Camera Relocalization in RGB-D Images", CVPR 2013.

    One clip per sequence. The official lists put sequences of one scene into both training and test, as relocalisation
    wants; here whole scenes are held out (`SPLITS`), so that a probe is tested in rooms that it has not seen.

    Raises:
        DatasetNotFoundError: there is no sequence.
        DataError: an official list is damaged.
    """

    name = "7scenes"
    default_sampling = Sampling()
    environment = "SEVEN_SCENES_ROOT"
    how_to_get = f"""\
7-Scenes is free for non-commercial use under Microsoft's licence: search for "RGB-D Dataset 7-Scenes" at
www.microsoft.com/en-us/research. Unpack one or more of {", ".join(f"{scene}.zip" for scene in SPLITS)},
so that there are below one DIRECTORY:
  <scene>/seq-01.zip, seq-02.zip, ...            as they come; or unpacked, <scene>/seq-01/frame-000000.color.png, ...
  <scene>/{LISTS[0]}, {LISTS[1]}          may be missing; they tell whether a sequence is"""

    def __init__(self, root: Path | None = None, sampling: Sampling | None = None) -> None:
        super().__init__(root, sampling)
        self.version = "2013"
        self.classes: list[ClassInfo] = []
        self.image_size = SIZE
        broken: dict[str, str] = {}
        self._clips = list(self._open(broken))
        self.damaged = broken
        if not self._clips and not broken:
            raise self.not_found(f"{self.root} has no sequence such as {self.root / 'chess' / 'seq-01.zip'}")

    @property
    def max_instances(self) -> int:
        """0: there are no instances."""
        return 0

    def facts(self) -> Mapping[str, Any]:
        """How frames were chosen, and what was done about cameras that are not registered."""
        return {
            **super().facts(),
            "focal": {"depth": DEPTH_FOCAL, "color": COLOR_FOCAL},
            "registration": "depth seen with the focal length of colour, from where the depth camera is",
            "splits": SPLITS,
        }

    def clips(self) -> Sequence[SevenScenesClip]:
        """One clip per sequence, by scene and number."""
        return self._clips

    def _open(self, broken: dict[str, str]) -> Iterator[SevenScenesClip]:
        """The clips of all scenes that are there. Adds what cannot be read to `broken`."""
        assert self.sampling is not None
        for scene in SPLITS:
            found = find_recordings(self.root / scene)
            if missing := sorted(listed(self.root / scene) - found.keys()) if found else []:
                log.warning("dataset 7scenes: %s of %s are listed, and not there", ", ".join(missing), scene)
            for name, where in found.items():
                clip = f"{scene}-{name}"
                try:
                    recording = open_recording(where)
                except DataError as error:
                    broken[clip] = str(error)
                    continue
                if recording.total < SHORTEST:
                    log.warning("dataset 7scenes: %s has fewer than %d frames; it is left out", where, SHORTEST)
                else:
                    yield SevenScenesClip(clip, scene, recording, self.sampling)


class SevenScenesClip(Clip):
    """Frames of one sequence. The scene is the room."""

    def __init__(self, name: str, scene: str, recording: Recording, sampling: Sampling) -> None:
        self.id = name
        self.scene = scene
        self.split = SPLITS[scene]
        self.recording = recording
        self.chosen = sampling.choose(recording.total, name)
        self.n_frames = len(self.chosen)
        self.bank = sampling.bank_of(self.n_frames)

    def frames(self, indices: Sequence[int]) -> UInt8[np.ndarray, "n y x 3"]:
        """Decode these frames."""
        self.check_frames(indices)
        return self.recording.colors([self.chosen[index] for index in indices])

    def targets(self) -> Targets:
        """Decode the bank.

        Depth is seen by a camera at the place of the depth camera, whose poses the release has, with the focal length
        of the colour camera. So depth, poses and intrinsics fit together, and colour fits but for the few centimetres
        between the two cameras. Where the depth camera does not look, which is the border, depth is 0.
        """
        numbers = [self.chosen[index] for index in self.bank]
        matrix = pinhole(COLOR_FOCAL)
        seen = self.recording.depths(numbers)
        return Targets(
            rgb=self.recording.colors(numbers),
            depth=np.stack([laid_onto(depth, pinhole(DEPTH_FOCAL), matrix, SIZE) for depth in seen]),
            instance=None,
            instance_class=None,
            cam_to_world=self.recording.poses(numbers),
            intrinsics=np.repeat(matrix[None], len(numbers), axis=0),
        )

    def digest(self) -> str:
        """Over the clip's colour pictures, and depth and poses at the bank; the same for a folder and its zip file.

        It is remembered until a file changes.
        """
        bank = [self.chosen[index] for index in self.bank]
        place = canonical_json([str(self.recording.where.resolve()), self.chosen, bank])
        try:
            return remembered(_DIGEST, place, self.recording.files(self.chosen, bank), self._read_digest)
        except OSError as error:
            raise FAULTS.unreadable(error.filename or self.recording.where, error) from error

    def _read_digest(self) -> str:
        bank = [self.chosen[index] for index in self.bank]
        wanted: list[tuple[Kind, list[int]]] = [("color", self.chosen), ("depth", bank), ("pose", bank)]
        lines = [
            f"{kind}/{number}\0{digest_bytes(packed)}"
            for kind, numbers in wanted
            for number, packed in zip(numbers, self.recording.read(kind, numbers), strict=True)
        ]
        return digest_text("\n".join(lines))


def listed(scene: Path) -> set[str]:
    """Sequences that the official lists of a scene name: `seq-01` for a line `sequence1`. None, without lists.

    Raises:
        DataError: a list has another line.
    """
    found = set()
    for path in (scene / name for name in LISTS):
        if not path.exists():
            continue
        for line in content(path, _LARGEST_LIST, FAULTS).decode("utf-8-sig", "replace").split():
            match = re.fullmatch(r"sequence(\d{1,2})", line)
            if match is None:
                raise FAULTS.damaged(path, f"has the line {line[:80]!r}; lines are such as 'sequence1'")
            found.add(f"seq-{int(match[1]):02d}")
    return found

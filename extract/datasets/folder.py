"""Anyone's recordings: a folder per scene with pictures or a video, and whatever labels lie beside them.

DIR/<scene>/images/*.jpg     or rgb/, or pictures directly in the scene's folder; jpg, png, webp
DIR/<scene>/<any>.mp4        or one video: mp4, m4v, mov, mkv, webm, avi; DIR/<scene>.mp4 is a scene too
DIR/<scene>/depth/           16-bit PNG (millimetres, or depth_scale) or .npy in metres, named as the frames are
DIR/<scene>/instance/        PNG of instance ids, and instances.json {"1": "chair"}, in the scene's folder or in DIR
DIR/<scene>/transforms.json  poses: of nerfstudio; or rgb.txt, depth.txt, groundtruth.txt of TUM; or sparse/0 of COLMAP
DIR/<scene>/scene.json       depth_scale, pose_scale, intrinsics
DIR/dataset.json             the same for all scenes, and name, version, image_size, classes, splits

DIR may be such a scene itself. Folders train, val, test may lie between DIR and the scenes.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt8

from extract.datasets._names import some
from extract.datasets.base import ClassInfo, Clip, Dataset, Targets
from extract.datasets.recordings.fit import fit_picture
from extract.datasets.recordings.labels import KINDS, Labels
from extract.datasets.recordings.layout import LOOKED_FOR, Recording, find_recordings
from extract.datasets.recordings.settings import DATASET, INSTANCES, DatasetSettings, read_instances, read_settings
from extract.datasets.sampling import Sampling
from extract.errors import DataError, DatasetNotFoundError
from extract.remembered import remembered
from store.digest import digest_file, digest_files

log = logging.getLogger(__name__)

LONGEST = 1920
"""Without image_size, pictures whose longer side is above this are scaled down to it: 81 frames of 12 MP are 3 GB."""
_DIGEST = "file of a recording, 1"
"""How a digest is made; the number is raised when that changes, so that none is remembered that was made otherwise."""
SMALL = 1 << 24
"""Files of up to so many bytes are read for every digest; that is quicker than it is to remember them."""


class FolderDataset(Dataset):
    """Recordings in one directory. All clips have the same targets: those that every scene has.

    It is called `folder-<name>` if dataset.json says a name.

    Raises:
        DatasetNotFoundError: there is no recording.
        DataError: dataset.json, scene.json or instances.json is wrong, or scenes and splits contradict each other.
    """

    name = "folder"
    environment = "FOLDER_ROOT"
    how_to_get = f"""\
Put recordings below one DIRECTORY, a folder each: DIRECTORY/<scene>/ with {LOOKED_FOR}.
Optional, beside the frames: depth/, instance/ with instances.json, and poses (transforms.json of nerfstudio; rgb.txt,
depth.txt and groundtruth.txt of TUM; sparse/0 of COLMAP). DIRECTORY/{DATASET} may say name, depth_scale, image_size,
classes and splits. All of it: docs/datasets.md."""
    default_sampling = Sampling(window="whole")

    def __init__(self, root: Path | None = None, sampling: Sampling | None = None) -> None:
        super().__init__(root, sampling)
        self.settings = read_settings(self.root / DATASET, DatasetSettings)
        self.name = _name(self.settings)
        self.version = self.settings.version
        recordings, unusable = find_recordings(self.root, self.settings)
        reasons = "".join(f"\n  {name}: {why}" for name, why in unusable.items())
        if not recordings:
            raise self.not_found(f"there is no recording in {self.root}{reasons}")
        if unusable:
            log.warning("data set folder: %d of %s left out:%s", len(unusable), self.root, reasons)
        shared = self.root / INSTANCES
        names = read_instances(shared) if shared.is_file() else None
        labels = [Labels(recording, self.settings, names) for recording in recordings]
        self.present = _common(labels)
        self.metric = all(each.metric for each in labels)
        self.formats = sorted({each.track.format for each in labels if each.track is not None})
        if "poses" in self.present and not (self.metric or "depth" in self.present):
            self.depth_unit = "1"
        _warn_of_scale(self)
        self.classes = self._class_list(labels)
        self.image_size = self.settings.image_size or _first_size([each.recording for each in labels])
        self._clips = [FolderClip(self, each) for each in labels]

    @classmethod
    def name_in(cls, root: Path | None) -> str:
        """`folder-kitchen`, if dataset.json says that name."""
        try:
            found = cls.find(root)
        except DatasetNotFoundError:
            return cls.name
        return _name(read_settings(found / DATASET, DatasetSettings))

    @property
    def max_instances(self) -> int:
        """Greatest id in instances.json of any scene; 0 if classes are not among the targets."""
        named = self.present and "classes" in self.present
        return max((ident for clip in self._clips for ident in clip.labels.names or ()), default=0) if named else 0

    def clips(self) -> Sequence[FolderClip]:
        """One clip per scene, sorted by split and name."""
        return self._clips

    def facts(self) -> Mapping[str, Any]:
        """What labels there are, in which units, and how pictures came to be of one size."""
        poses = "poses" in self.present
        return dict(super().facts()) | {
            "targets": sorted(self.present),
            "poses": self.formats if poses else [],
            "pose_unit": ("metres" if self.metric else "arbitrary, one per scene") if poses else None,
            "fit": "scaled to cover, centre cropped",
            "settings": self.settings.model_dump(mode="json", exclude={"splits", "version", "name"}),
        }

    def _class_list(self, labels: Sequence[Labels]) -> list[ClassInfo]:
        """As dataset.json lists them; else all names in alphabetical order, as things."""
        if "classes" not in self.present:
            return []
        named = sorted({name for each in labels for name in (each.names or {}).values() if name is not None})
        entries = self.settings.classes
        classes = [ClassInfo(e.name, e.kind) for e in entries] if entries else [ClassInfo(n, "thing") for n in named]
        known = [each.name for each in classes]
        if strangers := sorted(set(named) - set(known)):
            raise DataError(
                f"{self.root / DATASET}: classes do not list {', '.join(strangers[:5])}, which {INSTANCES} names. "
                f"Remedy: add them, or let {DATASET} list no classes."
            )
        if len(set(known)) < len(known) or len(known) > 255:
            raise DataError(f"{self.root}: {len(known)} classes; expected at most 255, each once. Remedy: merge some.")
        return classes


class FolderClip(Clip):
    """Frames of one recording, as `Dataset.sampling` chooses them. The recording is the scene."""

    def __init__(self, dataset: FolderDataset, labels: Labels) -> None:
        self.dataset = dataset
        self.labels = labels
        self.source = labels.recording.source
        self.id = self.scene = labels.recording.name
        self.split = labels.recording.split

    @cached_property
    def chosen(self) -> list[int]:
        """Number in the recording of each frame of the clip. Counts a video's frames. Raises `DataError`."""
        assert self.dataset.sampling is not None
        return self.dataset.sampling.choose(self.source.total, self.id)

    @cached_property
    def n_frames(self) -> int:  # type: ignore[override]
        """Number of frames. Raises `DataError` if they cannot be counted."""
        return len(self.chosen)

    @cached_property
    def bank(self) -> tuple[int, ...]:  # type: ignore[override]
        """Of this many frames."""
        assert self.dataset.sampling is not None
        return self.dataset.sampling.bank_of(self.n_frames)

    def frames(self, indices: Sequence[int]) -> UInt8[np.ndarray, "n y x 3"]:
        """Decode these frames, and bring them to the size of the data set."""
        self.check_frames(indices)
        numbers = np.array([self.chosen[index] for index in indices], np.int64)
        images = np.empty((len(indices), *self.dataset.image_size, 3), np.uint8)
        for number, image in self._decode(numbers.tolist()):
            images[numbers == number] = fit_picture(image, self.dataset.image_size)
        return images

    def targets(self) -> Targets:
        """Decode the labels that all scenes have."""
        size, present, labels = self.dataset.image_size, self.dataset.present, self.labels
        numbers = [self.chosen[index] for index in self.bank]
        rgb = np.empty((len(numbers), *size, 3), np.uint8)
        sizes = []
        for row, (_, image) in enumerate(self._decode(numbers)):
            rgb[row] = fit_picture(image, size)
            sizes.append((image.shape[0], image.shape[1]))
        named = "classes" in present
        return Targets(
            rgb=rgb,
            depth=labels.depth(numbers, sizes, size) if "depth" in present else None,
            instance=labels.instances(numbers, sizes, size, named=named) if "instance" in present else None,
            instance_class=self._instance_classes() if named else None,
            cam_to_world=labels.poses(numbers) if "poses" in present else None,
            intrinsics=labels.intrinsics(numbers, sizes, size) if "intrinsics" in present else None,
        )

    def digest(self) -> str:
        """Over the clip's pictures or the video, and the files of its labels, with their names.

        A file that is missing is an error of `frames` or `targets`, so that one recording does not stop all others.
        """
        bank = [self.chosen[index] for index in self.bank]
        files = {*self.source.files(self.chosen), *self.labels.files(bank, self.dataset.present)}
        if "classes" in self.dataset.present and self.labels.shares_names:
            files.add(self.dataset.root / INSTANCES)
        try:
            return digest_files(self.dataset.root, sorted(files), _digest)
        except UnicodeEncodeError as error:
            name = error.object[: error.end].rpartition("\n")[2]
            raise DataError(f"scene {self.id}: {name!r} … is no UTF-8. Remedy: rename the file.") from error
        except OSError as error:
            raise DataError(
                f"scene {self.id}: {error.filename} cannot be read ({error.strerror}). Remedy: copy the recording anew."
            ) from error

    def _decode(self, numbers: Sequence[int]) -> Iterator[tuple[int, UInt8[np.ndarray, "y x 3"]]]:
        """Number and upright picture. Raises `DataError` where labels may be of the picture as it was stored."""
        for number, image, turned in self.source.decode(numbers):
            if turned and self.dataset.present:
                raise DataError(
                    f"scene {self.id}, frame {number}: is stored turned (EXIF orientation, or a video's rotation); it "
                    "cannot be known whether its labels are too. Remedy: turn the pixels (mogrify -auto-orient; ffmpeg "
                    "does it by itself) and make the labels of those, or remove the tag (exiftool -Orientation=)."
                )
            yield number, image

    def _instance_classes(self) -> UInt8[np.ndarray, " slot"]:
        ids = {info.name: k for k, info in enumerate(self.dataset.classes, 1)}
        classes = np.zeros(self.dataset.max_instances + 1, np.uint8)
        for ident, name in (self.labels.names or {}).items():
            classes[ident] = 0 if name is None else ids[name]
        return classes


def _name(settings: DatasetSettings) -> str:
    return FolderDataset.name if settings.name is None else f"{FolderDataset.name}-{settings.name}"


def _digest(path: Path) -> str:
    """xxh3_128 of a file; that of a large one is remembered until the file changes."""
    if not path.is_file():
        return "missing"
    if path.stat().st_size <= SMALL:
        return digest_file(path)
    return remembered(_DIGEST, str(path.resolve()), [path], partial(digest_file, path))


def _common(labels: Sequence[Labels]) -> frozenset[str]:
    """Kinds of labels that all scenes have; says which are left out, and why."""
    common = frozenset.intersection(*(each.present for each in labels))
    lines = []
    for kind in KINDS:
        lacking = [each.recording.name for each in labels if kind not in each.present]
        if kind not in common and len(lacking) < len(labels):
            lines.append(f"\n  {kind}: not in {len(lacking)} of {len(labels)} scenes: {some(lacking, 10)}")
    if lines:
        log.warning("data set folder: targets that not all scenes have are left out for all:%s", "".join(lines))
    if bent := [each.recording.name for each in labels if each.distorted]:
        log.warning(
            "data set folder: intrinsics are left out, poses are kept: lens distortion is not undone here, and %d of "
            "%d scenes have it: %s. Undistort the pictures first (colmap image_undistorter, ns-process-data).",
            len(bent),
            len(labels),
            some(bent, 10),
        )
    return common


def _warn_of_scale(dataset: FolderDataset) -> None:
    if {"poses", "depth"} <= dataset.present and not dataset.metric:
        log.warning(
            "data set folder: depth is in metres, but nothing says that camera positions are (%s): points seen in two "
            'views will not meet. Say {"pose_scale": metres per unit} in scene.json or dataset.json: 1 for metres.',
            ", ".join(dataset.formats),
        )


def _first_size(recordings: Sequence[Recording]) -> tuple[int, int]:
    """(height, width) of the first frame of the first scene where it can be read, scaled down to `LONGEST`.

    Raises:
        DataError: that of the first scene, if it can be read nowhere.
    """
    faults = []
    for recording in recordings:
        try:
            size = recording.source.size()
        except DataError as error:
            faults.append(error)
            continue
        if faults:
            log.warning("data set folder: pictures are brought to the size of scene %s: %s", recording.name, faults[0])
        scale = min(LONGEST / max(size), 1)
        return round(size[0] * scale), round(size[1] * scale)
    raise faults[0]

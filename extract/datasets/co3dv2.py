"""CO3D v2: turntable-like phone videos of objects of 51 categories, with a foreground mask, camera and depth per frame.

<category>/frame_annotations.jgz        one element per frame: paths, camera, scale of its depth
<category>/sequence_annotations.jgz     one element per sequence: how good its cameras are
<category>/set_lists/                   not read; version 1 has no such folder
<category>/<sequence>/images/           JPEG; the sizes of sequences differ
<category>/<sequence>/depths/           16 bit PNG, a float16 in each pixel
<category>/<sequence>/depth_masks/      where the depth is consistent between views
<category>/<sequence>/masks/            255 times the probability of the object
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from jaxtyping import Float32, Float64, UInt8, UInt16
from pydantic import TypeAdapter, ValidationError

from extract.datasets._pictures import nearest
from extract.datasets.base import ClassInfo, Clip, Dataset, Targets
from extract.datasets.co3d.camera import cam_to_world, intrinsics
from extract.datasets.co3d.category import FRAMES, MIN_FRAMES, MIN_QUALITY, Chosen, read_category
from extract.datasets.co3d.lists import Frame
from extract.datasets.co3d.pictures import colours, depth_map, foreground
from extract.datasets.sampling import Sampling
from extract.errors import DataError
from extract.remembered import remembered
from store.digest import digest_files, digest_text
from store.suggest import did_you_mean

_NAMES = """
    apple backpack ball banana baseballbat baseballglove bench bicycle book bottle bowl broccoli cake car carrot
    cellphone chair couch cup donut frisbee hairdryer handbag hotdog hydrant keyboard kite laptop microwave motorcycle
    mouse orange parkingmeter pizza plant remote sandwich skateboard stopsign suitcase teddybear toaster toilet toybus
    toyplane toytrain toytruck tv umbrella vase wineglass
"""
CATEGORIES = tuple(_NAMES.split())
SIZE = (512, 512)
"""(height, width) that every picture is stretched to: most sequences are upright, some lie, and a square is between."""
VAL_IN = 10
"""One of so many training sequences is of the split val."""
_DIGEST = "clip of CO3D v2, 1"
"""How a digest is made; the number is raised when that changes, so that none is remembered that was made otherwise."""
_FRAMES = TypeAdapter(list[Frame])


class Co3dV2(Dataset):
    """Reizenstein et al., "Common Objects in 3D", arXiv:2109.00512, version 2. One clip per sequence.

    The object is the only instance, its category the class. Poses, depth and points are in the units of each
    sequence's own reconstruction, not in metres, since structure from motion has no scale.

    Splits: test = the official sequences `dev`; train and val = the official `train`, of which every sequence is val
    whose digest is a multiple of 10. The official `test` is left out: the release blanks its targets.

    Raises:
        DatasetNotFoundError: no category is there.
        DataError: a folder is no category of CO3D v2.
    """

    name = "co3dv2"
    environment = "CO3DV2_ROOT"
    default_sampling = Sampling(window="whole")
    depth_unit = "1"
    how_to_get = """\
CO3D v2 is free for non-commercial use (CC BY-NC 4.0): github.com/facebookresearch/co3d. Its script gets whole
categories (all: 5.5 TB), python co3d/download_dataset.py --download_folder DIRECTORY --download_categories apple,chair
Some categories, and some archives of a category, do. They unpack to, below one DIRECTORY:
  <category>/frame_annotations.jgz, sequence_annotations.jgz, set_lists/     in the first archive of the category
  <category>/<sequence>/images/, depths/, depth_masks/, masks/               the sequences"""

    def __init__(self, root: Path | None = None, sampling: Sampling | None = None) -> None:
        super().__init__(root, sampling)
        self.version = "2"
        self.classes = [ClassInfo(category, "thing") for category in CATEGORIES]
        self.image_size = SIZE
        self._folders = self._find_categories()

    @property
    def max_instances(self) -> int:
        """1: the object."""
        return 1

    def facts(self) -> Mapping[str, Any]:
        """How pictures are made equal in size, what is read, and that lengths are no metres."""
        return dict(super().facts()) | {
            "scale": "arbitrary per sequence",
            "resize": "stretched; rgb: Pillow bilinear, antialiased; labels: nearest",
            "mask": "probability > 0.5",
            "depth": "where depth_mask",
            "viewpoint_quality_score": f"> {MIN_QUALITY}",
            "sequence_frames": f">= {MIN_FRAMES}",
            "splits": f"test = dev; val = 1 in {VAL_IN} of train, by digest",
        }

    def clips(self) -> Sequence[Co3dClip]:
        """One clip per sequence, by category and name.

        The first call reads the annotations of every category, and sets `damaged`: a category whose annotations are
        damaged is there as a whole.
        """
        return self._clips

    @cached_property
    def _clips(self) -> Sequence[Co3dClip]:
        assert self.sampling is not None
        clips: list[Co3dClip] = []
        damaged: dict[str, str] = {}
        for folder in self._folders:
            try:
                chosen, wrong = read_category(folder, self.sampling)
            except DataError as error:
                damaged[folder.name] = str(error)
                continue
            damaged |= {f"{folder.name}-{name}": why for name, why in wrong.items()}
            clips += [Co3dClip(self.root, folder.name, each, self.sampling) for each in chosen]
        self.damaged = damaged
        return clips

    def _find_categories(self) -> list[Path]:
        """Folders of categories, by name."""
        folders = sorted(path for path in self.root.iterdir() if path.is_dir())
        for folder in folders:
            if folder.name not in CATEGORIES and (folder / FRAMES).exists():
                raise DataError(
                    f"{folder}: {did_you_mean('category of CO3D v2', folder.name, CATEGORIES)} "
                    "Remedy: name it as the release does, or move it away."
                )
        found = [folder for folder in folders if folder.name in CATEGORIES]
        if not found:
            raise self.not_found(f"{self.root} has no folder of a category, such as {self.root / CATEGORIES[0]}")
        return found


class Co3dClip(Clip):
    """Frames of one sequence, spread evenly, in the order of their frame numbers."""

    def __init__(self, root: Path, category: str, chosen: Chosen, sampling: Sampling) -> None:
        self.root = root
        self.category = category
        self.chosen = chosen
        self.id = self.scene = f"{category}-{chosen.name}"
        self.split = _split(self.id, chosen.official)
        self.n_frames = chosen.n_frames
        self.bank = sampling.bank_of(chosen.n_frames)

    def frames(self, indices: Sequence[int]) -> UInt8[np.ndarray, "n y x 3"]:
        """Decode and stretch these frames."""
        annotations = self._annotations()
        self.check_frames(indices)
        images = np.empty((len(indices), *SIZE, 3), np.uint8)
        for row, index in enumerate(indices):
            images[row] = self._colours(annotations[index])
        return images

    def targets(self) -> Targets:
        """Decode depth, mask and camera of the bank frames."""
        annotations = self._annotations()
        bank = [annotations[index] for index in self.bank]
        cameras = [self._camera(frame) for frame in bank]
        return Targets(
            rgb=np.stack([self._colours(frame) for frame in bank]),
            depth=np.stack([self._depth(frame) for frame in bank]),
            instance=np.stack([self._instance(frame) for frame in bank]),
            instance_class=np.array([0, CATEGORIES.index(self.category) + 1], np.uint8),
            cam_to_world=np.stack([pose for pose, _ in cameras]),
            intrinsics=np.stack([matrix for _, matrix in cameras]),
        )

    def digest(self) -> str:
        """Over the annotations of the clip's frames, their images, and the labels of the bank. Files are read once."""
        annotations = self._annotations()
        names = [frame.image.path for frame in annotations]
        for frame in (annotations[index] for index in self.bank):
            names += [frame.mask.path] if frame.mask else []
            names += [path for path in (frame.depth.path, frame.depth.mask_path) if path] if frame.depth else []
        files = sorted({self._path(name) for name in names})
        place = "\0".join(map(str, [self.root.resolve(), *files]))
        try:
            content = remembered(_DIGEST, place, files, lambda: digest_files(self.root, files))
        except OSError as error:
            raise self._error(f"{error.filename}: {error.strerror}") from error
        return digest_text(f"{self.chosen.text.decode()}\0{content}")

    def _annotations(self) -> list[Frame]:
        """Of every frame of the clip. Not kept: a release has millions."""
        try:
            return _FRAMES.validate_json(self.chosen.text)
        except ValidationError as error:
            fault = error.errors(include_url=False)[0]
            where = f"{self.root / self.category / FRAMES}: {'.'.join(map(str, fault['loc']))} of its frames"
            raise self._error(f"{where} is {str(fault['input'])[:80]!r}: {fault['msg']}") from error

    def _colours(self, frame: Frame) -> UInt8[np.ndarray, "y x 3"]:
        try:
            return colours(self._path(frame.image.path), frame.image.size, SIZE)
        except DataError as error:
            raise self._error(str(error)) from error

    def _depth(self, frame: Frame) -> Float32[np.ndarray, "y x"]:
        """Nothing is known of a frame without a depth map."""
        if frame.depth is None:
            return np.zeros(SIZE, np.float32)
        mask = self._path(frame.depth.mask_path) if frame.depth.mask_path else None
        try:
            depth = depth_map(self._path(frame.depth.path), mask, frame.depth.scale_adjustment, frame.image.size)
        except DataError as error:
            raise self._error(str(error)) from error
        return nearest(depth, SIZE)

    def _instance(self, frame: Frame) -> UInt16[np.ndarray, "y x"]:
        if frame.mask is None:
            raise self._error(f"frame {frame.frame_number} has no mask, so that where its object is cannot be told")
        try:
            mask = foreground(self._path(frame.mask.path), frame.image.size)
        except DataError as error:
            raise self._error(str(error)) from error
        return nearest(mask, SIZE).astype(np.uint16)

    def _camera(self, frame: Frame) -> tuple[Float64[np.ndarray, "4 4"], Float64[np.ndarray, "3 3"]]:
        if frame.viewpoint is None:
            raise self._error(f"frame {frame.frame_number} has no viewpoint, so that its focal length is unknown")
        try:
            return cam_to_world(frame.viewpoint), intrinsics(frame.viewpoint, frame.image.size, SIZE)
        except DataError as error:
            raise self._error(f"frame {frame.frame_number}: {error}") from error

    def _path(self, name: str) -> Path:
        """A file that an annotation names, which has to lie in the sequence's folder."""
        parts = PurePosixPath(name).parts
        if parts[:2] != (self.category, self.chosen.name) or ".." in parts or "\0" in name or "\\" in name:
            raise self._error(f"its annotations name the file {name!r}, which is not in its folder")
        return self.root / name

    def _error(self, what: str) -> DataError:
        return DataError(
            f"clip {self.id}: {what}. Remedy: unpack the archives of {self.category} anew, "
            f"or do without the sequence: move {self.root / self.category / self.chosen.name} away."
        )


def _split(clip: str, official: str) -> str:
    if official != "train":
        return "test"
    return "train" if int(digest_text(clip)[:8], 16) % VAL_IN else "val"

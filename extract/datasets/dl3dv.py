"""DL3DV-10K: phone and drone videos of 10,510 places, with camera poses; read under two names that differ in splits.

<subset>/<scene>/images_4/             PNG, 960x540; or images_8, images_2, images; 1K … 11K, or no subsets
<subset>/<scene>/transforms.json       poses and intrinsics as nerfstudio writes them; or a COLMAP model
<subset>/<scene>/depth/                optional: depth that you have, in the unit of the scene's poses; or
DL3DV-processed/<subset>/<scene>.sft   depth, confidence and cameras that VGGT made
excluded.txt                           optional: scenes to leave out
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from extract.datasets._names import some
from extract.datasets.base import Dataset
from extract.datasets.dl3dv_files.clip import Dl3dvClip, Shared
from extract.datasets.dl3dv_files.errors import LABEL_FAULTS
from extract.datasets.dl3dv_files.scenes import LABELS, PICTURE_FOLDERS, RELEASES, Scene, Unreadable, find_scenes
from extract.datasets.dl3dv_files.sft import Header, read_header
from extract.datasets.dl3dv_files.splits import BY_HASH, EXCLUDED, OUTLIERS, as_the_paper, read_excluded, three_way
from extract.datasets.dl3dv_files.supplied import Supplied, supplied_beside
from extract.datasets.poses.camera import same_shape
from extract.datasets.recordings.beside import DEPTH
from extract.datasets.recordings.settings import DATASET, Scales, read_settings
from extract.datasets.recordings.tracks import cameras_of
from extract.datasets.sampling import Sampling
from extract.errors import DataError

log = logging.getLogger(__name__)

SHORTEST = 20
"""Scenes of fewer frames are left out."""


class Dl3dv(Dataset):
    """Ling et al., "DL3DV-10K: A Large-Scale Scene Dataset for Deep Learning-based 3D Vision", arXiv:2312.16256.

    Structure from motion gives poses without a unit, and no depth. A user may lay depth beside the pictures, or have a
    network label them; scenes without are then left out, since all clips have the same targets. Making one lists
    folders, and reads the header of one picture and the poses' file or the labels' header of every scene.

    Raises:
        DatasetNotFoundError: there is no scene.
        DataError: two scenes have one name, a list of splits or dataset.json is damaged, or there are both labels of a
            network and supplied depth.
    """

    name = "dl3dv"
    environment = "DL3DV_ROOT"
    default_sampling = Sampling(window="run")
    depth_unit = "1"
    how_to_get = f"""\
DL3DV-10K is given to those who accept its terms of use: huggingface.co/datasets/DL3DV/DL3DV-ALL-960P (2.8 TB; 480P,
2K, 4K and DL3DV-10K-Benchmark do too). github.com/DL3DV-10K/Dataset has a script that gets one subset:
  python download.py --odir DIRECTORY/DL3DV-ALL-960P --subset 1K --resolution 960P --file_type images+poses
Unpacked, below DIRECTORY (or DIRECTORY/{RELEASES[0]}):
  <subset>/<scene>/images_4/*.png, transforms.json
Depth is not in the release. Depth of your own, IN THE UNIT OF THE SCENE'S POSES, goes to <subset>/<scene>/{DEPTH}/, a
16-bit PNG (thousandths of that unit, or depth_scale in scene.json) or .npy per picture, named as it is. Or labels that
VGGT made go to DIRECTORY/{LABELS}/<subset>/<scene>.sft:
  python -m extract label --dataset dl3dv --root DIRECTORY --with vggt"""

    def __init__(self, root: Path | None = None, sampling: Sampling | None = None) -> None:
        super().__init__(root, sampling)
        self.version = "10K"
        self.classes = []
        found, wrong = find_scenes(self.root)
        if not found and not wrong:
            raise self.not_found(f"{self.root} has no folder of a scene with {', '.join(PICTURE_FOLDERS)}")
        self._excluded = read_excluded(self.root)
        self.scenes = [scene for scene in found if scene.id not in self._excluded | OUTLIERS]
        """All that are not excluded, with labels or without."""
        self._broken = [each for each in wrong if each.id not in self._excluded | OUTLIERS]
        self.unreadable = {each.id: each.why for each in self._broken}
        """Scene -> what is wrong with its first picture, or its name."""
        self.damaged = self._wrong = dict(self.unreadable)
        kept, splits = self._kept(), self._split()
        self._warn([s.id for s in kept if s.id not in splits], "are in no list of splits; they are left out")
        kept = [scene for scene in kept if scene.id in splits]
        shared = Shared(self.sampling or Sampling(), self.image_size, self._poses, self._intrinsics)
        self._clips = [
            Dl3dvClip(scene, splits[scene.id], shared, self._labels.get(scene.id), self._supplied.get(scene.id))
            for scene in kept
        ]

    @property
    def max_instances(self) -> int:
        """0: there are none."""
        return 0

    def clips(self) -> Sequence[Dl3dvClip]:
        """One clip per scene, sorted by subset and name."""
        return self._clips

    def facts(self) -> Mapping[str, Any]:
        """How frames, scenes and splits were chosen, who made the labels, and where depth is from."""
        makers = [header.made_by for header in self._labels.values()]
        facts = {
            **super().facts(),
            "scale": "arbitrary per scene",
            "splits": self._rule,
            "excluded": {"outliers": len(OUTLIERS), "listed": sorted(self._excluded)},
            "targets": "network" if makers else "release",
            "labels": sorted({maker["labeller"] for maker in makers}),
            "label_checkpoints": sorted({maker.get("checkpoint", "not stated") for maker in makers}),
            "pictures": sorted({clip.recording.pictures.name for clip in self._clips}),
            "poses": self._poses or bool(makers),
            "intrinsics": self._intrinsics or bool(makers),
        }
        if self._supplied:
            facts["targets"] = "release and supplied depth"
            facts["depth"] = {"from": DEPTH, "unit": "of the scene's poses", "settings": self._scales.model_dump()}
        return facts

    def _split(self) -> dict[str, str]:
        """Scene -> split; sets the rule."""
        self._rule = BY_HASH
        return three_way(self.scenes)

    def _kept(self) -> list[Scene]:
        """Scenes with as much as any has, of one shape and long enough. Sets the image size and what targets are."""
        sizes = Counter(scene.size for scene in self.scenes)
        self.image_size = max(sizes, key=lambda size: (sizes[size], size)) if sizes else (0, 0)
        kept = [scene for scene in self.scenes if same_shape(scene.size, self.image_size)]
        self._left(self.scenes, kept, f"are not of the shape of {self.image_size[1]}x{self.image_size[0]} pixels")
        long = [scene for scene in kept if scene.total >= SHORTEST]
        self._left(kept, long, f"have fewer than {SHORTEST} frames")
        stretched = [scene.id for scene in long if scene.size != self.image_size]
        self._warn(stretched, f"are stretched to {self.image_size[1]}x{self.image_size[0]} pixels")
        self._labels: dict[str, Header] = {}
        self._poses = self._intrinsics = False
        self._supplied: dict[str, Supplied] = {}
        self._scales = Scales()
        self._check_one_source(long)
        return self._labelled(long) if any(scene.labels for scene in long) else self._released(long)

    def _check_one_source(self, scenes: Sequence[Scene]) -> None:
        labelled, deep = [s.id for s in scenes if s.labels], [s.id for s in scenes if s.depth]
        if labelled and deep:
            raise DataError(
                f"{self.root}: a network labelled {len(labelled)} scenes ({some(labelled)}), and {DEPTH}/ lies beside "
                f"the pictures of {len(deep)} ({some(deep)}): targets are of one kind. Remedy: move {LABELS} or the "
                f"folders {DEPTH}/ away, or name scenes in {EXCLUDED}."
            )

    def _labelled(self, scenes: Sequence[Scene]) -> list[Scene]:
        """Scenes with labels of one size that lie within the scene."""
        for scene in (scene for scene in scenes if scene.labels):
            assert scene.labels is not None
            try:
                header = read_header(scene.labels)
                if header.start + header.frames > scene.total:
                    last = header.start + header.frames - 1
                    raise LABEL_FAULTS.damaged(
                        header.path, f"labels frames {header.start} to {last}, the scene has {scene.total}"
                    )
            except DataError as error:
                self._wrong[scene.id] = str(error)
                continue
            self._labels[scene.id] = header
        kept = [scene for scene in scenes if scene.id in self._labels]
        self._left([scene for scene in scenes if not scene.labels], [], "have no labels, which others have")
        if mixed := sorted({str(dict(self._labels[scene.id].made_by)) for scene in kept})[1:]:
            log.warning("dataset %s: labels were made in %d ways: %s", self.name, len(mixed) + 1, some(mixed))
        return kept

    def _released(self, scenes: Sequence[Scene]) -> list[Scene]:
        """Scenes with poses, and with supplied depth, if any has; intrinsics are targets if no lens bends lines."""
        posed = [scene for scene in scenes if scene.track is not None]
        self._poses = bool(posed)
        if posed:
            self._left(scenes, posed, "have no poses, which others have")
        kept = self._with_depth(posed or list(scenes))
        return self._with_cameras(kept) if posed else kept

    def _with_depth(self, scenes: list[Scene]) -> list[Scene]:
        """Those with supplied depth, if any has."""
        deep = [scene for scene in scenes if scene.depth is not None]
        if not deep:
            return scenes
        self._left(scenes, deep, f"have no {DEPTH}/, which others have")
        self._scales = read_settings(self.root / DATASET, Scales)
        for scene in deep:
            assert scene.depth is not None
            try:
                self._supplied[scene.id] = supplied_beside(scene.depth, self._scales)
            except DataError as error:
                self._wrong[scene.id] = str(error)
        self._warn(
            [scene for scene, depth in self._supplied.items() if not depth.stated],
            "have depth, and nothing says its unit: values of .npy are taken to be in the unit of the scene's poses, "
            "those of PNG in thousandths of it. If they are not, points seen in two views will not meet. Say "
            f"depth_scale or pose_scale in scene.json or {DATASET}; pose_scale 1 says that it is so",
        )
        return [scene for scene in deep if scene.id in self._supplied]

    def _with_cameras(self, scenes: Sequence[Scene]) -> list[Scene]:
        """Those whose cameras can be read."""
        pinholes, kept = [], []
        for scene in scenes:
            assert scene.track is not None
            try:
                cameras = cameras_of(scene.track)
            except DataError as error:
                self._wrong[scene.id] = str(error)
                continue
            kept.append(scene)
            pinholes.append(all(camera.is_pinhole for camera in cameras))
        self._intrinsics = bool(pinholes) and all(pinholes)
        if not self._intrinsics:
            log.warning(
                "dataset %s: intrinsics are left out, poses are kept: %d of %d scenes have lens distortion, which is "
                "not undone, since a 3x3 matrix does not say it.",
                self.name,
                pinholes.count(False),
                len(pinholes),
            )
        return kept

    def _left(self, before: Sequence[Scene], after: Sequence[Scene], what: str) -> None:
        kept = {scene.id for scene in after}
        self._warn([scene.id for scene in before if scene.id not in kept], f"{what}; they are left out")

    def _warn(self, scenes: Sequence[str], what: str) -> None:
        if scenes:
            log.warning("dataset %s: scenes %s %s", self.name, some(scenes), what)


class Dl3dvPaper(Dl3dv):
    """The same scenes, split as arXiv 2605.28132 does. It has no third split, so a tenth of its train becomes val."""

    name = "dl3dv-paper"

    def _split(self) -> dict[str, str]:
        # What is damaged is drawn too, so that no other scene changes its split for it.
        there: list[Scene | Unreadable] = [*self.scenes, *self._broken]
        labelled = [scene for scene in there if scene.labels]
        splits, self._rule = as_the_paper(self.root, [(scene.subset, scene.id) for scene in labelled or there])
        return splits

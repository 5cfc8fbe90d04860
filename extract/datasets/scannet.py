"""ScanNet v2: real indoor scans, with the classes of its benchmarks of 20 (`scannet`) and 200 (`scannet200`).

scans/<scan>/<scan>.sens                       recording; or color/ depth/ pose/ intrinsic/, as its reader exports it
scans/<scan>/<scan>_2d-instance-filt.zip       instance ids per frame
scans/<scan>/<scan>.aggregation.json           the category of each instance
scannetv2-labels.combined.tsv                  categories to class ids
scannetv2_train.txt, scannetv2_val.txt         the official split lists
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

from extract.datasets._names import some
from extract.datasets.base import Dataset
from extract.datasets.sampling import Sampling
from extract.datasets.scannet_files.clip import ScanNetClip, Shared
from extract.datasets.scannet_files.labels import MAX_INSTANCE, TABLE, read_table
from extract.datasets.scannet_files.scan import TARGET_SIZE, Scan
from extract.datasets.scannet_files.sens import Sens
from extract.datasets.scannet_files.splits import LISTS, PLACES, find_lists, read_splits
from extract.datasets.scannet_files.vocabularies import SCANNET20, SCANNET200, Vocabulary
from extract.errors import DataError
from store.digest import digest_file

log = logging.getLogger(__name__)

SHORTEST = 20
"""Recordings of fewer frames are left out, as arXiv 2605.28132 does."""
_TABLE_PLACES = ("", "tasks", "scans")


class ScanNet(Dataset):
    """Dai et al., "ScanNet: Richly-annotated 3D Reconstructions of Indoor Scenes", arXiv:1702.04405.

    Making one reads the split lists, the label table, and the header of every recording. A scan that was not
    downloaded, lacks a part that others have, or is too short, is left out with a warning. Damaged recordings are in
    `damaged`.

    Raises:
        DatasetNotFoundError: there are no split lists, no label table, or no scans that the lists name.
        DataError: a split list or the label table is damaged.
    """

    name = "scannet"
    vocabulary: ClassVar[Vocabulary] = SCANNET20
    default_sampling = Sampling()
    environment = "SCANNET_ROOT"
    how_to_get = f"""\
ScanNet v2 is given to researchers who sign its terms of use: http://www.scan-net.org (github.com/ScanNet/ScanNet).
The mail that grants access brings a download script. Get, with your own account, below one DIRECTORY:
  scans/<scan>/<scan>.sens                       colour, depth, camera poses and intrinsics; or instead of it
                                                 scans/<scan>/color, depth, pose, intrinsic, exported by ScanNet's
                                                 SensReader/python/reader.py
  scans/<scan>/<scan>_2d-instance-filt.zip       instance ids per frame
  scans/<scan>/<scan>.aggregation.json           the category of each instance
  {TABLE}                  categories to class ids (--label_map)
  {LISTS[0]}, {LISTS[1]}         the official split lists, from Tasks/Benchmark of github.com/ScanNet/ScanNet
Without archives of instances no scan has labels; depth and camera poses are read all the same."""

    def __init__(self, root: Path | None = None, sampling: Sampling | None = None) -> None:
        super().__init__(root, sampling)
        self.version = "v2"
        self.classes = self.vocabulary.classes
        self.image_size = (968, 1296)
        lists = find_lists(self.root)
        if lists is None:
            places = ", ".join(str(self.root / place) for place in PLACES)
            raise self.not_found(f"{' and '.join(LISTS)} are missing; looked in {places}")
        splits = read_splits(lists)
        scans = self._complete(self._open(splits))
        if not scans and not self.damaged:
            raise self.not_found(f"{self.root / 'scans'} holds no scan that {LISTS[0]} or {LISTS[1]} names")
        _warn(
            [s.id for s in scans if isinstance(s.recording, Sens) and s.recording.header.color_size != self.image_size],
            "have colour of another size than 1296x968; their frames are stretched to it",
        )
        self._class_of = read_table(self._table, self.vocabulary) if scans and scans[0].has_labels else None
        shared = Shared(self.sampling or Sampling(), self.image_size, self._class_of)
        self._clips = [ScanNetClip(scan, splits[scan.id], shared) for scan in scans]

    @property
    def max_instances(self) -> int:
        """255: pictures of instances have 8 bits."""
        return MAX_INSTANCE

    def clips(self) -> Sequence[ScanNetClip]:
        """One clip per scan, sorted by name."""
        return self._clips

    def facts(self) -> Mapping[str, Any]:
        """How frames were chosen; size of the target pictures; by what categories became classes."""
        table = None if self._class_of is None else digest_file(self._table)
        return {
            **super().facts(),
            "target_size": list(TARGET_SIZE),
            "labels": {"column": self.vocabulary.column, "table": table},
        }

    @cached_property
    def _table(self) -> Path:
        for place in _TABLE_PLACES:
            if (path := self.root / place / TABLE).is_file():
                return path
        raise self.not_found(f"{TABLE} is missing; looked in {self.root} and its folders tasks and scans")

    def _open(self, listed: Iterable[str]) -> list[Scan]:
        """The scans that were downloaded. Sets which are damaged."""
        found, missing, damaged = [], [], {}
        for name in listed:
            try:
                scan = Scan.find(self.root / "scans" / name)
            except DataError as error:
                damaged[name] = str(error)
                continue
            (missing.append(name) if scan is None else found.append(scan))
        self.damaged = damaged
        _warn(missing, "are in the official lists, and have no recording; they are left out")
        return found

    def _complete(self, scans: Sequence[Scan]) -> list[Scan]:
        """Those with as much as any has, since all clips have the same targets, and with enough frames."""
        labelled = any(scan.has_labels for scan in scans)
        deep = any(scan.recording.has_depth for scan in scans)
        whole = {s.id: s.has_labels >= labelled and s.recording.has_depth >= deep for s in scans}
        _warn(
            [scan for scan, is_whole in whole.items() if not is_whole],
            "lack the labels or the depth that other scans have; they are left out",
        )
        kept = [scan for scan in scans if whole[scan.id]]
        short = [scan.id for scan in kept if len(scan.recording.numbers) < SHORTEST]
        _warn(short, f"have fewer than {SHORTEST} frames; they are left out")
        if scans and not labelled:
            log.warning("dataset %s: no scan has labels; there will be no instances and no classes", self.name)
        return [scan for scan in kept if scan.id not in short]


class ScanNet200(ScanNet):
    """ScanNet with the 200 classes of Rozenberszki et al., arXiv:2204.07761. The frames and files are the same."""

    name = "scannet200"
    vocabulary = SCANNET200


def _warn(scans: Sequence[str], what: str) -> None:
    if scans:
        log.warning("scans %s %s", some(scans), what)

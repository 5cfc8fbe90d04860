"""ScanNet v2: real indoor scans. This version knows where its files have to lie, and cannot read them yet."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from extract.datasets.base import Clip, Dataset
from extract.datasets.sampling import Sampling
from extract.errors import ExtractError


class ScanNet(Dataset):
    """Dai et al., "ScanNet: Richly-annotated 3D Reconstructions of Indoor Scenes", arXiv:1702.04405.

    Raises:
        DatasetNotFoundError: there is no directory, or it holds no scans.
        ExtractError: the scans are there; reading them is not implemented.
    """

    name = "scannet"
    default_sampling = Sampling()
    environment = "SCANNET_ROOT"
    how_to_get = """\
ScanNet v2 is given to researchers who sign its terms of use: http://www.scan-net.org (github.com/ScanNet/ScanNet).
The mail that grants access brings a download script. Get, with your own account, below one DIRECTORY:
  scans/<scene>/<scene>.sens                              colour, depth, camera poses and intrinsics
  scans/<scene>/<scene>_2d-instance-filt.zip              instance ids per frame
  scans/<scene>/<scene>.aggregation.json                  the label of each instance
  scans/<scene>/<scene>_vh_clean_2.0.010000.segs.json     which segments form an instance
  scannetv2-labels.combined.tsv                           label names to class ids
  scannetv2_train.txt, scannetv2_val.txt, scannetv2_test.txt   the official split lists"""

    def __init__(self, root: Path | None = None, sampling: Sampling | None = None) -> None:
        super().__init__(root, sampling)
        scans = self.root / "scans"
        if not scans.is_dir():
            raise self.not_found(f"{scans} is missing")
        self._not_implemented()

    @property
    def max_instances(self) -> int:
        """Raises `ExtractError`."""
        self._not_implemented()

    def clips(self) -> Sequence[Clip]:
        """Raises `ExtractError`."""
        self._not_implemented()

    def _not_implemented(self) -> NoReturn:
        raise ExtractError(
            f"dataset scannet: {self.root / 'scans'} was found, but this version has no ScanNet reader yet. "
            "Nothing was read. Remedy: use --dataset rooms, or write the reader in extract/datasets/scannet.py."
        )

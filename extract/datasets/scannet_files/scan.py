"""One scan's folder: which of its files are there."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from extract.datasets.scannet_files.exported import Exported
from extract.datasets.scannet_files.recording import Recording
from extract.datasets.scannet_files.sens import Sens

TARGET_SIZE = (480, 640)
"""(height, width) of target pictures: that of ScanNet's depth, so that depth is not invented between its pixels."""
EXPORTS = ("", "exported")
"""Where in a scan's folder `color` and its neighbours may lie."""


@dataclass(frozen=True)
class Scan:
    """A scan that was downloaded.

    Attributes:
        folder: it is named as the scan is.
        recording: the `.sens` file if there is one, else what was exported from it.
        has_labels: instances and their categories are there.
    """

    folder: Path
    recording: Recording
    has_labels: bool

    @classmethod
    def find(cls, folder: Path) -> Scan | None:
        """The scan in a folder, or nothing if there is no recording. Raises `DataError` if that is damaged."""
        recording = _recording(folder)
        if recording is None:
            return None
        scan = cls(folder, recording, True)
        return cls(folder, recording, scan.archive.is_file() and scan.aggregation.is_file())

    @property
    def id(self) -> str:
        """`scene0191_02`."""
        return self.folder.name

    @property
    def archive(self) -> Path:
        """Instance ids per frame."""
        return self.folder / f"{self.id}_2d-instance-filt.zip"

    @property
    def aggregation(self) -> Path:
        """The category of each instance."""
        return self.folder / f"{self.id}.aggregation.json"


def _recording(folder: Path) -> Recording | None:
    sens = folder / f"{folder.name}.sens"
    if sens.is_file():
        return Sens(sens)
    for place in EXPORTS:
        if (folder / place / "color").is_dir():
            return Exported(folder / place)
    return None

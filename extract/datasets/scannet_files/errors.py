"""The message for a damaged file of a scan."""

from __future__ import annotations

from extract.datasets._sources import Faults

REMEDY = "Copy the scan anew, or move its folder out of scans/ to leave it out."
FAULTS = Faults(REMEDY)
damaged, unreadable = FAULTS.damaged, FAULTS.unreadable

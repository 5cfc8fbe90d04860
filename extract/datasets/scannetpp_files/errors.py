"""The message for a damaged file of a scene."""

from __future__ import annotations

from extract.datasets._sources import Faults

FAULTS = Faults("Download the scene anew, or move its folder out of data/ to leave it out.")

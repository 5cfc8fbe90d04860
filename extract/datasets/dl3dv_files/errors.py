"""The messages for damaged files of a scene, and of its labels."""

from __future__ import annotations

from extract.datasets._sources import Faults

FAULTS = Faults("Unpack the scene anew, or name it in excluded.txt to leave it out.")
damaged, unreadable = FAULTS.damaged, FAULTS.unreadable
LABEL_FAULTS = Faults(
    "Make the labels anew (python -m extract label), or name the scene in excluded.txt to leave it out."
)

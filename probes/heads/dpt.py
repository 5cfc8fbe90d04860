"""The dense prediction head of DPT on the features of each view: convolutions at four scales, no attention."""

from __future__ import annotations

from probes.heads.alternating import DptHead

__all__ = ["DptHead"]

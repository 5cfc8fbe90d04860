"""How long an extraction would take: two clips are run, and thrown away."""

from __future__ import annotations

import resource
import sys
import time
from dataclasses import dataclass

import torch

from extract.backbones.base import Offload
from extract.engine import clip_features, exact_float32, load_backbone
from extract.plan import Plan

CLIPS = 2
"""The first chooses kernels and fills caches; the last is what is timed."""


@dataclass(frozen=True)
class Measured:
    """What two clips took.

    Attributes:
        load_s: seconds to load the backbone.
        decode_s: seconds to decode the frames of a clip, in one thread.
        compute_s: seconds for all taps of a clip.
        peak: most bytes that were in use: on the device, or of the process where that is the CPU.
    """

    load_s: float
    decode_s: float
    compute_s: float
    peak: int

    @property
    def clip_s(self) -> float:
        """Seconds per clip: one is decoded while another is computed. Writing goes on beside both, and is not timed."""
        return max(self.decode_s, self.compute_s)


def measure(plan: Plan, device: torch.device, offload: Offload = "none") -> Measured:
    """Load the backbone and run two clips, of those that are missing if there are any. Writes nothing."""
    rows = (list(plan.pending()) or plan.rows)[:CLIPS]
    started = time.perf_counter()
    backbone, family = load_backbone(plan, device, offload), plan.family
    loaded = time.perf_counter()
    decode_s = compute_s = 0.0
    with exact_float32():
        for row in rows:
            clip = plan.clips[row]
            begun = time.perf_counter()
            frames = torch.from_numpy(clip.frames(family.window(clip.n_frames, clip.bank)[0]))
            decoded = time.perf_counter()
            clip_features(backbone, plan, clip, frames.to(device), plan.taps).arrive()
            decode_s, compute_s = decoded - begun, time.perf_counter() - decoded
    return Measured(loaded - started, decode_s, compute_s, _peak(device))


def _peak(device: torch.device) -> int:
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    unit = 1 if sys.platform == "darwin" else 1024  # getrusage(2): bytes on macOS, kilobytes on Linux
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit

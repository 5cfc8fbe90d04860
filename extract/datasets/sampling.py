"""Which frames of a recording make a clip, and for which of those features and targets are kept."""

from __future__ import annotations

import hashlib
from typing import Annotated, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

PAPER_CONTEXT, PAPER_STEP = 76, 4
"""Frames of a clip that arXiv 2605.28132 probes, and how far its bank frames are apart after the first two."""
SHORTEST_CENTRE = 60
"""If the centre half of a recording has fewer frames, its code takes the whole."""
PAPER_RUN = 150
"""Consecutive frames of a recording of DL3DV that its code labels; its clips are the first 81 of them."""
Window = Literal["centre", "whole", "run"]


class Sampling(BaseModel):
    """Frames of a clip, spread evenly over a part of a recording or consecutive, and the bank among them.

    The defaults are those of arXiv 2605.28132 for ScanNet: 81 frames of the centre half, and the bank 0, 1, 5, 9 … 73.

    Attributes:
        frames: of a clip; a recording with fewer gives all that it has, each once.
        window: `centre` = the centre half of the recording, or all of it if that is fewer than 60 frames; `whole`;
            `run` = consecutive frames from `run_start`, which does not depend on `frames` up to 150.
        bank: `paper`, or how many frames to spread evenly over the clip.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    frames: int = Field(default=81, ge=1)
    window: Window = "centre"
    bank: Literal["paper"] | Annotated[int, Field(ge=1)] = "paper"

    def choose(self, total: int, scene: str = "") -> list[int]:
        """Numbers, ascending and each once, of the frames that make the clip of a recording of `total` frames.

        `scene` is the name of the recording, by which the start of a `run` is drawn.
        """
        if self.window == "run":
            start = run_start(scene, total, max(self.frames, PAPER_RUN))
            return list(range(start, min(start + self.frames, total)))
        first, last = 0, total
        if self.window == "centre" and (quarter := total // 4) and total - 2 * quarter >= SHORTEST_CENTRE:
            first, last = quarter, total - quarter
        return spread(first, last, min(self.frames, last - first))

    def bank_of(self, frames: int) -> tuple[int, ...]:
        """Positions of the bank in a clip of `frames` frames.

        The paper's bank of a clip of fewer than 76 frames is squeezed: position q becomes floor(q (frames - 1) / 75),
        and what coincides is kept once.
        """
        if self.bank != "paper":
            return tuple(spread(0, frames, min(self.bank, frames)))
        usual = [0, *range(1, PAPER_CONTEXT, PAPER_STEP)]
        if frames >= PAPER_CONTEXT:
            return tuple(usual)
        return tuple(dict.fromkeys(q * (frames - 1) // (PAPER_CONTEXT - 1) for q in usual))


def spread(first: int, last: int, count: int) -> list[int]:
    """`count` whole numbers from `first` to `last` - 1, both included, at even distances, halves rounded to even."""
    step = (last - 1 - first) / max(count - 1, 1)
    return [round(first + k * step) for k in range(count)]


def run_start(scene: str, total: int, length: int = PAPER_RUN) -> int:
    """First of `length` consecutive frames among `total`, drawn by the name of the scene; 0 if there are no more.

    As the code of arXiv 2605.28132 draws it for DL3DV: numpy's `RandomState`, whose stream is frozen, seeded by the
    first 8 hexadecimal digits of the name's MD5. The last possible start is never drawn.
    """
    if total <= length:
        return 0
    seed = int(hashlib.md5(scene.encode(), usedforsecurity=False).hexdigest()[:8], 16)
    return int(np.random.RandomState(seed).randint(0, total - length))

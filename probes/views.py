"""Which frames of a clip are seen together: at random in training, in fixed windows in evaluation."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Integer

from probes.errors import SplitError
from probes.seeding import generator

if TYPE_CHECKING:
    from probes.config import TrainConfig
    from store import ClipRow

PAPER_WINDOW, PAPER_GAP = 76, 5
"""Frames of a clip that arXiv 2605.28132 draws views from, and the least distance between two before snapping."""
_GEOMETRY = {"depth", "points", "camera"}


def training_views(config: TrainConfig, clip: ClipRow, epoch: int) -> Integer[np.ndarray, " view"]:
    """Bank positions of one sample, in the order of time; they depend on seed, epoch and row alone."""
    key = (config.seed, "views", epoch, clip.row)
    if config.protocol == "paper":
        return paper_views(clip, config.views, generator(*key))
    return random_views(len(clip.bank), config.views, *key)


def evaluation_windows(config: TrainConfig, clip: ClipRow) -> Integer[np.ndarray, "window view"]:
    """Bank positions of the windows of a clip.

    By our rules: `windows`. The paper looks at one draw of views per clip, the same each time for tagging and grouping.
    For geometry its code means to do so and does not (`if self.seed:` takes seed 0 for none): there the views differ
    from run to run, here by the run's seed.
    """
    if config.protocol == "paper":
        seed = config.seed if set(config.tasks) <= _GEOMETRY else 0
        return paper_views(clip, config.views, generator(seed, "paper", clip.row))[None]
    return windows(len(clip.bank), config.views)


def windows(frames: int, views: int) -> Integer[np.ndarray, "window view"]:
    """Evaluation windows: every bank position in exactly one (up to a remainder), views as far apart as possible.

    20 frames and 4 views give [0, 5, 10, 15], [1, 6, 11, 16] … [4, 9, 14, 19].
    """
    count = frames // views
    if count == 0:
        raise SplitError(f"a clip of {frames} bank frames cannot be seen in {views} views; lower --views")
    return np.arange(count)[:, None] + count * np.arange(views)[None, :]


def random_views(bank: int, views: int, *key: int | str) -> Integer[np.ndarray, " view"]:
    """Different bank positions of one sample, in the order of time; they depend on the key alone."""
    return np.sort(generator(*key).choice(bank, size=views, replace=False))


def paper_views(clip: ClipRow, views: int, rng: np.random.Generator) -> Integer[np.ndarray, " view"]:
    """Bank positions as the published code of arXiv 2605.28132 draws them.

    Among the first 76 frames, the first view is frame 0, view k is frame 5 k + d_k, with d_1 <= d_2 … drawn evenly
    from what is left; then each is moved back to the nearest frame of the bank (by at most 3, with the paper's bank).

    Raises:
        SplitError: the clip has too few frames, or its bank too few to keep the views apart.
    """
    slack = require_paper_views(clip, views)
    drawn = np.sort(rng.integers(0, slack + 1, size=views - 1)) + PAPER_GAP * np.arange(1, views)
    return np.searchsorted(clip.bank, [0, *drawn], side="right") - 1


def require_paper_views(clip: ClipRow, views: int) -> int:
    """Whatever is drawn, no two views may be moved back to one frame. Returns how many frames are left to draw from.

    Raises:
        SplitError: the clip has too few frames, or its bank too few to keep the views apart.
    """
    frames = min(PAPER_WINDOW, clip.n_frames)
    slack = frames - ((views - 1) * PAPER_GAP + 1)
    if slack < 0:
        raise SplitError(
            f"clip {clip.id}: {clip.n_frames} frames are too few for {views} views that are {PAPER_GAP} apart; "
            "lower --views, or ask for --protocol standard"
        )
    # Views k and k + 1 meet if view k can be so soon after a frame of the bank that the next is not yet reached.
    meet = any(
        first <= PAPER_GAP * k + slack * (k > 0) and first + PAPER_GAP < after
        for frame, after in zip(clip.bank, [*clip.bank[1:], frames], strict=True)
        for k in range(views - 1)
        for first in [max(frame, PAPER_GAP * k)]
    )
    if clip.bank[0] > 0 or meet:
        raise SplitError(
            f"clip {clip.id}: its bank {list(clip.bank)} is too coarse for {views} views that are {PAPER_GAP} frames "
            "apart; lower --views, or ask for --protocol standard"
        )
    return slack

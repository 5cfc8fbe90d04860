"""Which clip frames a video network of fixed length sees, so that every bank frame is seen once."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from extract.diffusion.windows import check_bank


def plan_windows(n_frames: int, bank: Sequence[int], length: int) -> tuple[list[list[int]], list[int]]:
    """Spread the bank frames of a clip over as few windows of `length` frames as possible.

    Every window starts with the first bank frame, because it is the image the network is conditioned on. With W
    windows, window w holds the first bank frame and then every W-th of the others, from the w-th on: each window is
    the whole clip at a coarser frame rate, not a piece of it with a jump after the condition. Free places are filled
    with clip frames halfway in the largest gap, then with the frames that follow, then with repeats of the last.

    Args:
        n_frames: frames in the clip.
        bank: bank frames as strictly increasing frame numbers of the clip.
        length: frames per window, at least 2.

    Returns:
        windows: frame numbers of the clip, non-decreasing within each window.
        positions: place of every bank frame in the windows laid end to end.

    Raises:
        ExtractError: the bank is empty, not increasing, or outside the clip.
    """
    check_bank(n_frames, bank)
    first, others = bank[0], bank[1:]
    count = max(1, -(-len(others) // (length - 1)))
    windows = [_fill([first, *others[w::count]], n_frames, length) for w in range(count)]
    positions = [0] + [w * length + windows[w].index(frame) for w, frame in _deal(others, count)]
    return windows, positions


def _deal(frames: Sequence[int], count: int) -> list[tuple[int, int]]:
    return [(i % count, frame) for i, frame in enumerate(frames)]


def _fill(frames: list[int], n_frames: int, length: int) -> list[int]:
    filled = list(frames)
    while len(filled) < length:
        gaps = [b - a for a, b in pairwise(filled)]
        widest = max(gaps, default=0)
        if widest > 1:
            at = gaps.index(widest)
            filled.insert(at + 1, filled[at] + widest // 2)
        else:
            filled.append(min(filled[-1] + 1, n_frames - 1))
    return filled

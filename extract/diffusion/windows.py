"""Which clip frames a video autoencoder sees, and which of its latents belongs to which bank frame.

A causal video autoencoder of stride s turns s * n + 1 frames into n + 1 latents: latent 0 is the first frame alone,
latent j > 0 is frames s (j - 1) + 1 to s j.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from extract.errors import ExtractError


@dataclass(frozen=True)
class Windows:
    """Frames to encode, and where the bank is.

    Attributes:
        frames: clip frame numbers of every window, non-decreasing; all windows are equally long.
        positions: for every bank frame, where it is among all frames, windows laid end to end.
        spans: for every bank frame, the first and the last clip frame that its latent was made of.
    """

    frames: tuple[tuple[int, ...], ...]
    positions: tuple[int, ...]
    spans: tuple[tuple[int, int], ...]


def latents_of(length: int, stride: int) -> int:
    """Latents of a window. Raises `ExtractError` if a window of `length` frames is no whole number of them."""
    if length < 1 + stride or (length - 1) % stride:
        raise ExtractError(
            f"window of {length} frames: the autoencoder takes {stride} n + 1 frames. "
            f"Nearest: {max(1, round((length - 1) / stride)) * stride + 1}."
        )
    return (length - 1) // stride + 1


def latent_at(position: int, stride: int) -> int:
    """The latent that a frame of a window goes into, both counted from 0."""
    return -(-position // stride)


def latent_per_frame(n_frames: int, bank: Sequence[int], length: int, stride: int) -> Windows:
    """Give every bank frame a latent of its own that starts with it.

    The frames of a latent are spread evenly from its bank frame to the next one. Where bank frames are `stride` frames
    apart, a window is thus the plain clip; where they are further apart it is the clip at a lower frame rate, and where
    they are closer frames are repeated. A bank of more frames than a window has latents is dealt out to several
    windows, each of which starts with the first bank frame and then holds every W-th of the others, so that each is the
    whole clip. What is left of a window goes on with the frames that follow, then repeats the last.

    Args:
        n_frames: frames in the clip.
        bank: bank frames as strictly increasing frame numbers of the clip.
        length: frames of a window, `stride` n + 1 with n > 0.
        stride: frames per latent, except for the first.

    Raises:
        ExtractError: the bank is empty, not increasing, or outside the clip; or `length` does not fit.
    """
    check_bank(n_frames, bank)
    held = latents_of(length, stride)
    first, others = bank[0], bank[1:]
    count = max(1, -(-len(others) // (held - 1)))
    windows = [_window([first, *others[w::count]], n_frames, length, stride) for w in range(count)]
    positions = [0] + [i % count * length + stride * (i // count) + 1 for i in range(len(others))]
    return _with_spans(windows, positions, stride)


def interleaved(n_frames: int, bank: Sequence[int], length: int, stride: int) -> Windows:
    """Two windows that share frame 0 and take the odd and the even frames after it, as the code of arXiv 2605.28132.

    Window 0 is frames 0, 1, 3, 5, …, window 1 is frames 0, 2, 4, …. Two bank frames can share a latent: of a bank 0, 1,
    5, 9, … all frames are in window 0, and 1 + 8 j and 5 + 8 j are in one latent. Frames beyond the clip's last are
    repeats of it. Raises `ExtractError` as `latent_per_frame`, or if a bank frame is outside both windows.
    """
    check_bank(n_frames, bank)
    latents_of(length, stride)
    last = n_frames - 1
    windows = [[0, *(min(frame, last) for frame in range(start, 2 * length - 1, 2))][:length] for start in (1, 2)]
    if bank[-1] > 2 * (length - 1):
        raise ExtractError(
            f"bank frame {bank[-1]}: outside the {2 * length - 1} frames that two windows of {length} hold. "
            "Choose --preset standard, or bank frames nearer to the clip's beginning."
        )
    positions = [(frame - 1) % 2 * length + (frame + 1) // 2 if frame else 0 for frame in bank]
    return _with_spans(windows, positions, stride)


def check_bank(n_frames: int, bank: Sequence[int]) -> None:
    """Raise `ExtractError` unless the bank is strictly increasing frame numbers of the clip."""
    if not bank or any(a >= b for a, b in pairwise(bank)) or bank[0] < 0 or bank[-1] >= n_frames:
        raise ExtractError(
            f"bank {list(bank)} of a clip of {n_frames} frames: need strictly increasing frame numbers "
            f"from 0 to {n_frames - 1}. Choose bank frames inside the clip."
        )


def _with_spans(windows: Sequence[Sequence[int]], positions: Sequence[int], stride: int) -> Windows:
    spans = []
    for position in positions:
        window, place = divmod(position, len(windows[0]))
        last = latent_at(place, stride) * stride
        spans.append((windows[window][max(0, last - stride + 1)], windows[window][last]))
    return Windows(tuple(map(tuple, windows)), tuple(positions), tuple(spans))


def _window(starts: Sequence[int], n_frames: int, length: int, stride: int) -> list[int]:
    """Frame `starts[0]`, then `stride` frames from each further start, then what follows, up to `length` frames."""
    window = [starts[0]]
    gap = stride
    for k, start in enumerate(starts[1:], start=1):
        gap = starts[k + 1] - start if k + 1 < len(starts) else gap
        window += [start + i * gap // stride for i in range(stride)]
    step = max(1, gap // stride)
    window += [window[-1] + step * (i + 1) for i in range(length - len(window))]
    return [min(frame, n_frames - 1) for frame in window]

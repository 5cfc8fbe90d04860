"""Windows: every bank frame has a latent of its own that starts with it; the paper's windows are its formula."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from extract.diffusion.windows import Windows, interleaved, latent_at, latent_per_frame, latents_of
from extract.errors import ExtractError

PAPER_BANK = [0, *range(1, 76, 4)]
RULES = [latent_per_frame, interleaved]
Asked = tuple[int, list[int], int, int]


@st.composite
def clips(draw: st.DrawFn, near: bool = False) -> Asked:
    """Frames of the clip, bank, length of a window, stride. `near`: inside what two interleaved windows hold."""
    stride = draw(st.integers(1, 8))
    length = draw(st.integers(1, 14)) * stride + 1
    n_frames = draw(st.integers(1, 130))
    last = min(n_frames - 1, 2 * (length - 1)) if near else n_frames - 1
    bank = draw(st.sets(st.integers(0, last), min_size=1, max_size=40))
    return n_frames, sorted(bank), length, stride


def groups(length: int, stride: int) -> list[list[int]]:
    """Places in a window of what a causal autoencoder makes a latent of: one frame, then `stride` at a time."""
    return [[0], *([*range(start, start + stride)] for start in range(1, length, stride))]


def latents_seen(windows: Windows, length: int, stride: int) -> list[tuple[int, list[int]]]:
    """For every bank frame: which latent of all windows it is in, and the clip frames of that latent."""
    made = [[window[place] for place in group] for window in windows.frames for group in groups(length, stride)]
    held = len(groups(length, stride))
    seen = []
    for position in windows.positions:
        window, place = divmod(position, length)
        (at,) = [j for j, group in enumerate(groups(length, stride)) if place in group]
        seen.append((window * held + at, made[window * held + at]))
    return seen


def is_sound(windows: Windows, asked: Asked) -> None:
    """What holds of every rule."""
    n_frames, bank, length, stride = asked
    flat = [frame for window in windows.frames for frame in window]
    assert {len(window) for window in windows.frames} == {length}
    assert all(a <= b for window in windows.frames for a, b in pairwise(window))
    assert all(0 <= frame < n_frames for frame in flat)
    assert [flat[position] for position in windows.positions] == bank
    assert list(windows.spans) == [(min(made), max(made)) for _, made in latents_seen(windows, length, stride)]


# --- one latent per bank frame ------------------------------------------------------------------


@given(clips())
def test_every_bank_frame_has_a_latent_of_its_own_that_starts_with_it(asked: Asked) -> None:
    _, bank, length, stride = asked
    windows = latent_per_frame(*asked)
    is_sound(windows, asked)
    seen = latents_seen(windows, length, stride)
    assert len({latent for latent, _ in seen}) == len(bank)
    assert [made[0] for _, made in seen] == bank


@given(clips())
def test_a_latent_ends_before_the_next_bank_frame_of_its_window(asked: Asked) -> None:
    length = asked[2]
    windows = latent_per_frame(*asked)
    of_window: dict[int, list[tuple[int, int]]] = {}
    for position, span in zip(windows.positions, windows.spans, strict=True):
        of_window.setdefault(position // length, []).append(span)
    assert len(of_window) == len(windows.frames)  # no window is encoded for nothing
    for spans in of_window.values():
        assert all(first[1] < second[0] for first, second in pairwise(spans))


@given(clips())
def test_windows_are_few_and_share_the_bank_evenly(asked: Asked) -> None:
    _, bank, length, stride = asked
    windows = latent_per_frame(*asked)
    room = latents_of(length, stride) - 1
    assert len(windows.frames) == max(1, -(-(len(bank) - 1) // room))
    assert all(window[0] == bank[0] for window in windows.frames)
    counts = [sum(position // length == w for position in windows.positions[1:]) for w in range(len(windows.frames))]
    assert max(counts) - min(counts) <= 1


@given(st.integers(1, 12), st.integers(1, 8), st.integers(0, 5))
def test_bank_frames_at_the_stride_make_the_window_the_plain_clip(latents: int, stride: int, first: int) -> None:
    length = latents * stride + 1
    bank = [first, *range(first + 1, first + length, stride)]
    windows = latent_per_frame(first + length, bank, length, stride)
    assert windows.frames == (tuple(range(first, first + length)),)


def test_the_papers_bank_in_a_window_of_81_is_the_plain_clip() -> None:
    windows = latent_per_frame(81, PAPER_BANK[:20], 81, 4)
    assert windows.frames == (tuple(range(81)),)
    assert windows.positions == tuple(PAPER_BANK[:20])
    assert windows.spans == ((0, 0), *((start, start + 3) for start in range(1, 74, 4)))


def test_a_bank_of_twenty_is_dealt_out_to_two_windows_of_thirteen_latents() -> None:
    windows = latent_per_frame(81, PAPER_BANK[:20], 49, 4)
    assert len(windows.frames) == 2
    assert [position // 49 for position in windows.positions] == [0, *[0, 1] * 9, 0]
    assert windows.frames[0][:9] == (0, 1, 3, 5, 7, 9, 11, 13, 15)  # frames that are 8 apart, at half the frame rate
    assert windows.spans[:4] == ((0, 0), (1, 7), (5, 11), (9, 15))


def test_frames_between_distant_bank_frames_are_spread_evenly() -> None:
    windows = latent_per_frame(100, [0, 10, 30, 37], 17, 4)
    assert windows.frames == ((0, 10, 15, 20, 25, 30, 31, 33, 35, 37, 38, 40, 42, 43, 44, 45, 46),)
    assert windows.spans == ((0, 0), (10, 25), (30, 35), (37, 42))


def test_bank_frames_closer_than_the_stride_repeat_frames() -> None:
    windows = latent_per_frame(3, [0, 1, 2], 9, 4)
    assert windows.frames == ((0, 1, 1, 1, 1, 2, 2, 2, 2),)
    assert windows.spans == ((0, 0), (1, 1), (2, 2))


def test_a_short_clip_is_held_at_its_last_frame() -> None:
    windows = latent_per_frame(6, [0, 1, 5], 13, 4)
    assert windows.frames == ((0, 1, 2, 3, 4, 5, 5, 5, 5, 5, 5, 5, 5),)
    assert latent_per_frame(1, [0], 5, 4).frames == ((0,) * 5,)


def test_one_bank_frame_is_followed_by_its_clip() -> None:
    windows = latent_per_frame(100, [7], 13, 4)
    assert windows.frames == (tuple(range(7, 20)),)
    assert (windows.positions, windows.spans) == ((0,), ((7, 7),))


def test_a_clip_longer_than_its_bank_is_not_read_to_its_end() -> None:
    assert latent_per_frame(1000, [0, 1], 9, 4).frames == (tuple(range(9)),)


# --- odd and even frames ------------------------------------------------------------------------


def reference_latent(frame: int, latents: int) -> int:
    """The published rule for a frame of the clip: index into the latents of both windows laid end to end."""
    if frame == 0:
        return 0
    clip = (frame - 1) % 2
    pos = (frame - 1) // 2 + 1
    token = (pos - 1) // 4 + 1
    return clip * latents + token


@given(st.integers(1, 20), st.data())
def test_interleaved_windows_are_the_papers_formula(groups_of_four: int, data: st.DataObject) -> None:
    length = 4 * groups_of_four + 1
    held = groups_of_four + 1
    bank = sorted(data.draw(st.sets(st.integers(0, 2 * (length - 1)), min_size=1, max_size=40)))
    windows = interleaved(bank[-1] + 1, bank, length, 4)
    got = [p // length * held + latent_at(p % length, 4) for p in windows.positions]
    assert got == [reference_latent(frame, held) for frame in bank]


@given(clips(near=True))
def test_interleaved_windows_are_sound(asked: Asked) -> None:
    n_frames, _, length, _ = asked
    windows = interleaved(*asked)
    is_sound(windows, asked)
    frames = [min(frame, n_frames - 1) for frame in range(2 * length - 1)]
    assert windows.frames == ((0, *frames[1::2]), (0, *frames[2::2]))


def test_the_papers_bank_reads_the_odd_window_alone_and_two_frames_share_a_latent() -> None:
    windows = interleaved(81, PAPER_BANK[:20], 49, 4)
    assert windows.frames[0] == (0, *range(1, 81, 2), *[80] * 8)
    assert windows.frames[1] == (0, *range(2, 81, 2), *[80] * 8)
    assert {position // 49 for position in windows.positions} == {0}
    latents = [latent for latent, _ in latents_seen(windows, 49, 4)]
    assert latents == [0, *(k // 2 + 1 for k in range(19))]
    assert windows.spans[1] == windows.spans[2] == (1, 7)


def test_a_bank_beyond_both_windows_is_refused() -> None:
    assert interleaved(98, [96], 49, 4).positions == (97,)
    with pytest.raises(ExtractError, match=r"bank frame 97: outside the 97 frames.*--preset standard"):
        interleaved(98, [0, 97], 49, 4)


# --- errors -------------------------------------------------------------------------------------


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("bank", [[], [1, 1], [4, 2], [-1, 2], [0, 10]])
def test_an_impossible_bank_is_named(rule: object, bank: list[int]) -> None:
    with pytest.raises(ExtractError, match="from 0 to 9"):
        rule(10, bank, 9, 4)  # type: ignore[operator]


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize(("length", "near"), [(-3, 5), (0, 5), (1, 5), (2, 5), (4, 5), (8, 9), (80, 81), (83, 81)])
def test_a_length_that_is_no_whole_number_of_latents_is_refused_with_the_nearest(
    rule: object, length: int, near: int
) -> None:
    with pytest.raises(ExtractError, match=rf"window of {length} frames: .* 4 n \+ 1 frames\. Nearest: {near}\."):
        rule(10, [0], length, 4)  # type: ignore[operator]


@given(st.integers(1, 9), st.integers(1, 30))
def test_latents_are_counted_as_they_are_made(stride: int, latents: int) -> None:
    made = groups(latents * stride + 1, stride)
    assert latents_of(latents * stride + 1, stride) == len(made)
    assert [latent_at(place, stride) for group in made for place in group] == [
        j for j, group in enumerate(made) for _ in group
    ]

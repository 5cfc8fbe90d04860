"""Windows: every bank frame is seen exactly once, behind the condition, in as few windows as possible."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from extract.backbones._svd_windows import plan_windows
from extract.errors import ExtractError

PAPER_BANK = [0, *range(1, 76, 4)]


@st.composite
def clips(draw: st.DrawFn) -> tuple[int, list[int], int]:
    n_frames = draw(st.integers(1, 90))
    bank = sorted(draw(st.sets(st.integers(0, n_frames - 1), min_size=1, max_size=40)))
    return n_frames, bank, draw(st.integers(2, 25))


@given(clips())
def test_every_bank_frame_has_one_place_behind_the_condition(clip: tuple[int, list[int], int]) -> None:
    n_frames, bank, length = clip
    windows, positions = plan_windows(n_frames, bank, length)
    flat = [frame for window in windows for frame in window]

    assert [flat[p] for p in positions] == bank
    assert all(len(window) == length and window[0] == bank[0] for window in windows)
    assert all(a <= b for window in windows for a, b in pairwise(window))
    assert all(0 <= frame < n_frames for frame in flat)
    assert len(windows) == max(1, math.ceil((len(bank) - 1) / (length - 1)))
    for window in windows:  # a frame repeats only if all that could stand between or behind are used up
        if len(set(window)) < length:
            assert set(window) == set(range(bank[0], n_frames))


@given(clips())
def test_windows_differ_by_at_most_one_bank_frame(clip: tuple[int, list[int], int]) -> None:
    n_frames, bank, length = clip
    windows, positions = plan_windows(n_frames, bank, length)
    counts = [sum(p // length == w for p in positions[1:]) for w in range(len(windows))]
    assert max(counts) - min(counts) <= 1


def test_one_bank_frame_is_followed_by_its_clip() -> None:
    assert plan_windows(76, [3], 14) == ([list(range(3, 17))], [0])


def test_a_single_image_is_repeated() -> None:
    assert plan_windows(1, [0], 14) == ([[0] * 14], [0])


def test_a_short_clip_is_filled_between_and_then_held() -> None:
    assert plan_windows(5, [0, 3], 7) == ([[0, 1, 2, 3, 4, 4, 4]], [0, 3])


def test_the_widest_gap_is_halved_first() -> None:
    assert plan_windows(100, [0, 8, 10], 5) == ([[0, 2, 4, 8, 10]], [0, 3, 4])


def test_a_bank_as_long_as_the_window_is_the_window() -> None:
    bank = list(range(0, 75, 3))
    assert len(bank) == 25
    assert plan_windows(76, bank, 25) == ([bank], list(range(25)))
    assert plan_windows(76, bank[:14], 14) == ([bank[:14]], list(range(14)))


def test_twenty_frames_in_two_windows_of_fourteen() -> None:
    windows, positions = plan_windows(76, PAPER_BANK[:20], 14)
    assert len(windows) == 2
    assert {0, *PAPER_BANK[1:20:2]} <= set(windows[0])
    assert {0, *PAPER_BANK[2:20:2]} <= set(windows[1])
    assert positions[0] == 0
    assert [p // 14 for p in positions] == [0] + [0, 1] * 9 + [0]


def test_twenty_frames_in_one_window_of_twenty_five() -> None:
    windows, positions = plan_windows(76, PAPER_BANK[:20], 25)
    assert len(windows) == 1
    assert [windows[0][p] for p in positions] == PAPER_BANK[:20]
    assert len(set(windows[0])) == 25


@pytest.mark.parametrize("bank", [[], [1, 1], [4, 2], [-1, 2], [0, 10]])
def test_an_impossible_bank_is_named(bank: list[int]) -> None:
    with pytest.raises(ExtractError, match="from 0 to 9"):
        plan_windows(10, bank, 4)

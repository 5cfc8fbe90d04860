"""Which frames make a clip, and which of them are kept: as the published code counts, and as asked."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from extract.arguments import Arguments
from extract.command import run
from extract.datasets.sampling import Sampling, spread
from extract.errors import ExtractError
from extract.registry import make_dataset

PAPER_BANK = (0, 1, 5, 9, 13, 17, 21, 25, 29, 33, 37, 41, 45, 49, 53, 57, 61, 65, 69, 73)


def test_the_bank_of_the_paper() -> None:
    assert Sampling().bank_of(81) == Sampling().bank_of(76) == PAPER_BANK
    assert Sampling().bank_of(1) == (0,)
    short = Sampling().bank_of(38)
    assert short == tuple(dict.fromkeys(int(np.floor(q / 75 * 37 + 1e-9)) for q in PAPER_BANK))
    assert short[0] == 0
    assert short[-1] == 36


def test_the_clip_is_spread_over_the_centre_half() -> None:
    chosen = Sampling().choose(1000)
    assert (len(chosen), chosen[0], chosen[-1]) == (81, 250, 749)
    assert Sampling().choose(119) == list(range(29, 90))  # 61 frames are enough
    assert Sampling().choose(100) == spread(0, 100, 81)  # 50 are not: the whole
    assert Sampling().choose(30) == list(range(30))
    assert Sampling(window="whole", frames=3).choose(1001) == [0, 500, 1000]


@given(st.integers(1, 3000), st.integers(1, 200), st.sampled_from(["centre", "whole", "run"]), st.integers(1, 40))
def test_frames_are_each_chosen_once_and_in_order(total: int, frames: int, window: str, bank: int) -> None:
    sampling = Sampling(frames=frames, window=window, bank=bank)
    chosen = sampling.choose(total)
    assert 1 <= len(chosen) <= min(frames, total)
    assert all(a < b for a, b in itertools.pairwise(chosen))
    assert 0 <= chosen[0] <= chosen[-1] < total
    kept = sampling.bank_of(len(chosen))
    assert len(kept) == min(bank, len(chosen))
    assert all(a < b for a, b in itertools.pairwise(kept))
    assert kept[-1] < len(chosen)


@given(st.integers(0, 100), st.integers(1, 400), st.integers(1, 90))
def test_even_distances_are_rounded_as_numpy_does(first: int, length: int, count: int) -> None:
    assert spread(first, first + length, count) == np.linspace(first, first + length - 1, count).round().tolist()


@pytest.mark.parametrize("bank", [0, -3])
def test_a_bank_without_frames_is_refused(bank: int) -> None:
    with pytest.raises(ValidationError):
        Sampling(bank=bank)


def test_clips_that_are_as_they_are_take_no_sampling() -> None:
    with pytest.raises(ExtractError, match=r"dataset rooms: its clips are as they are; leave out --clip-frames"):
        make_dataset("rooms", None, Sampling())
    for flags, message in (
        ({"clip_frames": 9}, "its clips are as they are"),
        ({"clip_window": "middle"}, "--clip-window"),
        ({"bank": "many"}, "--bank many: expected paper, or a number"),
        ({"bank": "0"}, "--bank 0: expected paper, or a number"),
    ):
        with pytest.raises(ExtractError, match=message):
            run(Arguments(model="pixels", dataset="rooms", root=Path("nowhere"), **flags))

"""Views as the paper draws them: the first is frame 0, the others are apart and lie on the bank."""

from __future__ import annotations

from itertools import combinations_with_replacement

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from probes.config import TrainConfig
from probes.errors import SplitError
from probes.views import evaluation_windows, paper_views, require_paper_views, training_views
from store import ClipRow

PAPER_BANK = (0, *range(1, 76, 4))
CONFIG = TrainConfig(tasks=("tagging",), taps=("x",), views=8, protocol="paper")


def clip(row: int = 3, n_frames: int = 81, bank: tuple[int, ...] = PAPER_BANK) -> ClipRow:
    return ClipRow(row=row, id=f"clip-{row}", scene="s", split="test", bank=bank, n_frames=n_frames, digest="0" * 32)


def literal(draws: list[int]) -> list[int]:
    """paper_spec, as written: gaps of 5 and what was drawn, sorted; then f -> floor((f - 1) / 4) 4 + 1."""
    frames, extra, last = [0], 0, 0
    for drawn in sorted(draws):
        extra, last = drawn - last, drawn
        frames.append(frames[-1] + 5 + extra)
    return [frame and (frame - 1) // 4 * 4 + 1 for frame in frames]


@given(st.integers(0, 10_000), st.sampled_from([4, 8]))
def test_views_are_those_of_the_published_rule(seed: int, views: int) -> None:
    chosen = paper_views(clip(), views, np.random.default_rng(seed))
    draws = np.random.default_rng(seed).integers(0, 76 - ((views - 1) * 5 + 1) + 1, size=views - 1).tolist()
    frames = [PAPER_BANK[position] for position in chosen]
    assert frames == literal(draws)
    assert frames[0] == 0
    assert min(np.diff(frames)) >= 4


@pytest.mark.parametrize(
    ("short", "message"),
    [
        (clip(n_frames=30), "30 frames are too few for 8 views"),
        (clip(bank=(0, 20, 40, 60)), "is too coarse for 8 views"),
    ],
)
def test_clips_that_do_not_allow_it_are_named(short: ClipRow, message: str) -> None:
    with pytest.raises(SplitError, match=message):
        paper_views(short, 8, np.random.default_rng(0))


@given(st.data())
def test_a_bank_is_refused_if_and_only_if_some_draw_does_not_fit(data: st.DataObject) -> None:
    """Before anything is trained, and not when that draw comes."""
    frames, views = data.draw(st.integers(11, 24)), data.draw(st.integers(2, 3))
    bank = tuple(sorted(data.draw(st.sets(st.integers(0, frames - 1), min_size=2)) | {0}))
    slack = frames - ((views - 1) * 5 + 1)
    fits = True
    for draw in combinations_with_replacement(range(slack + 1), views - 1):
        drawn = [0, *(5 * k + extra for k, extra in enumerate(draw, 1))]
        fits = fits and len({max(frame for frame in bank if frame <= at) for at in drawn}) == views
    try:
        require_paper_views(clip(n_frames=frames, bank=bank), views)
        accepted = True
    except SplitError:
        accepted = False
    assert accepted == fits


def test_training_views_change_and_evaluation_stays() -> None:
    drawn = {tuple(training_views(CONFIG, clip(), epoch)) for epoch in range(10)}
    assert len(drawn) > 5
    windows = evaluation_windows(CONFIG, clip())
    assert windows.shape == (1, 8)
    other = CONFIG.model_copy(update={"seeds": (7,)})
    assert (evaluation_windows(other, clip()) == windows).all()
    assert (evaluation_windows(CONFIG, clip(row=4)) != windows).any()


def test_the_papers_geometry_is_evaluated_in_views_that_change_from_run_to_run() -> None:
    """Its code takes seed 0 for no seed; that is repeated here, and nowhere else."""
    config = CONFIG.model_copy(update={"tasks": ("depth", "camera"), "views": 4})
    other = config.model_copy(update={"seeds": (1,)})
    assert (evaluation_windows(config, clip()) != evaluation_windows(other, clip())).any()
    ours = {"protocol": "standard"}
    standard, again = config.model_copy(update=ours), other.model_copy(update=ours)
    assert (evaluation_windows(standard, clip()) == evaluation_windows(again, clip())).all()

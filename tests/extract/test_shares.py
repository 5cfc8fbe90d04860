"""Several processes that fill one store share the work, wait for each other, and finish what the dead began."""

from __future__ import annotations

import json
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from extract import loop, shares
from extract.loop import Extraction, extract
from extract.outcome import Outcome
from extract.plan import Plan, Request, make_plan
from extract.progress import Progress
from extract.registry import make_dataset
from extract.shares import Shares
from store import FeatureStore
from store.claims import Claims
from store.folder import LocalFolder
from tests.extract.tiny_rooms import write_rooms
from tests.extract.toy_family import ToyFamily

CPU = torch.device("cpu")
CLIPS = 8


@pytest.fixture
def rooms(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(shares, "POLL", 0.1)
    write_rooms(tmp_path / "rooms", splits=["train"] * 6 + ["val", "test"], size=(32, 32), frames=2)
    return tmp_path / "rooms"


def plan_for(rooms: Path, **request: Any) -> Plan:
    return make_plan(ToyFamily("toy"), make_dataset("rooms", rooms), Request(**request))


def run(plan: Plan) -> Outcome:
    return extract(plan, CPU, Progress(quiet=True))


def test_two_at_once_share_the_work_and_both_end_complete(rooms: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    original: Any = loop.__dict__["clip_features"]

    def slow(*arguments: Any) -> Any:
        time.sleep(0.15)
        return original(*arguments)

    monkeypatch.setattr(loop, "clip_features", slow)
    plans = [plan_for(rooms), plan_for(rooms)]
    with ThreadPoolExecutor(2) as pool:
        first, second = pool.map(run, plans)
    assert sorted(first.done + second.done) == list(range(CLIPS))
    assert min(len(first.done), len(second.done)) >= 2
    for outcome in (first, second):
        assert sorted(outcome.done + outcome.skipped) == list(range(CLIPS))
    store = FeatureStore.open(plans[0].path)
    assert len(store.rows()) == CLIPS
    assert not list((plans[0].path / "commits").glob(".claim*"))
    monkeypatch.setattr(loop, "clip_features", original)
    alone = plan_for(rooms, out="alone")
    run(alone)
    for row in range(CLIPS):
        for tap in store.taps:
            assert np.array_equal(store.read(tap, row), FeatureStore.open(alone.path).read(tap, row))


def test_what_a_dead_machine_claimed_is_waited_for_and_then_done(
    rooms: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    plan = plan_for(rooms)
    loop.make_store(plan, CPU)
    dead = {"host": "node-7", "process": 12, "boot": "x", "nonce": "n"}
    (plan.path / "commits" / ".claim-000002.000000000000.partial").write_text(json.dumps(dead))
    monkeypatch.setattr(loop, "Claims", lambda path: Claims(path, beat=0.05, expiry=0.5))
    with caplog.at_level("INFO"):
        outcome = run(plan)
    assert sorted(outcome.done) == list(range(CLIPS))
    assert outcome.done[-1] == 2
    assert "1 clips are in the hands of node-7-12; waiting" in caplog.text


def test_taps_that_another_finished_meanwhile_are_not_made_again(rooms: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plan = plan_for(rooms, sites=["blocks.0", "blocks.1"])
    original: Any = loop.__dict__["clip_features"]
    asked: list[tuple[str, list[str]]] = []
    claimed = 1 + loop.AHEAD  # one is computed, the next are decoded

    def another_process() -> None:
        theirs = plan_for(rooms, sites=["blocks.0"])
        with Claims(theirs.path) as claims, Extraction(theirs, CPU, "none", claims) as extraction:
            extraction.run([(row, list(theirs.taps)) for row in range(claimed, CLIPS - 1)], lambda: None)

    def recorded(backbone: Any, plan_: Any, clip: Any, frames: Any, taps: Any) -> Any:
        if plan_ is plan:
            asked.append((clip.id, [tap.name for tap in taps]))
            if len(asked) == 1:
                another_process()
                time.sleep(0.2)
        return original(backbone, plan_, clip, frames, taps)

    monkeypatch.setattr(loop, "clip_features", recorded)
    assert sorted(run(plan).done) == list(range(CLIPS))
    both, one = ["blocks.0@sigma1", "blocks.1@sigma1"], ["blocks.1@sigma1"]
    assert [taps for _, taps in asked] == [both] * claimed + [one] * (CLIPS - 1 - claimed) + [both]


def test_what_others_finished_since_the_last_look_is_not_computed_again(rooms: Path) -> None:
    plan = plan_for(rooms)
    loop.make_store(plan, CPU)
    with Claims(plan.path) as mine, Claims(plan.path) as theirs, Extraction(plan, CPU, "none", theirs) as extraction:
        ours = Shares(LocalFolder(plan.path), plan.pending(), mine)
        free = ours.free()
        assert next(free)[0] == 0
        ours._next_look = float("inf")  # as after a listing of very many commits
        extraction.run([(1, list(plan.taps)), (3, list(plan.taps))], lambda: None)
        assert [row for row, _ in free] == [2, 4, 5, 6, 7]
        assert set(ours.left) == {1, 3}
        assert list(ours.free()) == []
        ours._next_look = 0.0
        assert list(ours.free()) == []
        assert ours.others == [1, 3]
        assert Claims.rows_in(plan.path) == {0, 2, 4, 5, 6, 7}


def test_shards_that_a_killed_process_left_without_a_commit_are_not_waited_for(rooms: Path) -> None:
    plan = plan_for(rooms)
    run(plan)
    for row in (2, 5):
        for commit in (plan.path / "commits").glob(f"{row:06d}-*"):
            commit.unlink()
    assert sorted(run(plan).done) == [2, 5]
    with Claims(plan.path) as claims:
        for commit in (plan.path / "commits").glob("000002-*"):
            commit.unlink()
        ours = Shares(LocalFolder(plan.path), {2: list(plan.taps)}, claims)
        ours._next_look = float("inf")
        assert list(ours.free()) == []
        ours._next_look = 0.0
        assert [row for row, _ in ours.free()] == [2]


def test_a_clip_that_fails_is_given_back(rooms: Path) -> None:
    plan = make_plan(ToyFamily("toy-nan"), make_dataset("rooms", rooms), Request())
    assert list(run(plan).failed) == ["tiny_01"]
    assert not list((plan.path / "commits").glob(".claim*"))

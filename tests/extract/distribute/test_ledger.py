"""Lists of rows are dealt, come back, and are given up after three attempts; nothing is lost, nothing counted twice."""

from __future__ import annotations

from typing import Any

import pytest

from extract.distribute import ledger as module
from extract.distribute.ledger import Ledger
from extract.distribute.worker import Report
from extract.outcome import Outcome
from store import ClipRow


def clips(number: int) -> list[ClipRow]:
    return [
        ClipRow(row=row, id=f"c{row}", scene=f"s{row}", split="train", bank=(0,), n_frames=1, digest="0" * 32)
        for row in range(number)
    ]


def ledger_of(number: int, **kept: Any) -> Ledger:
    return Ledger(clips(number), {row: ["a"] for row in range(number)}, kept.get("targets", set()))


def dealt(ledger: Ledger) -> list[list[int]]:
    lists = []
    while rows := ledger.next():
        lists.append(rows)
    return lists


@pytest.mark.parametrize("workers", [0, 1, 2, 5, 100])
@pytest.mark.parametrize("number", [1, 7, 100])
def test_every_row_is_dealt_once_in_short_lists(number: int, workers: int) -> None:
    ledger = ledger_of(number)
    ledger.deal(workers)
    lists = dealt(ledger)
    assert [row for rows in lists for row in rows] == list(range(number))
    assert all(len(rows) <= module.MOST_ROWS for rows in lists)
    assert len(lists) >= min(number, 2 * max(1, workers))


def test_rows_that_lack_targets_alone_are_dealt_too() -> None:
    ledger = Ledger(clips(4), {1: ["a"]}, {1, 3})
    ledger.deal(1)
    assert dealt(ledger) == [[1], [3]]
    assert ledger.settle([3], Report(targets=Outcome(done=[3]))) == 1
    assert ledger.left == {1}
    assert ledger.targets == {1}


def test_a_list_that_fails_is_tried_row_by_row_and_the_guilty_row_is_given_up() -> None:
    ledger = ledger_of(3)
    ledger.deal(0)
    attempts = 0
    finished = 0
    while ledger.left:
        rows = ledger.next()
        assert rows is not None
        if 1 in rows:
            attempts += len(rows) == 1
            finished += ledger.retry(rows, "it died")
        else:
            finished += ledger.settle(rows, Report(features=Outcome(done=list(rows))))
    assert attempts == module.ATTEMPTS
    assert finished == 3
    assert sorted(ledger.features.done) == [0, 2]
    assert ledger.features.failed == {"c1": "given up after 3 attempts: it died"}


def test_a_scheduler_that_tried_several_workers_itself_counts_them(monkeypatch: pytest.MonkeyPatch) -> None:
    ledger = ledger_of(1)
    assert ledger.retry([0], "it died", times=4) == 1
    assert ledger.left == set()


def test_rows_that_are_not_to_blame_are_not_given_up_for_long() -> None:
    ledger = ledger_of(2)
    assert ledger.unlucky([0, 1]) == 0
    assert dealt(ledger) == [[0], [1]]  # one of them may be to blame for what nobody saw
    for _ in range(module.MOST_STRAYS - 2):
        assert ledger.unlucky([0]) == 0
        assert ledger.next() == [0]
    assert ledger.unlucky([0]) == 1
    assert ledger.left == {1}
    assert "died before they began" in ledger.features.failed["c0"]


@pytest.mark.parametrize("workers", [1, 3])
@pytest.mark.parametrize("died", ["before", "over"])
def test_where_nothing_ever_comes_back_it_is_not_the_clips(workers: int, died: str) -> None:
    ledger = ledger_of(1000)
    ledger.deal(workers)
    ends = 0
    while not ledger.hopeless(workers):
        rows = ledger.next()
        assert rows is not None
        ends += 1
        _ = ledger.unlucky(rows) if died == "before" else ledger.retry(rows, "CUDA error")
    assert ends == module.MOST_STRAYS * workers
    assert ledger.features.failed == {}
    assert ledger.why


def test_a_few_clips_that_end_every_worker_are_listed_and_nothing_is_called_hopeless() -> None:
    for came_back, number in ((False, module.MOST_STRAYS - 1), (True, 50)):
        ledger = ledger_of(number + 1)
        if came_back:
            ledger.settle([number], Report(features=Outcome(done=[number])))
        for row in range(number):
            for _ in range(module.ATTEMPTS):
                assert not ledger.hopeless(1)
                ledger.retry([row], "it died")
        assert len(ledger.features.failed) == number
        assert not ledger.hopeless(1)


def test_rows_in_the_hands_of_others_come_back_later(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [100.0]
    monkeypatch.setattr("extract.distribute.ledger.time.monotonic", lambda: clock[0])
    ledger = ledger_of(2)
    ledger.deal(1)
    assert ledger.settle([0, 1], Report(features=Outcome(done=[0]), busy=[1])) == 1
    ledger._queue.clear()
    assert ledger.next() is None
    clock[0] += module.HANDED_BACK
    assert ledger.next() == [1]
    assert ledger.left == {1}


def test_after_the_scheduler_was_lost_commits_are_the_truth() -> None:
    ledger = ledger_of(5, targets={3, 4})
    ledger.settle([0], Report(features=Outcome(done=[0])))
    for _ in range(3):
        ledger.retry([4], "it died")
    assert ledger.recount({2: ["a"], 4: ["a"]}, {4}) == 2
    assert ledger.left == {2}
    assert sorted(ledger.features.done) == [0, 1, 3]
    assert ledger.targets == set()
    ledger.deal(1)
    assert dealt(ledger) == [[2]]

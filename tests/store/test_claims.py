"""Claims are hints with signs of life: the living are respected, the dead are not, and no clock is believed."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from store import claims as module
from store.claims import Claims
from store.commits import commit_names
from store.folder import LocalFolder

CLAIM = ".claim-000003.000000000000.partial"


@pytest.fixture
def store(tmp_path: Path) -> Path:
    (tmp_path / "commits").mkdir()
    return tmp_path


@pytest.fixture
def mine(store: Path) -> Iterator[Claims]:
    with Claims(store, beat=0.02, expiry=30.0) as claims:
        yield claims


class Clock:
    """A clock that goes on when it is told to."""

    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    found = Clock()
    monkeypatch.setattr("store.claims.monotonic", found)
    return found


def a_claim_of(store: Path, host: str = "elsewhere", process: int = 1, boot: str = "x") -> Path:
    path = store / "commits" / CLAIM
    path.write_text(json.dumps({"host": host, "process": process, "boot": boot, "nonce": "n"}))
    return path


def test_one_of_two_gets_a_row(store: Path, mine: Claims) -> None:
    with Claims(store) as theirs:
        assert mine.take(3)
        assert not theirs.take(3)
        assert theirs.take(4)
        assert Claims.rows_in(store) == {3, 4}
        assert str(theirs.holder(3)).endswith(str(os.getpid()))
        mine.release(3)
        assert theirs.take(3)
        mine.release(3)  # not ours any more: nothing happens
        assert not mine.take(3)
    assert Claims.rows_in(store) == set()
    assert mine.holder(3) is None


def test_a_claim_lives_as_long_as_it_beats(store: Path, mine: Claims, clock: Clock) -> None:
    with Claims(store, beat=10.0, expiry=30.0) as watcher:
        assert mine.take(3)
        for _ in range(12):
            assert not watcher.take(3)
            stamp = (store / "commits" / CLAIM).stat().st_mtime_ns
            clock.now += 29.0
            deadline = time.time() + 60
            while (store / "commits" / CLAIM).stat().st_mtime_ns == stamp:
                assert time.time() < deadline
                time.sleep(0.005)


def test_a_claim_of_another_machine_expires_once_it_was_watched_for_so_long(
    store: Path, mine: Claims, clock: Clock
) -> None:
    a_claim_of(store)
    clock.now += 1000.0  # nobody has watched it yet
    assert not mine.take(3)
    clock.now += 30.0
    assert not mine.take(3)
    clock.now += 0.1
    assert mine.take(3)
    assert str(mine.holder(3)) != "elsewhere-1"


@pytest.mark.parametrize("jump", [-10 * 365 * 86400, 10 * 365 * 86400])
def test_clocks_that_are_wrong_change_nothing(store: Path, mine: Claims, clock: Clock, jump: float) -> None:
    path = a_claim_of(store)
    then = time.time() + jump
    os.utime(path, (then, then))
    assert not mine.take(3)
    clock.now += 20.0
    os.utime(path, (then + 1, then + 1))  # a sign of life, whatever its clock says
    assert not mine.take(3)
    clock.now += 20.0
    assert not mine.take(3)
    clock.now += 20.0
    assert mine.take(3)


def test_the_dead_of_this_machine_are_known_at_once(store: Path) -> None:
    code = f"import os, pathlib, store.claims as c; c.Claims(pathlib.Path({str(store)!r})).take(3); os._exit(9)"
    subprocess.run([sys.executable, "-c", code], check=False)
    assert (store / "commits" / CLAIM).exists()
    with Claims(store) as mine:
        assert mine.take(3)


def test_a_claim_of_an_earlier_process_of_our_number_is_dead(store: Path, mine: Claims) -> None:
    assert mine.take(4)
    holder = mine.holder(4)
    assert holder is not None
    a_claim_of(store, holder.host, holder.process, holder.boot)
    assert mine.take(3)


@pytest.mark.parametrize("content", ["", "{", "[1, 2]", '{"host": 1}', "\xff"])
def test_a_damaged_claim_expires_like_any_other(store: Path, mine: Claims, clock: Clock, content: str) -> None:
    (store / "commits" / CLAIM).write_text(content, "latin-1")
    assert not mine.take(3)
    assert mine.holder(3) is None
    clock.now += 31.0
    assert mine.take(3)


def test_where_nothing_can_be_claimed_every_row_is_ours(tmp_path: Path) -> None:
    with Claims(tmp_path / "nowhere") as claims:
        assert claims.take(0)
        assert Claims.rows_in(tmp_path / "nowhere") == set()
        claims.release(0)


def test_on_a_full_disk_a_claim_that_says_nothing_is_one(
    store: Path, mine: Claims, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*arguments: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(json, "dump", full)
    assert mine.take(3)
    with Claims(store) as theirs:
        assert not theirs.take(3)
    mine.release(3)
    assert Claims.rows_in(store) == set()


def test_other_tools_pass_over_claims(store: Path, mine: Claims) -> None:
    assert mine.take(3)
    assert commit_names(LocalFolder(store)) == []
    from store.upkeep.gc import _PARTIAL

    assert _PARTIAL.fullmatch(CLAIM)


def test_everything_is_given_back_at_the_end_also_of_an_error(store: Path) -> None:
    def fail() -> None:
        with Claims(store) as claims:
            assert claims.take(3)
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert list((store / "commits").iterdir()) == []
    assert not module._LIVING

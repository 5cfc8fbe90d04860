"""Which rows are ours, where several processes fill one store at once."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress

from extract.plan import Tap
from store.arrays import shard_name
from store.claims import Claims
from store.commits import commit_names, read_commit, row_of
from store.folder import LocalFolder

log = logging.getLogger(__name__)

AXES = 5
"""Of an array of features: clip, frame, y, x, channel."""
POLL = 2.0
"""Seconds between two looks at what others do."""


class Shares:
    """The rows that lack taps, given out one by one to whoever asks first.

    Args:
        folder: the store.
        wanted: row -> taps that no commit covers.
        claims: of this process.

    Attributes:
        left: row -> taps, of rows that are not given out yet.
        others: rows that another process has finished meanwhile.
    """

    def __init__(self, folder: LocalFolder, wanted: Mapping[int, Sequence[Tap]], claims: Claims) -> None:
        self._folder, self._claims = folder, claims
        self.left = {row: list(taps) for row, taps in wanted.items()}
        self.others: list[int] = []
        self._known: set[str] = set()
        self._next_look, self._looks = 0.0, 0
        self._doubtful: dict[int, int] = {}

    def free(self) -> Iterator[tuple[int, list[Tap]]]:
        """Every row that nobody else is at work on, with the taps it lacks; it is ours from then on.

        Rows that others may have finished since the last look stay in `left` until after the next one.
        """
        for row in list(self.left):
            if row not in self.left or not self._claims.take(row):
                continue
            fresh = self._look()  # not before: whoever held it gave it back after the commit
            if row in self.left and (fresh or not self._may_be_done(row)):
                yield row, self.left.pop(row)
            else:
                self._claims.release(row)

    def wait(self) -> None:
        """Let others get on with what they have claimed."""
        time.sleep(POLL)

    def holders(self) -> list[str]:
        """Who is at work on what is left."""
        found = (self._claims.holder(row) for row in self.left)
        return sorted({str(holder) for holder in found if holder is not None})

    def _may_be_done(self, row: int) -> bool:
        """Whether a row was perhaps committed since the last look: its shards are there, and no look has come since."""
        shards = [self._folder.path / shard_name(tap.name, row, AXES) for tap in self.left[row]]
        if not all(shard.exists() for shard in shards):
            return False
        return self._doubtful.setdefault(row, self._looks) == self._looks

    def _look(self) -> bool:
        """Take note of what was committed since the last look, unless that was just now. Returns whether it did."""
        started = time.monotonic()
        # A listing of a million names takes a second, and must not take a share of the time that anybody notices.
        if started < self._next_look:
            return False
        listed = commit_names(self._folder) or []
        now = time.monotonic()
        self._next_look, self._looks = now + 50 * (now - started), self._looks + 1
        for name in listed:
            row = row_of(name)
            if name in self._known or row not in self.left:
                continue
            self._known.add(name)
            with suppress(FileNotFoundError):  # taken back since
                arrays = read_commit(self._folder, name).arrays
                self.left[row] = [tap for tap in self.left[row] if tap.name not in arrays]
                if not self.left[row]:
                    del self.left[row]
                    self.others.append(row)
        return True

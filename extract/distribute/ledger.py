"""What is to be done, what is in whose hands, and what became of it."""

from __future__ import annotations

import logging
import math
import time
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from extract.distribute.worker import Report
from extract.outcome import Outcome
from store.clips import ClipRow

log = logging.getLogger(__name__)

MOST_ROWS = 8
"""Rows in a list: so few that little is lost when a worker dies, so many that frames can be decoded ahead."""
LISTS_PER_WORKER = 4
"""At least, as long as there are rows: who is faster takes more."""
ATTEMPTS = 3
"""So often a clip may end its worker, or fail in a way that nobody foresaw; then it is listed as failed."""
MOST_STRAYS = 10
"""So often a row may be in the hands of a worker that dies of something else."""
HANDED_BACK = 5.0
"""Seconds before rows that others are at work on are looked at again."""


@dataclass
class Ledger:
    """What is to be done, and what was.

    Attributes:
        clips: the clip table.
        taps: row -> taps that no commit covers.
        targets: rows whose targets are missing.
        left: rows that are neither done nor given up.
        written, features: what became of targets and features.
        why: what went wrong last.
    """

    clips: Sequence[ClipRow]
    taps: Mapping[int, Sequence[str]]
    targets: set[int]
    written: Outcome = field(default_factory=Outcome)
    features: Outcome = field(default_factory=Outcome)
    why: str = ""

    def __post_init__(self) -> None:
        self.left = self.taps.keys() | self.targets
        self._queue: deque[list[int]] = deque()
        self._later: list[tuple[float, int]] = []
        self._attempts: dict[int, int] = {}
        self._strays: dict[int, int] = {}
        self._tried: set[int] = set()
        self._came_back, self._vain = False, 0

    def deal(self, workers: int) -> None:
        """Cut all that is left into lists, anew."""
        rows = sorted(self.left)
        size = max(1, min(MOST_ROWS, math.ceil(len(rows) / (LISTS_PER_WORKER * max(1, workers)))))
        self._queue = deque(rows[start : start + size] for start in range(0, len(rows), size))
        self._later = []

    def next(self) -> list[int] | None:
        """The next list of rows; `None` if there is none now."""
        now = time.monotonic()
        self._queue.extend([row] for when, row in self._later if when <= now)
        self._later = [(when, row) for when, row in self._later if when > now]
        return self._queue.popleft() if self._queue else None

    def settle(self, rows: Sequence[int], report: Report) -> int:
        """Note what became of a list. Returns how many of its rows are done for good."""
        self._came_back = True
        # What a list that failed had committed before is ours as well.
        ours = [row for row in report.features.skipped if row in self._tried]
        report.features.skipped = [row for row in report.features.skipped if row not in self._tried]
        self.features.done += ours
        self.written += report.targets
        self.features += report.features
        self.targets -= set(rows)
        self.left -= set(rows) - set(report.busy)
        self._later += [(time.monotonic() + HANDED_BACK, row) for row in report.busy]
        return len(rows) - len(report.busy)

    def retry(self, rows: Sequence[int], why: str, times: int = 1) -> int:
        """A list ended its worker, or failed as nobody foresaw: its rows are tried one by one, but not for ever.

        Args:
            rows: the list.
            why: for people.
            times: how many workers it ended.

        Returns:
            How many rows are given up.
        """
        self._tried.update(rows)
        self.why = why
        if len(rows) > 1:  # nobody knows which of them it was
            self._vain += 1
            self._queue.extend([row] for row in rows)
            return 0
        (row,) = rows
        self._attempts[row] = self._attempts.get(row, 0) + times
        if self._attempts[row] < ATTEMPTS:
            self._queue.append([row])
            return 0
        self._vain += 1
        self._give_up(row, f"given up after {self._attempts[row]} attempts: {why}")
        return 1

    def unlucky(self, rows: Sequence[int]) -> int:
        """A worker died, but not over these rows: they are not to blame, though nothing may go on for ever.

        Returns:
            How many rows are given up.
        """
        self._tried.update(rows)
        self.why = "workers died before they began a clip, as they do when memory runs out"
        self._vain += 1
        for row in rows:
            self._strays[row] = self._strays.get(row, 0) + 1
        lost = [row for row in rows if self._strays[row] >= MOST_STRAYS]
        for row in lost:
            self._give_up(row, f"{MOST_STRAYS} workers that were given it died before they began, or after its end")
        self._queue.extend([row] for row in rows if row not in lost)  # one of them may be to blame, unseen
        return len(lost)

    def hopeless(self, workers: int) -> bool:
        """Whether no list has ever come back, though so many workers tried so often: then it is not the clips."""
        return not self._came_back and self._vain >= MOST_STRAYS * max(1, workers)

    def _give_up(self, row: int, why: str) -> None:
        clip = self.clips[row].id
        self.features.failed[clip] = why
        log.error("clip %s failed: %s", clip, why)
        self.left.discard(row)

    def recount(self, taps: Mapping[int, Sequence[str]], targets: set[int]) -> int:
        """After a scheduler was lost: what is missing now is to be done, and the rest was done by whoever did it.

        Returns:
            How many rows are done for good that were not known to be.
        """
        done = self.left - (taps.keys() | targets)
        self.features.done += sorted(done)
        self.left -= done
        self.taps, self.targets = taps, targets & self.left
        return len(done)

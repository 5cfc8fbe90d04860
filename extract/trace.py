"""What was recorded of a run, as a table for people and as a file for a viewer of traces."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from extract.profile import (
    CHECK,
    DECODE,
    DENOISE,
    DEVICE,
    ENCODE,
    FRAMES,
    LAND,
    QUEUE,
    RUN,
    SEND,
    WAITS,
    WRITE,
    Recorder,
    Span,
    recording,
)

if TYPE_CHECKING:
    from extract.arguments import Arguments
    from extract.plan import Plan

ORDER = (DECODE, FRAMES, SEND, ENCODE, DENOISE, "forward", LAND, DEVICE, CHECK, QUEUE, WRITE)
TRACE = "trace.json"


@dataclass(frozen=True)
class Part:
    """What one kind of work took.

    Attributes:
        name: of the work.
        lane: who did it: `main`, `decode`, `store-writer` (threads), or `device`.
        times: how often.
        total_s: seconds in all; of several threads, the sum.
        clip_s: seconds per clip.
        longest_s: seconds of the longest.
        share: `total_s` as a part of the wall time; beyond 1 where several threads did it.
    """

    name: str
    lane: str
    times: int
    total_s: float
    clip_s: float
    longest_s: float
    share: float


@dataclass(frozen=True)
class Breakdown:
    """Where the time of the clips of a run went.

    Attributes:
        clips: that were computed.
        wall_s: seconds from the first to the last, without loading the backbone.
        waited_s: of these, seconds in which the main thread, which gives the device its work, waited for others.
        parts: in the order in which a clip goes through them.
    """

    clips: int
    wall_s: float
    waited_s: float
    parts: list[Part]

    @property
    def document(self) -> dict[str, Any]:
        """As JSON."""
        return {**vars(self), "parts": [vars(part) for part in self.parts]}


@dataclass
class Profiled:
    """What `--profile` has to say; nothing without it."""

    found: Breakdown | None = None
    trace: Path = Path(TRACE)

    @property
    def document(self) -> dict[str, Any]:
        """As JSON, to be added to what a run says."""
        return {} if self.found is None else {"profile": self.found.document, "trace": str(self.trace)}

    def show(self) -> None:
        """Print the table on standard output."""
        if self.found is not None:
            show(self.found, self.trace)


@contextmanager
def profiled(arguments: Arguments, plan: Plan) -> Iterator[Profiled]:
    """Record what the body does, if that is asked for, and write the trace. What was found is there after the body."""
    profile = Profiled()
    if not arguments.profile and arguments.profile_to is None:
        yield profile
        return

    from extract.resolve import usable_device
    from extract.transfer import transfer

    folder = arguments.profile_to or Path("profile") / "-".join(plan.path.parts[-2:])
    recorder = Recorder(transfer(usable_device(arguments.device)))
    with recording(recorder):
        yield profile
    spans = recorder.spans()
    profile.found, profile.trace = breakdown(spans), folder.expanduser() / TRACE
    write_trace(spans, profile.trace)


def breakdown(spans: Sequence[Span]) -> Breakdown:
    """Sum up what was recorded."""
    wall = sum(each.seconds for each in spans if each.name == RUN)
    clips = len({each.clip for each in spans if each.name in (ENCODE, f"launch {ENCODE}")})
    groups: dict[tuple[str, str], list[float]] = {}
    for each in spans:
        if each.name != RUN:
            groups.setdefault((each.name, _who(each.lane)), []).append(each.seconds)
    parts = [
        Part(name, who, len(found), sum(found), sum(found) / max(clips, 1), max(found), sum(found) / max(wall, 1e-9))
        for (name, who), found in sorted(groups.items(), key=lambda item: _place(*item[0]))
    ]
    waited = sum(part.total_s for part in parts if part.name in WAITS and part.lane == "main")
    return Breakdown(clips, wall, waited, parts)


def show(found: Breakdown, trace: Path) -> None:
    """Print a table on standard output."""
    from rich.console import Console
    from rich.table import Table

    table = Table("what", "who", "times", "s in all", "s a clip", "longest", "of the time")
    for column in table.columns[2:]:
        column.justify = "right"
    for part in found.parts:
        numbers = (f"{seconds:.3g}" for seconds in (part.total_s, part.clip_s, part.longest_s))
        table.add_row(part.name, part.lane, str(part.times), *numbers, f"{part.share:.0%}")
    console = Console(width=None if sys.stdout.isatty() else 160, highlight=False)
    console.print(table)
    console.print(
        f"{found.clips} clips in {found.wall_s:.3g} s, {found.wall_s / max(found.clips, 1):.3g} s a clip; "
        f"the main thread waited {found.waited_s / max(found.wall_s, 1e-9):.0%} of the time. Trace: {trace}",
        markup=False,
        soft_wrap=True,
    )


def write_trace(spans: Sequence[Span], path: Path) -> None:
    """Write spans as Chrome trace events ("X": complete events; times in microseconds), which Perfetto opens.

    The format: "Trace Event Format", docs.google.com/document/d/1CvAClvFfyA5R-PhYUmn5OOQtYMH4h6I0nSsKchNAySU.
    """
    zero, process = min((each.start for each in spans), default=0.0), os.getpid()
    lanes = {lane: number for number, lane in enumerate(dict.fromkeys(each.lane for each in spans))}
    events: list[dict[str, Any]] = [
        {"ph": "M", "name": "thread_name", "pid": process, "tid": number, "args": {"name": lane}}
        for lane, number in lanes.items()
    ]
    events += [
        {
            "ph": "X",
            "name": each.name,
            "pid": process,
            "tid": lanes[each.lane],
            "ts": round((each.start - zero) * 1e6, 3),
            "dur": round(each.seconds * 1e6, 3),
            "args": {"clip": each.clip},
        }
        for each in spans
    ]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"traceEvents": events, "displayTimeUnit": "ms"}), encoding="utf-8")


def _who(lane: str) -> str:
    """Threads of a pool are one: `decode_0`, `decode_1`. The thread that gives out the work is the main one."""
    pool, _, number = lane.rpartition("_")
    if pool and number.isdecimal():
        return pool
    return lane if lane == "device" else "main"


def _place(name: str, who: str) -> tuple[int, bool]:
    """In which order parts are shown; noise levels stay in the order in which they came."""
    kind = name.removeprefix("launch ")
    known = DENOISE if kind.startswith(DENOISE) else kind
    return (ORDER.index(known) if known in ORDER else len(ORDER)), who == "device"

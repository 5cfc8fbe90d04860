"""Running benchmarks one by one, each in a process of its own, so that neither memory nor caches are handed on."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.machine import BUSY, describe, others, ticks

QUICK: Mapping[str, Sequence[str]] = {
    "store": ("--sizes", "27 MB", "--clips", "4", "--rounds", "1"),
    "extract": ("--clips", "1", "--rounds", "1"),
    "datasets": ("--rooms", "1", "--rounds", "1", "--only", "rooms"),
    "evaluation": ("--sections", "bootstrap", "metrics", "--tasks", "depth", "tagging", "--rounds", "1"),
    "analysis": ("--channels", "64", "--clips", "4", "--rounds", "1"),
    "growth": ("--sections", "write_clips", "open", "resume", "resume_from_commits", "--shrink", "8", "--rounds", "1"),
    "probes": ("--cases", "16 x 16 x 1024", "--sections", "waiting", "--rounds", "1", "--epochs", "2"),
}
"""Benchmark -> what makes it a trial that takes seconds, and whose numbers mean nothing."""
NAMES = tuple(QUICK)
SETTINGS = frozenset(
    {"machine", "rounds", "clips", "channels", "rooms", "blocks", "threads", "classes", "folder", "sizes"}
)
"""What benchmarks print beside their numbers."""
SAME = ("cpu", "cores", "memory_gb", "gpus", "python", "libraries", "threads")
"""What must be equal for numbers to stand in one document."""
LONGEST = 3600
"""Seconds after which a benchmark is taken to hang."""
KEPT_LINES = 5
"""Of what a benchmark that failed said last."""


class OtherMachineError(Exception):
    """Numbers that must not stand in one document."""


class Number(NamedTuple):
    """One number of a result.

    Attributes:
        name: benchmark, then the keys that lead to it.
        value: what was measured.
        goal: as `>= 3`; `None` if there is none.
        reached: whether the goal is; `None` if there is none.
    """

    name: str
    value: float
    goal: str | None
    reached: bool | None


def run(
    names: Sequence[str], folder: Path | None, *, quick: bool = False, into: dict[str, Any] | None = None
) -> Iterator[dict[str, Any]]:
    """Run benchmarks; after each, yield the document of all until then, so that none is lost if a later one is ended.

    Args:
        names: which.
        folder: where they write; a temporary folder by default.
        quick: whether as a trial.
        into: a document of the same machine, in which these benchmarks are put in the place of earlier ones.

    Yields:
        `machine`, and per benchmark what it printed, or `failed` and why; its seconds; and the share of the
        processors that others used meanwhile. What came into an earlier document says itself when that was, with which
        commit, and at which load.

    Raises:
        OtherMachineError: `into` is of another machine, other libraries, or a trial.
    """
    found_here = describe(folder or Path(tempfile.gettempdir()))
    document = into or _new(found_here, quick=quick)
    machine, again = document["machine"], {}
    if into is not None:
        if differing := [name for name in SAME if machine[name] != found_here[name]] + ["quick"] * into["quick"]:
            raise OtherMachineError(
                f"its {', '.join(differing)} differ from those here; leave out --into for a file of its own"
            )
        again = {"again": {"created": _now()} | {name: found_here[name] for name in ("commit", "load")}}
    for name in names:
        print(f"{name} …", file=sys.stderr, flush=True)
        options = [*(QUICK[name] if quick else ()), *(("--folder", str(folder.resolve())) if folder else ())]
        before, begun = ticks(), time.monotonic()
        found = measure(f"benchmarks.{name}", options, LONGEST)
        seconds, share = round(time.monotonic() - begun, 1), others(before, ticks())
        document["benchmarks"][name] = {**again, "seconds": seconds, "others": share, **found}
        machine["busy"] |= found_here["busy"] or (share is not None and share > BUSY)
        judged = [each.reached for each in numbers_of(document) if each.reached is not None]
        document["goals"] = {"reached": sum(judged), "of": len(judged)}
        document["failed"] = [name for name, each in document["benchmarks"].items() if "failed" in each]
        yield document


def _new(machine: dict[str, Any], *, quick: bool) -> dict[str, Any]:
    return {
        "created": _now(),
        "quick": quick,
        "machine": machine,
        "goals": {},
        "failed": [],
        "benchmarks": {},
    }


def _now() -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())


def measure(module: str, options: Sequence[str], longest: float) -> dict[str, Any]:
    """Run one module that prints JSON. Returns `result`, or `failed`: how it ended and what it said last."""
    command = [sys.executable, "-m", module, *options]
    root = Path(__file__).parent.parent
    with (
        tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as said,
        subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=said, text=True, cwd=root, start_new_session=True
        ) as process,
    ):
        try:
            printed, _ = process.communicate(timeout=longest)
            how = _ending(process.returncode)
        except subprocess.TimeoutExpired:
            _end(process)
            printed, how = "", f"no end after {longest:g} s"
        except BaseException:
            _end(process)
            raise
        said.seek(0)
        last = said.read().strip().splitlines()[-KEPT_LINES:]
    if process.returncode != 0:
        return {"failed": "\n".join([how, *last])}
    try:
        result = json.loads(printed)
    except json.JSONDecodeError as error:
        return {"failed": f"printed no JSON: {error}"}
    return {"result": result}


def _ending(status: int) -> str:
    if status >= 0:
        return f"exit status {status}"
    remedy = "; where memory runs out, the system does that" if status == -signal.SIGKILL else ""
    return f"ended by {signal.Signals(-status).name}{remedy}"


def _end(process: subprocess.Popen[str]) -> None:
    """With all that it started."""
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def numbers_of(document: Mapping[str, Any]) -> Iterator[Number]:
    """All numbers of a document, in its order."""
    for name, found in document["benchmarks"].items():
        yield from _numbers(name, found.get("result", {}))


def _numbers(name: str, found: Any) -> Iterator[Number]:
    if isinstance(found, dict) and found.keys() == {"value", "goal", "reached"}:
        yield Number(name, found["value"], found["goal"], found["reached"])
    elif isinstance(found, dict):
        for key, value in found.items():
            if key not in SETTINGS:
                yield from _numbers(f"{name} / {key}", value)
    elif isinstance(found, int | float) and not isinstance(found, bool):
        yield Number(name, found, None, None)

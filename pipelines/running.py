"""Running the commands of a pipeline one after another, in this process, so that torch is imported once."""

from __future__ import annotations

import importlib
import shlex
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import typer

from pipelines.commands import commands, runs
from pipelines.steps import Pipeline

_COMMAND_LINES = {"extract": "extract.__main__", "probes.train": "probes.train", "evaluate": "evaluate.cli"}


def run_all(pipeline: Pipeline, device: str | None) -> bool:
    """Run every command, on `device` if it is said, until one fails. Returns whether none did."""
    steps = list(commands(pipeline))
    for number, command in enumerate(steps, 1):
        if device is not None and command[2] != "evaluate":
            command += ["--device", device]
        print(f"\n[{number}/{len(steps)}] {shlex.join(command)}", flush=True)
        begun = time.monotonic()
        if command[2] == "evaluate" and report_is_current(pipeline):
            print(f"up to date: {pipeline.report}/report.html is newer than all its runs")
        elif not _execute(command):
            return False
        print(f"      {time.monotonic() - begun:.1f} s", flush=True)
    return True


def report_is_current(pipeline: Pipeline) -> bool:
    """Whether the report is there and was written after every run that it shows."""
    report = Path(pipeline.report) / "report.html"
    written = [Path(run) / "run.json" for run in runs(pipeline)]
    return report.exists() and all(run.exists() and run.stat().st_mtime < report.stat().st_mtime for run in written)


def _execute(command: Sequence[str]) -> bool:
    """Run one command in this process. Returns whether its exit status was 0."""
    module, arguments = command[2], list(command[3:])
    app: typer.Typer = importlib.import_module(_COMMAND_LINES[module]).app
    argv, sys.argv = sys.argv, [module, *arguments]
    try:
        return not app(arguments, standalone_mode=False)
    finally:
        sys.argv = argv

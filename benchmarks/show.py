"""Results for people."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from benchmarks.suite import numbers_of

WIDTH = 150


def console() -> Console:
    """On standard error: standard output is for programs."""
    found = Console(stderr=True, highlight=False)
    return found if found.is_terminal else Console(stderr=True, highlight=False, width=WIDTH)


def result(document: Mapping[str, Any], *, everything: bool = False) -> None:
    """Print a table of numbers, those without a goal only if asked for, and what failed."""
    screen = console()
    table = Table("number", "value", "goal", "reached", title=_title(document))
    table.columns[1].justify = table.columns[2].justify = "right"
    before = None
    for each in numbers_of(document):
        if each.goal is None and not everything:
            continue
        name = each.name.partition(" / ")[0]
        if before not in (None, name):
            table.add_section()
        before = name
        reached = {None: "", True: "yes", False: "[bold]no[/bold]"}[each.reached]
        table.add_row(escape(each.name), f"{each.value:.4g}", each.goal or "", reached)
    screen.print(table)
    for name in document["failed"]:
        screen.print(f"{name} failed: {document['benchmarks'][name]['failed']}", markup=False)
    goals = document["goals"]
    screen.print(f"{goals['reached']} of {goals['of']} goals reached, {len(document['failed'])} benchmarks failed")


def _title(document: Mapping[str, Any]) -> str:
    machine = document["machine"]
    parts = [f"{machine['cores']} x {machine['cpu']}", *(machine["gpus"] or ["no GPU"])]
    parts += ["busy with other things"] * machine["busy"]
    parts += ["a trial: the numbers mean nothing"] * document["quick"]
    return escape(", ".join(parts))

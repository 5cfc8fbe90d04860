"""What changed from one result to another: `python -m benchmarks compare A.json B.json`.

Prints the numbers that both have, by how much they changed, and which goals were lost or won. Those that say how fast
something is here, and not how fast beside something else, are left out (`--all` shows them): they compare machines.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from rich.markup import escape
from rich.table import Table

from benchmarks.show import console
from benchmarks.suite import Number, numbers_of

ABSOLUTE = ("ms", "s", "seconds", "mb", "_ms", "_s", "_mb")
"""Keys, and ends of keys, of what is no ratio."""
SAME = 0.1
"""Changes of ratios that are smaller are not shown: less is noise."""


class Change(NamedTuple):
    """One number of two results; `factor` is after / before, `None` where before is 0."""

    name: str
    before: Number
    after: Number
    factor: float | None


def changes(before: Mapping[str, Any], after: Mapping[str, Any], *, everything: bool = False) -> list[Change]:
    """What both results have, in the order of the second."""
    old = {each.name: each for each in numbers_of(before)}
    return [
        Change(new.name, old[new.name], new, new.value / old[new.name].value if old[new.name].value else None)
        for new in numbers_of(after)
        if new.name in old and (everything or is_ratio(new))
    ]


def is_ratio(number: Number) -> bool:
    """Whether a number compares with something of the same run. What has a goal in seconds compares too."""
    keys = number.name.split(" / ")
    return not any(key in ABSOLUTE or key.startswith("peak_mb") for key in keys) and not any(
        part in keys[-1].split("_") for part in ("ms", "seconds", "s")
    )


def moved(change: Change) -> bool:
    """Whether a change is worth a line."""
    if change.before.reached is not change.after.reached:
        return True
    if change.factor is None or change.factor <= 0:
        return change.before.value != change.after.value
    return not 1 / (1 + SAME) <= change.factor <= 1 + SAME


def main(arguments: list[str]) -> int:
    """Print the table."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks compare", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("before", type=Path)
    parser.add_argument("after", type=Path)
    parser.add_argument("--all", action="store_true", help="small changes, and numbers that are no ratios, too")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args(arguments)
    before, after = (read_result(parser, path) for path in (options.before, options.after))
    found = [each for each in changes(before, after, everything=options.all) if options.all or moved(each)]
    if options.json:
        rows = [
            {"name": each.name, "before": each.before.value, "after": each.after.value, "factor": each.factor}
            for each in found
        ]
        print(json.dumps(rows, indent=1))
        return 0
    table = Table("number", "before", "after", "times", "goal")
    for each in found:
        factor = "" if each.factor is None else f"{each.factor:.3g}"
        table.add_row(escape(each.name), f"{each.before.value:.4g}", f"{each.after.value:.4g}", factor, _goal(each))
    console().print(table)
    for name, document in (("before", before), ("after", after)):
        machine = document["machine"]
        console().print(f"{name}: {machine['cpu']}, commit {machine['commit']}, {_state(machine)}", markup=False)
    return 0


def read_result(parser: argparse.ArgumentParser, path: Path) -> dict[str, Any]:
    """What a run has kept. Ends the program with a message if the file is something else."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        parser.error(f"{path}: cannot be read ({error})")
    if not isinstance(found, dict) or not {"machine", "benchmarks"} <= found.keys():
        parser.error(f"{path}: is no result of `python -m benchmarks`")
    return found


def _goal(change: Change) -> str:
    if change.before.reached is change.after.reached:
        return change.after.goal or ""
    return f"{change.after.goal or change.before.goal}: {'reached now' if change.after.reached else 'lost'}"


def _state(machine: Mapping[str, Any]) -> str:
    return "busy" if machine["busy"] else "not busy"

"""Keeping a store sound: `verify`, `finalize`, `gc`."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Annotated, Any

import typer

from store.commands._parts import progress_bar
from store.commands._shared import Dataset, Json, Reference, print_error, print_json, say, show_age
from store.commands._tables import print_table, print_wrapped
from store.errors import StoreError
from store.sizes import show_size

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from store.upkeep.drop import Dropped
    from store.upkeep.gc import Garbage
    from store.upkeep.verify import Report

_LISTED = 40
_UNITS = {"s": 1, "min": 60, "h": 3600, "d": 86400, "w": 604800}


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command("verify")(verify)
    app.command("finalize")(finalize)
    app.command("gc")(collect)


def verify(
    reference: Reference,
    dataset: Dataset = None,
    deep: Annotated[bool, typer.Option("--deep", help="Read every byte and compare digests; else sizes only.")] = False,
    drop_bad: Annotated[
        bool, typer.Option("--drop", help="Un-commit and delete bad shards, so that the next extraction refills them.")
    ] = False,
    threads: Annotated[int, typer.Option(min=1, help="How many files are read at once.")] = 8,
    as_json: Json = False,
) -> None:
    """Check every file of a store and list all bad ones. Exit status 1 if there are any."""
    from store.layout import resolve
    from store.upkeep.drop import drop
    from store.upkeep.verify import verify as check

    path = resolve(reference, dataset)
    with progress_bar("verify", quiet=as_json) as progress:
        report = check(path, deep=deep, threads=threads, progress=progress)
    dropped = drop(report) if drop_bad and report.bad else None
    if as_json:
        print_json(_as_json(path, report, dropped, deep))
    else:
        _print_report(path, report, dropped, deep)
    if report.bad:
        raise typer.Exit(1)


def finalize(reference: Reference, dataset: Dataset = None, as_json: Json = False) -> None:
    """Write the manifest and consolidated Zarr metadata, so that the store opens at once and can be shared.

    Also mends both: they are made again from commits and arrays.
    """
    from store.layout import resolve
    from store.upkeep.finalize import refinalize

    store = refinalize(resolve(reference, dataset))
    if as_json:
        print_json({"store": store.name, "clips": len(store.committed), "arrays": len(store.arrays)})
    else:
        say(f"{store.name}: manifest of {len(store.committed)} clips and {len(store.arrays)} arrays written")


def collect(
    reference: Annotated[
        str | None, typer.Argument(help="A store: store/NAME, store/NAME/DATASET, or a path. All, if left out.")
    ] = None,
    dataset: Dataset = None,
    older_than: Annotated[
        str, typer.Option(help="Only what has not changed for so long: 90s, 30min, 2h, 1d, 2w.", metavar="AGE")
    ] = "1d",
    delete: Annotated[bool, typer.Option("--delete", help="Delete it; else only say what would be deleted.")] = False,
    as_json: Json = False,
) -> None:
    """Find what killed writers left behind: partial files, drafts, shards without a commit, old manifest tables.

    Writers that are at work are told from killed ones by age alone. Exit status 1 if a store cannot be looked through.
    """
    from store.upkeep import gc

    age = parse_age(older_than)
    found, errors = _garbage(reference, dataset, age)
    if delete:
        found = gc.delete(found)
    if as_json:
        print_json(
            {
                "deleted": delete,
                "bytes": sum(each.size for each in found),
                "garbage": [
                    {"path": str(each.path), "kind": each.kind, "bytes": each.size, "changed": each.changed}
                    for each in found
                ],
                "errors": errors,
            }
        )
    else:
        _print_garbage(found, deleted=delete, older_than=older_than)
    for error in errors:
        print_error(error)
    if errors:
        raise typer.Exit(1)


def parse_age(text: str) -> float:
    """Seconds of `90s`, `30min`, `2h`, `1d` or `2w`. Raises `typer.BadParameter` for anything else."""
    match = re.fullmatch(r"([0-9]+(?:\.[0-9]+)?)\s*([a-z]+)", text.strip())
    if match is None or match[2] not in _UNITS:
        raise typer.BadParameter(
            f"{text!r} is no age. Give a number and a unit: {', '.join(f'2{unit}' for unit in _UNITS)}.",
            param_hint="--older-than",
        )
    return float(match[1]) * _UNITS[match[2]]


def _garbage(reference: str | None, dataset: str | None, age: float) -> tuple[list[Garbage], list[str]]:
    from store.layout import find_stores, resolve, root
    from store.upkeep.gc import drafts, garbage

    if reference is not None:
        path = resolve(reference, dataset)
        return [*garbage(path, age), *drafts(path.parent, age, path.name)], []
    found, errors = [], []
    for path in find_stores():
        try:
            found += garbage(path, age)
        except (StoreError, OSError) as error:
            errors.append(str(error))
    folders = [root(), *(path for path in sorted(root().glob("[!.]*")) if path.is_dir())]
    for folder in folders:
        found += drafts(folder, age)
    return found, errors


def _print_garbage(found: Sequence[Garbage], *, deleted: bool, older_than: str) -> None:
    from store.layout import find_stores

    if not found:
        print(f"Nothing to delete that has not changed for {older_than}.")
        return
    places: dict[Path, list[Garbage]] = {}
    stores = set(find_stores())
    for each in found:
        store = next((parent for parent in each.path.parents if parent in stores), each.path.parent)
        places.setdefault(store, []).append(each)
    for place, garbage in places.items():
        rows = [
            (each.path.relative_to(place).as_posix(), each.kind, show_size(each.size), show_age(each.changed))
            for each in garbage[:_LISTED]
        ]
        print_table((str(place), "what", "size", "age"), rows, right=("size", "age"))
        if len(garbage) > _LISTED:
            print(f"… and {len(garbage) - _LISTED} more; --json lists all")
        print()
    size = show_size(sum(each.size for each in found))
    if deleted:
        print(f"{len(found)} deleted, {size} freed")
    else:
        print(f"{len(found)} to delete, {size} to free. Nothing was deleted yet: do so with --delete.")


def _as_json(path: Path, report: Report, dropped: Dropped | None, deep: bool) -> dict[str, Any]:
    from store.layout import name_of

    return {
        "store": name_of(path),
        "deep": deep,
        "checked": report.shards,
        "bytes": report.size,
        "dropped": dropped.clips if dropped else 0,
        "dropped_shards": dropped.shards if dropped else 0,
        "dropped_commits": dropped.commits if dropped else 0,
        "bad": [
            {
                "row": bad.row if bad.row >= 0 else None,
                "array": bad.array or None,
                "path": str(path / bad.name),
                "problem": bad.problem,
            }
            for bad in report.bad
        ],
    }


def _print_report(path: Path, report: Report, dropped: Dropped | None, deep: bool) -> None:
    from store.layout import name_of

    name = name_of(path)
    if report.bad:
        say(f"{path}:")
    for bad in report.bad:
        print_wrapped(f"  {bad.name}: {bad.problem}")
    how = "every byte" if deep else "sizes only; --deep reads every byte"
    count = f"{len(report.bad) or 'no'} bad file{'' if len(report.bad) == 1 else 's'}"
    print_wrapped(f"{name}: {report.shards} shards ({show_size(report.size)}) checked, {how}: {count}")
    for remedy in _remedies(name, report, dropped):
        print_wrapped(remedy)


def _remedies(name: str, report: Report, dropped: Dropped | None) -> Iterator[str]:
    """What to do about the bad files, said once for all of a kind."""
    from store.commits import COMMITS
    from store.upkeep.group import GROUP_FILE

    damaged = [bad.name for bad in report.bad if bad.damaged and bad.row < 0]
    commits = [each for each in damaged if each.startswith(f"{COMMITS}/")]
    follow = [each for each in damaged if each.startswith("manifest") or each == GROUP_FILE]
    rest = [each for each in damaged if each not in commits and each not in follow]
    unreadable = sum(not bad.damaged for bad in report.bad)
    if dropped:
        yield (
            f"Un-committed: {dropped.shards} shards of {dropped.clips} clips and {dropped.commits} damaged commits. "
            "Extract again to refill them."
        )
    elif commits or any(bad.row >= 0 and bad.damaged for bad in report.bad):
        yield "Shards and commits: `--drop` un-commits them, and the next extraction refills exactly these."
    if follow:
        yield f"{', '.join(follow)}: `python -m store finalize {name}` makes them again."
    if rest:
        yield f"{', '.join(rest)}: restore from a copy of the store."
    if unreadable:
        yield f"{unreadable} could not be read now: check permissions and drives; nothing of them is dropped."

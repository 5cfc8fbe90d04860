"""Looking at stores: `ls`, `info`, `diff`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from store.commands._shared import Dataset, Json, Reference, print_error, print_json, say, show_age
from store.commands._tables import print_fields, print_table, show_value
from store.errors import StoreError
from store.sizes import show_size

if TYPE_CHECKING:
    from collections.abc import Sequence

    from store.upkeep.diff import Changes, Difference

_NAMED = 4
"""Clips that are named where many differ."""


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command("ls")(list_stores)
    app.command("info")(info)
    app.command("diff")(diff)


def list_stores(as_json: Json = False) -> None:
    """All stores under the root: clips done, taps, size, age, fingerprint. Exit status 1 if one is damaged."""
    from store.feature_store import FeatureStore
    from store.layout import find_stores, name_of, root
    from store.upkeep.describe import summary

    found: list[dict[str, Any]] = []
    for path in find_stores():
        try:
            found.append(summary(FeatureStore.open(path)))
        except (StoreError, OSError) as error:
            found.append({"name": name_of(path), "path": str(path), "error": str(error)})
    whole = [each for each in found if "error" not in each]
    damaged = [each for each in found if "error" in each]
    if as_json:
        print_json(found)
    elif not found:
        say(f"No feature store in {root()}. Make one: `python -m extract`. Or fetch one: `python -m store pull`.")
    else:
        _print_stores(whole)
    for each in damaged:
        print_error(each["error"])
    if damaged:
        raise typer.Exit(1)


def info(reference: Reference, dataset: Dataset = None, as_json: Json = False) -> None:
    """One store, here or elsewhere: its recipe, clips per split, every array, and where it came from."""
    from store.feature_store import FeatureStore
    from store.upkeep.describe import describe

    facts = describe(FeatureStore.open(reference, dataset))
    if as_json:
        print_json(facts)
    else:
        _print_info(facts)


def diff(
    a: Annotated[str, typer.Argument(help="A store: a name, a path, or an address.")],
    b: Annotated[str, typer.Argument(help="Another one.")],
    as_json: Json = False,
) -> None:
    """Where two stores differ: recipe, clips, arrays, values. Exit status 0: nowhere, 1: somewhere, 2: no answer."""
    from store.feature_store import FeatureStore
    from store.upkeep.diff import diff as compare

    try:
        left, right = FeatureStore.open(a), FeatureStore.open(b)
        found = compare(left, right)
    except (StoreError, OSError) as error:
        print_error(error)
        raise typer.Exit(2) from None
    if as_json:
        print_json({"a": left.folder.url, "b": right.folder.url, "same": not found} | _as_json(found))
    else:
        say(f"A  {left.folder.url}")
        say(f"B  {right.folder.url}")
        _print_difference(found)
    if found:
        raise typer.Exit(1)


def _print_stores(stores: Sequence[dict[str, Any]]) -> None:
    columns = ("store", "model", "dataset", "clips", "taps", "size", "age", "fingerprint")
    rows = [
        (
            each["name"],
            each["model"] or "-",
            each["dataset"],
            f"{each['clips_done']}/{each['clips_total']}",
            str(each["taps"]),
            show_size(each["bytes"]),
            show_age(each["modified"]),
            each["fingerprint"][:8],
        )
        for each in stores
    ]
    print_table(columns, rows, right=("clips", "taps", "size", "age"), gives_way=("model", "dataset"))


def _print_info(facts: dict[str, Any]) -> None:
    splits = "  ".join(
        f"{name} {counts['clips_done']}/{counts['clips_total']}" for name, counts in facts["splits"].items()
    )
    print_fields(
        [
            ("store", facts["name"]),
            ("place", facts["path"]),
            ("fingerprint", facts["fingerprint"]),
            ("clips", f"{facts['clips_done']}/{facts['clips_total']}  ({splits})"),
            ("size", show_size(facts["bytes"])),
            ("changed", f"{show_age(facts['modified'])} ago" if facts["modified"] else "-"),
            ("finalized", facts["finalized"]),
        ]
    )
    for title in ("taps", "arrays"):
        if facts[title]:
            print()
            _print_arrays(title, facts[title])
    for title in ("recipe", "attributes", "provenance"):
        if facts[title]:
            from store.recipe import flatten

            print(f"\n{title}")
            print_fields((f"  {name}", value) for name, value in flatten(facts[title]).items())


def _print_arrays(title: str, arrays: dict[str, dict[str, Any]]) -> None:
    def by(sizes: list[int] | None) -> str:
        return "x".join(map(str, sizes or ()))

    def number(value: float | None) -> str:
        return "" if value is None else f"{value:.4g}"

    columns = (title, "clip", "type", "native", "sigma", "log-SNR", "clips", "size")
    rows = [
        (
            name,
            by(each["shape"]),
            each["dtype"],
            by(each["native_grid"]),
            number(each["sigma"]),
            number(each["log_snr"]),
            str(each["clips"]),
            show_size(each["bytes"]),
        )
        for name, each in arrays.items()
    ]
    print_table(columns, rows, right=("clip", "native", "sigma", "log-SNR", "clips", "size"))


def _as_json(found: Difference) -> dict[str, Any]:
    def fields(changes: Changes) -> list[dict[str, object]]:
        return [{"field": name, "a": a, "b": b} for name, a, b in changes]

    return vars(found) | {
        "recipe": fields(found.recipe),
        "attributes": fields(found.attributes),
        "clips": {clip: fields(changes) for clip, changes in found.clips.items()},
        "arrays": {array: fields(changes) for array, changes in found.arrays.items()},
    }


def _print_difference(found: Difference) -> None:
    if not found:
        print("No difference: recipe, clips, arrays and committed values agree.")
    for title, changes in (("recipe", found.recipe), ("attributes", found.attributes)):
        if changes:
            print()
            _print_changes(title, [(name, a, b) for name, a, b in changes])
    if found.clips_only_a or found.clips_only_b or found.clips:
        print("\nclips")
        _print_names("only in A", found.clips_only_a)
        _print_names("only in B", found.clips_only_b)
        for name in sorted({change[0] for changes in found.clips.values() for change in changes}):
            clips = [clip for clip, changes in found.clips.items() if name in {change[0] for change in changes}]
            _print_names(f"another {name}", clips)
    if found.arrays_only_a or found.arrays_only_b:
        print("\narrays")
        _print_names("only in A", found.arrays_only_a, len(found.arrays_only_a))
        _print_names("only in B", found.arrays_only_b, len(found.arrays_only_b))
    for array, changes in found.arrays.items():
        print()
        _print_changes(f"array {array}", changes)
    for title, rows in (
        ("committed only in A", found.rows_only_a),
        ("committed only in B", found.rows_only_b),
        ("other values, by the same recipe", found.shards),
    ):
        if rows:
            print(f"\n{title}")
            for array, numbers in rows.items():
                _print_names(array, [f"row {number}" for number in numbers])


def _print_changes(title: str, changes: Changes) -> None:
    print_table((title, "A", "B"), [(name, show_value(a), show_value(b)) for name, a, b in changes], gives_way="AB")


def _print_names(title: str, names: Sequence[str], most: int = _NAMED) -> None:
    if names:
        rest = f", … ({len(names)} in all)" if len(names) > most else ""
        say(f"  {title}: {', '.join(names[:most])}{rest}")

"""`python -m store`: list, look into, check and close feature stores."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Annotated, Any

import typer

from store.errors import StoreError

app = typer.Typer(no_args_is_help=True, add_completion=False, help=__doc__, pretty_exceptions_enable=False)

Reference = Annotated[str, typer.Argument(help="A store: store/NAME, store/NAME/DATASET, or a path.")]
Dataset = Annotated[str | None, typer.Option(help="Which data set, if the reference holds several.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON for programs.")]


@app.command("ls")
def list_stores(as_json: Json = False) -> None:
    """All stores under the root: clips done, taps, size, age, fingerprint."""
    from store.feature_store import FeatureStore
    from store.layout import find_stores, root

    rows, broken = [], []
    for path in find_stores():
        try:
            rows.append(_summary(FeatureStore.open(path)))
        except (StoreError, OSError) as error:
            broken.append(f"error: {error}")
    if as_json:
        print(json.dumps(rows, indent=1))
    else:
        _print_stores(rows, str(root()))
    if broken:
        print("\n".join(broken), file=sys.stderr)
        raise typer.Exit(1)


def _print_stores(rows: list[dict[str, Any]], where: str) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(title=f"Feature stores in {where}", title_justify="left")
    for column in ("store", "clips", "arrays", "size", "age", "fingerprint"):
        table.add_column(column, justify="right" if column in ("clips", "arrays", "size", "age") else "left")
    for row in rows:
        clips = f"{row['clips_done']}/{row['clips_total']}"
        table.add_row(
            row["name"], clips, str(row["arrays"]), _size(row["bytes"]), _age(row["modified"]), row["fingerprint"][:12]
        )
    Console().print(table)


@app.command()
def info(reference: Reference, dataset: Dataset = None, as_json: Json = False) -> None:
    """One store: its recipe, clips per split, and every array."""
    from store.feature_store import FeatureStore
    from store.layout import resolve

    store = FeatureStore.open(resolve(reference, dataset))
    summary = _summary(store) | {
        "recipe": store.recipe.model_dump(mode="json"),
        "taps": {name: {"shape": store.arrays[name].shape, "dtype": store.arrays[name].dtype} for name in store.taps},
    }
    if as_json:
        print(json.dumps(summary, indent=1))
        return
    from rich.console import Console
    from rich.pretty import Pretty
    from rich.table import Table

    console = Console()
    console.print(f"[bold]{store.name}[/]  {store.path}")
    console.print(
        f"fingerprint {store.fingerprint}, "
        f"clips {summary['clips_done']}/{summary['clips_total']}, {_size(summary['bytes'])}"
    )
    table = Table("array", "shape of a clip", "type", "dims")
    for name in store.taps or store.arrays:
        array = store.arrays[name]
        table.add_row(name, "x".join(map(str, array.shape[1:])), array.dtype, " ".join(array.dims[1:]))
    console.print(table)
    console.print(Pretty(store.recipe.model_dump(mode="json"), expand_all=True))


@app.command("verify")
def verify_store(
    reference: Reference,
    dataset: Dataset = None,
    deep: Annotated[bool, typer.Option(help="Read every byte and compare digests; else sizes only.")] = False,
    drop_bad: Annotated[
        bool, typer.Option("--drop", help="Un-commit clips with bad shards, so that extraction refills them.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Check every committed shard and list all bad ones. Exit status 1 if there are any."""
    from store.feature_store import FeatureStore
    from store.layout import resolve
    from store.verify import drop, verify

    store = FeatureStore.open(resolve(reference, dataset))
    bad = list(verify(store, deep=deep))
    dropped = drop(store, bad) if drop_bad and bad else 0
    if as_json:
        print(
            json.dumps(
                {
                    "checked": sum(map(len, store.committed.values())),
                    "dropped": dropped,
                    "bad": [
                        {"row": shard.row, "array": shard.array, "path": str(shard.path), "problem": shard.problem}
                        for shard in bad
                    ],
                },
                indent=1,
            )
        )
    else:
        for shard in bad:
            print(f"{shard.path}: {shard.problem}")
        print(
            f"{store.name}: {sum(map(len, store.committed.values()))} shards checked, "
            f"{len(bad)} bad, {dropped} clips un-committed"
        )
    if bad:
        raise typer.Exit(1)


@app.command("finalize")
def finalize_store(reference: Reference, dataset: Dataset = None) -> None:
    """Write manifest.json and consolidated Zarr metadata, for sharing."""
    from store.feature_store import FeatureStore
    from store.finalize import finalize
    from store.layout import resolve

    store = FeatureStore.open(resolve(reference, dataset))
    finalize(store)
    print(f"{store.name}: manifest of {len(store.committed)} clips written")


def main() -> None:
    """Run the command line; known errors become one message and exit status 1."""
    try:
        app()
    except (StoreError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(1)


def _summary(store: Any) -> dict[str, Any]:
    shards = [record for arrays in store.committed.values() for record in arrays.values()]
    done = sum(set(store.arrays) <= set(arrays) for arrays in store.committed.values())
    modified = max((path.stat().st_mtime for path in store.layout.commits.glob("*.json")), default=0.0)
    return {
        "name": store.name,
        "path": str(Path(store.path)),
        "clips_done": done,
        "clips_total": len(store.clips),
        "arrays": len(store.arrays),
        "bytes": sum(record.size for record in shards),
        "modified": modified,
        "fingerprint": store.fingerprint,
    }


def _size(count: float) -> str:
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.3g} {unit}"
        count /= 1000
    return f"{count:.3g} TB"


def _age(modified: float) -> str:
    if not modified:
        return "-"
    seconds = time.time() - modified
    for unit, length in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= length:
            return f"{seconds / length:.0f} {unit}"
    return f"{seconds:.0f} s"


if __name__ == "__main__":
    main()

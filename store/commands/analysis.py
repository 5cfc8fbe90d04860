"""Looking at all that a store holds: `stats`, `cka`."""

from __future__ import annotations

import csv
import io
import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from store.commands._parts import Limit, Taps, listed, progress_bar
from store.commands._shared import Dataset, Fusion, Json, Reference, print_json, say
from store.commands._tables import console, print_table, print_wrapped

if TYPE_CHECKING:
    from collections.abc import Sequence

    from store.analysis.similarity import Similarity
    from store.analysis.summary import TapStatistics
    from store.readable import Readable

Split = Annotated[str | None, typer.Option(help="Only clips of this split.")]
MostTokens = Annotated[
    int | None, typer.Option(min=1, help="At most so many tokens of each clip, drawn by its id.", metavar="N")
]

_CELL = 8
"""Characters of a column of numbers, with the gap."""


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command("stats")(stats)
    app.command("cka")(similarity)


def stats(
    reference: Reference,
    dataset: Dataset = None,
    taps: Taps = None,
    split: Split = None,
    limit: Limit = None,
    max_tokens: MostTokens = None,
    fusion: Fusion = None,
    ranks: Annotated[bool, typer.Option("--ranks/--no-ranks", help="RankMe and participation ratio.")] = True,
    pca: Annotated[int, typer.Option(min=0, help="Principal components of each tap, for --out.", metavar="K")] = 0,
    out: Annotated[Path | None, typer.Option(help="Write every channel to FILE.nc or FILE.zarr.")] = None,
    as_json: Json = False,
) -> None:
    """Statistics of every tap: values, dead channels, tails, norms, effective rank. docs/analysis.md explains them."""
    from store.analysis.summary import statistics
    from store.analysis.table import as_dataset, check_place, write_dataset
    from store.fusion.opening import open_features

    if out is not None:
        check_place(out)
    elif pca:
        raise typer.BadParameter("says nothing without --out FILE.nc or FILE.zarr.", param_hint="--pca")
    store = open_features(reference, dataset, fusion)
    with progress_bar("stats", quiet=as_json) as progress:
        found = statistics(
            store,
            taps=listed(taps),
            split=split,
            limit=limit,
            max_tokens=max_tokens,
            ranks=ranks,
            k=pca,
            progress=progress,
        )
    if out is not None:
        said = {"store": store.name, "source": store.url, "fingerprint": store.fingerprint, "split": split or ""}
        write_dataset(as_dataset(found, said | {"max_tokens": max_tokens or 0}), out)
    if as_json:
        print_json({"store": store.name, "split": split, "taps": [_facts(each) for each in found]})
        return
    _print_statistics(found)
    if out is not None:
        say(f"\nevery channel: {out}")


def similarity(
    a: Reference,
    b: Annotated[
        str | None, typer.Argument(help="Another store of the same clips; else the taps of A are compared.")
    ] = None,
    dataset: Dataset = None,
    taps: Taps = None,
    taps_b: Annotated[list[str] | None, typer.Option(help="Only these taps of B, by comma.", metavar="A,B")] = None,
    split: Split = None,
    limit: Limit = None,
    max_tokens: MostTokens = None,
    pool: Annotated[
        str,
        typer.Option(help="Tokens: cells of the coarsest grid of all, or means of each frame.", metavar="grid|frame"),
    ] = "grid",
    estimator: Annotated[str, typer.Option(help="Of HSIC.", metavar="debiased|biased")] = "debiased",
    method: Annotated[
        str,
        typer.Option(
            help="Of all tokens at once, or by batches of some; auto goes by size.", metavar="auto|features|minibatch"
        ),
    ] = "auto",
    figure: Annotated[Path | None, typer.Option(help="Draw a heat-map: FILE.svg or FILE.png.")] = None,
    as_csv: Annotated[bool, typer.Option("--csv", help="Print comma-separated values.")] = False,
    as_json: Json = False,
) -> None:
    """How alike taps are (linear CKA): those of one store, or of two stores of the same clips."""
    from store.analysis.similarity import cka
    from store.fusion.opening import open_features

    if b is None and taps_b:
        raise typer.BadParameter("names taps of a second store, and there is none.", param_hint="--taps-b")
    if figure is not None:
        from store.analysis.heatmap import check_figure

        check_figure(figure)
    left = open_features(a, dataset)
    right = None if b is None else open_features(b, dataset)
    with progress_bar("cka", quiet=as_json or as_csv) as progress:
        found = cka(
            left,
            right,
            taps=listed(taps),
            taps_b=listed(taps_b),
            split=split,
            limit=limit,
            max_tokens=max_tokens,
            pool=pool,
            estimator=estimator,
            method=method,
            progress=progress,
        )
    if figure is not None:
        from store.analysis.heatmap import write_figure

        write_figure(found, figure, (left.name, (right or left).name))
    if as_json:
        print_json(_as_json(found, left, right))
    elif as_csv:
        print(_as_csv(found), end="")
    else:
        _print_similarity(found, left, right)


def _facts(found: TapStatistics) -> dict[str, Any]:
    """One tap in a few numbers. Of kurtoses, those of channels that are not constant."""
    import numpy as np

    moments, norms = found.moments, found.norms
    kurtosis = moments.kurtosis[~np.isnan(moments.kurtosis)]
    mean = float(moments.mean.mean())
    return {
        "tap": found.tap,
        "clips": found.clips,
        "tokens": moments.count,
        "channels": found.channels,
        "mean": mean,
        "std": math.sqrt(float((moments.std**2 + (moments.mean - mean) ** 2).mean())),
        "minimum": float(moments.minimum.min()),
        "maximum": float(moments.maximum.max()),
        "zeros": float(moments.zeros.mean()) / moments.count,
        "constant_channels": int(moments.constant.sum()),
        "kurtosis_median": float(np.median(kurtosis)) if len(kurtosis) else None,
        "kurtosis_maximum": float(kurtosis.max()) if len(kurtosis) else None,
        "norm": {
            "mean": float(norms.mean[0]),
            "std": float(norms.std[0]),
            "minimum": float(norms.minimum[0]),
            "maximum": float(norms.maximum[0]),
        },
        "rankme": found.rankme,
        "rankme_centred": found.rankme_centred,
        "participation_ratio": found.participation,
    }


def _print_statistics(found: Sequence[TapStatistics]) -> None:
    facts = [_facts(each) for each in found]
    say(f"{facts[0]['clips']} clips")
    print()
    values = ("mean", "std", "minimum", "maximum")
    rows = [
        [each["tap"], str(each["tokens"]), str(each["channels"]), *(_number(each[name]) for name in values)]
        for each in facts
    ]
    print_table(("tap", "tokens", "channels", *values), rows, right=("tokens", "channels", *values))
    print()
    columns = ("tap", "zeros", "constant", "kurtosis", "norm", "RankMe", "centred", "participation")
    rows = [
        [
            each["tap"],
            f"{100 * each['zeros']:.3g} %",
            str(each["constant_channels"]),
            _number(each["kurtosis_median"]),
            f"{_number(each['norm']['mean'])} ± {_number(each['norm']['std'])}",
            *(_number(each[name]) for name in ("rankme", "rankme_centred", "participation_ratio")),
        ]
        for each in facts
    ]
    print_table(columns, rows, right=columns[1:])


def _as_json(found: Similarity, a: Readable, b: Readable | None) -> dict[str, Any]:
    return {
        "a": {"store": a.name, "taps": list(found.a)},
        "b": {"store": (b or a).name, "taps": list(found.b)},
        "clips": found.clips,
        "held": list(found.held),
        "tokens": found.tokens,
        "grid": None if found.grid is None else list(found.grid),
        "method": found.method,
        "estimator": found.estimator,
        "cka": [[value if math.isfinite(value) else None for value in row] for row in found.values.tolist()],
    }


def _as_csv(found: Similarity) -> str:
    """A line for each tap of a, a column for each of b; empty where they cannot be compared."""
    text = io.StringIO()
    lines = csv.writer(text, lineterminator="\n")
    lines.writerow(["", *found.b])
    for name, row in zip(found.a, found.values.tolist(), strict=True):
        lines.writerow([name, *(repr(value) if math.isfinite(value) else "" for value in row)])
    return text.getvalue()


def _print_similarity(found: Similarity, a: Readable, b: Readable | None) -> None:
    grid = "means of frames" if found.grid is None else f"cells of {found.grid[0]}x{found.grid[1]}"
    way = "all at once" if found.method == "features" else "in batches"
    print_wrapped(
        f"linear CKA, {found.estimator}, of {found.tokens} tokens ({grid}; {way}) of {found.clips} clips"
        + (f"; A has {found.held[0]}, B has {found.held[1]}" if b is not None else "")
    )
    if b is not None:
        say(f"A  {a.name}")
        say(f"B  {b.name}")
    numbers = [str(number + 1) for number in range(len(found.b))]
    names = [f"{name}" if b is not None else f"{number + 1} {name}" for number, name in enumerate(found.a)]
    room = max(1, (console().width - max(map(len, names))) // _CELL - 1)
    for start in range(0, len(numbers), room):
        some = slice(start, start + room)
        print()
        rows = [
            (name, *(f"{value:.3f}" if math.isfinite(value) else "-" for value in row[some]))
            for name, row in zip(names, found.values.tolist(), strict=True)
        ]
        print_table(("tap", *numbers[some]), rows, right=numbers[some])
    if b is not None:
        print()
        print_table(("", "tap of B"), zip(numbers, found.b, strict=True))


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.4g}"

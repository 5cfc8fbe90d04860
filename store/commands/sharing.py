"""Moving stores: copy, push, pull; and export for other tools."""

from __future__ import annotations

import time
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from store.commands._parts import Clips, Limit, Splits, Taps, Threads, progress_bar, report_failures, selection
from store.commands._shared import Dataset, Fusion, Json, Reference, print_json, say
from store.commands._tables import print_table
from store.errors import NotWritableError, StoreError
from store.layout import is_remote, place
from store.sizes import show_size

if TYPE_CHECKING:
    from collections.abc import Callable

    from store.feature_store import FeatureStore
    from store.readable import Readable
    from store.sharing.requantise import Converted
    from store.sharing.selection import Selection
    from store.sharing.transfer import Transferred


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command("copy")(copy)
    app.command("push")(push)
    app.command("pull")(pull)
    app.command("export")(export_store)


def copy(
    source: Annotated[str, typer.Argument(help="A store: store/NAME, store/NAME/DATASET, a path, an address; or A+B.")],
    destination: Annotated[
        str, typer.Argument(help="Where to: store/NAME/DATASET, a path, s3://… or hf://datasets/….")
    ],
    dataset: Dataset = None,
    taps: Taps = None,
    splits: Splits = None,
    clips: Clips = None,
    limit: Limit = None,
    dtype: Annotated[
        str | None, typer.Option(help="Convert features: float16, bfloat16, float32 or int8-channel.")
    ] = None,
    fusion: Fusion = None,
    threads: Threads = None,
    as_json: Json = False,
) -> None:
    """Copy a store, or a part of it, to any place; stopped, it goes on when it is run again.

    A part is the same store with fewer taps and clips. It can be completed later.

    With --dtype it is a new store, whose recipe says what it was converted from.

    With --fusion it is a new store of what the stores A+B hold together, in float16 unless --dtype says otherwise.
    """
    part = selection(taps, splits, clips, limit)
    if fusion is not None:
        from store.fusion.materialise import materialise
        from store.fusion.opening import open_fused

        fused = open_fused(source, fusion, dataset)
        _convert("fuse", materialise, fused, destination, dtype or "float16", part, threads, as_json)
        return
    from store.feature_store import FeatureStore

    store = FeatureStore.open(source, dataset)
    if dtype is None:
        _transfer("copy", store, destination, part, threads, as_json)
    else:
        from store.sharing.requantise import requantise

        _convert("convert", requantise, store, destination, dtype, part, threads, as_json)


def push(
    source: Reference,
    destination: Annotated[str, typer.Argument(help="Where to: s3://bucket/key or hf://datasets/USER/NAME/FOLDER.")],
    dataset: Dataset = None,
    taps: Taps = None,
    splits: Splits = None,
    clips: Clips = None,
    limit: Limit = None,
    threads: Threads = None,
    as_json: Json = False,
) -> None:
    """Copy a store to object storage or the hub, where others read it in place or pull it.

    Several copies of one recipe may go to one place at once: whoever is first with a clip is kept. Not so on servers
    that speak S3 without conditional writes (If-None-Match): there only one push may run at a time.
    """
    from store.feature_store import FeatureStore

    if not is_remote(destination):
        raise StoreError(f"{destination}: is on this machine, not an address. Use `python -m store copy`.")
    store = FeatureStore.open(source, dataset)
    _transfer("push", store, destination, selection(taps, splits, clips, limit), threads, as_json)


def pull(
    source: Annotated[str, typer.Argument(help="A store elsewhere: https://…, s3://… or hf://datasets/….")],
    destination: Annotated[
        str | None, typer.Argument(help="Where to: store/NAME/DATASET or a path; by default named like the source.")
    ] = None,
    dataset: Dataset = None,
    taps: Taps = None,
    splits: Splits = None,
    clips: Clips = None,
    limit: Limit = None,
    threads: Threads = None,
    as_json: Json = False,
) -> None:
    """Copy a store from elsewhere to this machine."""
    from store.feature_store import FeatureStore

    if not is_remote(source):
        raise StoreError(f"{source}: is no address. Use `python -m store copy` between places on this machine.")
    if destination is not None and is_remote(destination):
        raise StoreError(f"{destination}: is not on this machine. Use `python -m store copy` between two addresses.")
    store = FeatureStore.open(source, dataset)
    target = destination or _name_like(store)
    _transfer("pull", store, target, selection(taps, splits, clips, limit), threads, as_json)


def export_store(
    reference: Reference,
    out: Annotated[str, typer.Argument(help="Folder for the files: new, or that of the same export.")],
    form: Annotated[str, typer.Option("--format", help="safetensors, npy or webdataset.")],
    dataset: Dataset = None,
    taps: Taps = None,
    splits: Splits = None,
    clips: Clips = None,
    limit: Limit = None,
    clips_per_shard: Annotated[int, typer.Option(min=1, help="Clips in a tar file of webdataset.")] = 32,
    threads: Threads = None,
    as_json: Json = False,
) -> None:
    """Write features for other tools.

    safetensors: OUT/CLIP.safetensors, with a tensor for each tap.

    npy: OUT/TAP/CLIP.npy, one file for each tap and clip.

    webdataset: OUT/000000.tar, …, with CLIP.json and CLIP.TAP.npy in them.

    int8-channel becomes float16, or float32 if a value does not fit.

    bfloat16 becomes float32, except in safetensors.
    """
    from store.feature_store import FeatureStore
    from store.sharing.export import export

    if is_remote(out):
        raise NotWritableError(f"{out}: exports are written to a folder of this machine.")
    store = FeatureStore.open(reference, dataset)
    begun = time.monotonic()
    with progress_bar(f"export {store.name}", quiet=as_json) as progress:
        done = export(
            store,
            Path(out),
            form,
            selection(taps, splits, clips, limit),
            clips_per_shard=clips_per_shard,
            threads=threads or 4,
            progress=progress,
        )
    if as_json:
        print_json({"store": store.name, "out": out, **asdict(done)})
    else:
        say(f"{store.name} -> {out}: {done.files} files, {_speed(done.bytes, begun)}{_also(done.files_there)}")
        if done.left_out:
            say(f"  {done.left_out} clips are left out: they are not committed for all of {', '.join(done.dtypes)}")
        for name, dtype in done.dtypes.items():
            if dtype != store.info(name).dtype:
                say(f"  {name}: {store.info(name).dtype} written as {dtype}")
    report_failures(done.failed, "files")


def _transfer(
    verb: str, store: FeatureStore, reference: str, part: Selection, threads: int | None, as_json: bool
) -> None:
    from store.sharing.destination import destination
    from store.sharing.transfer import transfer

    target = destination(reference)
    begun = time.monotonic()
    try:
        with progress_bar(f"{verb} {store.name}", quiet=as_json) as progress:
            done = transfer(store, target, part, threads=threads, progress=progress)
    finally:
        target.close()
    if as_json:
        print_json(_summary(store, target.url, done))
    else:
        say(f"{store.folder.url} -> {target.url}")
        say(
            f"  {done.clips} clips, {len(done.arrays)} arrays: {done.shards} shards copied, "
            f"{_speed(done.bytes, begun)}{_also(done.shards_there)}"
        )
        if done.kept:
            say(
                f"  {done.kept} shards differ from those that are there, of the same recipe; those that are there were "
                "kept. Computed again on other hardware, features need not agree to the last bit."
            )
    report_failures(done.failed, "shards")


def _convert(
    verb: str,
    write: Callable[..., Converted],
    store: Readable,
    reference: str,
    dtype: str,
    part: Selection,
    threads: int | None,
    as_json: bool,
) -> None:
    """Write a new store by `requantise` or `materialise`, and say what was done."""
    if is_remote(reference):
        raise NotWritableError(f"{reference}: {verb} to a folder of this machine, then push that.")
    path = place(reference)
    begun = time.monotonic()
    with progress_bar(f"{verb} {store.name}", quiet=as_json) as progress:
        done = write(store, path, dtype, part, threads=threads or 2, progress=progress)
    if as_json:
        print_json(_costs(store, path, done))
    else:
        origin = done.recipe.storage.converted_from
        say(f"{store.url} -> {path}")
        say(
            f"  {done.clips} clips as {dtype}{f' (from {origin})' if origin else ''} in "
            f"{time.monotonic() - begun:.1f} s{_also(done.clips_there)}; fingerprint {done.recipe.fingerprint}"
        )
        if done.costs:
            print("Relative L2 error of the conversion")
            rows = [
                (tap, str(cost.clips), f"{cost.mean:.2e}", f"{cost.worst:.2e}", cost.worst_clip)
                for tap, cost in done.costs.items()
            ]
            columns = ("tap", "clips", "mean error", "worst error", "worst clip")
            print_table(columns, rows, right=columns[1:4])
    report_failures(done.failed, "arrays of clips")


def _summary(store: FeatureStore, url: str, done: Transferred) -> dict[str, Any]:
    return {"source": store.folder.url, "destination": url, "fingerprint": store.fingerprint, **asdict(done)}


def _costs(store: Readable, path: Path, done: Converted) -> dict[str, Any]:
    return {
        "source": store.url,
        "destination": str(path),
        "fingerprint": done.recipe.fingerprint,
        "storage": done.recipe.storage.model_dump(mode="json"),
        "clips": done.clips,
        "clips_there": done.clips_there,
        "relative_error": {
            tap: {"clips": cost.clips, "mean": cost.mean, "worst": cost.worst, "worst_clip": cost.worst_clip}
            for tap, cost in done.costs.items()
        },
        "failed": done.failed,
    }


def _name_like(store: FeatureStore) -> str:
    """`store/<name>/<dataset>` for a store elsewhere: the last part of its address that is not the data set."""
    dataset = store.recipe.dataset.name
    parts = [part for part in store.folder.url.partition("://")[2].split("/") if part != dataset]
    return f"store/{parts[-1].partition('@')[0]}/{dataset}"


def _speed(size: int, begun: float) -> str:
    seconds = max(time.monotonic() - begun, 1e-3)
    return f"{show_size(size)} in {seconds:.1f} s ({show_size(size / seconds)}/s)"


def _also(there: int) -> str:
    return f"; {there} were there already" if there else ""

"""Clip tables, commits and manifests that a stranger wrote: sealed, and yet impossible."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from store import StoreError
from store.manifest import RECORD
from tests.store.hostile.forge import adopt, assert_refused, commit_of, edit, frugally, replace_table, use


def test_a_forged_store_is_otherwise_in_order(store: Path) -> None:
    adopt(store)
    use(store)
    for name in store.glob("manifest*"):
        name.unlink()
    adopt(store)
    use(store)


@pytest.mark.parametrize("row", [2, -1, 2**40, 2**70, True, "x", None, 0.5, [0]])
def test_commits_of_rows_that_do_not_exist(store: Path, row: Any) -> None:
    (store / "manifest.json").unlink()
    commit = commit_of(store)
    edit(commit, lambda document: document.update(row=row))
    if isinstance(row, int) and 0 <= row < 10**12:
        commit.rename(commit.with_name(f"{int(row):06d}-0123456789ab.json"))
    assert_refused(store)


@pytest.mark.parametrize("change", [{"clip": "clip1"}, {"n_frames": 3}, {"n_frames": -1}, {"metadata": {}}])
def test_commits_of_another_clip(store: Path, change: dict[str, Any]) -> None:
    (store / "manifest.json").unlink()
    edit(commit_of(store), lambda document: document.update(change))
    assert_refused(store, "a commit of row 0")


@pytest.mark.parametrize("size", [1, 10**9, 2**62, 2**63, 2**64, 10**400, 0, -1, 1.5, "x", None, [], {}])
def test_sizes_of_shards_that_are_not_theirs(store: Path, size: Any) -> None:
    (store / "manifest.json").unlink()
    edit(commit_of(store), lambda document: document["arrays"]["half"].update(size=size))
    assert_refused(store)


@pytest.mark.parametrize("size", [0, 1, 56, -56, 2**62, 2**70, True, None])
def test_tables_of_another_size(store: Path, size: Any) -> None:
    edit(store / "manifest.json", lambda manifest: manifest["table"].update(size=size))
    assert_refused(store, "manifest")


@pytest.mark.parametrize("surplus", [-1, 1, 56, 10_000])
def test_tables_that_are_no_whole_tables(store: Path, surplus: int) -> None:
    def change(manifest: dict[str, Any]) -> None:
        content = (store / manifest["table"]["file"]).read_bytes()
        replace_table(store, manifest, content[:surplus] if surplus < 0 else content + bytes(surplus))

    edit(store / "manifest.json", change)
    assert_refused(store, "no whole table")


@pytest.mark.parametrize("field", RECORD.names or ())
@pytest.mark.parametrize("fill", [b"\xff", b"\x7f", b"\x00\x01"])
def test_entries_of_the_table_that_are_impossible(store: Path, field: str, fill: bytes) -> None:
    def change(manifest: dict[str, Any]) -> None:
        table = np.frombuffer((store / manifest["table"]["file"]).read_bytes(), RECORD).copy()
        width = RECORD[field].itemsize
        table[field] = np.frombuffer((fill * width)[:width], RECORD[field])
        replace_table(store, manifest, table.tobytes())

    edit(store / "manifest.json", change)
    if field == "size" or (fill == b"\xff" and field != "xxh3_128"):  # a NaN
        with frugally(), pytest.raises(StoreError):
            use(store)
    else:
        use(store)


@pytest.mark.parametrize("bank", [[0] * 5, [0] * 1000, [], None, [0.5], ["x"], {}, [[0]]])
def test_banks_that_no_array_has_room_for(store: Path, bank: Any) -> None:
    edit(store / "clips.json", lambda table: table["clips"][0].update(bank=bank))
    (store / "manifest.json").unlink()
    adopt(store)
    assert_refused(store)

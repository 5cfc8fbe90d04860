"""One file for a lab: nothing is lost, and files of several labs are one table."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import evaluate
from evaluate.errors import FileError, MissingExtraError
from evaluate.results.columns import COLUMNS, Level
from evaluate.results.parquet import read_parquet, write_parquet


def test_both_levels_come_back_as_they_were(runs_root: Path, scores: pd.DataFrame, tmp_path: Path):
    records = evaluate.load_records(runs_root, "task in ('depth', 'tagging')")
    for table, level in ((scores, Level.scores), (records, Level.scenes)):
        file = tmp_path / "new" / f"{level}.parquet"
        assert write_parquet([table[:100], table[100:100], table[100:]], file, level) == len(table)
        back, found = read_parquet([file])
        assert found is level
        pd.testing.assert_frame_equal(back, table)
        assert [path.name for path in file.parent.glob(".*")] == []


def test_columns_are_of_the_documented_types_for_any_reader(scores: pd.DataFrame, tmp_path: Path):
    file = tmp_path / "lab.parquet"
    write_parquet([scores], file, Level.scores)
    table = pq.read_table(file)
    assert {field.name: str(field.type).replace("double", "float64") for field in table.schema} == {
        name: column.type for name, column in COLUMNS[Level.scores].items()
    }
    assert table.schema.metadata == {b"spatial_probing": b'{"schema": 1, "level": "scores"}'}
    assert table["noise"].null_count == scores.noise.isna().sum() > 0
    assert table["val"].null_count == scores.val.isna().sum() > 0
    assert table["value"].null_count == scores.value.isna().sum()


def test_files_of_several_labs_are_one_table_without_what_both_hold(scores: pd.DataFrame, tmp_path: Path):
    mine, theirs = tmp_path / "mine.parquet", tmp_path / "theirs.parquet"
    write_parquet([scores[scores.model != "pixels"]], mine, Level.scores)
    write_parquet([scores[scores.model != "net-a"]], theirs, Level.scores)
    whole, _ = read_parquet([mine, theirs])
    assert len(whole) == len(scores)
    keys = list(scores)
    pd.testing.assert_frame_equal(
        whole.sort_values(keys, ignore_index=True), scores.sort_values(keys, ignore_index=True)
    )


def test_contradictions_are_refused(runs_root: Path, scores: pd.DataFrame, tmp_path: Path):
    first, second, scenes = (tmp_path / f"{name}.parquet" for name in ("first", "second", "scenes"))
    write_parquet([scores], first, Level.scores)
    changed = scores.assign(value=scores.value.where(scores.index != 7, 0.123))
    write_parquet([changed], second, Level.scores)
    with pytest.raises(FileError, match=f"two different values for {scores.metric[7]} of probe {scores.probe[7]}"):
        read_parquet([first, second])
    write_parquet([evaluate.load_records(runs_root, "metric == 'absrel'")], scenes, Level.scenes)
    with pytest.raises(FileError, match="different levels"):
        read_parquet([first, scenes])


def test_other_files_are_refused(scores: pd.DataFrame, tmp_path: Path):
    file = tmp_path / "x.parquet"
    with pytest.raises(OSError, match=r"x\.parquet"):
        read_parquet([file])
    file.write_bytes(b"no Parquet at all")
    with pytest.raises(FileError, match="no readable Parquet file"):
        read_parquet([file])
    pq.write_table(pa.table({"a": [1]}), file)
    with pytest.raises(FileError, match="no file of results"):
        read_parquet([file])
    write_parquet([scores], file, Level.scores)
    whole = pq.read_table(file)
    for metadata in ({"spatial_probing": '{"schema": 99, "level": "scores"}'}, {"spatial_probing": "[]"}):
        pq.write_table(whole.replace_schema_metadata(metadata), file)
        with pytest.raises(FileError, match="schema 1"):
            read_parquet([file])
    pq.write_table(whole.drop_columns(["seed"]), file)
    with pytest.raises(FileError, match="columns"):
        read_parquet([file])


def test_a_file_appears_whole_or_not_at_all(scores: pd.DataFrame, tmp_path: Path):
    file = tmp_path / "lab.parquet"
    write_parquet([scores], file, Level.scores)
    before = file.read_bytes()

    def broken():
        yield scores
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_parquet(broken(), file, Level.scores)
    assert file.read_bytes() == before
    assert [path for path in tmp_path.iterdir() if path.is_file()] == [file]


def test_without_pyarrow_the_extra_is_named(scores: pd.DataFrame, tmp_path: Path, monkeypatch):
    found = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *rest: None if name == "pyarrow" else found(name))
    for call in (lambda: write_parquet([scores], tmp_path / "x", Level.scores), lambda: read_parquet([tmp_path])):
        with pytest.raises(MissingExtraError, match=r'pip install -e "\.\[parquet\]"'):
            call()
    assert not (tmp_path / "x").exists()

"""Results in one Parquet file, which any other program can read, and the files of several labs in one table."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from evaluate.errors import FileError, MissingExtraError
from evaluate.results.columns import COLUMNS, IDENTITY, SCHEMA, Level
from evaluate.results.frames import scores_of, typed

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

    from evaluate.table import Axis

KEY = b"spatial_probing"
"""Metadata of a file, as JSON: `schema`, the version of its columns, and `level`, what a row is about."""


def write_parquet(tables: Iterable[pd.DataFrame], file: Path, level: Level) -> int:
    """Write tables of one level below each other, one row group at least for each; return the number of rows.

    A missing value and NaN are null. The file appears whole, in the place of what was there.

    Raises:
        MissingExtraError: pyarrow is not installed.
    """
    _require_pyarrow()
    from pyarrow import Table
    from pyarrow.parquet import ParquetWriter

    schema = _schema(level)
    file.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=f".{file.name}.", dir=file.parent)
    os.close(handle)
    rows = 0
    try:
        with ParquetWriter(name, schema, compression="zstd") as writer:
            for table in tables:
                rows += len(table)
                writer.write_table(Table.from_pandas(table, schema=schema, preserve_index=False).cast(schema))
        os.chmod(name, 0o644)
        os.replace(name, file)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
    return rows


def write_scores(axes: Sequence[Axis], file: Path) -> None:
    """Write the results of a report: the rows of `load_scores`.

    Raises:
        MissingExtraError: pyarrow is not installed.
    """
    write_parquet([scores_of(axes)], file, Level.scores)


def read_parquet(files: Sequence[str | Path]) -> tuple[pd.DataFrame, Level]:
    """Return the rows of all files, and what a row is about. A row that several files hold is there once.

    Raises:
        FileError: a file is not one of these, or has other columns; files are of different levels; or two say different
            things of one result.
        MissingExtraError: pyarrow is not installed.
    """
    import pandas as pd

    _require_pyarrow()
    tables, levels = zip(*(_read(Path(file)) for file in files), strict=True)
    if len(set(levels)) > 1:
        named = "; ".join(f"{file}: {level}" for file, level in zip(files, levels, strict=True))
        raise FileError(f"files of different levels are no one table ({named}); name those of one level")
    whole = pd.concat(tables, ignore_index=True).drop_duplicates(ignore_index=True)
    level: Level = levels[0]
    twice = whole[whole.duplicated(list(IDENTITY[level]))]
    if len(twice):
        row = twice.iloc[0]
        raise FileError(
            f"two different values for {row['metric']} of probe {row['probe']} of run {row['run']!r} in "
            f"{', '.join(map(str, files))}; name the newer file only, or export again from the runs"
        )
    return whole, level


def _read(file: Path) -> tuple[pd.DataFrame, Level]:
    from pyarrow import ArrowException
    from pyarrow.parquet import read_table

    try:
        table = read_table(file)
        said: dict[str, Any] = json.loads((table.schema.metadata or {}).get(KEY, b"null")) or {}
    except (ArrowException, ValueError) as error:
        raise FileError(f"{file}: is no readable Parquet file: {error}") from error
    if said.get("schema") != SCHEMA or said.get("level") not in set(Level):
        raise FileError(
            f"{file}: is no file of results that this version reads (its metadata says {said or 'nothing'}, needed is "
            f"schema {SCHEMA}); write it again with `python -m evaluate export`"
        )
    level = Level(said["level"])
    if not table.schema.equals(_schema(level)):
        raise FileError(f"{file}: its columns are not those of schema {SCHEMA}; write it again from the runs")
    return typed(table.to_pandas(), level), level


def _schema(level: Level) -> pa.Schema:
    import pyarrow as pa

    types = {"string": pa.string(), "int64": pa.int64(), "float64": pa.float64(), "bool": pa.bool_()}
    fields = [pa.field(name, types[column.type]) for name, column in COLUMNS[level].items()]
    return pa.schema(fields, {KEY: json.dumps({"schema": SCHEMA, "level": level.value}).encode()})


def _require_pyarrow() -> None:
    from importlib.util import find_spec

    if find_spec("pyarrow") is None:
        raise MissingExtraError('Parquet files need pyarrow. Install it: pip install -e ".[parquet]"')

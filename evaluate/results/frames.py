"""Runs as tables: one row per scene and metric, or one per tap and metric with its interval over scenes.

`evaluate.results.columns` says what every column means.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, overload

import numpy as np

from evaluate.errors import QueryError, RunNotFoundError, did_you_mean
from evaluate.results.columns import COLUMNS, Level
from evaluate.results.expression import Condition
from evaluate.statistics import RESAMPLES

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr

    from evaluate.metrics.base import Protocol
    from evaluate.records import Run
    from evaluate.schema import ProbeInfo
    from evaluate.table import Axis

Paths = str | Path | Sequence[str | Path]
AS = ("pandas", "xarray")
SPLITS = ("val", "test")
_EARLY = ("dataset", "task", "protocol")
"""Columns of scores that a condition may drop runs by before anything is computed: no other row depends on these."""


@overload
def load_records(paths: Paths = ..., where: str | None = ..., as_: Literal["pandas"] = ...) -> pd.DataFrame: ...
@overload
def load_records(paths: Paths = ..., where: str | None = ..., *, as_: Literal["xarray"]) -> xr.DataTree: ...
def load_records(
    paths: Paths = "runs", where: str | None = None, as_: Literal["pandas", "xarray"] = "pandas"
) -> pd.DataFrame | xr.DataTree:
    """Return every metric of every probe on every scene alone, by the rules of its task's protocol.

    Where a metric is pooled over scenes (docs/statistics.md says of which), the mean of its rows is not its score.

    Args:
        paths: a run, a folder of runs, a pattern, or several of them.
        where: a condition on rows (`evaluate.results.expression`), such as `task == "depth" and split == "test"`. What
            cannot meet it is never computed.
        as_: `pandas`, or `xarray` for `to_xarray` of the same.

    Raises:
        RunNotFoundError: there is no run.
        QueryError: the condition cannot be understood, or there is no such form.
        EvaluateError: a run cannot be read.
    """
    import pandas as pd

    if as_ not in AS:
        raise QueryError(f"unknown form of records {as_!r}. {did_you_mean(as_, AS)}")
    condition = None if where is None else Condition(where, types_of(Level.scenes))
    records = pd.concat([records_of(run, condition) for run in open_runs(paths)], ignore_index=True)
    return to_xarray(records) if as_ == "xarray" else records


def load_scores(
    paths: Paths = "runs", where: str | None = None, *, seed: int = 0, resamples: int = RESAMPLES
) -> pd.DataFrame:
    """Return every metric of every tap over all test scenes, with its interval, beside its control.

    These are the rows of `results.csv`, for any mixture of runs: where rules, targets or views differ, runs are
    compared among their own kind only.

    Args:
        paths, where: as for `load_records`.
        seed, resamples: of the bootstrap.

    Raises:
        RunNotFoundError: there is no run.
        QueryError: the condition cannot be understood.
        EvaluateError: a run cannot be read, or has no val or test scenes.
    """
    from evaluate.table import build

    condition = None if where is None else Condition(where, types_of(Level.scores))
    axes: list[Axis] = []
    for members in comparable(open_runs(paths), condition):
        axes += build(members, seed=seed, resamples=resamples)
    scores = scores_of(axes)
    return scores if condition is None else scores[condition.rows(scores)].reset_index(drop=True)


def scores_of(axes: Sequence[Axis]) -> pd.DataFrame:
    """Return the rows of `load_scores` for what `evaluate.table.build` returned."""
    from evaluate.export import rows

    said = [row | more for axis in axes for row, more in zip(rows([axis]), _of_runs(axis), strict=True)]
    return typed([{name: row[name] for name in COLUMNS[Level.scores]} for row in said], Level.scores)


def open_runs(paths: Paths) -> list[Run]:
    """Open every run that the paths name: runs, folders of runs, and patterns.

    Raises:
        RunNotFoundError: there is none.
        EvaluateError: one cannot be read.
    """
    from evaluate.records import RUN_FILE
    from evaluate.table import find_runs

    patterns: list[str] = []
    for path in [paths] if isinstance(paths, str | Path) else paths:
        folder = Path(path)
        if folder.is_dir() and not (folder / RUN_FILE).is_file():
            inside = sorted(file.parent for file in folder.glob(f"*/{RUN_FILE}"))
            if not inside:
                raise RunNotFoundError(
                    f"{folder}: neither a run nor a folder of runs; train probes first (`python -m probes.train`)"
                )
            patterns += map(str, inside)
        else:
            patterns.append(str(path))
    return find_runs(patterns)


def comparable(runs: Sequence[Run], condition: Condition | None = None) -> Iterator[list[Run]]:
    """Yield runs, each reduced to one task, such that those yielded together may stand in one column.

    Args:
        runs: of any data sets, protocols, targets and views.
        condition: tasks that cannot meet it by data set, task and protocol are left out.
    """
    from evaluate.records import Run
    from evaluate.table import rules_of

    groups: dict[str, list[Run]] = {}
    for run in runs:
        for task in _possible(run, condition):
            alone = run.info.model_copy(update={"protocols": {task: run.info.protocols[task]}})
            key = json.dumps([run.info.dataset, task, *rules_of(run, task).values()])
            groups.setdefault(key, []).append(Run(run.path, alone))
    yield from groups.values()


def _possible(run: Run, condition: Condition | None) -> list[str]:
    import pandas as pd

    tasks = [(run.info.dataset, task, protocol) for task, protocol in run.info.protocols.items()]
    table = pd.DataFrame(tasks, columns=list(_EARLY)).astype("string")
    return list(table["task"] if condition is None else table["task"][condition.possible(table)])


def typed(rows: Sequence[Mapping[str, Any]] | Mapping[str, Any], level: Level) -> pd.DataFrame:
    """Return rows, or columns, with those columns of a level that they have, in their order and of their types."""
    import pandas as pd

    table = pd.DataFrame(rows)
    columns = COLUMNS[level]
    names = list(columns) if table.empty else [name for name in columns if name in table]
    return table.reindex(columns=names).astype({name: columns[name].type for name in names})


def to_xarray(records: pd.DataFrame) -> xr.DataTree:
    """Return the rows of `load_records` as one data set per data set and protocol: `rooms/standard/depth@1`.

    Each has its metrics (probe, scene), NaN where a probe was not measured, and what is said of probes and of scenes as
    coordinates: `tree["rooms/standard/depth@1"]["absrel"].mean("scene")`.
    """
    import xarray as xr

    groups = records.groupby(["dataset", "protocol"], sort=False)
    return xr.DataTree.from_dict({f"/{dataset}/{protocol}": _cube(rows) for (dataset, protocol), rows in groups})


def _cube(rows: pd.DataFrame) -> xr.Dataset:
    import xarray as xr

    of_scenes, of_rows = ["split", "scene"], ["value", "metric", "primary", "higher_is_better", "unit"]
    of_probes = [name for name in rows if name not in (*of_scenes, *of_rows, "dataset", "protocol", "task")]
    probe = rows.groupby(of_probes, sort=False, dropna=False).ngroup().to_numpy()
    scene = rows.groupby(of_scenes, sort=False).ngroup().to_numpy()
    variables = {}
    for metric, index in rows.reset_index(drop=True).groupby("metric", sort=False).indices.items():
        values = np.full((probe.max() + 1, scene.max() + 1), np.nan)
        values[probe[index], scene[index]] = rows["value"].to_numpy()[index]
        first = rows.iloc[index[0]]
        attrs = {"units": str(first["unit"]), "higher_is_better": int(first["higher_is_better"])}
        variables[str(metric)] = (("probe", "scene"), values, attrs)
    coordinates = {}
    for dim, place, names in (("probe", probe, of_probes), ("scene", scene, of_scenes)):
        _, first_rows = np.unique(place, return_index=True)
        for name in names:
            column = rows[name].iloc[first_rows]
            text = column.dtype == "string"
            # As in records.zarr; a missing word is an empty one.
            values = column.fillna("").to_numpy(np.dtypes.StringDType()) if text else column.to_numpy()
            coordinates[name] = (dim, values)
    return xr.Dataset(variables, coords=coordinates, attrs={"protocol": str(rows["protocol"].iloc[0])})


def records_of(run: Run, condition: Condition | None = None) -> pd.DataFrame:
    """Return what `load_records` says of one run; what cannot meet the condition is never computed."""
    import pandas as pd

    from evaluate.protocols import protocol_of

    info = run.info
    protocols = {
        task: protocol_of(name, info.classes.get(task, ()), info.length_unit) for task, name in info.protocols.items()
    }
    asked = [
        (probe, split) for task in protocols for probe in run.info.probes if probe.task == task for split in SPLITS
    ]
    told = typed([_told(run, probe, protocols[probe.task]) | {"split": split} for probe, split in asked], Level.scenes)
    wanted = range(len(asked)) if condition is None else np.flatnonzero(condition.possible(told))
    index, found = [np.zeros(0, np.int64)], []
    for place in wanted:
        probe, split = asked[place]
        scenes, statistics = run.statistics(probe.task, probe.id, split)
        if scenes:
            found.append(_measured(protocols[probe.task], scenes, statistics))
            index.append(np.full(len(found[-1]), place))
    measured = pd.concat(found, ignore_index=True) if found else typed([], Level.scenes)
    table = told.iloc[np.concatenate(index)].reset_index(drop=True)
    whole = typed({**table, **measured[[name for name in measured if name not in table]]}, Level.scenes)
    return whole if condition is None else whole[condition.rows(whole)]


def _told(run: Run, probe: ProbeInfo, protocol: Protocol) -> dict[str, Any]:
    info = run.info
    named = ("model", "kind", "untrained", "trained_on", "dataset", "features_fingerprint", "targets_fingerprint")
    return {
        **{name: getattr(info, name) for name in (*named, "created")},
        **{name: value for name, value in probe.model_dump().items() if name in COLUMNS[Level.scenes]},
        "run": info.name,
        "task": protocol.task,
        "protocol": protocol.id,
        "probe": probe.id,
        "views": str(info.config.get("views", "")),
    }


def _measured(protocol: Protocol, scenes: Sequence[str], statistics: Mapping[str, Any]) -> pd.DataFrame:
    """Return the columns that say what each metric (the faster axis) is on each scene alone."""
    import pandas as pd

    alone = protocol.reduce_weighted(statistics, np.eye(len(scenes)))
    infos = protocol.metrics
    said = pd.DataFrame(
        {
            "metric": list(infos),
            "primary": [name == protocol.primary for name in infos],
            "higher_is_better": [info.higher_is_better for info in infos.values()],
            "unit": [info.unit for info in infos.values()],
        }
    )
    return said.iloc[np.tile(range(len(infos)), len(scenes))].assign(
        scene=np.repeat(scenes, len(infos)), value=np.stack([alone[name] for name in infos], axis=1).ravel()
    )


def _of_runs(axis: Axis) -> Iterator[dict[str, Any]]:
    """Yield what the rows of `evaluate.export.rows` do not say, in the same order."""
    for model in axis.models:
        told = {name: getattr(model.info, name) for name in ("trained_on", "created")}
        told["views"] = str(model.info.config.get("views", ""))
        for _ in model.taps:
            yield from (told | {"unit": info.unit} for info in axis.protocol.metrics.values())


def types_of(level: Level) -> dict[str, str]:
    """Return the type of every column of a level."""
    return {name: column.type for name, column in COLUMNS[level].items()}

"""Tables of results hold what the protocols and the report say."""

from __future__ import annotations

import csv
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import xarray as xr

import evaluate
from evaluate.errors import QueryError, RunNotFoundError
from evaluate.export import rows, write_csv
from evaluate.protocols import PROBE3D, protocol_of
from evaluate.records import Run
from evaluate.results.best import best_rows
from evaluate.results.columns import COLUMNS, IDENTITY, Level
from evaluate.results.frames import types_of
from evaluate.table import build, find_runs
from tests.evaluate.results.conftest import write_probe3d

ROOT = Path(evaluate.__file__).parents[1]


@pytest.fixture(scope="module")
def records(runs_root: Path) -> pd.DataFrame:
    return evaluate.load_records(runs_root)


def test_each_row_is_a_metric_of_a_scene_alone(runs_root: Path, records: pd.DataFrame):
    assert {name: str(kind) for name, kind in records.dtypes.items()} == types_of(Level.scenes)
    assert not records.duplicated(list(IDENTITY[Level.scenes])).any()
    run = Run.open(runs_root / "video-b-rooms")
    for task in ("depth", "segmentation", "correspondence"):
        protocol = protocol_of(run.info.protocols[task], run.info.classes.get(task, ()))
        probe = next(probe for probe in run.info.probes if probe.task == task and probe.tap == "mid@t502")
        for split in ("val", "test"):
            scenes, statistics = run.statistics(task, probe.id, split)
            mine = records[(records.run == "video-b-rooms") & (records.probe == probe.id) & (records.split == split)]
            assert list(dict.fromkeys(mine.scene)) == scenes
            assert set(mine.noise) == {"t502"}
            assert set(mine.protocol) == {protocol.id}
            for index, scene in enumerate(scenes):
                alone = protocol.reduce({name: array[index : index + 1] for name, array in statistics.items()})
                found = mine[mine.scene == scene].set_index("metric")
                assert found.value.to_dict() == pytest.approx(alone, nan_ok=True)
                assert list(found.index[found.primary]) == [protocol.primary]
                assert found.unit.to_dict() == {name: info.unit for name, info in protocol.metrics.items()}


def test_a_condition_while_reading_is_a_choice_of_rows(runs_root: Path, records: pd.DataFrame, monkeypatch):
    where = "task == 'normals' and split == 'test' and value < 40 and not untrained and noise != None"
    chosen = (
        (records.task == "normals") & (records.split == "test") & (records.value < 40)
        & ~records.untrained & records.noise.notna()
    )  # fmt: skip
    asked: list[str] = []
    read = Run.statistics
    monkeypatch.setattr(Run, "statistics", lambda run, task, *rest: (asked.append(task), read(run, task, *rest))[1])
    found = evaluate.load_records(runs_root, where)
    assert 0 < len(found) < len(records)
    pd.testing.assert_frame_equal(found, records[chosen].reset_index(drop=True))
    assert set(asked) == {"normals"}
    none = evaluate.load_records(runs_root, "run == 'nobody'")
    assert len(none) == 0
    assert none.dtypes.equals(records.dtypes)


def test_paths_are_runs_folders_patterns_and_lists(runs_root: Path):
    where = "metric == 'absrel'"
    whole = evaluate.load_records(runs_root, where)
    pd.testing.assert_frame_equal(evaluate.load_records(str(runs_root / "*"), where), whole)
    pd.testing.assert_frame_equal(evaluate.load_records(sorted(runs_root.iterdir()), where), whole)
    one = evaluate.load_records(runs_root / "pixels-rooms", where)
    assert set(one.run) == {"pixels-rooms"}
    assert set(evaluate.load_records([runs_root / "pixels-rooms", runs_root / "net-a-*"], where).model) == {
        "pixels",
        "net-a",
    }


def test_what_is_no_run_is_refused(tmp_path: Path):
    for path in (tmp_path, tmp_path / "nowhere", tmp_path / "*"):
        with pytest.raises(RunNotFoundError, match=r"probes\.train"):
            evaluate.load_records(path)


def test_xarray_has_one_data_set_per_protocol(runs_root: Path, records: pd.DataFrame, tmp_path: Path):
    tree = evaluate.load_records(runs_root, as_="xarray")
    assert {node.path.strip("/") for node in tree.leaves} == set(records.dataset + "/" + records.protocol)
    cube = tree["rooms/standard/depth@1"].to_dataset()
    depth = records[records.task == "depth"]
    assert list(cube.data_vars) == list(dict.fromkeys(depth.metric))
    assert cube.sizes == {"probe": depth.groupby(["run", "probe"]).ngroups, "scene": depth.scene.nunique()}
    there = cube.isel(probe=(cube.run == "video-b-rooms").values & (cube.tap == "mid@t502").values)
    expected = depth[(depth.run == "video-b-rooms") & (depth.tap == "mid@t502") & (depth.metric == "absrel")]
    assert dict(zip(there.scene.values, there.absrel.values[0], strict=True)) == pytest.approx(
        expected.set_index("scene").value.to_dict()
    )
    assert dict(zip(cube.scene.values, cube.split.values, strict=True)) == depth.set_index("scene").split.to_dict()
    assert cube.absrel.attrs == {"units": "", "higher_is_better": 0}
    tree.to_zarr(tmp_path / "tree.zarr", zarr_format=3, consolidated=False)
    with xr.open_datatree(tmp_path / "tree.zarr", engine="zarr", consolidated=False) as back:
        np.testing.assert_array_equal(back["rooms/standard/depth@1"]["absrel"], cube.absrel)


def test_a_probe_that_lacks_a_scene_is_not_a_number_there(records: pd.DataFrame):
    rare = (records.task == "depth") & ~((records.run == "pixels-rooms") & (records.scene == "room-003"))
    cube = evaluate.to_xarray(records[rare])["rooms/standard/depth@1"].to_dataset()
    missing = np.isnan(cube.absrel)
    assert missing.sum() == 1
    assert cube.run.values[missing.any("scene")] == ["pixels-rooms"]


def test_scores_are_the_results_of_the_report(runs_root: Path, scores: pd.DataFrame, tmp_path: Path):
    assert {name: str(kind) for name, kind in scores.dtypes.items()} == types_of(Level.scores)
    assert not scores.duplicated(list(IDENTITY[Level.scores])).any()
    axes = build(find_runs([str(runs_root / "*")]), resamples=40)
    assert set(next(iter(rows(axes)))) <= set(COLUMNS[Level.scores])
    write_csv(axes, tmp_path / "results.csv")
    with (tmp_path / "results.csv").open(encoding="utf-8") as stream:
        written = {(row["run"], row["probe"], row["metric"]): row for row in csv.DictReader(stream)}
    assert len(written) == len(scores)
    for row in scores.to_dict("records"):
        line = written[row["run"], row["probe"], row["metric"]]
        for name in ("value", "low", "high", "val", "difference_low", "learning_rate"):
            assert line[name] == ("" if np.isnan(row[name]) else repr(row[name])), name
        assert line["chosen_on_val"] == str(row["chosen_on_val"])


def test_a_condition_on_scores_leaves_every_row_as_it_is(runs_root: Path, scores: pd.DataFrame):
    where = "task in ('depth', 'camera') and model == 'net-a' and not untrained"
    found = evaluate.load_scores(runs_root, where, resamples=40)
    chosen = scores[scores.task.isin(["depth", "camera"]) & (scores.model == "net-a") & ~scores.untrained]
    keys = list(IDENTITY[Level.scores])
    pd.testing.assert_frame_equal(
        found.sort_values(keys, ignore_index=True), chosen.sort_values(keys, ignore_index=True)
    )
    assert found.control.notna().all()


def test_runs_by_other_rules_or_views_stand_beside_each_other_and_are_never_compared(runs_root: Path, tmp_path: Path):
    paths = [*sorted(runs_root.iterdir()), write_probe3d(tmp_path / "four"), write_probe3d(tmp_path / "eight", 8, 7)]
    found = evaluate.load_scores(paths, "task == 'depth'", resamples=20)
    assert set(found.protocol) == {"standard/depth@1", f"{PROBE3D}/depth@1"}
    assert found[found.protocol == f"{PROBE3D}/depth@1"].control.isna().all()
    best = best_rows(found, "delta1")
    assert list(zip(best.protocol, best.views, strict=True)).count(("standard/depth@1", "")) == 1
    assert sorted(best.views) == ["", "4", "8"]


@pytest.mark.parametrize(("metric", "sign"), [("absrel", 1), ("delta1", -1)])
def test_the_best_row_is_the_one_that_the_protocol_says_is_best(scores: pd.DataFrame, metric: str, sign: int):
    (best,) = best_rows(scores, metric).to_dict("records")
    rivals = scores[(scores.metric == metric) & scores.chosen_on_val]
    assert best["value"] == (sign * rivals.value).min() * sign
    assert best["low"] <= best["value"] <= best["high"]
    per_model = best_rows(scores, metric, ["model", "untrained"])
    assert set(zip(per_model.model, per_model.untrained, strict=True)) == {("net-a", False), ("video-b", False)}
    assert best_rows(scores, metric, any_tap=True).value[0] * sign <= best["value"] * sign


def test_controls_compete_only_when_asked_to(scores: pd.DataFrame):
    best = scores[scores.model == "net-a"].value.min() / 2
    ahead = scores.assign(value=scores.value.mask(scores.untrained | (scores.kind == "control"), best))
    assert best_rows(ahead, "absrel").model[0] == "net-a"
    (control,) = best_rows(ahead, "absrel", controls=True).to_dict("records")
    assert control["untrained"] or control["kind"] == "control"
    shuffled = scores[scores.model == "net-a"].assign(shuffled=True)
    assert best_rows(shuffled, "absrel").empty
    assert len(best_rows(shuffled, "absrel", controls=True)) == 1


def test_nan_is_never_best_and_names_are_answered_with_the_nearest(scores: pd.DataFrame):
    spoiled = scores.assign(value=scores.value.where(scores.model != "net-a"))
    assert best_rows(scores, "absrel").model[0] == "net-a"
    assert best_rows(spoiled, "absrel").model[0] == "video-b"
    assert best_rows(scores, "abs_rel").equals(best_rows(scores, "absrel"))  # as other libraries spell it
    with pytest.raises(QueryError, match="Did you mean 'absrel'"):
        best_rows(scores, "absrell")
    with pytest.raises(QueryError, match="Did you mean 'model'"):
        best_rows(scores, "absrel", ["modl"])


def test_importing_the_package_loads_no_table():
    code = "import sys, evaluate; assert evaluate.__all__; print({'pandas', 'xarray', 'numpy'} & set(sys.modules))"
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ | {"PYTHONPATH": str(ROOT)}, capture_output=True, text=True, check=True, timeout=60,
    )  # fmt: skip
    assert done.stdout.strip() == "set()"
    with pytest.raises(AttributeError, match="load_everything"):
        _ = evaluate.load_everything

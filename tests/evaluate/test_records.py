"""A run on disk: whole or not at all, and read back as it was written."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import xarray as xr

from evaluate.errors import InputError, RunDamagedError, RunExistsError, RunNotFoundError, SchemaVersionError
from evaluate.metrics.camera import CameraProtocol
from evaluate.protocols import TASKS
from evaluate.records import Example, Run, RunInfo, RunWriter
from tests.evaluate.imagined_runs import run_info, write_run


def _info(**changes: object) -> RunInfo:
    return run_info("net-a-rooms", tasks=("camera",), **changes)


def _camera(value: int) -> dict[str, np.ndarray]:
    length = {"threshold": 3, "degree": 30}
    return {name: np.full([length[axis] for axis in axes], value) for name, axes in CameraProtocol.dims.items()}


def _fill(writer: RunWriter) -> None:
    for number, probe in enumerate(writer.info.probes):
        for index, (scene, split) in enumerate([("b", "val"), ("a", "test"), ("ç 雪", "test")]):
            writer.add(probe.id, scene, split, _camera(10 * number + index))


def _interrupt(writer: RunWriter) -> None:
    _fill(writer)
    raise KeyboardInterrupt


def test_what_was_written_is_read(tmp_path: Path):
    example = Example(
        "camera", "a", "test", "camera/blocks.0/lr0.001/seed0", [3, 8],
        {"rgb": np.arange(2 * 4 * 4 * 3, dtype=np.uint8).reshape(2, 4, 4, 3), "depth": np.ones((2, 4, 4), np.float32)},
    )  # fmt: skip
    with RunWriter(tmp_path / "runs" / "one", _info()) as writer:
        _fill(writer)
        writer.add_example(example)
        (writer.staging / "metrics.csv").write_text("step,loss\n")
    run = Run.open(tmp_path / "runs" / "one")
    assert run.info == _info()
    scenes, statistics = run.statistics("camera", run.info.probes[1].id, "test")
    assert scenes == ["a", "ç 雪"]
    np.testing.assert_array_equal(statistics["pairs"], [11, 12])
    np.testing.assert_array_equal(statistics["histogram"], np.repeat([[11], [12]], 30, axis=1))
    assert run.statistics("camera", run.info.probes[0].id, "val")[0] == ["b"]
    (got,) = run.examples()
    assert (got.scene, got.frames, got.probe_id) == (example.scene, example.frames, example.probe_id)
    assert got.arrays["rgb"].dtype == np.uint8
    np.testing.assert_array_equal(got.arrays["rgb"], example.arrays["rgb"])
    assert (run.path / "metrics.csv").exists()
    assert [path.name for path in (tmp_path / "runs").iterdir()] == ["one"]


def test_records_open_with_xarray_alone(tmp_path: Path):
    with RunWriter(tmp_path / "one", _info()) as writer:
        _fill(writer)
    with xr.open_datatree(tmp_path / "one" / "records.zarr", engine="zarr", consolidated=False, chunks=None) as tree:
        camera = tree["camera"].to_dataset()
        assert camera["histogram"].dims == ("probe", "scene", "degree")
        chosen = camera["pairs"].sel(probe="camera/blocks.1/lr0.001/seed0", scene="a")
        assert int(chosen) == 11
        assert [str(split) for split in camera["split"].to_numpy()] == ["val", "test", "test"]
    for file in (tmp_path / "one").rglob("zarr.json"):
        document = json.loads(file.read_text())
        assert document["zarr_format"] == 3
        assert "pickle" not in json.dumps(document)


def test_an_error_leaves_nothing_behind(tmp_path: Path):
    with pytest.raises(KeyboardInterrupt), RunWriter(tmp_path / "one", _info()) as writer:
        _interrupt(writer)
    assert list(tmp_path.glob("*one*")) == []
    assert list(tmp_path.glob(".one*")) == []


def test_an_incomplete_run_is_refused_and_leaves_nothing_behind(tmp_path: Path):
    writer = RunWriter(tmp_path / "one", _info())
    first, second = (probe.id for probe in writer.info.probes)
    writer.add(first, "a", "test", _camera(1))
    writer.add(first, "b", "test", _camera(1))
    writer.add(second, "b", "test", _camera(1))
    with pytest.raises(InputError, match=r"incomplete.*no scene 'a'"):
        writer.close()
    assert list(tmp_path.glob("*one*")) == []


def test_what_does_not_belong_is_refused(tmp_path: Path):
    writer = RunWriter(tmp_path / "one", _info())
    probe = writer.info.probes[0].id
    with pytest.raises(InputError, match="not listed"):
        writer.add("depth/else", "a", "test", _camera(1))
    with pytest.raises(InputError, match="standard/camera@1 has"):
        writer.add(probe, "a", "test", {"pairs": np.asarray(1)})
    writer.add(probe, "a", "test", _camera(1))
    with pytest.raises(InputError, match="one split"):
        writer.add(probe, "a", "val", _camera(1))
    writer.discard()


def test_a_finished_run_is_replaced_only_when_asked_and_then_at_once(tmp_path: Path):
    for replace in (False, True):
        with RunWriter(tmp_path / "one", _info(command=f"{replace}"), replace=replace) as writer:
            _fill(writer)
        with pytest.raises(RunExistsError, match="--force"):
            RunWriter(tmp_path / "one", _info())
    assert Run.open(tmp_path / "one").info.command == "True"
    with pytest.raises(ValueError, match="stop"), RunWriter(tmp_path / "one", _info(command="3"), replace=True):
        raise ValueError("stop")
    assert Run.open(tmp_path / "one").info.command == "True"
    assert sorted(path.name for path in tmp_path.iterdir() if "one" in path.name) == ["one"]


def test_what_is_no_run_is_never_replaced(tmp_path: Path):
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "chapter.tex").write_text("years of work")
    with pytest.raises(RunExistsError, match="is no run"):
        RunWriter(tmp_path / "thesis", _info(), replace=True)
    assert (tmp_path / "thesis" / "chapter.tex").exists()


@pytest.fixture
def run(runs_root: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(runs_root / "net-a-rooms", tmp_path / "copy"))


def test_the_fixture_opens(run: Path):
    assert set(Run.open(run).info.protocols) == set(TASKS)


def test_a_directory_without_a_run_is_said_to_be_none(tmp_path: Path):
    with pytest.raises(RunNotFoundError, match=r"run\.json is missing"):
        Run.open(tmp_path)


def test_a_truncated_run_file_is_damage(run: Path):
    text = (run / "run.json").read_text()
    (run / "run.json").write_text(text[: len(text) // 2])
    with pytest.raises(RunDamagedError, match="not readable JSON"):
        Run.open(run)


@pytest.mark.parametrize(("field", "value"), [("kind", "oracle"), ("untrained", None), ("surprise", 1)])
def test_a_run_file_that_says_something_impossible_is_damage(run: Path, field: str, value: object):
    document = json.loads((run / "run.json").read_text())
    (run / "run.json").write_text(json.dumps(document | {field: value}))
    with pytest.raises(RunDamagedError, match=field):
        Run.open(run)


@pytest.mark.parametrize("version", [1, 3, None, "2"])
def test_a_foreign_schema_version_is_said_so(run: Path, version: object):
    document = json.loads((run / "run.json").read_text())
    (run / "run.json").write_text(json.dumps(document | {"schema_version": version}))
    with pytest.raises(SchemaVersionError, match="this version reads 2"):
        Run.open(run)


def test_missing_records_are_damage(run: Path):
    opened = Run.open(run)
    with pytest.raises(RunDamagedError, match="no probe 'else'"):
        opened.statistics("camera", "else", "test")
    shutil.rmtree(run / "records.zarr" / "depth")
    with pytest.raises(RunDamagedError, match=r"records\.zarr/depth.* is missing"):
        Run.open(run)


def test_a_missing_chunk_does_not_read_as_zeros(run: Path):
    shutil.rmtree(run / "records.zarr" / "camera" / "histogram" / "c")
    with pytest.raises(RunDamagedError, match=r"camera/histogram/c.* is missing"):
        Run.open(run)


def test_truncated_chunks_are_damage(run: Path):
    for chunk in (run / "records.zarr" / "camera" / "histogram").rglob("c/**/*"):
        if chunk.is_file():
            chunk.write_bytes(chunk.read_bytes()[:7])
    with pytest.raises(RunDamagedError, match="has 7 bytes instead of"):
        Run.open(run)


def test_imagined_runs_are_what_they_say(tmp_path: Path):
    info = run_info(tasks=("depth",))
    assert Run.open(write_run(tmp_path / "x", info, scenes=(1, 2), size=24)).info == info

"""What is put side by side, what is chosen, and what must never be mixed."""

from __future__ import annotations

from io import StringIO
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from evaluate.errors import InputError, MixedProtocolsError, RunNotFoundError
from evaluate.export import rows
from evaluate.metrics.points import PointsProtocol
from evaluate.records import Run, RunInfo, RunWriter
from evaluate.sentences import beaten, headline, notes
from evaluate.table import Axis, build, find_runs, tap_order
from evaluate.terminal import show
from tests.evaluate.imagined_runs import run_info, write_run


def _write(root: Path, info: RunInfo, values: dict[str, tuple[list[float], list[float]]]) -> Run:
    """Write a run on points: probe's tap -> errors of its val scenes, errors of its test scenes."""
    with RunWriter(root / info.name, info) as writer:
        for probe in info.probes:
            for split, errors in zip(("val", "test"), values[probe.tap], strict=True):
                for index, error in enumerate(errors):
                    row = dict.fromkeys(PointsProtocol.dims, 0.0) | {"windows": 1, "point_error": error}
                    writer.add(probe.id, f"{split}-{index}", split, {name: np.asarray(v) for name, v in row.items()})
    return Run.open(root / info.name)


def _axis(*runs: Run) -> Axis:
    (axis,) = build(list(runs), resamples=4000)
    return axis


@pytest.fixture
def net(tmp_path: Path) -> Run:
    info = run_info("net", tasks=("points",), taps=("blocks.0", "blocks.1"))
    return _write(
        tmp_path, info, {"blocks.0": ([0.5, 0.5], [0.1, 0.2, 0.3]), "blocks.1": ([0.4, 0.4], [0.6, 0.8, 0.7])}
    )


@pytest.fixture
def twin(tmp_path: Path) -> Run:
    info = run_info("net-untrained", tasks=("points",), taps=("blocks.0", "blocks.1"), untrained=True)
    return _write(
        tmp_path, info, {"blocks.0": ([0.8, 0.8], [0.9, 0.6, 1.2]), "blocks.1": ([0.9, 0.9], [0.9, 0.9, 0.9])}
    )


def test_the_tap_is_chosen_on_val_and_reported_on_test(net: Run):
    model = _axis(net).leader
    assert model.best.probe.tap == "blocks.1"
    assert model.best.val == pytest.approx(0.4)
    assert model.best.test.values["point_error"] == pytest.approx(0.7)


def test_of_several_learning_rates_the_best_on_val_stands_for_the_tap(tmp_path: Path):
    slow, fast = (
        run_info("net", tasks=("points",), taps=("blocks.0",))
        .probes[0]
        .model_copy(update={"id": name, "learning_rate": rate})
        for name, rate in (("slow", 1e-4), ("fast", 1e-2))
    )
    info = run_info("net", tasks=("points",), probes=[slow, fast])
    with RunWriter(tmp_path / "net", info) as writer:
        for probe, val, test in (("slow", 0.5, 0.1), ("fast", 0.3, 0.9)):
            for scene, error in (("val", val), ("test", test)):
                row = dict.fromkeys(PointsProtocol.dims, 0.0) | {"windows": 1, "point_error": error}
                writer.add(probe, scene, scene, {name: np.asarray(v) for name, v in row.items()})
    (tap,) = _axis(Run.open(tmp_path / "net")).leader.taps
    assert (tap.probe.id, tap.test.values["point_error"]) == ("fast", 0.9)


def test_the_twin_is_found_and_the_difference_is_paired(net: Run, twin: Run):
    axis = _axis(twin, net)
    assert [model.label for model in axis.models] == ["net-a", "net-a (untrained)"]
    model, control = axis.models
    assert axis.twin(model) is control
    assert axis.control(control) is None
    difference = axis.difference(model.best, control.best)
    assert difference is not None
    assert difference.value == pytest.approx(0.7 - 0.9)
    assert -0.5 < difference.low < -0.4
    assert 0 < difference.high < 0.2
    assert "its untrained twin does worse (0.900" in headline(axis)
    assert "not clear of zero" in headline(axis)


def test_shuffled_labels_are_a_control_but_no_twin(net: Run, tmp_path: Path):
    info = run_info("net-shuffled", tasks=("points",), taps=("blocks.0",))
    info = info.model_copy(update={"probes": [probe.model_copy(update={"shuffled": True}) for probe in info.probes]})
    axis = _axis(_write(tmp_path, info, {"blocks.0": ([2.0], [2.0, 2.1, 2.2])}), net)
    model, control = axis.models
    assert (model.label, control.label) == ("net-a", "net-a (shuffled labels)")
    assert control.is_control
    assert axis.leader is model
    assert axis.twin(model) is None


def test_without_a_twin_the_best_control_stands_in_and_the_notes_say_so(net: Run, tmp_path: Path):
    info = run_info("pixels", model="pixels", kind="control", tasks=("points",), taps=("pixels",))
    pixels = _write(tmp_path, info, {"pixels": ([0.9], [0.9, 0.9, 0.8])})
    axis = _axis(net, pixels)
    assert "the control pixels" in headline(axis)
    assert any("No untrained twin was probed for net-a" in note for note in notes([axis]))
    assert any("smallest test set has 3 scenes" in note for note in notes([axis]))
    assert "no control" in headline(_axis(net))


def test_runs_on_other_test_scenes_are_compared_on_the_common_ones(net: Run, tmp_path: Path):
    info = run_info("short", model="net-a", untrained=True, tasks=("points",), taps=("blocks.0",))
    short = _write(tmp_path, info, {"blocks.0": ([0.9], [0.9, 0.9])})
    axis = _axis(net, short)
    difference = axis.difference(axis.models[0].best, axis.models[1].best)
    assert difference is not None
    assert difference.value == pytest.approx(np.mean([0.6, 0.8]) - 0.9)
    assert any("same scenes" in note for note in notes([axis]))


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"targets_fingerprint": "other"}, "different targets"),
        ({"classes": {"points": ["a"]}}, "different classes"),
        ({"config": {"views": 8}}, "different numbers of views"),
    ],
)
def test_what_was_measured_otherwise_is_never_in_one_column(net: Run, tmp_path: Path, changes: dict, said: str):
    info = run_info("else", model="else", tasks=("points",), taps=("blocks.0",), **changes)
    other = _write(tmp_path, info, {"blocks.0": ([1.0], [1.0, 1.0, 1.0])})
    with pytest.raises(MixedProtocolsError, match=said) as caught:
        build([net, other])
    assert str(net.path) in str(caught.value)
    assert str(other.path) in str(caught.value)


def test_other_protocols_are_never_in_one_column(net: Run, twin: Run):
    newer = twin.info.model_copy(update={"protocols": {"points": "standard/points@2"}})
    with pytest.raises(MixedProtocolsError, match=r"standard/points@1: .*net; standard/points@2: .*net-untrained"):
        build([net, Run(twin.path, newer)])


def test_other_data_sets_make_columns_of_their_own(net: Run, tmp_path: Path):
    info = run_info("else", dataset="streets", targets_fingerprint="x", tasks=("points",), taps=("blocks.0",))
    other = _write(tmp_path, info, {"blocks.0": ([1.0], [1.0, 1.0, 1.0])})
    assert [axis.dataset for axis in build([net, other])] == ["rooms", "streets"]


def test_two_runs_of_one_model_are_told_apart_by_name(net: Run, tmp_path: Path):
    info = run_info("again", tasks=("points",), taps=("blocks.0",))
    again = _write(tmp_path, info, {"blocks.0": ([1.0], [1.0, 1.0, 1.0])})
    assert {model.label for model in _axis(net, again).models} == {"net-a [net]", "net-a [again]"}


@pytest.mark.parametrize(("missing", "split"), [(0, "val"), (1, "test")])
def test_a_split_without_scenes_is_said_to_be_missing(tmp_path: Path, missing: int, split: str):
    errors: tuple[list[float], list[float]] = ([0.5], [0.5])
    errors[missing].clear()
    run = _write(tmp_path, run_info("net", tasks=("points",), taps=("blocks.0",)), {"blocks.0": errors})
    with pytest.raises(InputError, match=f"no {split} scenes"):
        build([run])


def test_runs_are_found_by_patterns_that_pass_over_other_folders(runs_root: Path, tmp_path: Path):
    (tmp_path / "stray").mkdir()
    assert len(find_runs([str(runs_root / "*"), str(tmp_path / "*"), str(runs_root / "pixels-rooms")])) == 4
    with pytest.raises(RunNotFoundError, match="no runs found"):
        find_runs([str(tmp_path / "*")])
    with pytest.raises(RunNotFoundError, match=r"run\.json is missing"):
        find_runs([str(tmp_path / "stray")])


def test_rows_are_complete_and_point_at_their_probe(runs_root: Path):
    axes = build(find_runs([str(runs_root / "*")]), resamples=50)
    table = list(rows(axes))
    assert len({tuple(row) for row in table}) == 1
    assert {row["task"] for row in table} == {axis.task for axis in axes}
    for row in table:
        assert row["low"] is None or row["low"] <= row["high"]
    best = [row for row in table if row["task"] == "depth" and row["chosen_on_val"] and row["primary"]]
    assert len(best) == 4
    (mine,) = (row for row in best if row["model"] == "net-a" and not row["untrained"])
    assert mine["control"] == "net-a (untrained)"
    assert mine["difference_value"] < 0


def test_less_error_leads(tmp_path: Path):
    good, bad = (
        Run.open(write_run(tmp_path / name, run_info(name, model=name, tasks=("depth",)), best_error=error, size=24))
        for name, error in (("good", 0.05), ("bad", 0.9))
    )
    assert _axis(bad, good).leader.label == "good"


def test_a_headline_says_when_a_control_beats_the_trained_model(net: Run, twin: Run, tmp_path: Path):
    info = run_info("position", model="position", kind="control", tasks=("points",), taps=("fourier",))
    position = _write(tmp_path, info, {"fourier": ([0.3], [0.3, 0.4, 0.35])})
    axis = _axis(net, twin, position)
    said = headline(axis)
    assert "the control position does better (0.350" in said
    assert said.index("the control position") < said.index("its untrained twin does worse")
    assert beaten(axis) == "Beaten by the control position."
    assert beaten(_axis(net, twin)) == ""
    assert any("rests on 1 to 2 val scenes" in note for note in notes([axis]))


def test_noise_levels_are_sorted_by_their_number():
    taps = ("a@t100", "a@t5", "a@t20", "a@sigma6", "a@sigma0.4", "a")
    probes = [p.model_copy(update={"depth": 0}) for p in run_info(tasks=("points",), taps=taps).probes]
    ordered = [probe.tap for probe in sorted(probes, key=tap_order)]
    assert ordered == ["a", "a@sigma0.4", "a@t5", "a@sigma6", "a@t20", "a@t100"]


def test_runs_of_one_name_are_told_apart_by_path(tmp_path: Path):
    info = run_info("net", tasks=("points",), taps=("blocks.0",))
    runs = [_write(tmp_path / side, info, {"blocks.0": ([1.0], [1.0])}) for side in ("one", "two")]
    axis = _axis(*runs)
    assert {model.label for model in axis.models} == {f"net-a [{run.path}]" for run in runs}
    console = Console(record=True, width=400, file=StringIO())
    show([axis], console)
    text = console.export_text()
    assert all(str(run.path) in text for run in runs)

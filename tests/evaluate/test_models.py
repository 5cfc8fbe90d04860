"""Seeds and draws of the noise are averaged, never chosen from; what is chosen is chosen on val."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from evaluate.errors import InputError
from evaluate.export import rows
from evaluate.records import Run
from evaluate.repeats import redraw
from evaluate.rows import group_runs
from evaluate.sentences import notes
from evaluate.statistics import estimate, resample
from evaluate.table import build
from tests.evaluate.imagined_errors import error_run, points_axis
from tests.evaluate.imagined_runs import run_info, write_run


def test_seeds_are_averaged_not_chosen_from(tmp_path: Path):
    """Seed 1 is by far the best on val and on test; the tap is worth the mean all the same."""
    run = error_run(tmp_path, "net", {("a", 0): [0.8, 0.6], ("a", 1): [0.1, 0.1], ("a", 2): [0.6, 0.8]})
    (tap,) = points_axis(run).leader.taps
    assert tap.test.values["point_error"] == pytest.approx(0.5)
    assert tap.val == pytest.approx(0.5)
    assert [repeat.probe.seed for repeat in tap.repeats] == [0, 1, 2]
    assert len(set(tap.draws)) == 1


def test_the_best_tap_is_the_one_with_the_best_mean_on_val(tmp_path: Path):
    errors = {("a", 0): [0.1, 0.1], ("a", 1): [0.9, 0.9], ("b", 0): [0.4, 0.4], ("b", 1): [0.4, 0.4]}
    assert points_axis(error_run(tmp_path, "net", errors)).leader.best.probe.tap == "b"


def test_of_learning_rates_the_best_on_val_is_chosen_for_each_seed(tmp_path: Path):
    run = error_run(tmp_path, "net", {("a", 0): [0.3], ("a", 1): [0.5]})
    slow, fast = run.info.probes
    twice = run.info.model_copy(update={"probes": [slow, fast.model_copy(update={"seed": 0, "learning_rate": 0.5})]})
    (tap,) = points_axis(Run(run.path, twice)).leader.taps
    assert [repeat.probe.id for repeat in tap.repeats] == [slow.id]
    assert tap.test.values["point_error"] == pytest.approx(0.3)


def test_one_seed_is_what_it_was(tmp_path: Path):
    errors = [0.2, 0.7, 0.4]
    run = error_run(tmp_path, "net", {("a", 0): errors})
    (tap,) = points_axis(run, seed=4).leader.taps
    known = estimate(points_axis(run).protocol, tap.statistics, seed=4)
    np.testing.assert_array_equal(tap.test.draws["point_error"], known.draws["point_error"])
    assert tap.test.values["point_error"] == known.values["point_error"]


def test_the_interval_of_a_tap_covers_scenes_and_seeds(tmp_path: Path):
    errors = {("a", 0): [0.2, 0.3, 0.4], ("a", 1): [0.7, 0.9, 0.8]}
    (tap,) = points_axis(error_run(tmp_path, "net", errors), resamples=200).leader.taps
    scenes, drawn = resample(3, resamples=200), redraw(2, resamples=200, stream=tap.stream)
    literal = [sum(drawn[b, k] * np.average(errors["a", k], weights=scenes[b]) for k in range(2)) for b in range(200)]
    np.testing.assert_allclose(tap.test.draws["point_error"], literal)


def _draws(tmp_path: Path, **changes: object) -> list[Run]:
    return [
        error_run(
            tmp_path,
            f"video-{k}",
            {("a@t1", 0): [0.2 + 0.2 * k, 0.4 + 0.2 * k], ("a@t1", 1): [0.3, 0.3]},
            model="video",
            draw_of="same",
            features_fingerprint=f"draw-{k}",
            **changes,
        )
        for k in range(3)
    ]


def test_runs_that_differ_in_the_noise_drawn_are_one_model(tmp_path: Path):
    axis = points_axis(*_draws(tmp_path))
    (model,) = axis.models
    assert (model.label, len(model.runs)) == ("video", 3)
    (tap,) = model.taps
    assert tap.draws == ["draw-0", "draw-0", "draw-1", "draw-1", "draw-2", "draw-2"]
    assert tap.test.values["point_error"] == pytest.approx(np.mean([[0.3, 0.5, 0.7], [0.3] * 3]))
    (note, *_) = notes([axis])
    assert "2 training seeds and 3 draws of the noise" in note


def test_other_settings_are_another_model(tmp_path: Path):
    first, second, third = _draws(tmp_path)
    changed = {"config": {"epochs": 9}}
    runs = [first, Run(second.path, second.info.model_copy(update=changed)), third]
    assert [len(group) for group in group_runs(runs)] == [2, 1]
    for changes in ({"draw_of": "else"}, {"untrained": True}, {"trained_on": "streets"}):
        runs[1] = Run(second.path, second.info.model_copy(update=changes))
        assert [len(group) for group in group_runs(runs)] == [2, 1]


def test_seeds_in_runs_of_their_own_are_one_model(tmp_path: Path):
    runs = [
        error_run(
            tmp_path, f"net-{seed}", {("a", seed): [0.2 + 0.1 * seed]}, model="net", features_fingerprint="one",
            config={"epochs": 3, "seeds": [seed]},
        )
        for seed in range(3)
    ]  # fmt: skip
    (model,) = points_axis(*runs).models
    assert model.best.test.values["point_error"] == pytest.approx(0.3)
    assert set(model.best.draws) == {"one"}


def test_the_same_probe_twice_is_no_repeat(tmp_path: Path):
    same = {"model": "net", "features_fingerprint": "one"}
    runs = [error_run(tmp_path, name, {("a", 0): [0.2, 0.3]}, **same) for name in ("one", "two")]
    assert [len(group) for group in group_runs(runs)] == [1, 1]
    assert {model.label for model in points_axis(*runs).models} == {"net [one]", "net [two]"}


def test_every_head_is_a_row_and_so_are_its_shuffled_labels(tmp_path: Path):
    """Each chooses its tap by its own probes, and controls are never the model's result, however good they are."""
    errors = {("a", 0): [0.4, 0.4], ("b", 0): [0.5, 0.5]}
    beside = {
        ("linear", True): {("a", 0): [0.1, 0.1], ("b", 0): [0.05, 0.05]},
        ("mlp", False): {("a", 0): [0.3, 0.3], ("b", 0): [0.2, 0.2]},
        ("mlp", True): {("a", 0): [0.8, 0.8], ("b", 0): [0.9, 0.9]},
    }
    axis = points_axis(error_run(tmp_path, "net", errors, beside=beside))
    found = {model.label: (model.head, model.shuffled, model.is_control, model.best.probe.tap) for model in axis.models}
    assert found == {
        "net (shuffled labels) [linear]": ("linear", True, True, "b"),
        "net [mlp]": ("mlp", False, False, "b"),
        "net [linear]": ("linear", False, False, "a"),
        "net (shuffled labels) [mlp]": ("mlp", True, True, "a"),
    }
    assert axis.leader.label == "net [mlp]"
    assert [model.best.test.values["point_error"] for model in axis.models] == pytest.approx([0.05, 0.2, 0.4, 0.8])
    assert all(len(tap.repeats) == 1 for model in axis.models for tap in model.taps)


def test_seeds_of_controls_are_averaged_among_themselves(tmp_path: Path):
    beside = {("linear", True): {("a", seed): [0.7 + 0.2 * seed] for seed in range(2)}}
    run = error_run(tmp_path, "net", {("a", seed): [0.1 + 0.2 * seed] for seed in range(2)}, beside=beside)
    values = {model.label: model.best.test.values["point_error"] for model in points_axis(run).models}
    assert values == pytest.approx({"net": 0.2, "net (shuffled labels)": 0.8})


def test_runs_of_other_heads_are_told_apart_by_them(tmp_path: Path):
    net = error_run(tmp_path, "one", {("a", 0): [0.2]}, model="net")
    mlp = [probe.model_copy(update={"head": "mlp"}) for probe in net.info.probes]
    other = Run(net.path, net.info.model_copy(update={"probes": mlp, "config": {"heads": ["mlp"]}}))
    assert {model.label for model in points_axis(net, other).models} == {"net [linear]", "net [mlp]"}


def test_what_is_not_trained_stands_with_the_only_head_and_alone_beside_several(tmp_path: Path):
    tasks = ("points", "correspondence")
    plain = run_info("net", model="net", tasks=tasks, taps=("a",))
    points, matches = plain.probes
    matches = matches.model_copy(update={"head": "identity", "parameters": 0})
    mlp = points.model_copy(update={"id": "mlp", "head": "mlp"})
    for probes, labels in (
        ([points, matches], {"points": ["net"], "correspondence": ["net"]}),
        ([points, mlp, matches], {"points": ["net [linear]", "net [mlp]"], "correspondence": ["net"]}),
        ([matches], {"correspondence": ["net"]}),
    ):
        named = tuple(dict.fromkeys(probe.task for probe in probes))
        info = run_info(f"net-{len(probes)}", model="net", tasks=named, taps=("a",), probes=probes)
        axes = {axis.task: axis for axis in build([Run.open(write_run(tmp_path / info.name, info))], resamples=20)}
        assert {task: sorted(model.label for model in axis.models) for task, axis in axes.items()} == labels
        (only,) = axes["correspondence"].models
        assert only.head is None
        assert all(axes["correspondence"].counterpart(m) is only for axis in axes.values() for m in axis.models)


def test_repeats_are_taken_on_the_scenes_that_all_have(tmp_path: Path):
    common = {"model": "net", "draw_of": "same"}
    first = error_run(tmp_path, "one", {("a", 0): [0.2, 0.4, 0.9]}, scenes=("x", "y", "z"), **common)
    second = error_run(tmp_path, "two", {("a", 0): [0.5, 0.1]}, scenes=("y", "x"), **common)
    axis = points_axis(first, second)
    (tap,) = axis.leader.taps
    assert tap.scenes == ("x", "y")
    assert axis.per_scene(tap) == pytest.approx({"x": (0.2 + 0.1) / 2, "y": (0.4 + 0.5) / 2})
    assert tap.test.values["point_error"] == pytest.approx(0.3)
    third = error_run(tmp_path, "three", {("a", 0): [0.5]}, scenes=("w",), **common)
    with pytest.raises(InputError, match="no test scene that all its repeats share"):
        points_axis(first, third)


def test_differences_of_repeated_taps_use_the_common_scenes(tmp_path: Path):
    net = error_run(tmp_path, "net", {("a", 0): [0.2, 0.4], ("a", 1): [0.4, 0.6]}, scenes=("x", "y"))
    other = error_run(tmp_path, "other", {("a", 0): [0.9, 0.1]}, scenes=("y", "z"))
    axis = points_axis(net, other)
    mine, theirs = (next(m for m in axis.models if m.label == name) for name in ("net", "other"))
    difference = axis.difference(mine.best, theirs.best)
    assert difference is not None
    assert difference.value == pytest.approx(0.5 - 0.9)


def test_tables_and_files_show_the_mean_of_repeats(tmp_path: Path):
    axes = build([error_run(tmp_path, "net", {("a", 0): [0.2], ("a", 1): [0.4]})], resamples=20)
    (row,) = [row for row in rows(axes) if row["primary"]]
    assert row["value"] == pytest.approx(0.3)
    assert axes[0].classes(axes[0].leader.best) == {}


def test_a_family_picks_runs_by_its_protocols(tmp_path: Path):
    run = error_run(tmp_path, "net", {("a", 0): [0.2]})
    paper = Run(run.path, run.info.model_copy(update={"protocols": {"points": "paper-2605.28132/points@1"}}))
    other = error_run(tmp_path, "other", {("a", 0): [0.2]})
    (axis,) = build([paper, other], family="paper-2605.28132")
    assert [model.label for model in axis.models] == ["net"]
    assert build([other], family="paper-2605.28132") == []

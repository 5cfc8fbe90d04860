"""Who beats whom, what training gives, and what kinds of models differ by."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from evaluate.aspects import ASPECTS, aspect_of
from evaluate.comparisons import compare, gain, negative, who_wins
from evaluate.families import FEW_MODELS, family_gaps, family_means
from evaluate.paired import holm, sign_flip_test
from evaluate.protocols import TASKS, get_protocol
from evaluate.selectivity import selectivities, selectivity
from evaluate.statistics import Interval
from evaluate.table import Axis, build, find_runs
from tests.evaluate.imagined_errors import error_run, points_axis

SCENES = 40


def _errors(seed: int, mean: float, spread: float = 0.02) -> list[float]:
    """Errors on the same scenes, some of which are hard for all."""
    hard = np.random.default_rng(99).uniform(0, 0.5, SCENES)
    return list(mean + hard + np.random.default_rng(seed).normal(0, spread, SCENES))


def _axis(root: Path, means: dict[str, float], **kinds: str) -> Axis:
    runs = [
        error_run(root, name, {("a", 0): _errors(seed, mean)}, kind=kinds.get(name, "vgm"))
        for seed, (name, mean) in enumerate(means.items())
    ]
    return points_axis(*runs)


@pytest.fixture
def axis(tmp_path: Path) -> Axis:
    return _axis(tmp_path, {"good": 0.2, "alike": 0.2, "bad": 0.3})


def test_every_task_has_one_aspect():
    assert sorted(task for tasks in ASPECTS.values() for task in tasks) == sorted(TASKS)
    assert [aspect_of(task) for task in ("tagging", "grouping", "camera")] == ["semantics", "grouping", "geometry"]


def test_pairs_are_paired_and_corrected_together(axis: Axis):
    got = compare(axis)
    assert {(pair.first.label, pair.second.label) for pair in got.pairs} == {
        (a.label, b.label) for i, a in enumerate(got.models) for b in got.models[i + 1 :]
    }
    raw = []
    for pair in got.pairs:
        here, there = (axis.per_scene(model.best) for model in (pair.first, pair.second))
        differences = [here[scene] - there[scene] for scene in here]
        raw.append(sign_flip_test(differences))
        assert pair.difference is not None
        assert pair.difference.value == pytest.approx(np.mean(differences))
        assert pair.difference == axis.difference(pair.first.best, pair.second.best)
        assert pair.exact
        assert pair.scenes == SCENES
        assert pair.p == pytest.approx(stats.ttest_1samp(differences, 0).pvalue, abs=0.03)
    assert [pair.p for pair in got.pairs] == raw
    np.testing.assert_array_equal([pair.p_holm for pair in got.pairs], holm(raw))
    assert got.tests == 3


def test_a_clear_lead_wins_and_a_tie_does_not(axis: Axis):
    got = compare(axis)
    named = {model.label: model for model in got.models}
    won = got.pair(named["good"], named["bad"])
    lost = got.pair(named["bad"], named["good"])
    assert won is not None
    assert lost is not None
    assert won.winner is named["good"] is lost.winner
    assert won.difference is not None
    assert lost.difference == negative(won.difference)
    tie = got.pair(named["good"], named["alike"])
    assert tie is not None
    assert tie.winner is None
    table = got.wins()
    np.testing.assert_array_equal(table, -table.T)
    order = [model.label for model in got.models]
    assert table[order.index("good"), order.index("bad")] == 1
    assert table[order.index("good"), order.index("alike")] == 0
    assert got.pair(named["good"], named["good"]) is None


def test_few_scenes_cannot_win_however_clear(tmp_path: Path):
    runs = [error_run(tmp_path, name, {("a", 0): [e, e + 0.01, e]}) for name, e in (("good", 0.1), ("bad", 0.9))]
    (pair,) = compare(points_axis(*runs)).pairs
    assert pair.difference is not None
    assert pair.difference.excludes_zero
    assert pair.p == pair.least_p == 0.25
    assert pair.winner is None


def test_scenes_without_a_value_do_not_count_as_tested(tmp_path: Path):
    lacking = [np.nan] * (SCENES - 3)
    runs = [error_run(tmp_path, name, {("a", 0): [error] * 3 + lacking}) for name, error in (("a", 0.1), ("b", 0.9))]
    (pair,) = compare(points_axis(*runs)).pairs
    assert (pair.scenes, pair.p, pair.least_p) == (3, 0.25, 0.25)


def test_seeds_that_disagree_take_a_win_away(tmp_path: Path):
    """The mean over seeds is as clear over scenes as with one seed; over seeds it is not."""
    steady = error_run(tmp_path, "steady", {("a", 0): _errors(0, 0.30, 0.001)})
    calm = error_run(tmp_path, "calm", {("a", s): _errors(s, 0.2, 0.001) for s in (1, 2, 3)})
    wild = error_run(tmp_path, "wild", {("a", s): _errors(s, m, 0.001) for s, m in ((4, 0.0), (5, 0.1), (6, 0.5))})
    got = compare(points_axis(steady, calm, wild))
    named = {model.label: model for model in got.models}
    sure, unsure = (got.pair(named[name], named["steady"]) for name in ("calm", "wild"))
    assert sure is not None
    assert unsure is not None
    assert (sure.difference and sure.difference.value) == pytest.approx(-0.1, abs=1e-3)
    assert (unsure.difference and unsure.difference.value) == pytest.approx(-0.1, abs=1e-3)
    assert sure.p_holm == pytest.approx(unsure.p_holm)
    assert sure.winner is named["calm"]
    assert unsure.winner is None


def test_models_without_a_common_scene_are_not_tested(tmp_path: Path):
    one = error_run(tmp_path, "one", {("a", 0): [0.1, 0.2]}, scenes=("x", "y"))
    two = error_run(tmp_path, "two", {("a", 0): [0.1, 0.2]}, scenes=("v", "w"))
    got = compare(points_axis(one, two))
    (pair,) = got.pairs
    assert (pair.scenes, pair.difference, pair.winner, got.tests) == (0, None, None, 0)
    assert np.isnan([pair.p, pair.p_holm, pair.least_p]).all()


def test_controls_are_compared_on_request_only(runs_root: Path):
    axes = build(find_runs([str(runs_root / "*")]), resamples=50)
    for axis in axes:
        assert {model.label for model in compare(axis).models} == {"net-a", "video-b"}
        assert len(compare(axis, controls=True).pairs) == 6
    by_task = {axis.task: compare(axis).pairs[0] for axis in axes}
    assert by_task["depth"].exact
    assert not by_task["segmentation"].exact
    assert by_task["depth"].scenes == 4
    other = compare(axes[[axis.task for axis in axes].index("depth")], "delta1")
    assert other.info.title == "δ < 1.25"


def test_who_wins_counts_tasks_of_an_aspect_and_corrects_over_all(axis: Axis):
    alone = who_wins([axis])
    (matrix,) = alone
    assert (matrix.aspect, matrix.tasks, matrix.tests) == ("geometry", ("points",), 3)
    assert matrix.models[-1] == "bad"
    assert matrix.beats("good", "bad")
    assert not matrix.beats("bad", "good")
    assert not matrix.beats("good", "alike")
    assert matrix.wins.sum() == 2
    assert (matrix.tested == 1 - np.eye(3)).all()
    twice = who_wins([axis, axis])
    assert twice[0].tests == 6
    assert twice[0].wins.max() == 2
    assert who_wins([replace(axis, models=axis.models[:1])]) == []


def test_selectivity_is_the_paired_difference_to_the_twin(tmp_path: Path):
    errors = {("a", 0): _errors(0, 0.2), ("b", 0): _errors(1, 0.3)}
    net = error_run(tmp_path, "net", errors, beside={("linear", True): {("a", 0): _errors(4, 0.9)}})
    raw = error_run(
        tmp_path, "raw", {("a", 0): _errors(2, 0.5), ("b", 0): _errors(3, 0.4)}, model="net", untrained=True
    )
    axis = points_axis(net, raw)
    model, twin = axis.leader, axis.twin(axis.leader)
    assert twin is not None
    assert selectivity(axis, model) == axis.difference(model.best, twin.best)
    at_b = selectivity(axis, model, tap="b")
    assert at_b is not None
    assert at_b.value == pytest.approx(-0.1, abs=0.02)
    assert selectivity(axis, model, "shuffled", tap="b") is None
    shuffled = selectivity(axis, model, "shuffled")
    assert shuffled is not None
    assert shuffled.value == pytest.approx(-0.7, abs=0.02)
    assert selectivity(axis, twin) is None
    every = selectivities(axis)
    assert [(one.model.label, one.control) for one in every] == [("net", "untrained"), ("net", "shuffled")]
    assert all(one.selective and one.gain.low > 0 > one.difference.high for one in every)
    np.testing.assert_array_equal([one.p_holm for one in every], holm([one.p for one in every]))
    assert selectivities(replace(axis, models=(model,))) == []


def test_controls_have_the_head_of_what_they_are_compared_with(tmp_path: Path):
    beside = {
        ("linear", True): {("a", 0): _errors(1, 0.9)},
        ("mlp", False): {("a", 0): _errors(2, 0.1)},
        ("mlp", True): {("a", 0): _errors(3, 0.5)},
    }
    net = error_run(tmp_path, "net", {("a", 0): _errors(0, 0.2)}, beside=beside)
    raw = error_run(tmp_path, "raw", {("a", 0): _errors(4, 0.7)}, model="net", untrained=True)
    axis = points_axis(net, raw)
    found = {(one.model.label, one.control): one.twin.label for one in selectivities(axis)}
    assert found == {
        ("net [mlp]", "shuffled"): "net (shuffled labels) [mlp]",
        ("net [linear]", "shuffled"): "net (shuffled labels) [linear]",
        ("net [linear]", "untrained"): "net (untrained) [linear]",
    }


def test_training_that_makes_worse_is_not_selective(tmp_path: Path):
    net = error_run(tmp_path, "net", {("a", 0): _errors(0, 0.5)})
    raw = error_run(tmp_path, "raw", {("a", 0): _errors(1, 0.2)}, model="net", untrained=True)
    (one,) = selectivities(points_axis(net, raw))
    assert one.p_holm < 0.05
    assert not one.selective


def test_gain_turns_differences_so_that_above_zero_is_better():
    metrics = get_protocol("depth").metrics
    assert gain(metrics["absrel"], Interval(-1.0, -2.0, 0.5)) == Interval(1.0, -0.5, 2.0)
    assert gain(metrics["delta1"], Interval(-1.0, -2.0, 0.5)) == Interval(-1.0, -2.0, 0.5)


def _families(root: Path, count: int, spread: float = 0.01, lead: float = 0.1) -> Axis:
    """Return an axis on which every kind spreads evenly by `spread` around its mean, and VGMs err less by `lead`."""
    around = spread * np.linspace(-1, 1, count)
    means = {f"vgm-{k}": 0.2 + step for k, step in enumerate(around)}
    means |= {f"vlm-{k}": 0.2 + lead + step for k, step in enumerate(around)}
    return _axis(root, means, **{name: name.split("-")[0] for name in means})


def test_family_means_are_means_over_models(tmp_path: Path):
    axis = _families(tmp_path, 5)
    video, language = family_means([axis])
    assert (video.kind, language.kind, video.scenes) == ("vgm", "vlm", SCENES)
    for mean in (video, language):
        values = [axis.interval(m.best).value for m in axis.models if m.info.kind == mean.kind]
        assert len(mean.models) == 5
        assert mean.interval.value == mean.fixed.value == pytest.approx(np.mean(values))
        assert mean.fixed.low < mean.fixed.value < mean.fixed.high
    (gap,) = family_gaps([axis])
    assert gap.better == "vgm"
    assert gap.separated
    assert gap.difference.value == pytest.approx(language.interval.value - video.interval.value)
    assert gap.difference.low > 0.05
    assert gap.fixed.high - gap.fixed.low < gap.difference.high - gap.difference.low
    assert "as far as these stand for their kind" in gap.claim
    assert family_means([axis], "no such metric") == []


def test_models_that_spread_widen_the_interval_and_take_the_claim(tmp_path: Path):
    (gap,) = family_gaps([_families(tmp_path, 5, spread=0.15, lead=0.05)])
    assert gap.fixed.excludes_zero
    assert not gap.difference.excludes_zero
    assert not gap.separated
    for mean in (gap.first, gap.second):
        assert mean.interval.high - mean.interval.low > 1.2 * (mean.fixed.high - mean.fixed.low)
    assert "but not beyond the choice of models" in gap.claim


def test_few_models_claim_nothing_of_their_kind(tmp_path: Path):
    assert FEW_MODELS > 2
    (gap,) = family_gaps([_families(tmp_path, 2)])
    assert "Nothing is claimed about other models: 2 of a kind is too few" in gap.claim
    lone = _axis(tmp_path / "lone", {"v": 0.2, "l": 0.4}, v="vgm", l="vlm")
    video, _ = family_means([lone])
    assert video.interval == video.fixed
    same = _axis(tmp_path / "same", {"v": 0.2, "l": 0.2005}, v="vgm", l="vlm")
    assert "not by more than other test scenes could turn" in family_gaps([same])[0].claim


def test_a_backbone_counts_once_and_controls_not_at_all(tmp_path: Path):
    good = error_run(tmp_path, "good", {("a", 0): _errors(0, 0.2)}, model="net", kind="vgm")
    worse = error_run(tmp_path, "worse", {("a", 0): _errors(1, 0.4)}, model="net", kind="vgm")
    raw = error_run(tmp_path, "raw", {("a", 0): _errors(2, 0.9)}, model="net", kind="vgm", untrained=True)
    axis = points_axis(good, worse, raw)
    (mean,) = family_means([axis])
    assert mean.models == ("net [good]",)
    assert family_gaps([axis]) == []
    strange = error_run(tmp_path, "x", {("a", 0): [0.1]}, model="x", kind="vlm", scenes=("nowhere",))
    assert family_means([points_axis(good, strange)]) == []

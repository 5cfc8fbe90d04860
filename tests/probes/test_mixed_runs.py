"""Runs with several heads, and with a control beside every probe: what they find, choose, say and pass on."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest
from safetensors.numpy import load_file

from evaluate.export import rows
from evaluate.protocols import protocol_of
from evaluate.records import Run
from evaluate.selectivity import selectivity
from evaluate.table import build
from probes.bank import ProbeBank
from probes.checkpoint import load
from probes.errors import ProbesError, RunExistsError, UnknownNameError
from probes.export import app as export
from probes.test import app as measuring
from probes.train import app
from tests.probes.test_train import BOUNDS, TELLING

ARGUMENTS = ["--features", "store/toy", "--views", "3", "--device", "cpu", "--pixels", "96", "--weight-decay", "0.01"]
ARGUMENTS += ["--taps", TELLING]


def run(*arguments: str) -> None:
    app([*ARGUMENTS, *arguments], standalone_mode=False)


@pytest.fixture(scope="module")
def controlled(world_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of two trained tasks and one that is not, with controls."""
    out = tmp_path_factory.mktemp("runs") / "toy-world"
    asked = ["--task", "segmentation,depth,correspondence", "--epochs", "60", "--learning-rate", "0.02", "--control"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FEATURE_STORE", str(world_root))
        run(*asked, "--out", str(out))
    return out


def primary(run: Run, task: str, *, shuffled: bool) -> float:
    (probe,) = [p for p in run.info.probes if p.task == task and p.shuffled == shuffled]
    protocol = protocol_of(run.info.protocols[task], run.info.classes.get(task, ()))
    return protocol.reduce(run.statistics(task, probe.id, "test")[1])[protocol.primary]


@pytest.mark.parametrize("task", ["segmentation", "depth"])
def test_a_probe_finds_what_its_control_does_not(controlled: Path, task: str) -> None:
    found = Run.open(controlled)
    protocol = protocol_of(found.info.protocols[task], found.info.classes.get(task, ()))
    sign = 1 if protocol.metrics[protocol.primary].higher_is_better else -1
    good, bad = BOUNDS[task]
    assert sign * primary(found, task, shuffled=False) > sign * good
    assert sign * primary(found, task, shuffled=True) < sign * bad


def test_what_is_not_trained_has_no_control(controlled: Path) -> None:
    found = Run.open(controlled)
    kinds = {(task, shuffled) for task in ("segmentation", "depth") for shuffled in (False, True)}
    assert [(probe.task, probe.shuffled) for probe in found.info.probes if probe.shuffled] == [
        ("segmentation", True),
        ("depth", True),
    ]
    assert {(probe.task, probe.shuffled) for probe in found.info.probes} == kinds | {("correspondence", False)}
    shown = {example.probe_id for example in found.examples()}
    assert shown
    assert not any(name.endswith("/shuffled") for name in shown)


def test_the_control_is_a_row_of_its_own_in_the_report(controlled: Path) -> None:
    axes = {axis.task: axis for axis in build([Run.open(controlled)], resamples=50)}
    for task in ("segmentation", "depth"):
        leader, control = axes[task].leader, axes[task].models[1]
        assert (leader.label, control.label) == ("toy", "toy (shuffled labels)")
        assert (leader.is_control, control.is_control) == (False, True)
        metric = axes[task].protocol.metrics[axes[task].protocol.primary]
        difference = selectivity(axes[task], leader, "shuffled")
        assert difference is not None
        assert metric.better(difference.value, 0.0)
    assert [model.label for model in axes["correspondence"].models] == ["toy"]
    told = {(row["task"], row["model"], row["shuffled"]) for row in rows(list(axes.values()))}
    assert told == {
        *((task, "toy", shuffled) for task in ("segmentation", "depth") for shuffled in (False, True)),
        ("correspondence", "toy", False),
    }


def test_the_control_is_part_of_what_a_run_is(
    controlled: Path, world: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = ["--task", "depth", "--epochs", "1", "--learning-rate", "0.02"]
    run(*asked, "--control", "--json")
    (best,) = json.loads(capsys.readouterr().out)["best"]
    assert best["probe"] == f"depth/{TELLING}/linear/lr0.02/wd0.01/seed0"
    assert best["control"]["probe"] == f"{best['probe']}/shuffled"
    assert best["control"]["test"]["absrel"] > 0
    with pytest.raises(RunExistsError, match="control: True there, False asked for"):
        run(*asked)
    run(*asked, "--update", "--control", "--epochs", "2")
    assert "control: the best tap of probes trained with the labels of other scenes" in capsys.readouterr().out


def test_probes_with_controls_are_measured_elsewhere_and_passed_on(
    controlled: Path, world: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    export(["--run", str(controlled), "--out", "shared"], standalone_mode=False)
    assert "3 probes and 2 controls (shuffled labels)" in Path("shared/README.md").read_text()
    capsys.readouterr()
    again = ["--features", "store/toy", "--device", "cpu", "--out", "runs/again", "--json"]
    measuring(["--run", "shared", *again], standalone_mode=False)
    best = json.loads(capsys.readouterr().out)["best"]
    assert [(row["task"], "control" in row) for row in best] == [
        ("segmentation", True),
        ("depth", True),
        ("correspondence", False),
    ]
    for shuffled in (False, True):
        values = [primary(Run.open(path), "depth", shuffled=shuffled) for path in (controlled, Path("runs/again"))]
        assert values[0] == pytest.approx(values[1])


HEADS = ["--head", "mlp", "--head", "attentive,linear"]


def test_every_head_is_a_row_of_its_own(
    world: Path, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    """And ends as it would have ended alone."""
    asked = ["--task", "tagging,depth,correspondence", "--epochs", "2"]
    run(*asked, *HEADS, "--json")
    out = Path("runs/toy-world-linear-mlp-attentive")
    best = json.loads(capsys.readouterr().out)["best"]
    answered = [("tagging", "linear"), ("tagging", "mlp"), ("tagging", "attentive"), ("depth", "linear")]
    answered += [("depth", "mlp"), ("correspondence", "identity")]
    assert [(row["task"], row["head"]) for row in best] == answered
    assert "--head attentive cannot answer depth: left out there" in caplog.text
    with (out / "search.csv").open() as file:
        chosen = [line["probe"] for line in csv.DictReader(file) if line["chosen"] == "1"]
    assert [tuple(name.split("/")[0:3:2]) for name in chosen] == answered
    run(*asked, "--head", "mlp", "--out", "runs/alone")
    weights, others = (load_file(path / "probes.safetensors") for path in (out, Path("runs/alone")))
    alone = [name for name in others if "/mlp/" in name]
    assert alone
    assert all((weights[name] == others[name]).all() for name in alone)
    assert {probe.head for probe in load(out)[1].probes} == {"linear", "mlp", "attentive", "identity"}
    axes = {axis.task: axis for axis in build([Run.open(out)], resamples=20)}
    labels = {task: sorted(model.label for model in axis.models) for task, axis in axes.items()}
    assert labels == {
        "tagging": ["toy [attentive]", "toy [linear]", "toy [mlp]"],
        "depth": ["toy [linear]", "toy [mlp]"],
        "correspondence": ["toy"],
    }
    assert axes["correspondence"].counterpart(axes["depth"].leader) is axes["correspondence"].leader


def test_all_leaves_out_what_no_head_answers(
    world: Path, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    run("--head", "attentive", "--epochs", "1", "--json")
    assert [row["task"] for row in json.loads(capsys.readouterr().out)["best"]] == [
        "tagging",
        "camera",
        "correspondence",
    ]
    assert "attentive cannot answer segmentation, grouping, depth, points, normals: left out there" in caplog.text


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        (["--head", "attentive", "--task", "depth"], ProbesError, "views, and the task depth asks about cells"),
        (["--head", "linear,attentive", "--task", "depth"], ProbesError, "attentive: answers none of the tasks depth"),
        (["--head", "linear,attentiv"], UnknownNameError, "unknown head 'attentiv'. Did you mean attentive"),
        (["--head", "linear,mlp", "--width", "32"], ProbesError, "--width: of no meaning for --head linear, mlp"),
        (["--head", "linear,dpt", "--task", "depth", "--joint"], ProbesError, "--joint: of no meaning for --head"),
    ],
)
def test_heads_that_fit_nothing_are_an_error(
    world: Path, arguments: list[str], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        run(*arguments)
    assert not Path("runs").exists()


def test_a_size_is_for_the_heads_that_can_be_had_in_it(world: Path) -> None:
    run("--head", "linear,dpt", "--task", "depth", "--width", "32", "--epochs", "1", "--out", "runs/one")
    assert {probe.head for probe in Run.open("runs/one").info.probes} == {"linear", "dpt-w32"}


def test_passes_count_controls_and_heads_and_change_nothing(world: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[int] = []
    whole = ProbeBank.__init__

    def counted(self: ProbeBank, probes: list[object], *rest: object, **named: object) -> None:
        sizes.append(len(probes))
        whole(self, probes, *rest, **named)  # type: ignore[arg-type]

    monkeypatch.setattr(ProbeBank, "__init__", counted)
    asked = ["--task", "depth", "--head", "linear,mlp", "--epochs", "1", "--control"]
    run(*asked, "--out", "runs/whole")
    run(*asked, "--out", "runs/split", "--memory", "0.0001")
    assert sizes == [8, 4, *[1] * 8, 4]  # training, and the chosen ones at its end
    weights, others = (load_file(Path("runs") / name / "probes.safetensors") for name in ("whole", "split"))
    assert weights.keys() == others.keys()
    assert all((weights[name] == others[name]).all() for name in weights)

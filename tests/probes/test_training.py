"""A training that is broken off, split into passes, or shared between processes ends where it would have ended."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from safetensors.numpy import load_file

import probes.training.fit
from evaluate.records import Run
from probes.bank import ProbeBank
from probes.config import ProbeSpec, TrainConfig
from probes.errors import NonFiniteError, ProbesError, RunExistsError, UnknownNameError
from probes.train import app
from probes.training.fit import due
from probes.training.passes import plan_passes
from probes.training.state import STATE
from probes.training.workplace import workplace

ARGUMENTS = [
    "--features",
    "store/toy",
    "--views",
    "3",
    "--device",
    "cpu",
    "--pixels",
    "96",
    "--epochs",
    "12",
    "--weight-decay",
    "0.01",
]
TASKS = ["--task", "tagging,depth,camera"]


def run(*arguments: str, out: str = "runs/one") -> Path:
    app([*ARGUMENTS, *TASKS, "--out", out, *arguments], standalone_mode=False)
    return Path(out)


def without_seconds(path: Path) -> list[list[str]]:
    with path.open(newline="") as file:
        return [[*line[:2], *line[3:]] for line in csv.reader(file)]


def same(one: Path, other: Path) -> None:
    """Weights, losses, choices and records of two runs are equal."""
    weights, others = load_file(one / "probes.safetensors"), load_file(other / "probes.safetensors")
    assert weights.keys() == others.keys()
    assert all((weights[name] == others[name]).all() for name in weights)
    assert (one / "search.csv").read_text() == (other / "search.csv").read_text()


class Killed(BaseException):
    """Stands for a power cut: nothing gets to tidy up but the `finally` of Python."""


@pytest.mark.parametrize("head", ["linear", "mlp"])
def test_a_killed_run_goes_on_and_ends_the_same(world: Path, monkeypatch: pytest.MonkeyPatch, head: str) -> None:
    whole = run("--head", head, out="runs/whole")
    step = ProbeBank.training_step
    monkeypatch.setattr(probes.training.fit, "SAVE_SECONDS", -1.0)
    begun = []

    def killed(self: ProbeBank, batch: object, index: int) -> object:
        begun.append(self.first)
        if len(begun) in (18, 27):  # after the states of step 10, then of step 20
            raise Killed
        return step(self, batch, index)  # type: ignore[arg-type]

    monkeypatch.setattr(ProbeBank, "training_step", killed)
    for _ in range(2):
        with pytest.raises(Killed):
            run("--head", head)
    part = Path("runs/.one.part")
    assert json.loads((part / "status.json").read_text())["state"] == "failed"
    assert not Path("runs/one").exists()
    done = run("--head", head)
    assert sorted(set(begun)) == [0, 10, 20][: len(set(begun))]
    assert len(set(begun)) >= 2
    assert not part.exists()
    same(done, whole)
    for table in ("metrics.csv", "validation.csv"):
        assert without_seconds(done / table) == without_seconds(whole / table)


def kill_after_training(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> Path:
    """Break a run off before anything is scored. Returns the state that it left."""

    def score(*_: object) -> None:
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr("probes.run.record", score)
        with pytest.raises(Killed):
            run(*arguments)
    (state,) = Path("runs/.one.part").rglob(STATE)
    return state


def test_another_run_does_not_go_on_from_it(world: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kill_after_training(monkeypatch, "--seed", "3")
    same(run(), run(out="runs/other"))


def test_a_state_that_cannot_be_read_is_not_used(
    world: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    whole = run(out="runs/whole")
    state = kill_after_training(monkeypatch)
    state.write_bytes(state.read_bytes()[:1000])
    same(run(), whole)
    assert "training starts anew" in caplog.text


def test_two_processes_do_not_train_the_same_run(tmp_path: Path) -> None:
    out = tmp_path / "runs" / "one"
    with (
        workplace(out, {"a": 1}),
        pytest.raises(RunExistsError, match="another process trains this run now"),
        workplace(out, {"a": 1}),
    ):
        pass
    assert not (tmp_path / "runs" / ".one.part").exists()


def test_passes_change_nothing(world: Path, caplog: pytest.LogCaptureFixture) -> None:
    whole = run(out="runs/whole")
    split = run("--memory", "0.0001")
    assert "passes over the store" in caplog.text
    assert (split / "metrics-2.csv").is_file()
    same(split, whole)


def test_several_seeds_are_several_probes_and_the_first_is_the_same_alone(world: Path) -> None:
    alone, both = run(out="runs/alone"), run("--seed", "0", "--seed", "5")
    assert sorted({probe.seed for probe in Run.open(both).info.probes}) == [0, 5]
    weights, all_weights = load_file(alone / "probes.safetensors"), load_file(both / "probes.safetensors")
    assert all((weights[name] == all_weights[name]).all() for name in weights)
    probe = "depth/blocks.0/linear/lr0.01/wd0.01/seed"
    differ = [all_weights[name] for name in all_weights if name.startswith(probe) and name.endswith("weight")]
    assert len(differ) == 0 or len({weight.tobytes() for weight in differ}) == len(differ)


def test_a_probe_that_has_waited_long_enough_rests(world: Path) -> None:
    rates = ["--learning-rate", "0.9", "--learning-rate", "0.001"]
    impatient = run("--patience", "1", *rates)
    with (impatient / "validation.csv").open() as file:
        losses = list(csv.DictReader(file))
    rested = [name for name in losses[0] if name != "step" and losses[-1][name] == ""]
    assert rested
    for name in rested:
        values = [float(line[name]) for line in losses if line[name]]
        assert values[-1] >= min(values[:-1])
    steady = run("--keep", "last", *rates, out="runs/last")
    with (steady / "search.csv").open() as file:
        assert {line["step"] for line in csv.DictReader(file)} == {str(12 * 10 // 4)}


def test_val_is_asked_as_often_as_it_matters_and_at_the_end() -> None:
    config = TrainConfig(tasks=("depth",), taps=("x",))
    assert due(150, config) == {15, 30, 45, 60, 75, 90, 105, 120, 135, 150}
    assert due(3, config) == {1, 2, 3}
    assert max(due(7, config)) == 7
    assert due(150, config.model_copy(update={"epochs": 2})) == {75, 150}
    last = config.model_copy(update={"keep": "last"})
    assert due(150, last) == {150}
    assert len(due(150, last.model_copy(update={"patience": 3}))) == 10


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        (["--learning-rate", "1e30"], NonFiniteError, "Lower --learning-rate"),
        (["--devices", "3"], ProbesError, "a batch of 4 clips cannot be shared equally. Ask for --batch-clips 6"),
        (["--logger", "tensorbord"], UnknownNameError, "--logger: unknown logger 'tensorbord'. Did you mean"),
        (["--head", "attentive"], ProbesError, "leave the task out with --task"),
    ],
)
def test_bad_input_leaves_nothing_behind(
    world: Path, arguments: list[str], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        run(*arguments)
    assert not Path("runs").exists() or not list(Path("runs").iterdir())


def probe(task: str, tap: str) -> ProbeSpec:
    return ProbeSpec(task=task, tap=tap, head="linear", learning_rate=1, weight_decay=0, seed=0)


def test_passes_keep_taps_together_and_within_the_memory() -> None:
    probes = [probe(task, tap) for task in ("a", "b") for tap in ("x", "y")]
    taps = {"x": 10, "y": 10}
    assert plan_passes(probes, taps, [1, 1, 1, 1], 100) == [[0, 2, 1, 3]]
    assert plan_passes(probes, taps, [1, 1, 1, 1], 20) == [[0, 2], [1, 3]]
    assert plan_passes(probes, taps, [8, 8, 8, 8], 20) == [[0], [2], [1], [3]]
    assert plan_passes(probes, taps, [99, 99, 99, 99], 20) == [[0], [2], [1], [3]]  # nothing smaller can be done


def test_two_processes_train_as_one_does(world: Path, tmp_path: Path) -> None:
    """Gradients are means of two halves, so that only rounding differs."""
    run(out=str(tmp_path / "alone"))
    command = [sys.executable, "-m", "probes.train", *ARGUMENTS, *TASKS, "--devices", "2"]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path(__file__).parents[2])}
    done = subprocess.run(
        [*command, "--out", str(tmp_path / "shared")],
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("best tap per task") == 1
    weights, others = (load_file(tmp_path / name / "probes.safetensors") for name in ("alone", "shared"))
    assert weights.keys() == others.keys()
    for name, values in weights.items():
        if name.startswith(("camera", "tagging")):  # their losses are means over as many numbers in every half
            assert abs(values - others[name]).max() < 1e-3 * max(1.0, abs(values).max()), name


def test_a_task_that_is_not_trained_needs_no_training(world: Path) -> None:
    app([*ARGUMENTS, "--task", "correspondence", "--out", "runs/match"], standalone_mode=False)
    found = Run.open("runs/match")
    assert {probe.head for probe in found.info.probes} == {"identity"}
    assert sum(probe.parameters for probe in found.info.probes) == 0
    assert not Path("runs/match/metrics.csv").exists()

"""What a run does not lose: passes that were settled, what Ctrl-C means, signs of life, and what two processes say."""

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
from probes.bank import ProbeBank
from probes.errors import ProbesError, RunExistsError
from probes.train import app
from probes.training.passes import PASSES, settle
from probes.training.state import STATE
from probes.training.status import Meter

ARGUMENTS = ["--features", "store/toy", "--views", "3", "--device", "cpu", "--pixels", "96", "--weight-decay", "0.01"]
ARGUMENTS += ["--task", "tagging,depth", "--taps", "blocks.0"]


class Killed(BaseException):
    """Stands for a power cut."""


def run(*arguments: str, out: str = "runs/one") -> object:
    return app([*ARGUMENTS, "--epochs", "4", "--out", out, *arguments], standalone_mode=False)


def kill_before_scoring(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> list[Path]:
    """Break a run off after its training. Returns the states that it left."""

    def score(*_: object) -> None:
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr("probes.run.record", score)
        with pytest.raises(Killed):
            run(*arguments)
    return sorted(Path("runs/.one.part").rglob(STATE))


def steps_of(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    """How many steps a run takes that goes on."""
    step, begun = ProbeBank.training_step, []

    def counted(self: ProbeBank, batch: object, index: int) -> object:
        begun.append(index)
        return step(self, batch, index)  # type: ignore[arg-type]

    with monkeypatch.context() as patch:
        patch.setattr(ProbeBank, "training_step", counted)
        run(*arguments)
    return len(begun)


def same_weights(one: str, other: str) -> bool:
    weights, others = (load_file(Path(path) / "probes.safetensors") for path in (one, other))
    return weights.keys() == others.keys() and all((weights[name] == others[name]).all() for name in weights)


def test_passes_are_those_that_a_run_began_with(world: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """However much memory is free when it goes on: a state is of the probes of its pass."""
    run(out="runs/whole")
    assert len(kill_before_scoring(monkeypatch, "--memory", "0.0001")) == 4
    assert steps_of(monkeypatch) == 0
    assert same_weights("runs/one", "runs/whole")


def test_memory_that_is_asked_for_settles_passes_anew(
    world: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    run(out="runs/whole")
    kill_before_scoring(monkeypatch, "--memory", "0.0001")
    assert steps_of(monkeypatch, "--memory", "1") == 10
    assert "was trained in other passes over the store; training starts anew" in caplog.text
    assert same_weights("runs/one", "runs/whole")
    assert not list(Path("runs/one").glob("metrics-*.csv"))


def test_no_memory_at_all_is_one_probe_at_a_time(world: Path) -> None:
    run("--memory", "0")
    assert len(list(Path("runs/one").glob("metrics*.csv"))) == 4


def test_processes_take_the_passes_of_the_first(tmp_path: Path) -> None:
    ids = ["a", "b", "c"]
    assert settle(tmp_path, ids, lambda: [[2], [0, 1]], asked=False, helper=False) == [[2], [0, 1]]
    for asked in (False, True):
        assert settle(tmp_path, ids, lambda: [[0, 1, 2]], asked=asked, helper=True) == [[2], [0, 1]]
    for damaged in ("", "[[0]]", '[["a"], ["b"]]', '[["a", "b", "c", "c"]]', "7"):
        (tmp_path / PASSES).write_text(damaged)
        assert settle(tmp_path, ids, lambda: [[0, 1, 2]], asked=False, helper=False) == [[0, 1, 2]]
        assert json.loads((tmp_path / PASSES).read_text()) == [ids]


def test_an_interrupted_training_says_so_and_goes_on(world: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    step = ProbeBank.training_step
    monkeypatch.setattr(probes.training.fit, "SAVE_SECONDS", -1.0)

    def interrupted(self: ProbeBank, batch: object, index: int) -> object:
        if index == 15:
            raise KeyboardInterrupt
        return step(self, batch, index)  # type: ignore[arg-type]

    with monkeypatch.context() as patch:
        patch.setattr(ProbeBank, "training_step", interrupted)
        assert run("--epochs", "8") == 130  # what a shell says of Ctrl-C
    assert json.loads(Path("runs/.one.part/status.json").read_text())["state"] == "interrupted"
    assert steps_of(monkeypatch, "--epochs", "8") == 10


def test_work_without_progress_is_a_sign_of_life(world: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    beats: list[str] = []
    monkeypatch.setattr(Meter, "alive", lambda self: beats.append(self._known["phase"]))
    run()
    assert beats.count("train") == 10 + 4 * 2  # steps, and batches of four validations
    assert beats.count("evaluate") == 8  # scenes, of one tap


def test_a_run_that_another_process_has_just_made_is_not_made_again(
    world: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run()
    monkeypatch.setattr("probes.plan.existing_run", lambda _: None)  # as it was when this process looked
    with pytest.raises(RunExistsError, match="another process has just made this run"):
        run()
    assert not Path("runs/.one.part").exists()


def test_two_processes_write_one_table(world: Path, tmp_path: Path) -> None:
    """Of the mean over both, and of all clips; and in passes that both agree on."""
    command = [sys.executable, "-m", "probes.train", *ARGUMENTS, "--task", "tagging", "--epochs", "8"]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path(__file__).parents[2])}
    done = subprocess.run(
        [*command, "--devices", "2", "--memory", "0.0001", "--out", str(tmp_path / "shared")],
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    run("--task", "tagging", "--epochs", "8", "--memory", "0.0001", out=str(tmp_path / "alone"))
    for table in ("metrics.csv", "metrics-2.csv"):
        texts = ((tmp_path / name / table).read_text() for name in ("shared", "alone"))
        lines, others = (list(csv.DictReader(text.splitlines())) for text in texts)
        assert [(line["step"], line["clips"]) for line in lines] == [("10", "40"), ("20", "80")]
        for line, other in zip(lines, others, strict=True):
            assert float(line["loss"]) == pytest.approx(float(other["loss"]), rel=1e-4)


def test_a_batch_that_is_not_full_is_not_shared(world: Path) -> None:
    with pytest.raises(ProbesError, match="1 training clips do not fill a batch of 4"):
        run("--limit", "1", "--epochs", "1", "--devices", "2")
    assert not Path("runs").exists()


def test_a_probe_that_diverges_is_given_up_alone(world: Path, caplog: pytest.LogCaptureFixture) -> None:
    run("--learning-rate", "0.01", "--learning-rate", "1e30", out="runs/both")
    run("--learning-rate", "0.01", out="runs/one")
    assert "the loss became" in caplog.text
    lines = Path("runs/both/search.csv").read_text().splitlines()[1:]
    lost = [line for line in lines if "lr1e+30" in line]
    assert lost
    assert all(line.split(",")[1] == "inf" and line.endswith(",0") for line in lost)
    assert same_weights("runs/both", "runs/one")

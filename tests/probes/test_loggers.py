"""Losses also go where they are asked to go; what is not installed is said before anything is trained."""

from __future__ import annotations

import sys
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from probes.errors import ProbesError
from probes.train import app

ARGUMENTS = ["--features", "store/toy", "--views", "3", "--device", "cpu", "--task", "depth", "--epochs", "4"]
TAP = "blocks.0"


def run(*arguments: str) -> None:
    app([*ARGUMENTS, "--taps", TAP, "--learning-rate", "0.01", *arguments], standalone_mode=False)


def pretend(monkeypatch: pytest.MonkeyPatch, name: str, **members: Any) -> None:
    """A package of that name that is there, with these members."""
    module = ModuleType(name)
    module.__spec__ = ModuleSpec(name, None)
    for member, value in members.items():
        setattr(module, member, value)
    monkeypatch.setitem(sys.modules, name, module)


def test_trackio_gets_every_line_and_is_closed(world: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    begun: list[dict[str, Any]] = []
    said: list[tuple[int, dict[str, float]]] = []
    closed: list[bool] = []
    pretend(
        monkeypatch,
        "trackio",
        init=lambda **options: begun.append(options),
        log=lambda metrics, step: said.append((step, metrics)),
        finish=lambda: closed.append(True),
    )
    run("--logger", "trackio")
    assert [options["name"] for options in begun] == ["toy-world"]
    assert begun[0]["config"]["tasks"] == ["depth"]
    probe = f"depth/{TAP}/linear/lr0.01/wd0.01/seed0"
    losses = {step: metrics[f"loss/{probe}"] for step, metrics in said if f"loss/{probe}" in metrics}
    assert sorted(losses) == [10]
    assert sorted(step for step, metrics in said if f"val_loss/{probe}" in metrics) == [3, 5, 8, 10]
    assert closed == [True]
    assert begun[0]["resume"] == "never"
    run("--logger", "trackio", "--memory", "0", "--learning-rate", "0.001", "--out", "runs/passes")
    assert [options["resume"] for options in begun[1:]] == [
        "never",
        *["allow"] * 3,
    ]  # of four passes, which are one run
    assert len(closed) == 5


def test_tensorboard_gets_a_file(world: Path) -> None:
    pytest.importorskip("tensorboard")
    run("--logger", "tensorboard")
    assert list(Path("runs/.tensorboard/toy-world").glob("events.*"))


def test_what_is_not_installed_is_named(world: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("probes.training.loggers.find_spec", lambda _: None)
    with pytest.raises(ProbesError, match=r"the package wandb is not installed\. Get it: pip install wandb"):
        run("--logger", "wandb")
    assert not Path("runs").exists()

"""`python -m benchmarks`: what fails is listed, and the rest goes on."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

import benchmarks.__main__ as command
from benchmarks import suite

PRINTING = "tests.benchmarks.printing"
REACHED = {"value": 2.0, "goal": ">= 1", "reached": True}
MISSED = {"value": 0.5, "goal": ">= 1", "reached": False}
FOUND: dict[str, dict[str, Any]] = {
    "benchmarks.store": {"result": {"machine": "m", "rounds": 3, "27 MB": {"clips": 4, "speed": REACHED, "ms": 7}}},
    "benchmarks.extract": {"failed": "exit status 1\nout of memory"},
    "benchmarks.growth": {"result": {"open": {"slope": MISSED, "sizes": [1, 2], "cpu_ms": [3.0, 4.0]}}},
}


@pytest.fixture
def results(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    def measured(module: str, options: Sequence[str], longest: float) -> dict[str, Any]:
        return FOUND[module]

    monkeypatch.setattr(suite, "measure", measured)
    monkeypatch.setattr(command, "RESULTS", tmp_path / "results")
    return tmp_path / "results"


def test_a_benchmark_that_fails_is_listed_and_the_rest_goes_on(
    results: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command.main(["store", "extract", "growth"]) == 1
    said = capsys.readouterr()
    document = json.loads(said.out)
    assert list(document["benchmarks"]) == ["store", "extract", "growth"]
    assert document["failed"] == ["extract"]
    assert "extract failed: exit status 1\nout of memory" in said.err
    assert document["goals"] == {"reached": 1, "of": 2}
    (kept,) = results.iterdir()
    assert json.loads(kept.read_text()) == document
    assert kept.name.startswith(document["created"][:10])


def test_a_goal_that_is_missed_is_no_failure(results: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert command.main(["growth"]) == 0
    rows = [line for line in capsys.readouterr().err.splitlines() if "growth / open / slope" in line]
    assert len(rows) == 1
    assert all(part in rows[0] for part in ("0.5", ">= 1", "no"))


def test_results_of_one_day_do_not_replace_each_other(results: Path) -> None:
    for _ in range(3):
        command.main(["store"])
    first, *others = sorted(results.iterdir(), key=lambda path: len(path.name))
    assert sorted(path.name for path in others) == [f"{first.stem}-{k}.json" for k in (2, 3)]


def test_what_ended_is_kept_when_the_rest_is_interrupted(results: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def measured(module: str, options: Sequence[str], longest: float) -> dict[str, Any]:
        if module == "benchmarks.growth":
            raise KeyboardInterrupt
        return FOUND[module]

    monkeypatch.setattr(suite, "measure", measured)
    with pytest.raises(KeyboardInterrupt):
        command.main(["store", "growth"])
    (kept,) = results.iterdir()
    document = json.loads(kept.read_text())
    assert list(document["benchmarks"]) == ["store"]
    assert document["goals"] == {"reached": 1, "of": 1}


def test_one_is_measured_again_in_the_place_of_what_failed(results: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    command.main(["store", "extract"])
    (kept,) = results.iterdir()
    before = json.loads(kept.read_text())
    mended = {"result": {"speed": REACHED}}
    monkeypatch.setattr(suite, "measure", lambda module, options, longest: mended)
    assert command.main(["extract", "--into", str(kept)]) == 0
    after = json.loads(kept.read_text())
    assert (after["failed"], after["goals"]) == ([], {"reached": 2, "of": 2})
    assert after["benchmarks"]["store"] == before["benchmarks"]["store"]
    assert after["benchmarks"]["extract"]["again"]["commit"] == before["machine"]["commit"]


def test_numbers_of_two_machines_do_not_stand_in_one_file(results: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command.main(["store"])
    (kept,) = results.iterdir()
    document = json.loads(kept.read_text())
    document["machine"]["cpu"] = "another"
    kept.write_text(json.dumps(document))
    with pytest.raises(SystemExit):
        command.main(["store", "--into", str(kept)])
    assert "its cpu differ" in capsys.readouterr().err
    assert json.loads(kept.read_text()) == document


@pytest.mark.parametrize("asked", [[], ["store", "--quick"], ["store", "--out", "x"]])
def test_what_is_replaced_is_named(asked: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        command.main([*asked, "--into", str(tmp_path / "x.json")])
    assert "name benchmarks" in capsys.readouterr().err


def test_a_trial_is_kept_only_where_it_is_asked_for(
    results: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command.main(["store", "--quick"])
    assert not results.exists()
    command.main(["store", "--quick", "--out", str(tmp_path / "there.json")])
    assert json.loads((tmp_path / "there.json").read_text())["quick"] is True
    assert "a trial: the numbers mean nothing" in " ".join(capsys.readouterr().err.split())


@pytest.mark.parametrize(("asked", "said"), [(["stor"], "no benchmark stor"), (["--folder", "/no/such"], "make it")])
def test_what_is_not_there_is_said(asked: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as error:
        command.main(asked)
    assert error.value.code == 2
    assert said in capsys.readouterr().err


def test_all_benchmarks_are_modules_that_take_their_options() -> None:
    for name, options in suite.QUICK.items():
        source = (Path(suite.__file__).parent / f"{name}.py").read_text()
        for option in [*(each for each in options if each.startswith("--")), "--folder"]:
            assert option in source or name == "evaluation", f"{name} does not take {option}"


def test_numbers_are_told_from_settings() -> None:
    document = {"benchmarks": {name.partition(".")[2]: found for name, found in FOUND.items()}}
    assert [(each.name, each.value, each.goal, each.reached) for each in suite.numbers_of(document)] == [
        ("store / 27 MB / speed", 2.0, ">= 1", True),
        ("store / 27 MB / ms", 7, None, None),
        ("growth / open / slope", 0.5, ">= 1", False),
    ]


def test_a_process_of_its_own_gets_options_and_gives_json() -> None:
    found = suite.measure(PRINTING, ["--rounds", "1"], 60)
    assert found["result"]["options"] == ["--rounds", "1"]


@pytest.mark.parametrize(
    ("what", "why"),
    [
        ("fail", "exit status 1\nthe disk is full"),
        ("nonsense", "printed no JSON"),
        ("die", "ended by SIGKILL; where memory runs out"),
    ],
)
def test_what_went_wrong_is_told(what: str, why: str) -> None:
    found = suite.measure(PRINTING, [what], 60)
    assert list(found) == ["failed"]
    assert found["failed"].startswith(why)


def test_a_benchmark_that_hangs_is_ended_with_all_that_it_started(tmp_path: Path) -> None:
    file = tmp_path / "child"
    found = suite.measure(PRINTING, ["hang", str(file)], 5)
    assert found["failed"].startswith("no end after 5 s")
    child = int(file.read_text())
    until = time.monotonic() + 10
    while _runs(child) and time.monotonic() < until:
        time.sleep(0.05)
    assert not _runs(child)


def _runs(process: int) -> bool:
    try:
        os.kill(process, 0)
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (ProcessLookupError, FileNotFoundError):
        return False

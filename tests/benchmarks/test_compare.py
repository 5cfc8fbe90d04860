"""What changed between two results, and what they were measured on."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import benchmarks.__main__ as command
from benchmarks.compare import changes, moved
from benchmarks.machine import Ticks, describe, others, slug

MACHINE = {"cpu": "Some CPU (TM) 3.1", "cores": 2, "gpus": [], "busy": False, "commit": "abc+"}


def document(**numbers: Any) -> dict[str, Any]:
    return {"machine": MACHINE, "benchmarks": {"store": {"result": numbers}}}


def goal(value: float, least: float) -> dict[str, Any]:
    return {"value": value, "goal": f">= {least:g}", "reached": value >= least}


BEFORE = document(speed=goal(4, 3), same=goal(1.0, 3), open_ms=50.0, ms={"read": 3.0}, zero=0.0, gone=1.0)
AFTER = document(speed=goal(2, 3), same=goal(1.05, 3), open_ms=99.0, ms={"read": 9.0}, zero=0.0, new=1.0)


def test_ratios_that_both_have_are_compared() -> None:
    found = changes(BEFORE, AFTER)
    assert [(each.name, each.factor) for each in found] == [
        ("store / speed", 0.5),
        ("store / same", 1.05),
        ("store / zero", None),
    ]
    assert [moved(each) for each in found] == [True, False, False]
    names = [each.name for each in changes(BEFORE, AFTER, everything=True)]
    assert {"store / open_ms", "store / ms / read"} < set(names)


def test_a_goal_that_was_lost_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name, each in (("a", BEFORE), ("b", AFTER)):
        (tmp_path / f"{name}.json").write_text(json.dumps(each))
    files = [str(tmp_path / "a.json"), str(tmp_path / "b.json")]
    assert command.main(["compare", *files]) == 0
    said = capsys.readouterr().err
    assert ">= 3: lost" in said
    assert "store / same" not in said
    command.main(["compare", *files, "--json"])
    assert json.loads(capsys.readouterr().out) == [{"name": "store / speed", "before": 4, "after": 2, "factor": 0.5}]


@pytest.mark.parametrize(
    ("content", "why"), [("{", "cannot be read"), ("[]", "no result of"), (None, "cannot be read")]
)
def test_files_that_are_no_results_are_refused(
    tmp_path: Path, content: str | None, why: str, capsys: pytest.CaptureFixture[str]
) -> None:
    if content is not None:
        (tmp_path / "a.json").write_text(content)
    with pytest.raises(SystemExit):
        command.main(["compare", str(tmp_path / "a.json"), str(tmp_path / "a.json")])
    assert why in capsys.readouterr().err


def test_the_machine_is_described(tmp_path: Path) -> None:
    found = json.loads(json.dumps(describe(tmp_path)))
    assert found["cores"] >= 1
    assert found["memory_gb"] > 0.1
    assert found["cpu"]
    assert found["libraries"]["torch"]
    assert found["busy"] is (found["load"] > 0.2 * found["cores"])


def test_a_name_for_files_is_plain() -> None:
    assert slug(MACHINE) == "some-cpu-tm-3-1-2-cores"
    assert slug(MACHINE | {"gpus": ["NVIDIA X/1", "NVIDIA X/1"]}) == "some-cpu-tm-3-1-2-cores-nvidia-x-1"


def test_what_others_used_is_what_neither_idled_nor_was_ours() -> None:
    assert others(Ticks(100, 10, 0), Ticks(300, 60, 50)) == 0.5
    assert others(Ticks(100, 10, 0), Ticks(300, 60, 500)) == 0
    assert others(None, Ticks(300, 60, 0)) is None
    assert others(Ticks(300, 60, 0), Ticks(300, 60, 0)) is None

"""`docs/results.md`: its examples run, and its table of columns is the code's."""

from __future__ import annotations

import re
import shlex
from glob import glob
from pathlib import Path

import pytest

import evaluate
from evaluate.__main__ import main
from evaluate.results.columns import COLUMNS, Level

DOCUMENT = (Path(evaluate.__file__).parents[1] / "docs" / "results.md").read_text("utf-8")


def _blocks(language: str) -> list[str]:
    found = re.findall(r"^```(\w*)\n(.*?)^```$", DOCUMENT, re.MULTILINE | re.DOTALL)
    return [text for name, text in found if name == language]


def _as_a_shell_does(line: str) -> list[str]:
    return [word for part in shlex.split(line) for word in sorted(glob(part)) or [part]]


@pytest.fixture
def here(runs_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "runs").symlink_to(runs_root)
    monkeypatch.chdir(tmp_path)


def test_the_python_runs(here: None):
    (code,) = _blocks("python")
    names: dict = {}
    exec(code, names)
    assert len(names["hard"]) > 0
    assert set(names["scores"].task) == {"depth", "normals"}
    assert "/rooms/standard/depth@1" in names["tree"].groups


def test_the_commands_run(here: None, capsys: pytest.CaptureFixture[str]):
    lines = [line for block in _blocks("") for line in block.splitlines()]
    assert len(lines) == 7
    for line in lines:
        words = _as_a_shell_does(line)
        assert words[:3] == ["python", "-m", "evaluate"]
        with pytest.raises(SystemExit) as stop:
            main(words[3:])
        assert stop.value.code == 0, line
        assert "No row" not in capsys.readouterr().out


def test_every_column_is_documented():
    rows = re.findall(r"^\| `(\w+)` \| (\w+) \| (\w+) \| (.*) \|$", DOCUMENT, re.MULTILINE)
    found = {
        level: {name: (kind, said) for name, kind, where, said in rows if where in ("both", level.value)}
        for level in Level
    }
    assert found == {level: {name: tuple(column) for name, column in COLUMNS[level].items()} for level in Level}

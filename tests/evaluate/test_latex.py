"""LaTeX tables: what they hold, and that TeX can read it."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np

from evaluate.aspects import ASPECTS
from evaluate.latex import escape, write_latex
from evaluate.table import build, find_runs
from tests.evaluate.imagined_runs import run_info, write_run


def test_every_number_stands_in_its_row(runs_root: Path, tmp_path: Path):
    axes = build(find_runs([str(runs_root / "*")]), resamples=20)
    write_latex(axes, tmp_path / "t.tex")
    tables = re.findall(r"\\begin\{table\}.*?\\end\{table\}", (tmp_path / "t.tex").read_text("utf-8"), flags=re.DOTALL)
    assert len(tables) == len(ASPECTS)
    for table, tasks in zip(tables, ASPECTS.values(), strict=True):
        rows = [line for line in table.splitlines() if " & " in line]
        assert all(line.count("&") == len(tasks) for line in rows)
        for task in tasks:
            axis = next(axis for axis in axes if axis.task == task)
            metric = axis.protocol.metrics[axis.protocol.primary]
            column = tasks.index(task) + 1
            for model in axis.models:
                row = next(line for line in rows if line.startswith(f"{escape(model.label)} &"))
                cell = row.removesuffix(r" \\").split(" & ")[column]
                value = metric.format(axis.interval(model.best).value, unit=False)
                assert cell == (rf"\textbf{{{value}}}" if model is axis.leader else value)
            assert axis.protocol.id in table


def test_what_tex_would_take_for_a_command_is_escaped(tmp_path: Path):
    evil = r"a_b & 50 % \input{x} $y$ #1 ~^"
    write_run(tmp_path / "r", run_info("r", model=evil, tasks=("depth",)), scenes=(1, 2), size=24)
    write_latex(build(find_runs([str(tmp_path / "r")]), resamples=20), tmp_path / "t.tex")
    lines = (tmp_path / "t.tex").read_text("utf-8").splitlines()
    (row,) = (line for line in lines if line.startswith("a"))
    assert row.startswith(r"a\_b \& 50 \% \textbackslash{}input\{x\} \$y\$ \#1 \textasciitilde{}\textasciicircum{} & ")


def test_braces_are_closed_environments_nest_and_rows_have_the_columns_of_their_table(runs_root: Path, tmp_path: Path):
    write_latex(build(find_runs([str(runs_root / "*")]), resamples=20), tmp_path / "t.tex")
    text = re.sub(r"(?m)^%.*$", "", (tmp_path / "t.tex").read_text("utf-8"))
    bare = re.sub(r"\\\\|\\[{}&%$#_]", "", text)
    depth = np.cumsum([(letter == "{") - (letter == "}") for letter in bare])
    assert depth.min() == 0
    assert depth[-1] == 0
    assert bare.count("$") % 2 == 0
    assert text.isascii()
    open_: list[str] = []
    for kind, name in re.findall(r"\\(begin|end)\{(\w+)\}", text):
        assert kind == "begin" or open_.pop() == name
        open_ += [name] * (kind == "begin")
    assert open_ == []
    for columns, body in re.findall(r"\\begin\{tabular\}\{([lr]+)\}(.*?)\\end\{tabular\}", text, flags=re.DOTALL):
        rows = [row for row in body.splitlines() if row.rstrip().endswith(("\\\\", "\\\\[2pt]"))]
        assert rows
        assert {len(re.findall(r"(?<!\\)&", row)) + 1 for row in rows} == {len(columns)}

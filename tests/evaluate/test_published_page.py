"""Measured beside published in the report: on the page, in Markdown, and nowhere where rules or data differ."""

from __future__ import annotations

import csv
import re
from pathlib import Path

import pytest

from evaluate.export import write_markdown
from evaluate.published.found import comparisons
from evaluate.report.files import write
from evaluate.report.page import render
from evaluate.report.published import beside_published
from evaluate.table import build
from tests.evaluate.test_published import _run


def _axes(*runs):
    return build(list(runs), resamples=100)


def _section(html: str) -> str:
    found = re.search(r'<section id="published">.*?</section>', html, flags=re.DOTALL)
    return " ".join(found[0].split()) if found else ""


def test_a_page_says_what_was_measured_beside_what_was_published_and_which_kind_is_ahead(tmp_path: Path):
    runs = [_run(tmp_path, "wan2.1-t2v-14b", "vgm", 0.2), _run(tmp_path, "qwen2.5-vl-7b", "vlm", 0.4)]
    axes = _axes(*runs)
    (paper, *_) = beside_published(axes)
    assert [column.metric for column in paper.columns] == ["point_error"]
    assert [row[1] for row in paper.rows] == ["vgm", "vlm"]
    assert paper.rows[0][2][0].measured == "0.200"
    reproduced, rest = paper.orders
    assert reproduced.state == "yes"
    assert "reproduced, clear of zero" in reproduced.verdict
    assert rest.verdict.startswith("Cannot be said of AP mid, mAP")
    section = _section(render(axes))
    assert "2 of 144 published numbers" in section
    assert "published 0.119" in section
    assert reproduced.verdict in section


def test_the_other_order_is_not_reproduced(tmp_path: Path):
    axes = _axes(_run(tmp_path, "wan2.1-t2v-14b", "vgm", 0.5), _run(tmp_path, "qwen2.5-vl-7b", "vlm", 0.3))
    assert beside_published(axes)[0].orders[0].state == "no"
    assert "not reproduced" in _section(render(axes))


def test_the_same_rules_on_other_data_are_listed_and_not_compared(tmp_path: Path):
    axes = _axes(_run(tmp_path, "wan2.1-t2v-14b", "vgm", 0.2, dataset="rooms"))
    (paper,) = beside_published(axes)
    assert (paper.rows, paper.orders) == ([], [])
    section = _section(render(axes))
    assert "0 of 144 published numbers" in section
    assert "points on rooms" in section
    assert "<table" not in section


def test_other_rules_have_no_such_section(tmp_path: Path):
    axes = _axes(_run(tmp_path, "wan2.1-t2v-14b", "vgm", 0.2, family="standard"))
    assert comparisons(axes) == []
    assert _section(render(axes)) == ""


def test_markdown_has_the_same_numbers(tmp_path: Path):
    write_markdown(_axes(_run(tmp_path, "wan2.1-t2v-14b", "vgm", 0.2)), tmp_path / "r.md")
    text = (tmp_path / "r.md").read_text("utf-8")
    assert "## Beside arXiv:2605.28132" in text
    (row,) = (line for line in text.splitlines() if line.startswith("| WAN2.1-T2V-14B |") and "0.119" in line)
    assert "| 0.200 / 0.119 (+0.081) |" in row
    assert row.count("|") == 10


def test_tables_for_programs_and_papers_have_the_same_numbers(tmp_path: Path):
    run = _run(tmp_path, "wan2.1-t2v-14b", "vgm", 0.2)
    names = {file.name for file in write(_axes(run), tmp_path / "out", {"csv", "latex"})}
    assert names == {"results.csv", "results.tex"} | {
        f"comparison-{table}.{ending}" for table in ("paper", "vidfm3d") for ending in ("csv", "tex")
    }
    with (tmp_path / "out" / "comparison-paper.csv").open(encoding="utf-8", newline="") as stream:
        rows = list(csv.DictReader(stream))
    (measured,) = (row for row in rows if row["measured"])
    assert (measured["printed_model"], measured["published"], measured["head"]) == ("WAN2.1-T2V-14B", "0.119", "linear")
    assert float(measured["measured"]) == pytest.approx(0.2)
    lines = (tmp_path / "out" / "comparison-paper.tex").read_text("utf-8").splitlines()
    assert r"WAN2.1-T2V-14B & 0.200 \\" in lines
    assert r" & \scriptsize 0.119 (+0.081) \\[2pt]" in lines
    bare = "".join(line for line in lines if not line.startswith("%"))
    assert bare.isascii()
    assert bare.count("{") == bare.count("}")


def test_other_rules_write_no_comparison(tmp_path: Path):
    run = _run(tmp_path, "wan2.1-t2v-14b", "vgm", 0.2, family="standard")
    assert [file.name for file in write(_axes(run), tmp_path / "out", {"csv"})] == ["results.csv"]

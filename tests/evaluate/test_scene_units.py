"""Lengths of scenes that have a unit of their own are never called metres."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from evaluate.protocols import TASKS, get_protocol, protocol_of
from evaluate.records import Run
from evaluate.report.page import render
from evaluate.report.pictures import panels
from evaluate.results.frames import records_of
from evaluate.sentences import notes
from evaluate.table import build
from tests.evaluate.imagined_examples import kept
from tests.evaluate.imagined_rooms import room
from tests.evaluate.imagined_runs import CLASS_LISTS, run_info, write_run

METRES = re.compile(r"\d m\b|\(m\)|metre|\bcm\b|\d cm")


@pytest.mark.parametrize("family", ["standard", "probe3d-2404.08636"])
def test_metrics_speak_of_scene_units_and_have_the_same_values(family: str):
    for task in TASKS if family == "standard" else ("depth", "normals", "correspondence"):
        known = get_protocol(task, CLASS_LISTS.get(task, ()), family)
        own = protocol_of(known.id, known.classes, "1")
        assert isinstance(own, type(known))
        assert (own.id, list(own.metrics), own.dims) == (known.id, list(known.metrics), known.dims)
        for name, info in own.metrics.items():
            assert not METRES.search(f"{info.title} {info.description} 1 {info.unit}"), name
            assert info.higher_is_better is known.metrics[name].higher_is_better
        assert protocol_of(known.id, known.classes, "m").metrics is known.metrics
        assert protocol_of(known.id, known.classes, None).metrics is known.metrics


def test_the_page_says_scene_units(tmp_path: Path):
    tasks = ("depth", "camera", "correspondence")
    pages, runs = {}, {}
    for unit in ("m", "1"):
        run = Run.open(write_run(tmp_path / unit, run_info("net", tasks=tasks, length_unit=unit)))
        axes = build([run], resamples=20)
        pages[unit], runs[unit] = render(axes), run
        assert any("no metres" in note for note in notes(axes)) is (unit == "1")
    text = re.sub(r"<(script|style).*?</\1>|data:[^\"]*|since the data has no metres", "", pages["1"], flags=re.DOTALL)
    assert not METRES.search(text), METRES.search(text)
    assert "scene units" in text
    assert METRES.search(re.sub(r"<(script|style).*?</\1>|data:[^\"]*", "", pages["m"], flags=re.DOTALL))
    assert set(records_of(runs["1"]).unit) == {"", "scene units", "%", "°"}


@pytest.mark.parametrize("task", ["depth", "points", "camera"])
def test_pictures_are_measured_in_the_unit(task: str):
    item = kept(task, "p", "s", room(0), 0.1)
    for unit in ("m", "scene units"):
        drawn = panels(item, [], unit)
        assert drawn is not None
        said = " ".join([*(tick for bar in drawn.bars for tick in bar.ticks), *drawn.drawings])
        assert re.search(rf"\d {unit}\b", said)
        assert bool(METRES.search(said)) is (unit == "m")

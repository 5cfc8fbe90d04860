"""Figures: drawn only where the runs hold what they need, and right where they are drawn."""

from __future__ import annotations

import re
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from evaluate.figures import FIGURES, draw, looks
from evaluate.figures.scenes import scene_ticks
from evaluate.figures.style import HUES, apart, variables
from evaluate.records import Run, RunWriter
from evaluate.report.page import render
from evaluate.scenes import ranked
from evaluate.schema import RunInfo
from evaluate.sizes import parameters, readable, series
from evaluate.table import Axis, build, find_runs
from tests.evaluate.imagined_runs import run_info, write_run

PLANE = tuple(f"blocks.{site}@t{noise}" for site in (0, 1, 2) for noise in (100, 502))


@pytest.fixture(scope="module")
def axes(tmp_path_factory: pytest.TempPathFactory) -> list[Axis]:
    """Two sizes of one series with layers and noise, a fusion, a twin and a control, on two tasks."""
    root = tmp_path_factory.mktemp("figures")
    for model, kind, untrained, taps, error in (
        ("gen-2b", "vgm", False, PLANE, 0.2),
        ("gen-14b", "vgm", False, PLANE, 0.1),
        ("gen-14b", "vgm", True, PLANE, 0.6),
        ("gen-14b-see-8b", "fusion", False, ("a", "b"), 0.1),
        ("pixels", "control", False, ("pixels",), 0.7),
    ):
        name = f"{model}{'-untrained' * untrained}"
        tasks = ("segmentation", "depth", "camera")
        info = run_info(name, model=model, kind=kind, untrained=untrained, taps=taps, tasks=tasks)
        probes = [probe.model_copy(update={"depth": _depth(probe.site)}) for probe in info.probes]
        write_run(root / name, info.model_copy(update={"probes": probes}), best_error=error, scenes=(1, 4), size=24)
    return build(find_runs([str(root / "*")]), resamples=50)


def _depth(site: str) -> int:
    return int(site.partition(".")[2] or 0)


def _nothing(array: np.ndarray) -> np.ndarray:
    """Return statistics of a scene in which there was nothing to measure."""
    return np.full_like(array, np.nan) if np.issubdtype(array.dtype, np.floating) else np.zeros_like(array)


def _words(svg: str) -> list[str]:
    return [" ".join(text.split()) for text in re.findall(r"<text[^>]*>([^<]+)</text>", svg)]


def test_everything_is_drawn_that_the_runs_hold(axes: list[Axis]):
    drawn = list(draw(axes))
    assert {figure.kind for figure in drawn} == set(FIGURES)
    assert len({figure.key for figure in drawn}) == len(drawn)


def test_nothing_is_drawn_that_they_do_not_hold(tmp_path: Path):
    info = run_info("r", tasks=("camera",), taps=("only",))
    write_run(tmp_path / "r", info, scenes=(1, 1), size=24)
    assert list(draw(build(find_runs([str(tmp_path / "r")]), resamples=20))) == []


def test_figures_are_the_same_every_time(axes: list[Axis]):
    one, two = ([figure.svg() for figure in draw(axes)] for _ in range(2))
    assert one == two


def test_a_heat_map_has_every_tap_of_every_model_with_layers_and_noise(axes: list[Axis]):
    (heat,) = (figure for figure in draw(axes) if figure.key == "noise-rooms-depth")
    words = _words(heat.svg())
    depth = next(axis for axis in axes if axis.task == "depth")
    metric = depth.protocol.metrics[depth.protocol.primary]
    for model in depth.models:
        if model.info.model.startswith("gen-") and model.info.kind == "vgm" and not model.is_control:
            assert model.label in words
            for tap in model.taps:
                assert metric.format(depth.interval(tap).value, unit=False).removeprefix("0") in words
    assert "gen-14b (untrained)" not in words


def test_scaling_joins_a_series_and_names_its_sizes(axes: list[Axis]):
    (curve,) = (figure for figure in draw(axes) if figure.key == "scaling-rooms-depth")
    words = _words(curve.svg())
    assert {"2 B", "22 B", "gen", "gen-see"} <= set(words)
    assert "pixels" not in words


def test_a_model_of_unknown_size_is_named_in_the_caption(axes: list[Axis], tmp_path: Path):
    for model, error in (("gen-2b", 0.2), ("gen-14b", 0.1), ("odd", 0.3)):
        write_run(tmp_path / model, run_info(model, model=model, tasks=("depth",)), best_error=error, size=24)
    found = build(find_runs([str(tmp_path / "*")]), resamples=20)
    (curve,) = (figure for figure in draw(found) if figure.kind == "scaling")
    assert "not drawn: odd" in curve.caption
    assert "odd" not in _words(curve.svg())


def test_a_model_that_measured_nothing_spoils_no_figure_of_others(tmp_path: Path):
    paths = {}
    for model, error in (("gen-2b", 0.2), ("gen-14b", 0.1), ("lost-5b", 0.3)):
        info = run_info(model, model=model, kind="vgm", taps=PLANE, tasks=("segmentation", "depth", "camera"))
        probes = [probe.model_copy(update={"depth": _depth(probe.site)}) for probe in info.probes]
        info = info.model_copy(update={"probes": probes})
        paths[model] = write_run(tmp_path / model, info, best_error=error, scenes=(1, 3), size=24)
    scored = Run.open(paths["lost-5b"])
    with RunWriter(paths["lost-5b"], scored.info, replace=True) as writer:
        for probe in scored.info.probes:
            for split in ("val", "test"):
                scenes, statistics = scored.statistics(probe.task, probe.id, split)
                for index, scene in enumerate(scenes):
                    row = {name: array[index] for name, array in statistics.items()}
                    lost = {name: _nothing(array) for name, array in row.items()}
                    writer.add(probe.id, scene, split, lost if probe.task == "depth" else row)
    axes = build(find_runs([str(tmp_path / "*")]), resamples=20)
    drawn = {figure.key: figure for figure in draw(axes)}
    assert "radar-rooms" not in drawn, "a polygon needs all its corners"
    assert "lost-5b" not in _words(drawn["complementarity-rooms-segmentation-depth"].svg())
    assert "lost-5b" in _words(drawn["complementarity-rooms-segmentation-camera"].svg())
    assert "score and not drawn: lost-5b" in drawn["scaling-rooms-depth"].caption
    assert "n/a" in _words(drawn["noise-rooms-depth"].svg())
    html = render(axes, figures=list(drawn.values()))
    assert "n/a" in html
    assert "NaN" not in html.replace("Number.isNaN", "")
    assert not re.search(r"\bnan\b", html)


def test_files_are_whole_pictures_with_a_legend(axes: list[Axis], tmp_path: Path):
    (curve,) = (figure for figure in draw(axes) if figure.key == "layers-rooms-camera")
    svg, png = curve.write(tmp_path, ["svg", "png"])
    assert {"gen-14b", "gen-14b (untrained)", "gen-2b"} <= set(_words(svg.read_text("utf-8")))
    assert ElementTree.parse(svg).getroot().tag.endswith("svg")
    assert "var(--" not in svg.read_text("utf-8"), "a file has no page to take its colours from"
    pixels = np.asarray(Image.open(png).convert("RGB"))
    assert (pixels[0, 0] == 255).all()
    assert pixels.std() > 10


def test_hue_is_of_the_kind_and_twins_share_it(axes: list[Axis]):
    found = looks(axes)
    assert set(found) == {"gen-2b", "gen-14b", "gen-14b-see-8b", "pixels"}
    assert found["gen-14b"].variable == "--vgm-0"
    assert found["gen-14b"].colour == HUES["vgm"]
    assert found["gen-2b"].variable == "--vgm-1"
    assert found["gen-14b-see-8b"].variable == "--fusion-0"
    assert found["pixels"].variable == "--muted"
    curve = next(figure for figure in draw(axes) if figure.kind == "curve").svg()
    assert "var(--vgm-0)" in curve
    assert not re.search("#(?:d55e00|111112|6b6b6e)", curve)
    assert set(variables()) == set(variables(dark=True))
    assert len(set(variables().values())) == len(variables())


def test_scenes_go_from_worst_to_best(axes: list[Axis]):
    for axis in axes:
        metric = axis.protocol.metrics[axis.protocol.primary]
        scenes = ranked(axis, axis.leader)
        values = [item.value for item in scenes]
        assert values == sorted(values, reverse=not metric.higher_is_better)
        assert {item.scene for item in scenes} == set(axis.leader.best.scenes)


def test_captions_say_where_a_metric_pools_scenes(axes: list[Axis]):
    said = {axis.task: scene_ticks(axis, axes, looks(axes)) for axis in axes}
    pooled = {task for task, drawn in said.items() if drawn and "pools what is in them" in drawn.caption}
    assert "segmentation" in pooled
    assert "depth" not in pooled


@pytest.mark.parametrize(
    ("model", "kind", "size", "name"),
    [
        ("wan-t2v-14b", "vgm", 14e9, "wan-t2v"),
        ("wan-t2v-1.3b", "vgm", 1.3e9, "wan-t2v"),
        ("qwen2.5-vl-3b", "vlm", 3e9, "qwen2.5-vl"),
        ("vit-86m", "encoder", 86e6, "vit"),
        ("wan-t2v-14b-qwen3-vl-8b-concat", "fusion", 22e9, "wan-t2v-qwen3-vl-concat"),
        ("wan-t2v-14b-qwen3-vl-8b", "vlm", None, "wan-t2v-qwen3-vl"),
        ("dinov2-b14", "encoder", None, "dinov2-b14"),
        ("svd", "vgm", None, "svd"),
        ("pixels-2b", "control", None, "pixels"),
    ],
)
def test_sizes_are_those_that_names_state(model: str, kind: str, size: float | None, name: str):
    info: RunInfo = run_info(model, model=model, kind=kind)
    assert parameters(info) == size
    assert series(info) == name
    if kind != "control":
        assert parameters(info.model_copy(update={"parameters": 1234567})) == 1234567


def test_sizes_are_readable():
    assert [readable(size) for size in (1.3e9, 14e9, 86e6, 14288491584, 999_600_000)] == [
        "1.3 B", "14 B", "86 M", "14.3 B", "1 B",
    ]  # fmt: skip


@given(st.lists(st.floats(-10, 10), min_size=1, max_size=30), st.floats(0.01, 2))
def test_labels_are_set_apart_in_their_order(places: list[float], distance: float):
    found = apart(places, distance)
    order = sorted(range(len(places)), key=lambda k: places[k])
    gaps = np.diff([found[k] for k in order])
    assert (gaps >= distance - 1e-9).all()
    assert np.mean(found) == pytest.approx(np.mean(places), abs=1e-6)
    if all(np.diff(sorted(places)) >= distance):
        assert found == pytest.approx(places, abs=1e-6)

"""The page: whole, self-contained, right in its pictures and clouds, and alive in a browser."""

from __future__ import annotations

import base64
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from evaluate.aspects import ASPECTS
from evaluate.figures import looks
from evaluate.figures.curves import layer_curves
from evaluate.protocols import TASKS
from evaluate.records import Example, Run, RunWriter
from evaluate.report.clouds import cloud, unproject
from evaluate.report.page import render
from evaluate.report.pictures import panels
from evaluate.selectivity import selectivities
from evaluate.table import build, find_runs
from tests.evaluate.imagined_rooms import room
from tests.evaluate.imagined_runs import example, first_view_points, run_info, write_run

VOID = {"meta", "link", "img", "input", "br", "hr", "line", "circle", "path", "use", "rect"}


class _Page(HTMLParser):
    """Checks that elements are closed in order, and gathers ids, links and addresses."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.ids: list[str] = []
        self.links: set[str] = set()
        self.addresses: list[str] = []
        self.text: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in VOID:
            self.open.append(tag)
        for name, value in attrs:
            if name == "id" and value:
                self.ids.append(value)
            if name in ("href", "xlink:href") and value and value.startswith("#"):
                self.links.add(value[1:])
            if name in ("src", "href") and value and not value.startswith("#"):
                self.addresses.append(value)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self.open.pop()

    def handle_endtag(self, tag: str) -> None:
        if tag not in VOID:
            assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] not in ("style", "script"):
            self.text.append(data)


def _parse(html: str) -> _Page:
    page = _Page()
    page.feed(html)
    return page


def _figures(html: str) -> list[str]:
    return re.findall(r"<svg role.*?</svg>", html, flags=re.DOTALL)


@pytest.fixture(scope="module")
def html(runs_root: Path) -> str:
    return render(build(find_runs([str(runs_root / "*")]), resamples=100))


def test_the_page_is_well_formed_and_asks_the_network_for_nothing(html: str):
    page = _parse(html)
    assert page.open == []
    assert len(page.ids) == len(set(page.ids))
    assert page.links <= set(page.ids)
    assert all(address.startswith("data:") for address in page.addresses)
    assert not re.search(r"url\((?!#)", html)
    assert "@import" not in html
    assert not re.search(r"<script[^>]+src", html)
    assert len(html) < 2_000_000


def test_the_page_says_what_the_numbers_say(html: str, runs_root: Path):
    text = " ".join(" ".join(_parse(html).text).split())
    for axis in build(find_runs([str(runs_root / "*")]), resamples=100):
        metric = axis.protocol.metrics[axis.protocol.primary]
        for model in axis.models:
            assert metric.format(axis.interval(model.best).value, unit=False) in text
            assert model.label in text
        assert axis.protocol.id in text
    for words in ("Read this first", "percentile intervals", "targets-0123", "features-net", "python -m probes.train"):
        assert words in text


def test_noise_levels_have_lines_and_names_of_their_own(html: str):
    curve = next(svg for svg in _figures(html) if 'aria-label="depth: AbsRel over depth' in svg)
    words = re.findall(r"<text[^>]*>([^<]+)</text>", curve)
    assert {"t100", "t502", "pixels", "AbsRel ↓"} <= set(words)


def test_every_figure_says_what_it_shows(html: str):
    panels = re.findall(r"<figure class=\"panel.*?</figure>", html, flags=re.DOTALL)
    assert len(panels) == len(_figures(html)) > len(TASKS)
    for figure in panels:
        caption = re.search(r'<p class="caption">(.*?)</p>', figure, flags=re.DOTALL)
        assert caption is not None
        assert len(caption[1]) > 60
        assert "interval" in caption[1].lower()


def test_the_leaderboard_has_a_table_per_aspect_and_a_cell_per_task(html: str):
    tables = re.findall(r'<table class="board.*?</table>', html, flags=re.DOTALL)
    assert len(tables) == len(ASPECTS)
    for table, tasks in zip(tables, ASPECTS.values(), strict=True):
        rows = re.findall(r"<tr class=.*?</tr>", table, flags=re.DOTALL)
        assert len(rows) == 4
        # net-a was also probed untrained: each task has a column for the difference.
        assert all(row.count("<td") == 2 * len(tasks) for row in rows)
        assert table.count('class="best"') == len(tasks)
        assert table.count("minus untrained") == len(tasks)


def test_selectivity_stands_beside_its_task_and_better_sorts_first(html: str, runs_root: Path):
    axes = build(find_runs([str(runs_root / "*")]), resamples=100)
    gains = re.findall(r'data-value="([^"]*)" class="gain[^"]*" title="([^"]*)"', html)
    expected = [one for axis in axes for one in selectivities(axis)]
    assert len(gains) == len(expected) == len(TASKS)
    by_value = {round(float(value), 9): title for value, title in gains}
    for one in expected:
        assert by_value[round(one.gain.value, 9)].endswith("against net-a (untrained)")
        assert one.gain.value > 0


def test_every_run_says_how_its_numbers_were_made(html: str):
    page = _parse(html)
    assert {"run-0", "run-1", "run-2", "run-3"} <= set(page.ids)
    assert {f"run-{number}" for number in range(4)} <= page.links


def test_a_model_that_lacks_a_task_has_no_number_there(tmp_path: Path):
    for name, tasks in (("one", ("depth", "camera")), ("two", ("camera",))):
        write_run(tmp_path / name, run_info(name, model=name, tasks=tasks), scenes=(1, 2), size=24)
    html = render(build(find_runs([str(tmp_path / "*")]), resamples=20))
    assert html.count("not probed") == 1


def test_names_are_shown_as_text_and_never_run(tmp_path: Path):
    evil = "<script>alert(1)</script> & $x_1$"
    run = write_run(tmp_path / "r", run_info("r", model=evil, command=evil, tasks=("depth",)), scenes=(1, 2), size=24)
    html = render(build([Run.open(run)], resamples=20))
    assert "<script>alert" not in html
    assert evil in " ".join(_parse(html).text)


def test_a_page_without_examples_and_classes_has_no_empty_sections(tmp_path: Path):
    info = run_info("r", tasks=("camera",))
    run = write_run(tmp_path / "r", info, scenes=(1, 1), size=24)
    html = render(build([Run.open(run)], resamples=20))
    page = _parse(html)
    assert page.open == []
    assert page.links <= set(page.ids)
    assert "examples" not in page.ids
    assert "classes" not in page.ids
    assert "1 test scene" in " ".join(html.split())


def test_points_lie_where_the_room_is():
    views = room(3, views=3, size=20)
    points = unproject(views.depth.astype(float), views.intrinsics, views.cam_to_world)
    np.testing.assert_allclose(points, first_view_points(views), atol=1e-6)
    # In the first view's own frame, z is its depth.
    np.testing.assert_allclose(points[0, ..., 2], views.depth[0], rtol=1e-6)


def test_packed_clouds_unpack_to_the_points_within_a_step():
    views = room(3, views=2, size=20)
    item = example("depth", "p", "s", views, 0.0, np.random.default_rng(0))
    item = Example(**{**item.__dict__, "arrays": {**item.arrays, "depth_pred": views.depth * np.float32(1.1)}})
    packed = cloud(item, points=500)
    assert packed is not None
    assert packed.points == 500
    truth, guess = (
        (np.frombuffer(base64.b64decode(side), "<u2").reshape(-1, 3) - 32767.0) * packed.step + packed.centre
        for side in (packed.truth, packed.prediction)
    )
    everything = first_view_points(views).reshape(-1, 3)
    away = np.linalg.norm(truth[:, None] - everything[None], axis=-1)
    assert away.min(axis=1).max() < 2 * packed.step
    np.testing.assert_array_equal(
        np.frombuffer(base64.b64decode(packed.colours), np.uint8).reshape(-1, 3),
        views.rgb.reshape(-1, 3)[away.argmin(axis=1)],
    )
    assert np.linalg.norm(guess - truth, axis=1).max() > 0.1
    assert cloud(Example("depth", "s", "test", "p", [0], {"depth": views.depth})) is None


def _pixels(image: str) -> np.ndarray:
    from io import BytesIO

    from PIL import Image

    kind, _, data = image.partition(",")
    assert kind == "data:image/jpeg;base64"
    return np.asarray(Image.open(BytesIO(base64.b64decode(data)))).astype(float)


def test_clusters_take_the_colour_of_their_instance_whatever_their_number():
    views = room(1, views=2, size=64)
    renamed = np.where(views.instance > 0, 40 - views.instance, 0).astype(np.int32)
    arrays = {"rgb": views.rgb, "instance": views.instance, "instance_pred": renamed}
    shown = panels(Example("grouping", "s", "test", "p", [0, 1], arrays), [])
    assert shown is not None
    _, truth, guess = shown.rows
    assert truth.images == guess.images
    ids = [key.name for key in shown.legend if key.name.startswith("instance")]
    assert ids == [f"instance {k}" for k in np.unique(views.instance) if k > 0]


def test_depth_is_shown_on_one_scale_and_its_error_on_another():
    views = room(1, views=2, size=48)
    holes = views.depth.copy()
    holes[:, :8] = 0
    arrays = {"rgb": views.rgb, "depth": holes, "depth_pred": views.depth * np.float32(1.5)}
    shown = panels(Example("depth", "s", "test", "p", [0, 1], arrays), [])
    assert shown is not None
    assert [row.title for row in shown.rows] == ["frame", "depth, truth", "depth, predicted", "relative error"]
    assert {len(row.images) for row in shown.rows} == {2}
    error = _pixels(shown.rows[3].images[0])
    assert error[:4].std() < 3, "where there is no truth there is no error"
    np.testing.assert_allclose(error[20], np.broadcast_to([252, 255, 164], error[20].shape), atol=12)
    assert [bar.ticks[2] for bar in shown.bars] == [f"{np.percentile(holes[holes > 0], 99):.1f} m", "≥ 50 %"]


def test_what_cannot_be_drawn_is_not_drawn():
    assert panels(Example("camera", "s", "test", "p", [0], {"rgb": np.zeros((1, 4, 4, 3), np.uint8)}), []) is None


def test_examples_of_the_best_tap_come_first(tmp_path: Path):
    info = run_info("r", tasks=("depth",))
    views = room(0, size=24)
    rng = np.random.default_rng(0)
    path = write_run(tmp_path / "scored", info, scenes=(1, 2), size=24)
    scored = Run.open(path)
    with RunWriter(tmp_path / "r", info) as writer:
        for probe in info.probes:
            for split in ("val", "test"):
                scenes, statistics = scored.statistics("depth", probe.id, split)
                for index, scene in enumerate(scenes):
                    writer.add(probe.id, scene, split, {name: array[index] for name, array in statistics.items()})
            writer.add_example(example("depth", probe.id, f"of-{probe.tap}", views, 0.1, rng))
    axes = build([Run.open(tmp_path / "r")], resamples=20)
    html = render(axes)
    best = axes[0].leader.best.probe.tap
    (other,) = {probe.tap for probe in info.probes} - {best}
    assert f"scene of-{best}" in html
    assert f"scene of-{other}" not in html


def test_many_classes_have_as_many_colours():
    classes = np.arange(1, 41, dtype=np.uint8).reshape(1, 5, 8)
    arrays = {"rgb": np.zeros((1, 5, 8, 3), np.uint8), "classes": classes, "classes_pred": classes}
    shown = panels(Example("segmentation", "s", "test", "p", [0], arrays), [f"c{k}" for k in range(60)])
    assert shown is not None
    assert len(shown.legend) == len({key.colour for key in shown.legend}) == 42


def test_noise_levels_of_one_site_are_named(tmp_path: Path):
    info = run_info("v", model="v", kind="vgm", tasks=("depth",), taps=("mid@t5", "mid@t20", "mid@t100"))
    info = info.model_copy(update={"probes": [probe.model_copy(update={"depth": 3}) for probe in info.probes]})
    run = Run.open(write_run(tmp_path / "v", info, scenes=(1, 2), size=24))
    (axis,) = build([run], resamples=20)
    curves = layer_curves(axis, [axis], looks([axis]))
    assert curves is not None
    words = re.findall(r"<text[^>]*>([^<]+)</text>", curves.svg())
    assert [word for word in words if re.fullmatch(r"t\d+", word)] == ["t5", "t20", "t100"]

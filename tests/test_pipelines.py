"""pipelines.yaml is valid, says what it means as commands, and mistakes in it are answered with file and line."""

from __future__ import annotations

import inspect
import shlex
from pathlib import Path

import pytest
from typer.testing import CliRunner

from extract.__main__ import extract_features
from extract.arguments import Arguments
from extract.registry import dataset_classes, make_family
from pipelines.__main__ import app
from pipelines.commands import commands
from pipelines.errors import PipelineError
from pipelines.file import FILE, choose, load
from pipelines.running import report_is_current


def test_the_shipped_file_names_only_what_exists() -> None:
    for pipeline in load(FILE).values():
        assert pipeline.dataset.name in dataset_classes()
        for step in pipeline.extract:
            family = make_family(step.model)
            for site in step.sites:
                family.site(site)
            for level in step.noise:
                family.noise_level(level)


def test_the_command_line_has_the_flags_of_a_step() -> None:
    flags = {name: flag for name, flag in inspect.signature(extract_features).parameters.items() if name != "context"}
    assert set(flags) == set(Arguments.model_fields) | {"as_json", "dry_run"}
    for name, field in Arguments.model_fields.items():
        if not field.is_required():
            assert (flags[name].default or None) == (field.default or None), name


def test_show_prints_commands_that_can_be_run_by_hand() -> None:
    result = CliRunner().invoke(app, ["show", "demo"])
    assert result.exit_code == 0
    lines = result.stdout.splitlines()
    assert (
        "python -m extract --model efficientnet-lite0 --dataset rooms "
        "--sites blocks.1,blocks.3,blocks.6,blocks.10,blocks.13,blocks.15 --grid 16x16 --untrained" in lines
    )
    assert sum("probes.train" in line for line in lines) == 6
    assert shlex.split(lines[-1])[:4] == ["python", "-m", "evaluate", "--runs"]


def test_controls_and_heads_are_part_of_the_same_runs() -> None:
    plain = choose(load(FILE), "demo")
    probes = plain.probes.model_copy(update={"control": True, "heads": ("mlp", "linear")})
    lines = [shlex.join(each) for each in commands(plain.model_copy(update={"probes": probes}))]
    probing = [line for line in lines if "probes.train" in line]
    assert len(probing) == 6
    assert all("--head mlp --head linear" in line and line.count("--control") == 1 for line in probing)
    assert "runs/pixels-rooms-linear-mlp runs/" in lines[-1]
    assert lines[-1].count("runs/") == 6


def test_a_fusion_is_probed_like_a_store(tmp_path: Path) -> None:
    path = tmp_path / "file.yaml"
    path.write_text(
        GOOD
        + """\
    - {model: position, untrained: true}
  fuse:
    - {features: pixels+position-untrained, fusion: lnconcat, taps: [rgb+grid, rgb+plane]}
    - {features: pixels+position-untrained, fusion: concat}
"""
    )
    lines = [shlex.join(each) for each in commands(choose(load(path), "mine"))]
    assert len(lines) == 2 + 4 + 1
    features = "python -m probes.train --features store/pixels+store/position-untrained --fusion"
    assert lines[4].startswith(f"{features} lnconcat --taps rgb+grid,rgb+plane --dataset rooms")
    assert lines[5].startswith(f"{features} concat --dataset rooms")
    runs = "runs/pixels+position-untrained-lnconcat-rooms runs/pixels+position-untrained-concat-rooms"
    assert lines[6].startswith(f"python -m evaluate --runs runs/pixels-rooms runs/position-untrained-rooms {runs} ")


def test_nothing_is_made_twice_in_one_place(tmp_path: Path) -> None:
    fused = "  fuse:\n" + "    - {features: pixels+position, fusion: concat, taps: [a]}\n" * 2
    (tmp_path / "file.yaml").write_text(GOOD + fused)
    with pytest.raises(PipelineError, match=r"pixels\+position-concat would be made twice.*Put their sites"):
        load(tmp_path / "file.yaml")


GOOD = """\
mine:
  about: a test
  dataset: {name: rooms}
  extract:
    - model: pixels
      grid: [8, 8]
"""


def fuse(step: str) -> tuple[str, str]:
    """The change that adds a fusion, in line 4."""
    return "  extract:", f"  fuse: [{step}]\n  extract:"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("      grid:", "      gird:"), r"file.yaml:6: mine.extract.0.gird: unknown key. Did you mean grid\?"),
        (("  about:", "  abuot:"), r"file.yaml:2: mine.abuot: unknown key. Did you mean about\?"),
        (("[8, 8]", "[8, x]"), r"file.yaml:6: mine.extract.0.grid.1: .*integer"),
        (("    - model: pixels\n", "    - limit: 0\n"), r"file.yaml:5: mine.extract.0.model: Field required"),
        (("{name: rooms}", "{name: rooms, root: 3}"), r"file.yaml:3: mine.dataset.root"),
        (("mine:", "mine: ["), "not YAML"),
        (fuse("{features: pixels, fusion: concat}"), r"file.yaml:4: mine.fuse.0.features"),
        (fuse("{features: a+b, fusion: cat}"), r"file.yaml:4: mine.fuse.0.fusion: .*lnconcat"),
        (fuse("{feature: a+b, fusion: concat}"), r"mine.fuse.0.feature: unknown key. Did you mean features\?"),
        ((GOOD, ""), "file.yaml:1"),
    ],
)
def test_mistakes_are_answered_with_file_and_line(tmp_path: Path, change: tuple[str, str], message: str) -> None:
    path = tmp_path / "file.yaml"
    path.write_text(GOOD)
    assert list(load(path)) == ["mine"]
    path.write_text(GOOD.replace(*change))
    with pytest.raises(PipelineError, match=message):
        load(path)


def test_unknown_names_and_files(tmp_path: Path) -> None:
    with pytest.raises(PipelineError, match="Did you mean demo"):
        choose(load(FILE), "dmeo")
    with pytest.raises(PipelineError, match="cannot be read"):
        load(tmp_path / "nowhere.yaml")


def test_a_report_is_current_if_it_is_newer_than_all_its_runs(tmp_path: Path) -> None:
    import os

    pipeline = load(FILE)["demo"]
    runs = [Path("runs") / f"{step.store}-rooms" / "run.json" for step in pipeline.extract]
    report = Path(pipeline.report) / "report.html"
    for age, path in enumerate([*runs, report]):
        path.parent.mkdir(parents=True)
        path.write_text("")
        os.utime(path, (age, age))
    assert report_is_current(pipeline)
    os.utime(runs[2], (99, 99))
    assert not report_is_current(pipeline)
    runs[2].unlink()
    assert not report_is_current(pipeline)


def test_no_two_pipelines_ask_one_store_for_different_recipes() -> None:
    free = {"sites", "noise", "split", "limit", "device", "offload", "cluster", "out"}  # may differ within a store
    asked: dict[tuple[str, str], dict[str, object]] = {}
    for name, pipeline in load(FILE).items():
        for step in pipeline.extract:
            flags = step.model_dump(exclude=free)
            found = asked.setdefault((step.store, pipeline.dataset.name), flags)
            assert found == flags, f"{name}: {step.store}"

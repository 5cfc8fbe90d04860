"""`python -m extract plan`: sizes to the byte, what is there already, what would fit; and nothing is done."""

from __future__ import annotations

import json
import re
import shutil
from collections import namedtuple
from pathlib import Path
from typing import Any

import pytest
import torch
from typer.testing import CliRunner

from extract.__main__ import app
from extract.arguments import Arguments
from extract.command import plan, run
from extract.errors import ExtractError
from extract.estimate import estimate, suggestions
from extract.loop import extract
from extract.plan import Request, make_outline, make_plan
from extract.progress import Progress
from extract.registry import make_dataset, make_family
from store import FeatureStore, RecipeMismatchError, root
from tests.extract.tiny_rooms import write_rooms
from tests.extract.toy_family import ToyFamily

CPU = torch.device("cpu")
TOY = "tests.extract.toy_family:ToyFamily:toy"
Usage = namedtuple("Usage", "total used free")


@pytest.fixture
def rooms(tmp_path: Path) -> Path:
    write_rooms(tmp_path / "rooms", splits=("train", "train", "val", "test"), size=(32, 32), frames=3)
    return tmp_path / "rooms"


def outline_for(rooms: Path, **request: Any) -> Any:
    return make_outline(ToyFamily("toy"), make_dataset("rooms", rooms), Request(**request))


def said(capsys: pytest.CaptureFixture[str], rooms: Path, **flags: Any) -> dict[str, Any]:
    measure = flags.pop("measure", False)
    plan(Arguments(dataset="rooms", root=rooms, **{"model": TOY, **flags}), as_json=True, measure=measure)
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    return found


@pytest.mark.parametrize("store_dtype", ["float16", "bfloat16", "float32", "int8-channel"])
@pytest.mark.parametrize("grid", [None, (4, 3)])
def test_sizes_are_those_of_the_files(rooms: Path, store_dtype: str, grid: tuple[int, int] | None) -> None:
    asked: dict[str, Any] = {
        "sites": ["latent", "blocks.1"],
        "noise": ["sigma=1", "sigma=2"],
        "store_dtype": store_dtype,
        "grid": grid,
    }
    found = estimate(outline_for(rooms, **asked))
    resolved = make_plan(ToyFamily("toy"), make_dataset("rooms", rooms), Request(**asked))
    assert extract(resolved, CPU, Progress(quiet=True)).bytes == found.bytes == found.missing_bytes
    for size in found.taps:
        folder = resolved.path / "features.zarr"
        names = [size.tap.name, f"{size.tap.name}~scale"]
        on_disk = [path.stat().st_size for name in names for path in (folder / name).glob("c.*")]
        assert (sum(on_disk), len(on_disk) >= 4) == (size.bytes, True)


def test_clips_with_short_banks_take_less(rooms: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    outline = outline_for(rooms, sites=["blocks.0"])
    clip = outline.table[1]
    short = outline.table[1].model_copy(update={"bank": clip.bank[:2]})
    table = [outline.table[0], short, *outline.table[2:]]
    shorter = estimate(type(outline)(**{**vars(outline), "table": table}))
    assert estimate(outline).bytes - shorter.bytes == 8 * 8 * 6 * 2 + 4  # a frame, and its checksum


def test_what_is_there_already_is_told(rooms: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run(Arguments(model=TOY, dataset="rooms", root=rooms, sites=("blocks.0",), split="train"), as_json=True)
    capsys.readouterr()
    found = said(capsys, rooms, sites=("blocks.0", "blocks.2"))
    assert [(tap["tap"], tap["missing_clips"]) for tap in found["taps"]] == [
        ("blocks.0@sigma1", 2),
        ("blocks.2@sigma1", 4),
    ]
    assert (found["clips"], found["pending"]) == (4, 4)
    assert found["fingerprint"] == FeatureStore.open("toy", "rooms").fingerprint
    one = found["taps"][0]["clip_bytes"]
    assert (found["bytes"], found["missing_bytes"]) == (8 * one, 6 * one)


def test_a_store_with_another_recipe_in_the_way_is_told(rooms: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run(Arguments(model=TOY, dataset="rooms", root=rooms, limit=1), as_json=True)
    capsys.readouterr()
    (note,) = said(capsys, rooms, seed=7)["notes"]
    assert re.search(r"another recipe, choose another --out: noise\.seed: 0 there, 7 asked for", note)
    (note,) = said(capsys, rooms, out="mine")["notes"]
    assert "store/toy/rooms has this very recipe" in note


def test_nothing_is_written_or_fetched(rooms: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = said(capsys, rooms, model="svd", sites=("mid_block",), limit=1)
    assert found["fingerprint"] is None
    assert "stable-video-diffusion-img2vid (revision main) are not in the hub cache" in found["notes"][0]
    assert found["taps"][0]["bytes"] > 0
    said(capsys, rooms, measure=True)
    flags = ["--model", TOY, "--dataset", "rooms", "--root", str(rooms)]
    for command in (["plan", *flags], [*flags, "--dry-run"]):
        assert CliRunner().invoke(app, command).exit_code == 0
    assert not any(path.name != "targets" for path in root().glob("*") if (path / "rooms").exists())
    assert not (root() / "targets" / "rooms").exists()


def test_two_clips_tell_the_time(rooms: Path, capsys: pytest.CaptureFixture[str]) -> None:
    measured = said(capsys, rooms, measure=True)["measured"]
    assert measured["compute_s"] > 0
    assert measured["decode_s"] > 0
    assert measured["peak"] > 1e6
    assert measured["clip_s"] == max(measured["decode_s"], measured["compute_s"])
    assert measured["total_s"] == pytest.approx(measured["load_s"] + 4 * measured["clip_s"])


def test_what_does_not_fit_says_what_would(
    rooms: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    size = estimate(outline_for(rooms, sites=["latent"])).bytes
    monkeypatch.setattr(shutil, "disk_usage", lambda path: Usage(size, 0, int(size * 0.6)))
    outline = outline_for(rooms, sites=["latent"])
    assert not estimate(outline).fits
    assert list(suggestions(outline, int(size * 0.6))) == [
        "--store-dtype int8-channel --out NAME",
        "--grid 8x8 --out NAME",
    ]
    flags = ["--model", TOY, "--dataset", "rooms", "--root", str(rooms), "--sites", "latent"]
    done = CliRunner().invoke(app, ["plan", *flags])
    assert done.exit_code == 1
    assert "DOES NOT FIT" in done.stdout
    assert "would fit: --grid 8x8" in done.stdout
    for flag in suggestions(outline, int(size * 0.6)):
        assert CliRunner().invoke(app, ["plan", *flags, *flag.split()]).exit_code == 0, flag
    monkeypatch.setattr(shutil, "disk_usage", lambda path: Usage(size, 0, 10))
    assert list(suggestions(outline, 10)) == []
    assert "nothing fits" in CliRunner().invoke(app, ["plan", *flags]).stdout


def test_the_plan_takes_every_flag_of_an_extraction() -> None:
    from typer.main import get_command

    group: Any = get_command(app)
    shared = {each.name for each in group.params} - {"dry_run", "profile", "profile_to", "help"}
    assert {each.name for each in group.commands["plan"].params} - {"help"} == shared | {"measure"}


def test_a_store_of_other_clips_or_of_another_recipe_holds_nothing_of_this(
    rooms: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run(Arguments(model=TOY, dataset="rooms", root=rooms), as_json=True)
    capsys.readouterr()
    for flags in ({"grid": (4, 4)}, {"store_dtype": "float32"}, {"seed": 7}):
        found = said(capsys, rooms, **flags)
        assert (found["pending"], found["missing_bytes"]) == (4, found["bytes"])
        assert "has another recipe" in found["notes"][0]
    assert not outline_for(rooms).pending()
    assert set(outline_for(rooms, grid=(4, 4)).pending()) == set(range(4))  # known without the weights
    write_rooms(rooms, splits=["train"] * 6, size=(32, 32), frames=3)
    assert set(outline_for(rooms).pending()) == set(range(6))
    assert said(capsys, rooms)["pending"] == 6
    with pytest.raises(RecipeMismatchError, match=r"dataset\.clips"):
        run(Arguments(model=TOY, dataset="rooms", root=rooms), as_json=True)


def test_a_share_of_nothing_is_done_at_once(rooms: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert said(capsys, rooms, limit=2, rank=3, world=4)["clips"] == 0
    assert run(Arguments(model=TOY, dataset="rooms", root=rooms, limit=2, rank=3, world=4), as_json=True)
    assert json.loads(capsys.readouterr().out)["done"] == 0
    assert not (root() / "toy").exists()


def test_the_plan_of_a_cluster(rooms: Path) -> None:
    flags = ["plan", "--model", TOY, "--dataset", "rooms", "--root", str(rooms), "--cluster"]
    assert CliRunner().invoke(app, [*flags, "local:2"]).exit_code == 0
    with pytest.raises(ExtractError, match="--cluster k8s: expected local:N"):
        CliRunner().invoke(app, [*flags, "k8s"], catch_exceptions=False)


@pytest.mark.parametrize(
    ("flags", "named"), [(["--limit", "1"], "--limit"), (["--json"], "--json"), (["--dry-run"], "--dry-run")]
)
def test_flags_before_a_command_are_not_passed_over(flags: list[str], named: str) -> None:
    done = CliRunner().invoke(app, [*flags, "plan", "--model", TOY, "--dataset", "rooms"])
    assert done.exit_code == 2
    assert f"{named}: give it after 'plan'" in done.output


def test_two_clips_for_which_the_memory_is_too_small(rooms: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*arguments: Any) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB")

    monkeypatch.setattr("extract.measured.load_backbone", full)
    with pytest.raises(ExtractError, match=r"out of memory .* Try --dtype bfloat16"):
        plan(Arguments(model=TOY, dataset="rooms", root=rooms), measure=True)


def test_a_full_disk_is_foretold_by_the_run_too(
    rooms: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda path: Usage(1, 1, 0))
    assert run(Arguments(model=TOY, dataset="rooms", root=rooms, limit=1), as_json=True)
    assert any("the disk will be full before the end" in record.getMessage() for record in caplog.records)


def test_unknown_names_are_refused_as_in_a_run(rooms: Path) -> None:
    done = CliRunner().invoke(app, ["plan", "--model", "toy"])
    assert done.exit_code == 2
    assert "give both" in done.output
    assert make_family("pixels").published.parameters == 0

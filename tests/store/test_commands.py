"""`python -m store` for people (100 columns, names whole) and for programs (JSON, exit status)."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer import Exit

from store import (
    ArraySpec,
    BackboneRecipe,
    ClipRow,
    FeatureStore,
    NoiseRecipe,
    Recipe,
    StoreWriter,
    create,
    finalize,
)
from store.__main__ import main
from store.commands import _tables
from store.commands._parts import progress_bar, report_failures
from store.commands._shared import printable
from store.commands.upkeep import parse_age
from store.files import partial_name
from store.sizes import show_size
from tests.store.conftest import SPECS, Example, dataset_recipe
from tests.store.servers import Served, web_server  # noqa: F401

PROJECT = Path(__file__).parents[2]
LONG = "stable-video-diffusion-img2vid-xt"


@dataclass
class Done:
    status: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)

    def row(self, start: str) -> list[str]:
        """The words of the line that begins with `start`."""
        (line,) = [line for line in self.out.splitlines() if line.strip().startswith(start)]
        return line.split()


Run = Callable[..., Done]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    def command(*arguments: str) -> Done:
        monkeypatch.setattr(sys, "argv", ["store", *arguments])
        status: Any = 0
        try:
            main()
        except SystemExit as stop:
            status = stop.code
        out, err = capsys.readouterr()
        assert all(line == line.rstrip() for line in out.splitlines())
        return Done(status or 0, out, err)

    monkeypatch.setenv("COLUMNS", "100")
    return command


@pytest.fixture
def long_names(store_root: Path) -> FeatureStore:
    """A store whose names are as long as they get: five of six clips are there, and one tap of the last."""
    clips = [
        ClipRow(row=row, id=f"scene{row:04d}_00", scene=f"s{row}", split=split, bank=(0, 1), n_frames=9, digest="00")
        for row, split in enumerate(["train"] * 4 + ["val"] * 2)
    ]
    backbone = BackboneRecipe(
        family="svd",
        family_version=1,
        model=LONG,
        kind="vgm",
        checkpoint=f"stabilityai/{LONG}",
        revision="9e43909513c6714f1bc78bcb44d96e733cd242aa",
        digest="0" * 32,
        attention="sdpa",
    )
    data = dataset_recipe("scannet-v2-validation", clips)
    recipe = Recipe(kind="features", dataset=data, backbone=backbone, noise=NoiseRecipe(seed=0))
    specs = [
        ArraySpec(
            f"down_blocks.{depth}.attentions.0@sigma{sigma}",
            (2, 4, 4, 8),
            "bfloat16",
            ("frame", "y", "x", "channel"),
            {
                "site": f"down_blocks.{depth}",
                "depth": depth,
                "noise": {"sigma": sigma, "log_snr": -1.25},
                "native_grid": [36, 64],
            },
        )
        for depth in (1, 2)
        for sigma in (0.5, 15.6)
    ]
    path = store_root / f"{LONG}-untrained" / "scannet-v2-validation"
    path.parent.mkdir()
    create(path, recipe, clips, specs, attrs={}, coordinates={}, provenance={"versions": {"torch": "2.7.1"}})
    with StoreWriter(path) as writer:
        for row in range(5):
            writer.put(row, {spec.name: np.ones((2, 4, 4, 8), np.float32) for spec in specs})
        writer.put(5, {specs[0].name: np.ones((2, 4, 4, 8), np.float32)})
    return FeatureStore.open(path)


def shard(example: Example | Path, array: str, row: int) -> Path:
    path = example if isinstance(example, Path) else example.path
    return path / FeatureStore.open(path).arrays[array].shard(row)


def size(example: Example) -> str:
    """Of all shards, as it is shown."""
    arrays = {spec.name for spec in SPECS}
    files = example.path.glob("features.zarr/*/c.*")
    return show_size(sum(file.stat().st_size for file in files if file.parent.name in arrays))


def test_ls_shows_every_store_on_one_line(filled: Example, long_names: FeatureStore, run: Run) -> None:
    done = run("ls")
    assert done.status == 0
    assert max(map(len, done.out.splitlines())) <= 100
    assert done.row("toy/toys")[2:6] == ["toys", "3/3", "3", size(filled).split()[0]]
    assert done.out.startswith("store ")
    row = done.row(LONG)
    assert "5/6" in row
    assert long_names.fingerprint[:8] in row
    # The long name goes on below; nothing of it is lost.
    assert "".join(line[: line.find("  ")] if "  " in line else line for line in done.out.splitlines()[1:3]).startswith(
        long_names.name
    )


def test_ls_for_programs(filled: Example, long_names: FeatureStore, run: Run) -> None:
    first, second = run("ls", "--json").json
    assert (first["name"], first["model"], first["dataset"]) == (long_names.name, LONG, "scannet-v2-validation")
    assert (first["clips_done"], first["clips_total"], first["taps"], first["arrays"]) == (5, 6, 4, 4)
    assert (second["name"], second["taps"], second["arrays"]) == ("toy/toys", 3, 5)
    assert show_size(second["bytes"]) == size(filled)
    assert second["fingerprint"] == filled.recipe.fingerprint


def test_ls_of_nothing_says_how_to_make_something(run: Run) -> None:
    done = run("ls")
    assert done.status == 0
    assert "python -m extract" in done.out
    assert run("ls", "--json").json == []


def test_a_clip_is_done_when_every_array_has_it(example: Example, run: Run) -> None:
    example.create()
    assert run("ls", "--json").json[0]["clips_done"] == 0
    with StoreWriter(example.path) as writer:
        writer.put(0, {"wide": example.values[0]["wide"]})
    assert run("ls", "--json").json[0]["clips_done"] == 0
    example.write([0])
    assert run("ls", "--json").json[0]["clips_done"] == 1


def test_one_damaged_store_does_not_hide_the_others(filled: Example, store_root: Path, run: Run) -> None:
    old = store_root / "old" / "toys"
    old.mkdir(parents=True)
    (old / "recipe.json").write_text('{"schema_version": 99}')
    done = run("ls")
    assert done.status == 1
    assert "toy/toys" in done.out
    assert "format version 99" in done.err
    listed = run("ls", "--json")
    assert listed.status == 1
    assert [each["name"] for each in listed.json] == ["old/toys", "toy/toys"]
    assert "format version 99" in listed.json[0]["error"]


def test_info_shows_each_tap_on_one_line(long_names: FeatureStore, run: Run) -> None:
    done = run("info", f"{LONG}-untrained")
    assert max(map(len, done.out.splitlines())) <= 100
    tap = done.row("down_blocks.2.attentions.0@sigma15.6")[1:]
    assert tap == ["2x4x4x8", "bfloat16", "36x64", "15.6", "-1.25", "5", "2.78", "kB"]
    assert done.row("clips")[1:] == ["5/6", "(train", "4/4", "val", "1/2)"]
    assert done.row("finalized")[1:] == ["no"]
    assert done.row("versions.torch")[1:] == ["2.7.1"]
    assert done.row("backbone.model")[1:] == [LONG]


def test_info_for_programs(filled: Example, run: Run) -> None:
    facts = run("info", "toy", "--json").json
    assert facts["taps"].keys() == {"early", "late@t5", "wide"}
    assert facts["taps"]["late@t5"]["dtype"] == "bfloat16"
    assert facts["taps"]["late@t5"]["sigma"] == 1.0
    assert facts["arrays"]["label"]["shape"] == [4, 6, 6]
    assert facts["splits"] == {
        "train": {"clips_done": 2, "clips_total": 2},
        "test": {"clips_done": 1, "clips_total": 1},
    }
    assert facts["provenance"] == {"host": "here"}
    assert facts["recipe"] == filled.recipe.model_dump(mode="json")


def test_info_tells_whether_the_manifest_is_up_to_date(example: Example, run: Run) -> None:
    example.create()
    example.write([0])
    finalize(FeatureStore.open(example.path))
    assert run("info", "toy", "--json").json["finalized"] == "yes"
    example.write([1])
    assert run("info", "toy", "--json").json["finalized"] == "stale"


def test_info_and_diff_work_from_afar(filled: Example, web: Served, run: Run, tmp_path: Path) -> None:
    finalize(FeatureStore.open(filled.path))
    shutil.copytree(filled.path, web.path / "toys")
    near, far = run("info", "toy", "--json").json, run("info", f"{web.url}/toys", "--json").json
    assert far["path"] == f"{web.url}/toys"
    for facts in (near, far):
        for own in ("name", "path", "modified"):
            del facts[own]
    assert far == near
    assert run("diff", "toy", f"{web.url}/toys").status == 0
    assert run("info", f"{web.url}/toys").row("finalized")[1:] == ["yes"]


def test_diff_exits_like_diff(filled: Example, store_root: Path, run: Run) -> None:
    shutil.copytree(filled.path, store_root / "copy" / "toys")
    same = run("diff", "toy", "copy")
    assert (same.status, same.err) == (0, "")
    assert "No difference" in same.out
    shard(filled, "wide", 2).unlink()
    run("verify", "toy", "--drop")
    differ = run("diff", "toy", "copy")
    assert differ.status == 1
    assert differ.row("wide:") == ["wide:", "row", "2"]
    found = run("diff", "toy", "copy", "--json")
    assert (found.status, found.json["same"], found.json["rows_only_b"]) == (1, False, {"wide": [2]})
    trouble = run("diff", "toy", "tyo")
    assert trouble.status == 2
    assert "Did you mean store/toy" in trouble.err


def test_diff_names_fields_clips_and_arrays(filled: Example, store_root: Path, run: Run) -> None:
    clips = [clip.model_copy(update={"digest": f"{clip.row % 2}0"}) for clip in filled.clips]
    clips += [clips[0].model_copy(update={"row": row, "id": f"more{row}"}) for row in range(3, 12)]
    recipe = Recipe(kind="features", dataset=dataset_recipe("toys", clips), noise=NoiseRecipe(seed=3))
    path = store_root / "other" / "toys"
    path.parent.mkdir()
    changed = ArraySpec("early", (4, 2, 3, 6), "float16", SPECS[0].dims, SPECS[0].attrs)
    create(path, recipe, clips, [changed, *SPECS[1:4]], attrs={"model": "toy"}, coordinates={}, provenance={})
    out = run("diff", "toy", "other").out
    assert max(map(len, out.splitlines())) <= 100
    assert "noise.seed" in out
    assert "  only in B: more3, more4, more5, more6, … (9 in all)\n" in out
    assert "  another digest: clip1\n" in out
    assert "  only in A: slot\n" in out
    assert "array early" in out
    assert "[4, 2, 3, 5]  [4, 2, 3, 6]" in out


def test_verify_lists_bad_files_and_what_to_do(filled: Example, run: Run) -> None:
    done = run("verify", "toy", "--deep")
    assert (done.status, done.out) == (0, f"toy/toys: 15 shards ({size(filled)}) checked, every byte: no bad files\n")
    shard(filled, "wide", 1).unlink()
    finalize(FeatureStore.open(filled.path))
    (filled.path / "manifest.json").write_text("{}")
    (filled.path / "provenance.json").unlink()
    done = run("verify", "toy")
    assert done.status == 1
    assert max(map(len, done.out.splitlines())) <= 100
    assert "  features.zarr/wide/c.1.0.0.0.0: missing\n" in done.out
    assert "`--drop` un-commits them" in done.out
    assert "python -m store finalize toy/toys" in done.out
    assert "provenance.json: restore from a copy" in done.out


def test_verify_drop_and_finalize_mend_what_can_be_mended(filled: Example, run: Run) -> None:
    finalize(FeatureStore.open(filled.path))
    shard(filled, "wide", 1).unlink()
    (filled.path / "manifest.json").write_text("{}")
    bad = run("verify", "toy", "--drop", "--json")
    assert bad.status == 1
    assert (len(bad.json["bad"]), bad.json["dropped"], bad.json["dropped_shards"]) == (2, 1, 1)
    assert {each["row"] for each in bad.json["bad"]} == {None, 1}
    assert run("finalize", "toy", "--json").json == {"store": "toy/toys", "clips": 3, "arrays": 5}
    sound = run("verify", "toy", "--deep", "--json")
    assert (sound.status, sound.json["bad"], sound.json["checked"]) == (0, [], 14)


def test_unknown_names_are_answered_with_the_nearest(filled: Example, run: Run) -> None:
    for command in ("info", "verify", "finalize", "gc"):
        done = run(command, "tyo")
        assert (done.status, done.out) == (1, "")
        assert "Did you mean store/toy" in done.err
    done = run("verfy", "toy")
    assert done.status == 2
    assert "verify" in done.err
    assert "--json" in run("ls", "--jsn").err


def test_verify_and_finalize_are_for_stores_on_this_machine(run: Run) -> None:
    for command in ("verify", "finalize", "gc"):
        assert "python -m store pull" in run(command, "s3://bucket/toy").err


def test_gc_says_what_it_would_delete_and_deletes_only_when_told(filled: Example, store_root: Path, run: Run) -> None:
    partial_name(shard(filled, "wide", 0)).write_bytes(bytes(2000))
    draft = partial_name(store_root / "lonely" / "toys")
    draft.mkdir(parents=True)
    assert "Nothing to delete" in run("gc").out
    done = run("gc", "--older-than", "0s")
    assert done.status == 0
    assert done.row(f"features.zarr/wide/.{shard(filled, 'wide', 0).name}")[1:4] == ["partial", "2", "kB"]
    assert "2 to delete, 2 kB to free. Nothing was deleted yet" in done.out
    assert draft.exists()
    (only,) = run("gc", "toy", "--older-than", "0s", "--json").json["garbage"]
    assert (only["kind"], only["bytes"]) == ("partial", 2000)
    assert "2 deleted, 2 kB freed" in run("gc", "--older-than", "0s", "--delete").out
    assert not draft.exists()
    assert not list(store_root.rglob("*.partial"))


def test_gc_goes_on_past_a_store_that_it_cannot_judge(filled: Example, store_root: Path, run: Run) -> None:
    broken = store_root / "broken" / "toys"
    shutil.copytree(filled.path, broken)
    (broken / "clips.json").write_text("{}")
    partial_name(filled.path / "manifest.json").write_bytes(b"1")
    done = run("gc", "--older-than", "0s", "--delete", "--json")
    assert done.status == 1
    assert len(done.json["garbage"]) == 1
    assert str(broken) in done.json["errors"][0]
    assert str(broken) in done.err


@pytest.mark.parametrize(
    ("text", "seconds"), [("90s", 90), ("30min", 1800), ("2h", 7200), ("1d", 86400), ("2w", 1209600), ("0.5 h", 1800)]
)
def test_ages(text: str, seconds: float) -> None:
    assert parse_age(text) == seconds


@pytest.mark.parametrize("text", ["", "2", "h", "-1d", "2 years", "1d 2h"])
def test_other_ages_are_refused(text: str, run: Run) -> None:
    done = run("gc", f"--older-than={text}")
    assert done.status == 2
    assert "is no age" in done.err


def test_tables_keep_names_whole_and_numbers_uncut(capsys: pytest.CaptureFixture[str], monkeypatch: Any) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    rows = [("[bold]name/of/a/store/that/is/long", "another-long-text", "123456", "")]
    _tables.print_table(("store", "model", "size", "none"), rows, right=("size",), gives_way=("model",))
    head, *lines = capsys.readouterr().out.splitlines()
    assert head.split() == ["store", "model", "size"]
    assert lines[0].split() == ["[bold]name/of/a/stor", "another-l…", "123456"]
    assert "".join(line.split()[0] for line in lines) == rows[0][0]


NASTY = "[red]clip\x9b2J"
"""Markup, and a control that clears the screen: both may stand in a clip's id."""


@pytest.fixture
def nasty(store_root: Path) -> Path:
    """A store of a stranger, who put controls and markup wherever they may stand."""
    clips = [ClipRow(row=0, id=NASTY, scene="[b]s", split="[i]\x9b1m", bank=(0, 1), n_frames=9, digest="00")]
    steer = {"note": "\x1b]0;owned\x07\n[bold]\x7f", "\x1b[2J": "\r", "deep": [{"\x9b": "\u202e"}]}
    recipe = Recipe(kind="features", dataset=dataset_recipe("[red]\x9bdata", clips), preprocessing=dict(steer))
    attrs = {"site": "tap", "depth": 0, "noise": None, "description": "\x1b[8m"}
    specs = [ArraySpec("tap", (2, 1, 1, 3), "float32", ("frame", "y", "x", "channel"), attrs)]
    path = store_root / "nasty" / "data"
    path.parent.mkdir()
    create(path, recipe, clips, specs, attrs=steer, coordinates={}, provenance=steer)
    with StoreWriter(path) as writer:
        writer.put(0, {"tap": np.ones((2, 1, 1, 3), np.float32)})
    return path


def seen(done: Done) -> str:
    """All that was printed, which must not hold a control but line feeds."""
    text = done.out + done.err
    assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u202e]", text)
    return text


def test_names_of_a_stranger_neither_steer_the_terminal_nor_are_taken_for_markup(
    nasty: Path, example: Example, run: Run, tmp_path: Path
) -> None:
    assert r"[red]\x9bdata" in seen(run("ls"))
    info = seen(run("info", "nasty"))
    for text in (r"\x1b]0;owned\x07\n[bold]\x7f", r"\x1b[2J", r"[i]\x9b1m 1/1"):
        assert text in info
    example.create()
    assert r"only in A: [red]clip\x9b2J" in seen(run("diff", "nasty", "toy"))
    copied = run("copy", "nasty", str(tmp_path / "there"), "--dtype", "int8-channel")
    assert copied.status == 0, copied.err
    assert r"[red]clip\x9b2J" in seen(copied)
    seen(run("export", "nasty", str(tmp_path / "out"), "--format", "npy"))
    shard(nasty, "tap", 0).unlink()
    for command in ("verify", "finalize", "gc"):
        seen(run(command, "nasty"))


def test_errors_do_not_steer_the_terminal_either(nasty: Path, store_root: Path, run: Run, tmp_path: Path) -> None:
    assert r"[red]clip\x9b2J" in seen(run("copy", "nasty", str(tmp_path / "there"), "--clips", "[red]clip"))
    odd = store_root / "odd\x1b[2J" / "data"
    odd.mkdir(parents=True)
    (odd / "recipe.json").write_text("{}")
    for command in (("ls",), ("info", str(odd)), ("diff", str(odd), "nasty"), ("gc",), ("verify", str(odd))):
        done = run(*command)
        assert done.status
        assert r"odd\x1b[2J" in seen(done)
    with pytest.raises(Exit):
        report_failures([("a\x1b[2J", "lost\x07")], "shards")


def test_programs_get_names_as_they_are(nasty: Path, run: Run) -> None:
    facts = run("info", "nasty", "--json").json
    assert facts["attributes"]["note"] == "\x1b]0;owned\x07\n[bold]\x7f"
    assert facts["recipe"]["dataset"]["name"] == "[red]\x9bdata"


def test_a_bar_shows_markup_as_it_is(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    with progress_bar("verify [red]name\x9b2J", quiet=False) as progress:
        progress.start(3)
        progress.advance(3)
    err = capsys.readouterr().err
    assert r"[red]name\x9b2J" in err
    assert "\x9b" not in err


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain – ü", "plain – ü"),
        ("a\x1b[1m", r"a\x1b[1m"),
        ("\t\r\n\x7f\x9b", r"\t\r\n\x7f\x9b"),
        ("\ud800", r"\ud800"),
    ],
)
def test_controls_are_escaped(text: str, shown: str) -> None:
    assert printable(text) == shown
    assert printable("one\ntwo\x1b", lines=True) == "one\ntwo\\x1b"


def test_asking_for_help_loads_nothing_that_reads_features() -> None:
    code = (
        "import sys, store.commands.looking, store.commands.upkeep\n"
        "print(sorted({'numpy', 'zarr', 'torch', 'pydantic', 'fsspec', 'xarray', 'rich.table'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=PROJECT, check=True)
    assert done.stdout == "[]\n"

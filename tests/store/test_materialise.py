"""A fusion that is written down: the same taps, clips and numbers, in whatever storage type."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from store import (
    FeatureStore,
    FormatError,
    FusedStore,
    MissingClipError,
    RecipeMismatchError,
    StorageFullError,
    StoreError,
    UnknownArrayError,
    fuse,
)
from store.fusion.materialise import materialise
from store.sharing.requantise import requantise
from store.sharing.selection import Selection
from store.upkeep.verify import verify
from tests.store.branches import NOISE, tap, write_branch

PROJECT = Path(__file__).parents[2]
NAME = "blocks.20@t502+llm.3"


@pytest.fixture
def fused() -> FusedStore:
    wan = write_branch("wan", [tap("blocks.1", (5, 6)), tap("blocks.20@t502", (5, 6), noise=NOISE)], reach=4, norm=20)
    return fuse([wan, write_branch("qwen", [tap("llm.3", (4, 7), 8)], rows=[0, 1, 2, 4])])


def test_in_float32_it_is_the_fusion_itself(fused: FusedStore, store_root: Path) -> None:
    done = materialise(fused, "store/there", "float32")
    assert (done.clips, done.clips_there, done.failed) == (4, 0, [])
    assert all(cost.worst == 0 for cost in done.costs.values())
    there = FeatureStore.open("store/there")
    assert there.path == store_root / "there"
    assert there.fingerprint == fused.fingerprint
    assert there.attrs == fused.attrs
    assert there.clips == fused.clips
    assert there.taps == fused.taps
    assert there.rows() == fused.rows() == [0, 1, 2, 4]
    for name in fused.taps:
        assert there.tap_fingerprint(name) == fused.tap_fingerprint(name)
        assert (there.info(name).shape, there.info(name).dims) == (fused.info(name).shape, fused.info(name).dims)
        assert there.info(name).attrs == fused.info(name).attrs
        for row in fused.rows():
            np.testing.assert_array_equal(there.read(name, row), fused.read(name, row))
    for name, coordinate in fused.coordinates().items():
        np.testing.assert_array_equal(there.coordinates()[name].values, coordinate.values)
    assert not verify(there.path, deep=True).bad


def test_by_default_it_is_rounded_to_float16(fused: FusedStore, tmp_path: Path) -> None:
    done = materialise(fused, tmp_path / "half")
    there = FeatureStore.open(tmp_path / "half")
    storage = there.recipe.storage
    assert (storage.dtype, storage.converted_from) == ("float16", None)
    assert there.recipe.fusion == fused.recipe.fusion
    assert there.fingerprint == there.attrs["fingerprint"] == done.recipe.fingerprint != fused.fingerprint
    assert there.manifest is not None
    for row in fused.rows():
        np.testing.assert_array_equal(there.read(NAME, row), fused.read(NAME, row).astype(np.float16))
    assert 0 < done.costs[NAME].worst < 1e-3
    said = json.loads((tmp_path / "half" / "provenance.json").read_text())["fused"]
    assert said == [{"store": branch.name, "fingerprint": branch.fingerprint} for branch in fused.branches]


@pytest.mark.parametrize("dtype", ["bfloat16", "int8-channel"])
def test_every_storage_type_can_be_chosen(fused: FusedStore, tmp_path: Path, dtype: str) -> None:
    done = materialise(fused, tmp_path / "there", dtype)
    there = FeatureStore.open(tmp_path / "there")
    assert there.info(NAME).dtype == dtype
    for row in fused.rows():
        values = fused.read(NAME, row)
        assert np.linalg.norm(there.read(NAME, row) - values) < 0.01 * np.linalg.norm(values)
    assert done.costs[NAME].clips == 4


def test_it_goes_on_where_it_stopped_and_grows(fused: FusedStore, tmp_path: Path) -> None:
    materialise(fused, tmp_path / "there", selection=Selection(arrays=[NAME], limit=2))
    done = materialise(fused, tmp_path / "there", selection=Selection(arrays=[NAME]))
    assert (done.clips, done.clips_there) == (4, 2)
    assert FeatureStore.open(tmp_path / "there").taps == [NAME]
    more = write_branch("qwen", [tap("llm.3", (4, 7), 8)], rows=[3])
    done = materialise(fuse([fused.branches[0], more]), tmp_path / "there")
    assert (done.clips, done.clips_there) == (5, 0)
    there = FeatureStore.open(tmp_path / "there")
    assert there.taps == fused.taps
    assert there.rows(arrays=there.taps) == [0, 1, 2, 3, 4]
    assert materialise(fuse([fused.branches[0], more]), tmp_path / "there").clips_there == 5


def test_what_was_written_can_be_fused_and_converted_again(fused: FusedStore, tmp_path: Path) -> None:
    materialise(fused, "store/both", "float32")
    third = write_branch("dino", [tap("enc.1", (2, 2), 3)])
    again = fuse(["store/both", third], "concat")
    values = again.read(f"{NAME}+enc.1", 0)
    assert values.shape == (4, 2, 2, 16)
    assert again.recipe.fusion is not None
    assert again.recipe.fusion.branches[0] == fused.recipe
    done = requantise(FeatureStore.open("store/both"), tmp_path / "half", "float16")
    assert (done.recipe.storage.converted_from, done.recipe.fusion) == ("float32", fused.recipe.fusion)


def test_what_is_in_the_way_is_named(fused: FusedStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(FormatError, match="is the source, or one lies inside the other"):
        materialise(fused, fused.branches[1].path)
    with pytest.raises(StoreError, match=r"unknown storage type 'float61'\. Did you mean float16"):
        materialise(fused, tmp_path / "there", "float61")
    with pytest.raises(UnknownArrayError, match=r"'blocks.1\+llm.4'. Did you mean blocks.1\+llm.3"):
        materialise(fused, tmp_path / "there", selection=Selection(arrays=["blocks.1+llm.4"]))
    with pytest.raises(MissingClipError, match="1 of the clips asked for are not committed"):
        materialise(fused, tmp_path / "there", selection=Selection(clips=["clip3"]))
    assert not (tmp_path / "there").exists()
    materialise(fused, tmp_path / "there", selection=Selection(limit=1))
    with pytest.raises(RecipeMismatchError, match=r"fusion.mode: 'lnconcat' there, 'concat' here") as raised:
        materialise(fuse(fused.branches, "concat"), tmp_path / "there")
    assert str(raised.value).endswith("Choose another destination.")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=9))
    with pytest.raises(StorageFullError, match=r"--taps, --split, --limit"):
        materialise(fused, tmp_path / "there")


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", "store", *arguments], capture_output=True, text=True, cwd=PROJECT)


def test_the_command_line_writes_it(fused: FusedStore, store_root: Path) -> None:
    asked = ["copy", "store/wan+store/qwen", "store/both", "--fusion", "lnconcat"]
    found = run(*asked, "--taps", NAME, "--clips", "clip0,clip2", "--json")
    assert found.returncode == 0, found.stderr
    said = json.loads(found.stdout)
    there = FeatureStore.open("store/both")
    assert said["source"] == fused.url
    assert said["fingerprint"] == there.fingerprint
    assert said["storage"] == {"dtype": "float16", "grid": None, "converted_from": None}
    assert list(said["relative_error"]) == there.taps == [NAME]
    assert there.rows() == [0, 2]
    found = run(*asked)
    assert found.returncode == 0, found.stderr
    assert f"{fused.url} -> {store_root / 'both'}\n  4 clips as float16 in " in found.stdout
    found = run("info", "store/both")
    assert "wan+qwen-lnconcat" in found.stdout
    assert "fusion.branches.1.backbone.model" in found.stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["store/wan+store/qwen", "store/x"], "names 2 stores (store/wan, store/qwen) where one is expected"),
        (["store/wan", "store/x", "--fusion", "concat"], "store/wan: is not several stores"),
        (["store/wan+store/qwen", "s3://lab/x", "--fusion", "concat"], "fuse to a folder of this machine"),
        (["store/wan+store/qwen", "store/x", "--fusion", "lnconct"], "unknown fusion 'lnconct'. Did you mean lnconcat"),
    ],
)
def test_the_command_line_says_what_to_do(fused: FusedStore, arguments: list[str], message: str) -> None:
    found = run("copy", *arguments)
    assert found.returncode == 1
    assert message in found.stderr

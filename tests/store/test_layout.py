"""Where references lead, and that many processes may make one store at once."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from store import FeatureStore, StoreNotFoundError, find_stores, place, resolve, root
from tests.store.conftest import Example

PROJECT = Path(__file__).parents[2]


def test_a_reference_is_a_store_a_model_or_a_path(filled: Example, store_root: Path) -> None:
    for reference in ("store/toy", "toy", "toy/toys", "store/toy/toys", str(filled.path), str(filled.path.parent)):
        assert resolve(reference) == filled.path
    assert resolve("toy", "toys") == filled.path
    assert list(find_stores()) == [filled.path]
    assert FeatureStore.open(filled.path).name == "toy/toys"


def test_a_folder_that_is_no_store_does_not_capture_a_name(filled: Example, tmp_path: Path) -> None:
    (tmp_path / "toy").mkdir()
    assert place("toy") == root() / "toy"
    assert resolve("toy") == filled.path


def test_what_is_not_there_is_answered_with_what_is(filled: Example) -> None:
    with pytest.raises(StoreNotFoundError, match="Did you mean store/toy"):
        resolve("store/tyo")
    with pytest.raises(StoreNotFoundError, match=r"holds no dataset 'rooms'.*toys"):
        resolve("store/toy", "rooms")
    with pytest.raises(StoreNotFoundError, match="is the store of 'toys', not of 'rooms'"):
        resolve("store/toy/toys", "rooms")
    with pytest.raises(StoreNotFoundError, match="python -m store pull"):
        resolve("s3://bucket/toy")


def test_drafts_of_killed_writers_are_no_stores(filled: Example, store_root: Path) -> None:
    draft = filled.path.with_name(".toys.0123.partial")
    draft.mkdir()
    (draft / "recipe.json").write_text("{}")
    assert list(find_stores()) == [filled.path]
    assert resolve("toy") == filled.path


RACER = """
import sys, time
from pathlib import Path
from store import ArraySpec, ClipRow, DatasetRecipe, Recipe, create
import zarr
while time.time() < float(sys.argv[2]): pass
clips = [ClipRow(row=0, id="a", scene="a", split="train", bank=(0,), n_frames=1, digest="")]
data = DatasetRecipe(name="d", version="1", clips="0" * 32, bank=(0,), classes="0" * 32, image_size=(1, 1))
recipe = Recipe(kind="features", dataset=data)
specs = [ArraySpec(n, (1, 1, 1, 1), "float16", ("frame", "y", "x", "channel")) for n in "abc"]
create(Path(sys.argv[1]), recipe, clips, specs, attrs={}, coordinates={}, provenance={})
"""


def test_many_processes_make_one_store(store_root: Path) -> None:
    import time

    path = store_root / "race" / "d"
    path.parent.mkdir()
    start = str(time.time() + 4)
    racers = [
        subprocess.Popen(
            [sys.executable, "-c", RACER, str(path), start], stderr=subprocess.PIPE, text=True, cwd=PROJECT
        )
        for _ in range(4)
    ]
    for racer in racers:
        _, error = racer.communicate()
        assert racer.returncode == 0, error
    assert sorted(FeatureStore.open(path).arrays) == ["a", "b", "c"]
    assert not list(store_root.rglob("*.partial"))

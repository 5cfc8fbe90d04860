"""A folder of recordings with a name of its own: its stores lie beside those of others."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

import pytest
from typer.testing import CliRunner

from extract.__main__ import app
from extract.datasets.folder import FolderDataset
from extract.errors import DataError
from pipelines.commands import commands as command_lines
from pipelines.file import choose, load
from probes.inputs import open_inputs
from store import FeatureStore, StoreError
from tests.extract.folder.recordings import Poses, room, say, write
from tests.extract.folder.test_one_command import extract


def named(root: Path, name: str, seed: int = 0) -> Path:
    write(root / "a", room(seed))
    say(root / "dataset.json", name=name)
    return root


def test_two_folders_in_one_root_of_stores(tmp_path: Path, store_root: Path) -> None:
    for seed, name in enumerate(("kitchen", "Küche 2")):
        code, output = extract(named(tmp_path / name, name, seed))
        assert code == 0, output
        store = f"folder-{name}"
        assert (store_root / "targets" / store).is_dir()
        assert FeatureStore.open("targets", store).recipe.dataset.name == store
        features, targets = open_inputs("store/pixels", None, store)
        assert features.recipe.dataset.name == targets.recipe.dataset.name == store
    assert sorted(path.name for path in (store_root / "pixels").iterdir()) == ["folder-Küche 2", "folder-kitchen"]


def test_without_a_name_it_is_as_before_and_the_collision_names_the_remedy(tmp_path: Path) -> None:
    for seed, name in enumerate(("one", "two")):
        write(tmp_path / name / "a", room(seed))
    assert FolderDataset(tmp_path / "one").name == "folder"
    assert extract(tmp_path / "one")[0] == 0
    command = ["--model", "pixels", "--dataset", "folder", "--root", str(tmp_path / "two")]
    error = CliRunner().invoke(app, command).exception
    assert isinstance(error, StoreError)
    assert "targets/folder" in str(error)
    assert 'name of its own: {"name": "kitchen"} in its dataset.json' in str(error)


def test_the_name_is_no_setting(tmp_path: Path) -> None:
    dataset = FolderDataset(named(tmp_path / "data", "kitchen"))
    settings = dataset.facts()["settings"]
    say(tmp_path / "data/dataset.json", name="other")
    assert FolderDataset(tmp_path / "data").facts()["settings"] == settings
    (tmp_path / "data/dataset.json").unlink()
    assert FolderDataset(tmp_path / "data").facts()["settings"] == settings


@pytest.mark.parametrize("name", ["", ".kitchen", "a/b", "a\\b", "a\n", "..", "x" * 151, 3])
def test_names_that_are_none(tmp_path: Path, name: str) -> None:
    with pytest.raises(DataError, match=r"(?s)dataset\.json: not as expected: .*name"):
        FolderDataset(named(tmp_path / "data", name))


def test_a_long_name_is_a_name(tmp_path: Path) -> None:
    code, output = extract(named(tmp_path / "data", "x" * 150))
    assert code == 0, output


PIPELINE = """\
mine:
  about: a test
  dataset: {name: folder}
  extract:
    - model: pixels
"""


def commands(tmp_path: Path, root: Path) -> list[str]:
    path = tmp_path / "file.yaml"
    path.write_text(PIPELINE.replace("folder}", f"folder, root: {json.dumps(str(root))}}}"))
    return [shlex.join(each) for each in command_lines(choose(load(path), "mine"))]


def test_a_pipeline_probes_the_stores_that_its_extraction_writes(tmp_path: Path, store_root: Path) -> None:
    root = named(tmp_path / "data", "kitchen")
    extraction, probing, report = commands(tmp_path, root)
    assert extraction == f"python -m extract --model pixels --dataset folder --root {root}"
    assert extract(root)[0] == 0
    assert probing.startswith("python -m probes.train --features store/pixels --dataset folder-kitchen ")
    features, targets = open_inputs("store/pixels", None, "folder-kitchen")
    assert (features.name, targets.name) == ("pixels/folder-kitchen", "targets/folder-kitchen")
    assert report.startswith("python -m evaluate --runs runs/pixels-folder-kitchen ")


def test_a_pipeline_of_a_folder_that_is_not_there_yet(tmp_path: Path) -> None:
    assert " --dataset folder " in commands(tmp_path, tmp_path / "nowhere")[1]


def test_a_pipeline_heeds_the_variable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FOLDER_ROOT", str(named(tmp_path / "data", "kitchen")))
    (tmp_path / "file.yaml").write_text(PIPELINE)
    found = choose(load(tmp_path / "file.yaml"), "mine")
    assert found.dataset.store == "folder-kitchen"


@pytest.mark.parametrize(
    ("poses", "labels", "said", "unit"),
    [
        ("colmap-binary", False, {}, "1"),
        ("nerfstudio", False, {}, "1"),
        ("nerfstudio", False, {"pose_scale": 1}, "m"),
        ("colmap-binary", True, {}, "m"),
        ("tum", False, {}, "m"),
        (None, True, {}, "m"),
        (None, False, {}, "m"),
    ],
)
def test_the_unit_of_lengths(
    tmp_path: Path, poses: Poses | None, labels: bool, said: dict[str, float], unit: str
) -> None:
    write(tmp_path / "data/a", room(), poses, labels=labels)
    say(tmp_path / "data/dataset.json", **said)
    assert FolderDataset(tmp_path / "data").depth_unit == unit
    assert extract(tmp_path / "data")[0] == 0
    targets = FeatureStore.open("targets", "folder")
    assert targets.attrs["length_unit"] == unit
    if poses:
        assert ("metres" in targets.arrays["cam_to_world"].attrs["description"]) == (unit == "m")

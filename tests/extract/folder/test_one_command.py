"""Anyone's recordings in one command; what is broken is listed, and the rest is done."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from extract.__main__ import app
from store import FeatureStore
from tests.extract.folder.recordings import moving_pictures, room, write, write_video


def extract(root: Path, *flags: str) -> tuple[int, str]:
    result = CliRunner().invoke(app, ["--model", "pixels", "--dataset", "folder", "--root", str(root), *flags])
    return result.exit_code, result.output


def test_a_film_and_nothing_else(tmp_path: Path, store_root: Path) -> None:
    (tmp_path / "my recordings").mkdir()
    write_video(tmp_path / "my recordings/Küche 1.mp4", moving_pictures(30), rotation=-90)
    code, output = extract(tmp_path / "my recordings")
    assert code == 0, output
    features = FeatureStore.open("pixels", "folder")
    assert [clip.id for clip in features.clips] == ["Küche 1"]
    assert features.recipe.dataset.image_size == (64, 48)
    assert features.recipe.dataset.settings["targets"] == []
    targets = FeatureStore.open("targets", "folder")
    assert set(targets.arrays) == {"rgb"}


def test_recordings_with_everything_and_one_that_is_broken(tmp_path: Path, store_root: Path) -> None:
    root = tmp_path / "data"
    for n, name in enumerate(("one", "two", "three")):
        write(root / name, room(n), "colmap-binary")
    (root / "two/images/frame_01.png").write_bytes(b"")
    code, output = extract(root)
    assert code == 1
    assert "frame_01.png: an empty file" in output
    features, targets = FeatureStore.open("pixels", "folder"), FeatureStore.open("targets", "folder")
    done = {clip.id: bool(targets.committed.mask("depth")[clip.row]) for clip in targets.clips}
    assert done == {"one": True, "two": False, "three": True}
    assert features.recipe.dataset.settings["pose_unit"] == "arbitrary, one per scene"
    row = next(clip.row for clip in targets.clips if clip.id == "three")
    pose = targets.read("cam_to_world", row=row)
    np.testing.assert_allclose(pose[: len(pose)], room(2).cam_to_world[: len(pose)], atol=1e-9)


def test_the_data_set_is_listed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / "data/a", room(), labels=False)
    monkeypatch.setenv("FOLDER_ROOT", str(tmp_path / "data"))
    result = CliRunner().invoke(app, ["datasets", "--json"])
    assert result.exit_code == 0
    (row,) = (row for row in json.loads(result.output) if row["data set"] == "folder")
    assert row["variable"] == "FOLDER_ROOT"
    assert row["found"].startswith("1 clips in ")


def test_the_list_says_what_cannot_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "data/chess").mkdir(parents=True)
    (tmp_path / "data/chess/seq-01.zip").write_bytes(b"")
    monkeypatch.setenv("SEVEN_SCENES_ROOT", str(tmp_path / "data"))
    rows = json.loads(CliRunner().invoke(app, ["datasets", "--json"]).output)
    (found,) = (row["found"] for row in rows if row["data set"] == "7scenes")
    assert found == f"0 clips in {tmp_path / 'data'}; 1 cannot be read"

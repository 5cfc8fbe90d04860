"""DL3DV in one command, into stores; and what a probe can ask for."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from extract.__main__ import app
from store import FeatureStore
from tests.extract.dl3dv.tiny_dl3dv import FRAMES, SEEN, hash_of, label_arrays, room, write_labels, write_scene

FLAGS = ("--clip-frames", "8", "--bank", "3")


def extract(root: Path, dataset: str, *flags: str) -> tuple[int, str]:
    result = CliRunner().invoke(app, ["--model", "pixels", "--dataset", dataset, "--root", str(root), *flags])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.exit_code, result.output


@pytest.mark.parametrize("dataset", ["dl3dv", "dl3dv-paper"])
def test_labels_of_a_network_into_a_store(root: Path, dataset: str) -> None:
    for n in range(2):
        write_scene(root / "1K" / hash_of(n), room(n))
        write_labels(root, "1K", hash_of(n), label_arrays(n))
    code, output = extract(root, dataset, *FLAGS)
    assert code == 0, output
    features, targets = FeatureStore.open("pixels", dataset), FeatureStore.open("targets", dataset)
    settings = features.recipe.dataset.settings
    assert (settings["labels"], settings["targets"]) == (["vggt"], "network")
    assert settings["sampling"] == {"frames": 8, "window": "run", "bank": 3}
    assert set(targets.arrays) == {"rgb", "depth", "confidence", "cam_to_world", "intrinsics"}
    assert targets.arrays["confidence"].shape[1:] == (3, *SEEN)
    rows = {clip.id: clip.row for clip in targets.clips}
    arrays = label_arrays(1)
    depth = targets.read("depth", row=rows[hash_of(1)])
    np.testing.assert_array_equal(depth, arrays["depthmaps"][[0, 4, 7]][..., 0])
    assert targets.arrays["depth"].attrs["units"] == "1"
    assert "surer" in targets.arrays["confidence"].attrs["description"]


def test_the_release_alone_and_a_scene_that_is_broken(root: Path) -> None:
    for n in range(3):
        write_scene(root / "1K" / hash_of(n), room(n))
    (root / "1K" / hash_of(1) / "images_4/frame_00003.png").unlink()
    code, output = extract(root, "dl3dv", "--skip-damaged", "--json")
    assert code == 1
    summary = json.loads(output[output.index("{\n") :])
    assert list(summary["failed"]) == [hash_of(1)]
    targets = FeatureStore.open("targets", "dl3dv")
    assert set(targets.arrays) == {"rgb", "cam_to_world", "intrinsics"}
    assert [clip.n_frames for clip in targets.clips] == [FRAMES] * 2
    row = next(clip.row for clip in targets.clips if clip.id == hash_of(2))
    bank = list(targets.clips[row].bank)
    found = targets.read("cam_to_world", row=row)
    np.testing.assert_allclose(found[: len(bank)], room(2).cam_to_world[bank], atol=1e-9)

"""ARKitScenes in one command: features and targets; what is broken is listed, and the rest is done."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from typer.testing import CliRunner

from extract.__main__ import app
from store import FeatureStore
from tests.extract.arkitscenes.tiny_arkit import Filmed, name


def extract(root: Path) -> tuple[int, str]:
    result = CliRunner().invoke(app, ["--model", "pixels", "--dataset", "arkitscenes", "--root", str(root)])
    return result.exit_code, result.output


def test_features_and_targets(root: Path, store_root: Path, filmed: Filmed) -> None:
    (root / f"3dod/Training/41000002/41000002_frames/lowres_depth/{name('41000002', 0)}.png").write_bytes(b"")
    code, output = extract(root)
    assert code == 1
    assert "truncated" in output
    features, targets = FeatureStore.open("pixels", "arkitscenes"), FeatureStore.open("targets", "arkitscenes")
    assert set(targets.arrays) == {"rgb", "depth", "cam_to_world", "intrinsics"}
    assert [(clip.id, clip.split) for clip in features.clips] == [
        ("41000001", "train"),
        ("41000002", "val"),
        ("42000001", "test"),
    ]
    done = [bool(targets.committed.mask("depth")[clip.row]) for clip in targets.clips]
    assert done == [True, False, True]
    bank = list(targets.clips[0].bank)
    np.testing.assert_allclose(targets.read("cam_to_world", row=0), filmed.cam_to_world[bank], atol=1e-6)
    np.testing.assert_allclose(targets.read("depth", row=0), filmed.depth[bank] / 1000, rtol=1e-6)
    assert features.recipe.dataset.settings["release"] == "3dod"

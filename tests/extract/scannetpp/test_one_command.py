"""ScanNet++ in one command: features and targets; what is broken is listed, and the rest is done."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from typer.testing import CliRunner

from extract.__main__ import app
from store import FeatureStore
from tests.extract.scannetpp.tiny_scenes import TEST, TRAIN, VAL, Filmed


def test_features_and_targets(root: Path, store_root: Path, filmed: Filmed) -> None:
    (root / "data" / VAL / "iphone/depth.bin").write_bytes(b"")
    flags = ["--model", "pixels", "--dataset", "scannetpp", "--root", str(root), "--clip-window", "whole"]
    result = CliRunner().invoke(app, [*flags, "--clip-frames", "20", "--bank", "3"])
    assert result.exit_code == 1
    assert "depth.bin: truncated" in result.output
    features, targets = FeatureStore.open("pixels", "scannetpp"), FeatureStore.open("targets", "scannetpp")
    assert set(targets.arrays) == {"rgb", "depth", "cam_to_world", "intrinsics"}
    assert [(clip.id, clip.split) for clip in features.clips] == [(TRAIN, "train"), (VAL, "val"), (TEST, "test")]
    done = [bool(targets.committed.mask("depth")[clip.row]) for clip in targets.clips]
    assert done == [True, False, True]
    for row in (0, 2):
        np.testing.assert_allclose(targets.read("depth", row=row)[[0, 2]], filmed.depth[[0, 23]] / 1000, rtol=1e-6)
        np.testing.assert_allclose(targets.read("cam_to_world", row=row)[2], filmed.cam_to_world[23], atol=1e-6)
    assert features.recipe.dataset.image_size == (720, 960)
    assert features.recipe.dataset.settings["camera"] == "iphone"

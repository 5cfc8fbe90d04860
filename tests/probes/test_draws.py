"""Runs on features that differ only in the noise drawn are repeats of one model, whose tables show their mean."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from evaluate.records import Run
from evaluate.table import build
from probes.train import app
from tests.reseal import edit_recipe


def test_two_draws_with_two_seeds_each_are_one_model(
    world_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs = []
    for noise in (0, 5):
        root = tmp_path / f"stores-{noise}"
        for name in ("toy", "targets"):
            shutil.copytree(world_root / name / "world", root / name / "world")
        edit_recipe(root / "toy" / "world", lambda recipe, seed=noise: recipe.update(noise={"seed": seed, "draws": 1}))
        monkeypatch.setenv("FEATURE_STORE", str(root))
        out = tmp_path / f"run-{noise}"
        asked = ["--features", "store/toy", "--taps", "blocks.1@t500", "--task", "depth", "--views", "3"]
        asked += [
            "--epochs",
            "1",
            "--learning-rate",
            "0.01",
            "--seed",
            "0",
            "--seed",
            "1",
            "--device",
            "cpu",
            "--out",
            str(out),
        ]
        app(asked, standalone_mode=False)
        runs.append(Run.open(out))
    first, second = (run.info for run in runs)
    assert first.features_fingerprint != second.features_fingerprint
    assert first.draw_of == second.draw_of == first.features_fingerprint
    (axis,) = build(runs, resamples=20)
    (model,) = axis.models
    (tap,) = model.taps
    assert [repeat.probe.seed for repeat in tap.repeats] == [0, 1, 0, 1]
    assert len(set(tap.draws)) == 2
    alone = [build([run], resamples=20)[0].leader.best.test.values["absrel"] for run in runs]
    assert tap.test.values["absrel"] == pytest.approx(np.mean(alone))

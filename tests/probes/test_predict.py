"""What is predicted of whole clips, and what is chosen from that."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from evaluate.protocols import protocol_of
from evaluate.records import Run
from probes.bank import ProbeBank
from probes.config import ProbeSpec, TapSpec
from probes.labels import LabelSpace
from probes.predict import _outputs
from probes.standardise import Standardiser
from probes.tasks import tasks_of
from probes.train import app
from probes.views import windows

CHANNELS = 12
TAP = TapSpec(name="x", site="x", depth=0, noise=None, channels=CHANNELS, grid_map=(1.0, 0.0, 1.0, 0.0))
SPACE = LabelSpace(height=8, width=8)


def bank_of(head: str, depth: int | None) -> ProbeBank:
    """A depth probe whose views see each other as much as they can."""
    probe = ProbeSpec(task="depth", tap="x", head=head, learning_rate=1, weight_decay=0, seed=0, width=16, depth=depth)
    standardiser = Standardiser(torch.zeros(CHANNELS), torch.ones(CHANNELS))
    bank = ProbeBank([probe], {"x": TAP}, tasks_of([probe], SPACE), {"x": standardiser}).eval()
    for name, parameter in bank.named_parameters():
        if name.endswith("_scale"):
            torch.nn.init.ones_(parameter)
    return bank


@pytest.mark.parametrize("frames", [6, 7, 8])
@torch.inference_mode()
def test_frames_are_judged_in_windows_as_large_as_those_of_training(frames: int) -> None:
    bank, views = bank_of("alternating", 1), windows(frames, 3)
    features = torch.randn(1, frames, 2, 2, CHANNELS, generator=torch.Generator().manual_seed(0))
    grid = bank.grid("x", features)
    outputs = _outputs(bank, 0, grid, grid.windows(torch.from_numpy(views)), views)
    assert outputs.shape[:2] == (1, frames)
    assert outputs.isfinite().all()
    for window in views:
        alone = bank(0, bank.grid("x", features[:, window]))
        torch.testing.assert_close(outputs[:, window], alone)
    at_once = bank(0, grid)
    assert (at_once[:, views[0]] - outputs[:, views[0]]).abs().max() > 1e-4  # that it matters
    for last in range(views.size, frames):  # what is left over is seen among others, and by itself nowhere
        assert (outputs[:, last] - bank(0, bank.grid("x", features[:, [last]]))[:, 0]).abs().max() > 1e-4


@pytest.mark.parametrize(("head", "depth"), [("alternating", 0), ("dpt", None)])
@torch.inference_mode()
def test_heads_whose_views_do_not_see_each_other_take_all_frames_at_once(head: str, depth: int | None) -> None:
    bank, views = bank_of(head, depth), windows(6, 3)
    assert not bank.head(0).across
    grid = bank.grid("x", torch.randn(1, 6, 2, 2, CHANNELS))
    outputs = _outputs(bank, 0, grid, grid.windows(torch.from_numpy(views)), views)
    for window in views:
        torch.testing.assert_close(outputs[0, window], bank(0, grid.windows(torch.from_numpy(window[None])))[0])


def test_nobody_chooses_between_seeds(world: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The printed numbers are means over them, and so is what the tap is chosen by."""
    arguments = ["--features", "store/toy", "--views", "3", "--device", "cpu", "--pixels", "96", "--task", "grouping"]
    seeds = ["--seed", "0", "--seed", "1", "--seed", "2"]
    settings = ["--epochs", "2", "--weight-decay", "0.01", "--learning-rate", "0.01"]
    app([*arguments, *seeds, *settings, "--json", "--out", "runs/one"], standalone_mode=False)
    (best,) = json.loads(capsys.readouterr().out)["best"]
    found = Run.open("runs/one")
    protocol = protocol_of(found.info.protocols["grouping"], [])

    def mean(tap: str, split: str) -> tuple[float, float]:
        probes = [probe.id for probe in found.info.probes if probe.tap == tap]
        assert len(probes) == 3
        values = [protocol.reduce(found.statistics("grouping", probe, split)[1])[protocol.primary] for probe in probes]
        return float(np.mean(values)), float(np.std(values))

    means = {tap: mean(tap, "val") for tap in ("blocks.0", "blocks.1@t500")}
    assert best["tap"] == max(means, key=lambda tap: means[tap][0])
    assert means[best["tap"]][1] > 0
    assert best["val"] == pytest.approx(means[best["tap"]][0])
    assert best["test"][protocol.primary] == pytest.approx(mean(best["tap"], "test")[0])
    assert best["probe"].endswith("seed0")

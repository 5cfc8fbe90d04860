"""`--batch-clips`: clips that share a forward have the features that they have alone, and fail alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from extract import loop
from extract.backbones.base import Options
from extract.engine import batch_features
from extract.errors import ExtractError
from extract.loop import extract
from extract.outcome import Outcome
from extract.plan import Plan, Request, make_plan
from extract.progress import Progress
from extract.registry import families, make_dataset, make_family
from store import FeatureStore
from tests.extract.tiny_rooms import write_rooms

CPU = torch.device("cpu")
MODEL = "mobilenetv2"
SITES = ["blocks.0", "blocks.9"]


@pytest.fixture
def rooms(tmp_path: Path) -> Path:
    write_rooms(tmp_path / "rooms", splits=["train"] * 3 + ["val", "test"], size=(32, 32), frames=3)
    return tmp_path / "rooms"


def plan_for(rooms: Path, batch: int, **request: Any) -> Plan:
    family = make_family(MODEL, Options(size=(64, 64), batch_clips=batch))
    return make_plan(
        family, make_dataset("rooms", rooms), Request(**{"sites": SITES, "store_dtype": "float32"} | request)
    )


def run(plan: Plan) -> Outcome:
    return extract(plan, CPU, Progress(quiet=True))


def batches(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """Ids of clips that were given together."""
    found: list[list[str]] = []

    def recorded(*arguments: Any) -> Any:
        found.append([clip.id for clip in arguments[2]])
        return batch_features(*arguments)

    monkeypatch.setattr(loop, "batch_features", recorded)
    return found


@pytest.mark.parametrize("batch", [2, 5, 9])
def test_batches_give_what_clips_give_alone(rooms: Path, batch: int, monkeypatch: pytest.MonkeyPatch) -> None:
    together = batches(monkeypatch)
    alone, joined = plan_for(rooms, 1, out="alone"), plan_for(rooms, batch, out="joined")
    assert sorted(run(alone).done) == sorted(run(joined).done) == list(range(5))
    assert [len(each) for each in together] == {2: [2, 2], 5: [5], 9: [5]}[batch]  # one left over is given alone
    a, b = FeatureStore.open(alone.path), FeatureStore.open(joined.path)
    for row in range(5):
        for tap in a.taps:
            np.testing.assert_allclose(b.read(tap, row), a.read(tap, row), rtol=1e-4, atol=1e-4)
    for row in range(1, 5):
        assert not np.allclose(a.read(SITES[0], 0), a.read(SITES[0], row))


def test_the_recipe_says_so(rooms: Path) -> None:
    plain, two, three = (plan_for(rooms, batch).recipe for batch in (1, 2, 3))
    assert len({plain.fingerprint, two.fingerprint, three.fingerprint}) == 3
    assert plain.backbone is not None
    assert two.backbone is not None
    assert "batch_clips" not in plain.backbone.settings
    assert two.backbone.settings == {**plain.backbone.settings, "batch_clips": 2}


def test_clips_that_lack_other_taps_are_not_joined(rooms: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run(plan_for(rooms, 4, sites=SITES[:1], limit=2))
    together = batches(monkeypatch)
    assert len(run(plan_for(rooms, 4)).done) == 5
    assert together == [["tiny_00", "tiny_01"], ["tiny_02", "tiny_03", "tiny_04"]]


def test_a_clip_that_cannot_be_read_leaves_its_batch(rooms: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plan = plan_for(rooms, 3)
    image = next((rooms / "tiny_01" / "rgb").iterdir())
    image.write_bytes(image.read_bytes()[:40])
    together = batches(monkeypatch)
    outcome = run(plan)
    assert list(outcome.failed) == ["tiny_01"]
    assert together[0] == ["tiny_00", "tiny_02"]
    assert sorted(outcome.done) == [0, 2, 3, 4]


def test_a_clip_that_overflows_fails_alone(rooms: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plan = plan_for(rooms, 5, store_dtype="float16")
    load = type(plan.family).load

    def loud(self: Any, *arguments: Any) -> Any:
        backbone = load(self, *arguments)
        grid = backbone.grid

        def scaled(site: Any, output: Any, state: Any) -> Any:
            # Frames go two by two: clip 1 has the second half of part 1, and part 2.
            return grid(site, output, state) * (1e9 if list(state.rows) == [4, 5] else 1)

        backbone.grid = scaled
        return backbone

    monkeypatch.setattr(type(plan.family), "load", loud)
    outcome = run(plan)
    assert list(outcome.failed) == ["tiny_01"]
    assert "does not fit float16" in outcome.failed["tiny_01"]
    assert sorted(outcome.done) == [0, 2, 3, 4]


def test_a_fault_of_the_network_fails_the_batch(rooms: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def wrong(*_: Any) -> None:
        raise ExtractError("the network is not what it says")

    monkeypatch.setattr(loop, "batch_features", wrong)
    outcome = run(plan_for(rooms, 3))
    assert set(outcome.failed.values()) == {"the network is not what it says"}
    assert len(outcome.failed) == 5


@pytest.mark.parametrize("model", sorted(families()))
def test_only_models_of_single_frames_take_batches(model: str) -> None:
    facts = make_family(model)
    if facts.batches:
        assert facts.kind in ("encoder", "control")
        make_family(model, Options(batch_clips=4))
    else:
        with pytest.raises(ExtractError, match=rf"^--batch-clips 4: {model} computes one clip at a time"):
            make_family(model, Options(batch_clips=4))

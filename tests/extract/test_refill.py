"""What `verify --drop` takes back is exactly what the next extraction computes again, to the bit."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from extract import loop
from extract.loop import extract
from extract.outcome import Outcome
from extract.plan import Plan, Request, make_plan
from extract.progress import Progress
from extract.registry import make_dataset
from extract.targets import targets_path, write_targets
from store.upkeep.drop import drop
from store.upkeep.verify import verify
from tests.extract.tiny_rooms import write_rooms
from tests.extract.toy_family import ToyFamily


@pytest.fixture
def plan(tmp_path: Path) -> Plan:
    write_rooms(tmp_path / "rooms", splits=("train", "val", "test"), size=(32, 32), frames=3)
    request = Request(sites=["latent", "blocks.0"], noise=["sigma=2"])
    return make_plan(ToyFamily("toy"), make_dataset("rooms", tmp_path / "rooms"), request)


def shards(path: Path) -> dict[str, bytes]:
    return {str(file.relative_to(path)): file.read_bytes() for file in path.glob("features.zarr/*/c.*")}


def spoil(path: Path, name: str) -> None:
    """Flip a bit, and have it dropped."""
    content = bytearray((path / name).read_bytes())
    content[len(content) // 2] ^= 4
    (path / name).write_bytes(content)
    assert drop(verify(path, deep=True)).shards == 1


def run(plan: Plan) -> Outcome:
    return extract(plan, torch.device("cpu"), Progress(quiet=True))


def test_one_tap_of_one_clip_is_refilled(plan: Plan, monkeypatch: pytest.MonkeyPatch) -> None:
    run(plan)
    before = shards(plan.path)
    asked = []
    original = loop.clip_features

    def recorded(*arguments: object) -> object:
        asked.append([tap.name for tap in arguments[-1]])  # type: ignore[attr-defined]
        return original(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(loop, "clip_features", recorded)
    spoil(plan.path, "features.zarr/blocks.0@sigma2/c.1.0.0.0.0")
    assert run(plan).done == [1]
    assert asked == [["blocks.0@sigma2"]]
    assert shards(plan.path) == before
    assert verify(plan.path, deep=True).bad == []
    assert run(plan).done == []


def test_one_label_of_one_clip_is_refilled(plan: Plan) -> None:
    def write() -> list[int]:
        return write_targets(plan.dataset, plan.clips, plan.table, plan.rows, Progress(quiet=True)).done

    assert write() == [0, 1, 2]
    path = targets_path(plan.dataset)
    before = shards(path)
    spoil(path, "features.zarr/depth/c.2.0.0.0")
    assert write() == [2]
    assert shards(path) == before
    assert verify(path, deep=True).bad == []
    assert write() == []

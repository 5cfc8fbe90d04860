"""What reaches main memory is what was computed, in the store's type, however busy the device is."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from extract.errors import NonFiniteFeatureError
from extract.landing import Landing
from extract.loop import extract
from extract.plan import Plan, Request, make_plan
from extract.progress import Progress
from extract.registry import make_dataset
from extract.transfer import Transfer, transfer
from store import FeatureStore
from store.casting import to_physical
from tests.extract.tiny_rooms import write_rooms
from tests.extract.toy_family import ToyFamily

DEVICES = [
    "cpu",
    pytest.param("cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")),
]
ROWS = [[range(3)], [range(2), [2]], [[2, 0], [1]]]


@pytest.fixture
def rooms(tmp_path: Path) -> Path:
    write_rooms(tmp_path / "rooms", splits=("train", "val"), size=(32, 32), frames=3)
    return tmp_path / "rooms"


def plan_for(rooms: Path, **request: Any) -> Plan:
    return make_plan(ToyFamily("toy"), make_dataset("rooms", rooms), Request(sites=["blocks.0"], **request))


def landing(plan: Plan, device: str) -> Landing:
    return Landing(plan, plan.clips[0], transfer(torch.device(device)))


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("rows", ROWS, ids=str)
@pytest.mark.parametrize("store_dtype", ["float16", "bfloat16", "float32", "int8-channel"])
def test_values_arrive_as_the_store_casts_them(rooms: Path, device: str, rows: list[Any], store_dtype: str) -> None:
    plan = plan_for(rooms, store_dtype=store_dtype)
    values = torch.randn(3, 8, 8, 6, generator=torch.Generator().manual_seed(0)) * 100
    lands = landing(plan, device)
    for part in rows:
        # As from a network: channels lie before rows and columns.
        given = values[list(part)].permute(0, 3, 1, 2).contiguous().to(device).permute(0, 2, 3, 1)
        lands.take(plan.taps[0], given, part)
    lands.depart()
    (found,) = lands.arrive().values()
    expected = to_physical(values.numpy(), store_dtype, "here")
    assert found.dtype == expected.dtype
    assert np.array_equal(found, expected)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize(
    ("value", "store_dtype", "message"),
    [
        (float("nan"), "float16", r"tap blocks\.0@sigma1: 1 of 1152 values are NaN or infinite in float32"),
        (float("-inf"), "float32", r"1 of 1152 values are NaN or infinite in float32"),
        (-65520.0, "float16", r"the largest magnitude, 6\.552e\+04, does not fit float16.*--store-dtype bfloat16"),
        (3.4e38, "bfloat16", r"the largest magnitude, 3\.4e\+38, does not fit bfloat16"),
    ],
)
def test_values_that_no_store_takes_are_found(
    rooms: Path, device: str, value: float, store_dtype: str, message: str
) -> None:
    plan = plan_for(rooms, store_dtype=store_dtype)
    for row in range(3):
        values = torch.zeros(3, 8, 8, 6)
        values[row, 3, 4, 5] = value
        lands = landing(plan, device)
        for part in ([0, 1], [2]):
            lands.take(plan.taps[0], values[part].to(device), part)
        lands.depart()
        with pytest.raises(NonFiniteFeatureError, match=message):
            lands.arrive()


def test_the_largest_that_fits_is_taken(rooms: Path) -> None:
    lands = landing(plan_for(rooms), "cpu")
    lands.take(plan_for(rooms).taps[0], torch.full((3, 8, 8, 6), 65519.0), range(3))
    lands.depart()
    assert (lands.arrive()["blocks.0@sigma1"] == 65504).all()


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_copies_are_whole_however_busy_the_gpu_is() -> None:
    copies = transfer(torch.device("cuda"))
    load = torch.randn(4096, 4096, device="cuda")
    sent, fetched = [], []
    for number in range(20):
        frames = copies.stage(torch.full((4, 64, 64, 3), number, dtype=torch.uint8))
        there = copies.send(frames)
        del frames
        for _ in range(5):
            load = load @ load / load.norm()
        values = there.float() + load[0, 0] * 0
        fetched.append((copies.fetch(values), copies.mark()))
        sent.append(number)
        del there, values  # their memory may be given out again
        torch.full((4, 64, 64, 3), -1.0, device="cuda")
    for number, (values, wait) in zip(sent, fetched, strict=True):
        wait()
        assert (values == number).all()


class Late(Transfer):
    """A device that copies when it is waited for, and not before: what CUDA may do at worst."""

    ahead = 1

    def __init__(self) -> None:
        super().__init__(torch.device("cpu"))
        self.queued: list[tuple[Tensor, Tensor]] = []
        self.most = 0

    def fetch(self, values: Tensor, into: Tensor | None = None) -> Tensor:
        into = torch.full_like(values, -7) if into is None else into
        self.queued.append((into, values))
        return into

    def mark(self) -> Any:
        now = list(self.queued)
        self.queued.clear()

        def wait() -> None:
            with torch.inference_mode():
                for into, values in now:
                    into.copy_(values)

        return wait


def test_a_clip_is_put_while_the_next_is_computed(rooms: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The loop of a GPU, with copies that come as late as they may; nothing is looked at before it is there."""
    from extract import engine, loop

    plan = plan_for(rooms, out="late")
    late = Late()
    events: list[str] = []
    original, arrive = loop.__dict__["clip_features"], Landing.arrive

    def launched(*arguments: Any) -> Any:
        events.append(f"launch {arguments[2].id}")
        return original(*arguments)

    def arrived(self: Landing) -> Any:
        events.append(f"arrive {self.clip.id}")
        return arrive(self)

    for module in (engine, loop):
        monkeypatch.setattr(module, "transfer", lambda device: late)
    monkeypatch.setattr(loop, "clip_features", launched)
    monkeypatch.setattr(Landing, "arrive", arrived)
    extract(plan, torch.device("cpu"), Progress(quiet=True))
    assert events == ["launch tiny_00", "launch tiny_01", "arrive tiny_00", "arrive tiny_01"]
    monkeypatch.undo()
    plain = plan_for(rooms, out="plain")
    extract(plain, torch.device("cpu"), Progress(quiet=True))
    for row in range(2):
        a, b = (FeatureStore.open(each.path).read("blocks.0@sigma1", row) for each in (plan, plain))
        assert np.array_equal(a, b)

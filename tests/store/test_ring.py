"""The ring hands out what was asked for, in order, in memory of its own, and ends cleanly however it ends."""

from __future__ import annotations

import gc
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from store import CorruptShardError, FeatureStore, MissingClipError, UnknownArrayError
from store.reading.batch import dequantise
from store.reading.ring import Ring
from store.reading.slot import ClipRead
from tests.store.many_clips import FRAMES, GRID, TAPS, assert_equals_read, no_thread_is_left, same, write_many_clips

Requests = list[list[tuple[int, list[int]]]]
REQUESTS: Requests = [[(3, [0, 2]), (0, [4, 1]), (7, [3, 3])], [(10, [0, 1]), (3, [0, 2])], [(5, [4, 0])]] * 5


@pytest.fixture
def store(store_root: Path) -> FeatureStore:
    return write_many_clips(store_root / "toy" / "many")


def ring(store: FeatureStore, **options: Any) -> Ring:
    return Ring(store, **{"taps": list(TAPS), "clips": 3, "frames": 2, "pin": False} | options)


def damage(store: FeatureStore, tap: str, row: int) -> None:
    """Flip one bit of the first frame."""
    path = store.path / "features.zarr" / tap / f"c.{row}.0.0.0.0"
    content = bytearray(path.read_bytes())
    content[1] ^= 1
    path.chmod(0o644)
    path.write_bytes(content)


@pytest.mark.parametrize("threads", [1, 2, 5])
@pytest.mark.parametrize("slots", [1, 2, 4])
def test_values_are_those_of_read_in_the_order_of_requests(store: FeatureStore, slots: int, threads: int) -> None:
    batches = ring(store, slots=slots, threads=threads).read(REQUESTS)
    for batch, request in zip(batches, REQUESTS, strict=True):
        assert batch.rows.tolist() == [row for row, _ in request]
        assert batch.frames.tolist() == [frames for _, frames in request]
        assert_equals_read(batch, store)


def test_features_come_in_their_storage_type(store: FeatureStore) -> None:
    batch = next(ring(store).read(REQUESTS))
    assert {tap: values.dtype for tap, values in batch.features.items()} == {
        "half": torch.float16,
        "brain": torch.bfloat16,
        "single": torch.float32,
        "byte": torch.int8,
    }
    assert all(values.shape == (3, 2, *GRID) for values in batch.features.values())
    assert {tap: scale.shape for tap, scale in batch.scales.items()} == {"byte": (3, GRID[-1])}


def test_int8_becomes_the_numbers_that_read_gives(store: FeatureStore) -> None:
    batch = next(ring(store, taps=["byte"]).read([[(2, [0, 1]), (3, [0, 1])]]))
    expected = torch.from_numpy(np.stack([store.read("byte", 2, [0, 1]), store.read("byte", 3, [0, 1])]))
    assert torch.equal(batch.values("byte"), expected)
    half = dequantise(batch.features["byte"], batch.scales["byte"], torch.float16)
    assert half.dtype == torch.float16
    assert torch.equal(half, expected.half())
    of_one_clip = dequantise(batch.features["byte"][1], batch.scales["byte"][1])
    assert torch.equal(of_one_clip, expected[1])


def test_the_memory_is_stated_and_used_again(store: FeatureStore) -> None:
    reader = ring(store, slots=2)
    cells = 3 * 2 * int(np.prod(GRID))
    assert reader.nbytes == 2 * (cells * (2 + 2 + 4 + 1) + 3 * 2 * GRID[-1] * 4)
    places = [batch.features["half"].data_ptr() for _ in range(3) for batch in reader.read(REQUESTS)]
    assert len(places) == 3 * len(REQUESTS)
    assert len(set(places)) == 2


def test_batches_may_have_any_shape_that_fits(store: FeatureStore) -> None:
    requests: Requests = [[(0, [0, 1, 2, 3, 4])], [(row, [row % FRAMES]) for row in range(6)], [(1, [2, 0, 1])] * 2]
    for batch, request in zip(ring(store).read(requests), requests, strict=True):
        assert batch.features["half"].shape == (len(request), len(request[0][1]), *GRID)
        assert_equals_read(batch, store)


def test_a_batch_is_not_touched_while_the_consumer_holds_it(
    store: FeatureStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    finished = count_reads(monkeypatch)
    slots, per_batch = 3, 2 * len(TAPS)
    requests: Requests = [[(row, [0, 1]), ((row + 1) % 11, [2, 4])] for row in range(11)]
    for number, batch in enumerate(ring(store, slots=slots, clips=2).read(requests), 1):
        held = batch.clone()
        ahead = min(len(requests), number + slots - 1)
        wait_for(lambda ahead=ahead: len(finished) >= ahead * per_batch)
        time.sleep(0.01)
        assert len(finished) == ahead * per_batch, "all other slots are read ahead, and no more"
        assert same(batch, held)
        assert_equals_read(held, store)


def test_all_threads_work_on_one_batch(store: FeatureStore, monkeypatch: pytest.MonkeyPatch) -> None:
    together, read = threading.Barrier(4, timeout=20), FeatureStore.read

    def meet(self: FeatureStore, *args: Any, **kwargs: Any) -> Any:
        if threading.current_thread() is not threading.main_thread():
            together.wait()  # passes only if four clips are read at once
        return read(self, *args, **kwargs)

    monkeypatch.setattr(FeatureStore, "read", meet)
    requests: Requests = [[(row, [0]) for row in range(4)]]
    (batch,) = ring(store, taps=["half"], clips=4, slots=1, threads=4).read(requests)
    assert_equals_read(batch, store, ["half"])


def test_the_first_epoch_is_checked_and_later_ones_are_not(store: FeatureStore) -> None:
    reader = ring(store, taps=["half"])
    for _ in reader.read(REQUESTS):
        pass
    damage(store, "half", 3)
    assert len(list(reader.read(REQUESTS))) == len(REQUESTS)
    with no_thread_is_left(), pytest.raises(CorruptShardError, match=r"c\.3\.0\.0\.0\.0"):
        list(ring(store, taps=["half"], verify=True).read(REQUESTS))
    with no_thread_is_left(), pytest.raises(CorruptShardError, match=r"c\.3\.0\.0\.0\.0"):
        list(ring(FeatureStore.open(store.path), taps=["half"]).read(REQUESTS))
    assert len(list(ring(FeatureStore.open(store.path), taps=["half"], verify=False).read(REQUESTS))) == len(REQUESTS)


def test_an_error_comes_when_its_batch_is_due_and_not_before(store: FeatureStore) -> None:
    damage(store, "single", 5)
    requests: Requests = [[(0, [0])], [(1, [0])], [(5, [0])], [(2, [0])]]
    with no_thread_is_left():
        batches = ring(store, slots=4).read(requests)
        assert [next(batches).rows.tolist() for _ in range(2)] == [[0], [1]]
        with pytest.raises(CorruptShardError):
            next(batches)


def test_errors_keep_their_type(store: FeatureStore) -> None:
    with no_thread_is_left(), pytest.raises(MissingClipError, match="asked for"):
        list(ring(store).read([[(0, [FRAMES])]]))

    def refuse(read: ClipRead) -> None:
        raise ArithmeticError(f"{read.tap} {read.row} {read.values.shape}")

    with no_thread_is_left(), pytest.raises(ArithmeticError, match=r"half 4 \(2, 3, 4, 6\)"):
        list(ring(store, taps=["half"], check=refuse).read([[(4, [0, 1])]]))

    def requests() -> Iterator[list[tuple[int, list[int]]]]:
        yield [(0, [0])]
        raise LookupError("no more clips")

    with no_thread_is_left(), pytest.raises(LookupError, match="no more clips"):
        list(ring(store).read(requests()))


def test_the_check_sees_every_clip_as_it_is_stored(store: FeatureStore) -> None:
    seen: dict[tuple[str, int], ClipRead] = {}
    for _ in ring(store, slots=1, check=lambda read: seen.update({(read.tap, read.row): read})).read(REQUESTS[:1]):
        assert seen.keys() == {(tap, row) for tap in TAPS for row in (3, 0, 7)}
        assert seen["brain", 0].values.dtype == np.uint16
        assert np.array_equal(seen["half", 7].values, store.read("half", 7, [3, 3]))
        scale = seen["byte", 3].scale
        assert scale is not None
        assert np.array_equal(scale, store.scale("byte", 3))


def test_stopping_early_leaves_no_thread(store: FeatureStore) -> None:
    with no_thread_is_left():
        for batch in ring(store).read(REQUESTS):
            assert batch.rows.tolist() == [3, 0, 7]
            break


def test_an_error_of_the_consumer_leaves_no_thread(store: FeatureStore) -> None:
    def train() -> None:
        for _ in ring(store).read(REQUESTS):
            raise FloatingPointError("the loss exploded")

    with no_thread_is_left():
        with pytest.raises(FloatingPointError) as caught:
            train()
        del caught
        gc.collect()


def test_a_new_pass_ends_one_that_was_given_up_but_is_still_held(store: FeatureStore) -> None:
    reader = ring(store)
    with no_thread_is_left():
        old = reader.read(REQUESTS)
        next(old)
        for batch, request in zip(reader.read(REQUESTS), REQUESTS, strict=True):
            assert batch.rows.tolist() == [row for row, _ in request]
            assert_equals_read(batch, store)
        with pytest.raises(RuntimeError, match="another one was started"):
            next(old)


def test_a_new_pass_waits_for_reads_of_the_one_before(store: FeatureStore, monkeypatch: pytest.MonkeyPatch) -> None:
    run, late = ClipRead.run, threading.Event()

    def delayed(self: ClipRead, features: FeatureStore, verify: bool | None) -> None:
        if self.row == 9:
            late.wait(20)
        run(self, features, verify)

    monkeypatch.setattr(ClipRead, "run", delayed)
    reader = ring(store, slots=2, threads=1)
    old = reader.read([[(8, [0])], [(9, [0])]])
    next(old)
    timer = threading.Timer(0.2, late.set)
    timer.start()
    for batch in reader.read([[(0, [0])], [(1, [0])]]):
        late.wait(20)
        time.sleep(0.05)
        assert_equals_read(batch, store)
    timer.join()


def test_a_pass_that_a_reading_thread_collects_does_not_wait_for_itself(store: FeatureStore) -> None:
    handed_out, closed = threading.Event(), threading.Event()

    def collect(read: ClipRead) -> None:
        if read.row == 1:
            handed_out.wait(20)
            batches.close()  # as the garbage collector may, in any thread
            closed.set()

    before = set(threading.enumerate())
    batches = ring(store, taps=["half"], slots=2, threads=1, check=collect).read([[(0, [0])], [(1, [0])]])
    next(batches)
    handed_out.set()
    assert closed.wait(20)
    wait_for(lambda: set(threading.enumerate()) <= before)


def test_another_device_gets_copies_that_stay(store: FeatureStore) -> None:
    for batch in ring(store, device="meta").read(REQUESTS):
        assert {values.device.type for values in batch.features.values()} == {"meta"}
        assert {scale.device.type for scale in batch.scales.values()} == {"meta"}
        assert batch.rows.device.type == batch.frames.device.type == "cpu"


def test_pinned_memory_is_not_written_before_copies_out_of_it_are_done(
    store: FeatureStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a stand-in for a GPU: its copies are done when the test says so."""
    reader = ring(store, taps=["half"], slots=2, threads=1)
    copied = [threading.Event() for _ in REQUESTS]
    waiting = iter(copied)
    monkeypatch.setattr(reader, "_when_copied", lambda: next(waiting).wait)
    batches = reader.read(REQUESTS)
    first = next(batches)
    held = first.clone()
    next(batches)  # the slot of the first batch is free for reading from here on
    time.sleep(0.05)
    assert same(first, held)
    copied[0].set()
    copied[1].set()
    assert next(batches).rows.tolist() == [5]
    assert not same(first, held)
    for event in copied:
        event.set()
    batches.close()


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("device", [None, "cuda"])
def test_copies_to_a_gpu_are_whole_however_busy_it_is(store: FeatureStore, device: str | None) -> None:
    load = torch.randn(4096, 4096, device="cuda")
    copies = []
    for batch in ring(store, pin=True, slots=2, device=device).read(REQUESTS):
        for _ in range(20):
            load = load @ load / load.norm()
        copies.append(batch.to("cuda", non_blocking=True))
    for batch, request in zip(copies, REQUESTS, strict=True):
        assert batch.rows.tolist() == [row for row, _ in request]
        assert_equals_read(batch.to("cpu"), store)


@pytest.mark.parametrize(
    ("options", "request_", "error", "message"),
    [
        ({"slots": 0}, REQUESTS[0], ValueError, "slots: must be at least 1, got 0"),
        ({"threads": 0}, REQUESTS[0], ValueError, "threads: must be at least 1"),
        ({"clips": 0}, REQUESTS[0], ValueError, "clips: must be at least 1"),
        ({"taps": []}, REQUESTS[0], ValueError, "number of taps: must be at least 1"),
        ({"taps": ["hafl"]}, REQUESTS[0], UnknownArrayError, "half"),
        ({"taps": ["byte~scale"]}, REQUESTS[0], ValueError, "has no axis `frame`"),
        ({}, [], ValueError, "equally many frames"),
        ({}, [(0, [])], ValueError, "equally many frames"),
        ({}, [(0, [1]), (1, [1, 2])], ValueError, r"equally many frames.*got \[1, 2\]"),
        ({}, [(0, [0, 1])] * 4, ValueError, "4 clips of 2 frames do not fit into 3 of 2"),
    ],
)
def test_bad_arguments_are_named(
    store: FeatureStore,
    options: dict[str, Any],
    request_: list[tuple[int, list[int]]],
    error: type[Exception],
    message: str,
) -> None:
    with no_thread_is_left(), pytest.raises(error, match=message):
        list(ring(store, **options).read([request_]))


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without a GPU")
def test_pinning_without_cuda_is_refused(store: FeatureStore) -> None:
    with pytest.raises(ValueError, match="pin: page-locked memory needs CUDA"):
        ring(store, pin=True)
    assert ring(store, pin=None).nbytes > 0


def count_reads(monkeypatch: pytest.MonkeyPatch) -> list[None]:
    """A list that grows by one with every clip that a reading thread has read."""
    finished: list[None] = []
    run = ClipRead.run

    def counted(self: ClipRead, features: FeatureStore, verify: bool | None) -> None:
        run(self, features, verify)
        finished.append(None)

    monkeypatch.setattr(ClipRead, "run", counted)
    return finished


def wait_for(condition: Any) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.001)

"""What a worker keeps, gives back and hands back, in this process; and what the one that gives out work says of it."""

from __future__ import annotations

import asyncio
import gc
import weakref
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from extract.arguments import Arguments
from extract.distribute import driver, worker
from extract.distribute.clusters import connect, replace_lost
from extract.distribute.driver import SchedulerLostError
from extract.distribute.ledger import Ledger
from extract.distribute.worker import BrokenWorkerError, Job, leave, work
from extract.errors import ExtractError
from extract.plan import Plan, complete
from extract.resolve import outline
from store import FeatureStore, StoreError, root
from store.claims import Claims
from tests.extract.tiny_rooms import write_rooms

CLIPS = 8


@pytest.fixture
def plan(tmp_path: Path) -> Plan:
    write_rooms(tmp_path / "rooms", splits=["train"] * CLIPS, size=(32, 32), frames=2)
    return complete(outline(arguments(tmp_path)))


def arguments(folder: Path) -> Arguments:
    return Arguments(
        model="tests.extract.toy_family:ToyFamily:toy", dataset="rooms", root=folder / "rooms", sites=("blocks.0",)
    )


@pytest.fixture
def job(plan: Plan, tmp_path: Path) -> Iterator[Job]:
    made = Job(arguments(tmp_path), plan.recipe.fingerprint, str(root()), str(plan.path))
    yield made
    asyncio.run(leave(made))


def rows(plan: Plan, *numbers: int) -> dict[int, list[str]]:
    return {row: [tap.name for tap in plan.taps] for row in numbers}


def test_a_worker_keeps_its_backbone_and_frees_it_when_it_leaves(plan: Plan, job: Job) -> None:
    assert work(job, rows(plan, 0), [0]).features.done == [0]
    backbone = weakref.ref(worker._PLACES[job].extraction._backbone)
    assert work(job, rows(plan, 1), [1]).features.done == [1]
    asyncio.run(leave(replace(job, fingerprint="of somebody else")))
    assert worker._PLACES[job].extraction._backbone is backbone()
    asyncio.run(leave(job))
    gc.collect()
    assert (backbone(), worker._PLACES, worker._UNWANTED) == (None, {}, set())


def test_who_leaves_hands_back_what_is_not_begun(plan: Plan, job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    from extract import loop

    original: Any = loop.__dict__["clip_features"]
    leaving: list[Any] = []

    def computed(*given: Any) -> Any:
        if not leaving:
            leaving.append(pool.submit(asyncio.run, leave(job)))
            while job not in worker._UNWANTED:
                pass
        return original(*given)

    monkeypatch.setattr(loop, "clip_features", computed)
    with ThreadPoolExecutor(1) as pool:
        report = work(job, rows(plan, *range(CLIPS)), [])
        leaving[0].result(timeout=60)
    begun = 1 + loop.AHEAD
    assert report.features.done == list(range(begun))
    assert report.busy == list(range(begun, CLIPS))
    assert FeatureStore.open(plan.path).rows() == list(range(begun))
    assert Claims.rows_in(plan.path) == set()
    assert worker._PLACES == {}


def test_what_nobody_foresaw_before_the_first_clip_is_the_workers_fault(
    plan: Plan, job: Job, monkeypatch: pytest.MonkeyPatch
) -> None:
    def gone(*given: Any) -> None:
        raise OSError(116, "Stale file handle")

    monkeypatch.setattr("extract.plan.complete", gone)
    with pytest.raises(BrokenWorkerError, match="Stale file handle"):
        work(job, rows(plan, 0), [])


@pytest.mark.parametrize(
    ("error", "raised", "said"),
    [
        (RuntimeError("Error during deserialization of the task graph."), ExtractError, "need this package"),
        (ModuleNotFoundError("No module named 'extract'"), ExtractError, "No module named 'extract'"),
        (OSError("Stream is closed"), SchedulerLostError, "does not answer"),
        (ExtractError("other data"), ExtractError, "^other data$"),
        (StoreError("disk full"), StoreError, "^disk full$"),
    ],
)
def test_what_comes_back_instead_of_a_report(plan: Plan, error: Exception, raised: Any, said: str) -> None:
    def result() -> None:
        raise error

    future: Any = SimpleNamespace(result=result)
    ledger = Ledger(plan.table, rows(plan, 0), set())
    with pytest.raises(raised, match=said):
        driver._settle(SimpleNamespace(), plan, future, [0], ledger)


@pytest.mark.timeout(300)
def test_a_process_that_dask_gave_up_is_started_again() -> None:
    with connect("local:1") as client:
        cluster: Any = client.cluster
        client.wait_for_workers(1)
        lost = cluster.workers.pop(0)
        cluster.sync(lost.close)
        replace_lost(client, "local:1")
        client.wait_for_workers(1, timeout=120)
        assert client.submit(abs, -1).result(timeout=120) == 1
        assert cluster.workers[0] is not lost

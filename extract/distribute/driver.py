"""Giving out an extraction to workers: what to do when one dies, or the scheduler, and one bar over all."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from extract.distribute.clusters import connect, is_address, replace_lost
from extract.distribute.ledger import Ledger
from extract.distribute.worker import BrokenWorkerError, Job, leave, work
from extract.errors import ExtractError
from extract.outcome import Outcome
from extract.targets import lacking_targets, targets_path
from store import finalize_if_stale, root
from store.claims import Claims
from store.errors import StoreError
from store.head import RECIPE

if TYPE_CHECKING:
    from distributed import Client, Future

    from extract.arguments import Arguments
    from extract.plan import Plan
    from extract.progress import Progress

log = logging.getLogger(__name__)

POLL = 1.0
QUIET = 30.0
"""Seconds between two lines that say that no worker is there."""
RECONNECT = 600.0
"""Seconds for which a scheduler that was lost is waited for."""


class SchedulerLostError(Exception):
    """The scheduler does not answer any more."""


def distribute(plan: Plan, arguments: Arguments, cluster: str, progress: Progress) -> tuple[Outcome, Outcome]:
    """Run a plan on the workers of a cluster. Returns what was done of the targets, and of the features.

    Workers may die and come back, and rows of dead ones are given to others. A scheduler at an address is waited for
    if it is lost: commits are the truth, so that nothing depends on what it remembered.

    Raises:
        ExtractError: no such cluster; the job cannot be done by a worker; or the scheduler stays lost.
        StoreError: a worker cannot write.
    """
    if (plan.path / RECIPE).exists():
        from extract.loop import make_store
        from extract.resolve import usable_device

        make_store(plan, usable_device("cpu"))  # says at once if it is another recipe's
    ledger = Ledger(plan.table, *_missing(plan))
    if ledger.left:
        with progress.bar(f"extract {plan.path.parent.name}", len(ledger.left)) as advance:
            _until_done(plan, _job(plan, arguments), ledger, cluster, advance)
    failed = {clip.row for clip in plan.table if clip.id in ledger.features.failed}
    ledger.features.skipped = [row for row in plan.rows if row not in failed.union(ledger.features.done)]
    for path in (targets_path(plan.dataset), plan.path):
        if (path / RECIPE).exists():
            finalize_if_stale(path)
    return ledger.written, ledger.features


def _until_done(plan: Plan, job: Job, ledger: Ledger, cluster: str, advance: Callable[[], None]) -> None:
    lost = 0.0
    while True:
        try:
            with connect(cluster) as client:
                log.info("workers: %s", client.dashboard_link or cluster)
                lost = 0.0
                _give_out(client, plan, job, ledger, cluster, advance)
                return
        except SchedulerLostError as error:
            if not is_address(cluster):
                raise ExtractError(f"--cluster {cluster}: {error} What was committed is kept; run it again.") from error
            lost = time.monotonic()
        except ExtractError:
            if not lost or time.monotonic() - lost > RECONNECT:
                raise
        log.warning("the scheduler at %s does not answer; what was committed is kept; waiting for it", cluster)
        time.sleep(POLL)
        for _ in range(ledger.recount(*_missing(plan))):
            advance()


def _give_out(client: Client, plan: Plan, job: Job, ledger: Ledger, cluster: str, advance: Callable[[], None]) -> None:
    """Give out lists until all rows are done or given up. Raises `ExtractError` if no worker can do anything."""
    flying: dict[Future, list[int]] = {}
    most = workers = len(_workers(client))
    ledger.deal(workers)
    heard = looked = time.monotonic()
    try:
        while ledger.left:
            workers = len(_workers(client))
            most = max(most, workers)
            # One list per worker: one that waits beside it would be blamed too if the worker died.
            while len(flying) < max(1, workers) and (rows := ledger.next()):
                taps = {row: list(ledger.taps.get(row, ())) for row in rows}
                targets = [row for row in rows if row in ledger.targets]
                flying[client.submit(work, job, taps, targets, pure=False, retries=0)] = rows
            for future in [each for each in flying if each.done()]:
                heard = time.monotonic()
                for _ in range(_settle(client, plan, future, flying.pop(future), ledger)):
                    advance()
            if ledger.hopeless(most):
                raise ExtractError(
                    f"--cluster {cluster}: no worker came back with anything, whatever it was given ({ledger.why}). "
                    "What one process says: the same command without --cluster."
                )
            if not workers and time.monotonic() - heard > QUIET:
                log.info("no worker is there; waiting. If workers end as soon as they get work, their log says why")
                heard = time.monotonic()
            if time.monotonic() - looked > QUIET:
                replace_lost(client, cluster)
                looked = time.monotonic()
            _wait(flying)
    finally:
        if client.status == "running":
            client.cancel(list(flying))
            if is_address(cluster):  # others end with the cluster
                with suppress(Exception):  # workers that die now need not be told
                    client.run(leave, job, on_error="ignore")


def _settle(client: Client, plan: Plan, future: Future, rows: Sequence[int], ledger: Ledger) -> int:
    """Note how a list ended. Returns how many of its rows are done or given up."""
    from distributed import CancelledError
    from distributed.scheduler import KilledWorker

    try:
        return ledger.settle(rows, future.result())
    except CancelledError as error:
        raise SchedulerLostError("the scheduler forgot what it was given.") from error
    except KilledWorker as error:
        begun = Claims.rows_in(plan.path).intersection(rows)
        log.warning("a worker died over %s", ", ".join(ledger.clips[row].id for row in sorted(begun) or rows))
        if not begun:  # it died before it began, or after the end, perhaps over what it did before
            return ledger.unlucky(rows)
        Claims.drop(plan.path, begun)  # of the dead, who may be of a machine that nobody else can tell it of
        return ledger.retry(rows, "workers died, as they do when memory runs out", 1 + error.allowed_failures)
    except (ExtractError, StoreError):
        raise
    except BrokenWorkerError as error:
        log.warning("%s: %s", ", ".join(ledger.clips[row].id for row in rows), error.why)
        if error.address is not None:
            with suppress(Exception):  # it may have died of it
                client.restart_workers([error.address], raise_for_error=False)
        return ledger.retry(rows, error.why)
    except OSError as error:  # those of a worker come as a broken one
        raise SchedulerLostError("the scheduler does not answer any more.") from error
    except Exception as error:  # Dask could not hand over the work, or what came of it
        raise ExtractError(
            f"the cluster cannot take the work ({type(error).__name__}: {str(error).splitlines()[0]}). Scheduler and "
            "workers need this package, in this version, and the same versions of Python and Dask."
        ) from error


def _workers(client: Client) -> Mapping[str, Any]:
    """Address -> worker. Raises `SchedulerLostError`."""
    if client.status != "running":
        raise SchedulerLostError("the scheduler does not answer any more.")
    found: Mapping[str, Any] = client.scheduler_info(n_workers=-1)["workers"]
    return found


def _wait(flying: Mapping[Future, Sequence[int]]) -> None:
    """Until a list has ended, or for a moment. Raises `SchedulerLostError`."""
    from distributed import CancelledError, wait

    if not flying:
        time.sleep(POLL)
        return
    try:
        wait(list(flying), timeout=POLL, return_when="FIRST_COMPLETED")
    except TimeoutError:
        return
    except CancelledError as error:
        raise SchedulerLostError("the scheduler forgot what it was given.") from error


def _job(plan: Plan, arguments: Arguments) -> Job:
    """What workers are told. Places are absolute: their working folder is another, and so are their variables."""
    from extract.backbones.base import checkpoint_dir

    folder = checkpoint_dir(plan.family.options)
    places: dict[str, Any] = {"root": Path(plan.dataset.root).absolute(), "out": str(plan.path.parent)}
    if folder is not None:
        places["checkpoint"] = str(folder.absolute())
    return Job(arguments.model_copy(update=places), plan.recipe.fingerprint, str(root()), str(plan.path))


def _missing(plan: Plan) -> tuple[dict[int, list[str]], set[int]]:
    """Row -> taps that no commit covers, and the rows without targets."""
    pending = {row: [tap.name for tap in taps] for row, taps in plan.pending().items()}
    return pending, set(lacking_targets(plan.dataset, plan.table, plan.rows))

"""Where workers come from: processes of this machine, its GPUs, a scheduler that runs, or SLURM."""

from __future__ import annotations

import inspect
import logging
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from extract.errors import ExtractError
from store.suggest import did_you_mean

if TYPE_CHECKING:
    from distributed import Client

SETTINGS = "pipelines.yaml"
KINDS = "local:N, local-cuda, local-cuda:N, slurm:N, or tcp://HOST:PORT of a scheduler"
CONNECT = "30s"
LOST = "120s"
_LOCAL = re.compile(r"(local|local-cuda|slurm)(?::([1-9][0-9]{0,3}))?")
_ADDRESS = re.compile(r"(tcp|tls|ucx)://[^\s/]+:[0-9]+")


def check_cluster(text: str) -> None:
    """Raise `ExtractError` unless `text` names a kind of cluster."""
    named = _LOCAL.fullmatch(text)
    if not (_ADDRESS.fullmatch(text) or (named and (named[2] or named[1] == "local-cuda"))):
        raise ExtractError(f"--cluster {text}: expected {KINDS}.")


def is_address(text: str) -> bool:
    """Whether the workers are somebody else's, and stay when we are done."""
    return _ADDRESS.fullmatch(text) is not None


@contextmanager
def connect(text: str) -> Iterator[Client]:
    """A client of the cluster that `text` names. What was started for it ends with the `with`.

    Raises:
        ExtractError: Dask is not installed, nothing answers at the address, there is no GPU, or the settings of SLURM
            are missing or not what dask-jobqueue takes.
    """
    check_cluster(text)
    # Dask tells much of itself, and all at once when something dies; what that means for the work, we say.
    os.environ.setdefault("DASK_LOGGING__DISTRIBUTED", "critical")
    try:
        import distributed
    except ImportError as error:
        raise ExtractError(f'--cluster {text}: needs Dask: pip install "spatial-probing[cluster]".') from error
    logging.getLogger("distributed").setLevel(logging.CRITICAL)
    named = _LOCAL.fullmatch(text)
    if named is None:
        try:
            client = distributed.Client(text, timeout=CONNECT)
        except (OSError, TimeoutError) as error:
            raise ExtractError(
                f"--cluster {text}: no scheduler answers there. Start one with `dask scheduler`, and workers with "
                f"`dask worker {text} --nthreads 1`."
            ) from error
        with client:
            yield client
        return
    import dask

    dask.config.set(
        {
            # The first death of a worker is ours to judge: a list of clips is then tried one by one.
            "distributed.scheduler.allowed-failures": 0,
            # A process that starts again, on a busy machine or from a slow disk, is not lost yet.
            "distributed.deploy.lost-worker-timeout": LOST,
        }
    )
    number = int(named[2]) if named[2] else None
    make = {"local": _processes, "local-cuda": _gpus, "slurm": _slurm}[named[1]]
    with make(number) as cluster, distributed.Client(cluster) as client:
        yield client


def replace_lost(client: Client, text: str) -> None:
    """Start anew what a cluster of ours has lost: processes that Dask gave up, jobs whose time was over."""
    named = _LOCAL.fullmatch(text)
    if client.cluster is None or named is None:
        return
    if named[1] == "slurm":
        client.cluster.scale(jobs=int(named[2]))
    else:
        client.cluster.scale(len(client.cluster.worker_spec))


def _processes(number: int | None) -> Any:
    assert number is not None
    threads = max(1, len(os.sched_getaffinity(0)) // number)
    return _nannies([{"OMP_NUM_THREADS": str(threads), "MKL_NUM_THREADS": str(threads)}] * number)


def _gpus(number: int | None) -> Any:
    import torch

    held = torch.cuda.device_count()
    if not held or (number or 0) > held:
        raise ExtractError(f"--cluster local-cuda{f':{number}' if number else ''}: this machine has {held} GPUs.")
    # Of those that we may use ourselves, each worker sees one.
    mine = [name for name in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if name]
    names = mine or [str(index) for index in range(held)]
    return _nannies([{"CUDA_VISIBLE_DEVICES": name} for name in names[: number or held]])


def _nannies(environments: list[dict[str, str]]) -> Any:
    """One worker per environment, each of one thread, in a process that a nanny starts again if it dies."""
    from distributed import Nanny, Scheduler, SpecCluster

    workers = {
        index: {
            "cls": Nanny,
            # What a network takes is not Dask's to limit; it holds no data of ours.
            "options": {"nthreads": 1, "memory_limit": 0, "env": environment, "dashboard_address": None},
        }
        for index, environment in enumerate(environments)
    }
    scheduler = {"cls": Scheduler, "options": {"dashboard_address": ":0", "host": "127.0.0.1"}}
    return SpecCluster(scheduler=scheduler, workers=workers, name="extract")


def _slurm(number: int | None) -> Any:
    try:
        from dask_jobqueue import SLURMCluster
        from dask_jobqueue.core import Job
    except ImportError as error:
        raise ExtractError('--cluster slurm: needs dask-jobqueue: pip install "spatial-probing[cluster]".') from error
    settings = slurm_settings(Path(SETTINGS))
    # A cluster that refuses its settings halfway leaves threads behind.
    makers = (SLURMCluster, SLURMCluster.job_cls, Job)
    known = {name for maker in makers for name in inspect.signature(maker.__init__).parameters}
    for name in settings:
        if name not in known:
            raise ExtractError(f"{SETTINGS}: clusters.slurm: {did_you_mean('setting', name, known)}")
    if missing := {"cores", "memory"} - settings.keys():
        raise ExtractError(f"{SETTINGS}: clusters.slurm: lacks {' and '.join(sorted(missing))}, of a job.")
    cluster = SLURMCluster(**settings)
    cluster.scale(jobs=number)
    return cluster


def slurm_settings(path: Path) -> Mapping[str, Any]:
    """What `clusters: slurm:` of a pipelines file says, as `dask_jobqueue.SLURMCluster` takes it.

    One process of one thread per job, and no limit of memory but SLURM's, unless something else is said: a job has one
    backbone, and Dask holds no data of ours.

    Raises:
        ExtractError: there is no such file or entry.
    """
    import yaml

    example = "clusters: {slurm: {queue: gpu, cores: 8, memory: 64GB, walltime: '12:00:00'}}"
    try:
        content = yaml.safe_load(path.read_text("utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ExtractError(
            f"--cluster slurm: {path} cannot be read ({error}). It says how jobs are sent: {example}"
        ) from error
    entry = content.get("clusters") if isinstance(content, dict) else None
    settings = entry.get("slurm") if isinstance(entry, dict) else None
    if not isinstance(settings, dict):
        raise ExtractError(f"--cluster slurm: {path} does not say how jobs are sent. Add, for example, {example}")
    return {"processes": 1, "worker_extra_args": ["--nthreads", "1", "--memory-limit", "0"], **settings}

"""Processes that start in milliseconds: forked from a server that has imported everything and run nothing."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable
from functools import cache
from multiprocessing import forkserver
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Any

CONTEXT = multiprocessing.get_context("forkserver")


def start(work: Callable[..., None], *arguments: Any) -> ForkServerProcess:
    """Run a function of `tests.store.workers` in a process of its own."""
    _serve()
    process = CONTEXT.Process(target=work, args=arguments, daemon=True)
    process.start()
    return process


@cache
def _serve() -> None:
    """Start the server. If another test has started one before, processes only take longer to start."""
    CONTEXT.set_forkserver_preload(["pytest", "zarr.codecs", "numcodecs.zstd", "tests.store.workers"])
    before = os.environ.get("PYTHONPATH")
    # Python 3.11 does not tell the server where modules are.
    os.environ["PYTHONPATH"] = str(Path(__file__).parents[2])
    forkserver.ensure_running()
    if before is None:
        del os.environ["PYTHONPATH"]
    else:
        os.environ["PYTHONPATH"] = before

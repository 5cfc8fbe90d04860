"""A cluster on which everything dies now and then, and starts again, as under a system that looks after services."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import threading
import time
from contextlib import suppress
from types import TracebackType

import psutil


class Chaos:
    """A scheduler and some workers; worker processes are killed at random, the scheduler once.

    Args:
        port: of the scheduler.
        workers: how many.
        every: seconds between two deaths of workers, on average.
        scheduler_after: seconds after which the scheduler is killed.
        preload: a module that each worker runs first; the last one runs `preload_last` too.
        seed: of what dies when.
    """

    def __init__(
        self, port: int, workers: int, every: float, scheduler_after: float, preload: str, preload_last: str, seed: int
    ) -> None:
        self.address = f"tcp://127.0.0.1:{port}"
        self._every, self._scheduler_after = every, scheduler_after
        module = [sys.executable, "-m"]
        self._scheduler = [*module, "distributed.cli.dask_scheduler", "--host", self.address, "--no-dashboard"]
        common = [*module, "distributed.cli.dask_worker", self.address, "--nthreads", "1", "--memory-limit", "0"]
        common += ["--no-dashboard", "--death-timeout", "30", "--preload", preload]
        self._workers = [[*common, *(["--preload", preload_last] * (k == workers - 1))] for k in range(workers)]
        self._random = random.Random(seed)
        self._over = threading.Event()
        self._running: dict[int, subprocess.Popen[bytes]] = {}
        self.deaths = {"worker": 0, "scheduler": 0}
        self._thread = threading.Thread(target=self._rage, name="chaos")

    def __enter__(self) -> Chaos:
        self._keep_up()
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        self._thread.join()
        for process in self._running.values():
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()

    def rest(self) -> None:
        """Let it rage for a moment."""
        time.sleep(0.2)

    def _keep_up(self) -> None:
        for number, command in enumerate([self._scheduler, *self._workers]):
            found = self._running.get(number)
            if found is None or found.poll() is not None:
                if found is not None:  # a nanny that gave up may leave its child
                    with suppress(ProcessLookupError):
                        os.killpg(found.pid, signal.SIGKILL)
                self._running[number] = subprocess.Popen(
                    command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
                )

    def _rage(self) -> None:
        begun = time.monotonic()
        next_death = begun + self._every
        while not self._over.wait(0.2):
            now = time.monotonic()
            if now > next_death:
                next_death = now + self._every * self._random.uniform(0.5, 1.5)
                self._kill_a_worker()
            if not self.deaths["scheduler"] and now - begun > self._scheduler_after:
                self.deaths["scheduler"] += 1
                self._running[0].kill()
                self._running[0].wait()
            self._keep_up()

    def _kill_a_worker(self) -> None:
        number = self._random.randrange(1, len(self._running))
        with suppress(psutil.NoSuchProcess):
            # The nanny's child that holds the backbone, not the one that tracks resources of multiprocessing.
            children = psutil.Process(self._running[number].pid).children(recursive=True)
            busy = [child for child in children if "spawn_main" in " ".join(child.cmdline())]
            for child in busy:
                child.kill()
                self.deaths["worker"] += 1

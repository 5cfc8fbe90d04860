"""For workers (`--preload`): as long as a file is there, no shard can be written: the disk is full."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

FLAG = "TEST_DISK_IS_FULL"


def dask_setup(worker: Any) -> None:
    """Called by Dask in a worker that starts."""
    real = os.fsync

    def fsync(descriptor: int) -> None:
        if Path(os.environ[FLAG]).exists():
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        real(descriptor)

    os.fsync = fsync

"""Where a run lies while it is made: hidden beside its place, so that after a kill it can go on."""

from __future__ import annotations

import contextlib
import json
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from probes.errors import NonFiniteError, RunExistsError
from probes.training.state import STATE
from store.files import write_atomic

PLAN = "plan.json"


@contextlib.contextmanager
def workplace(out: Path, identity: Mapping[str, Any], *, helper: bool = False) -> Iterator[Path]:
    """`runs/.NAME.part` for the run `runs/NAME`, with what an earlier try of the same run left there.

    It is removed when the run is done, and on an error if there is nothing to go on from, or no use in it.

    Args:
        out: the run directory.
        identity: what the run is; what another run left is thrown away.
        helper: of another process that holds the place already; only reads.

    Raises:
        RunExistsError: another process makes the same run now.
    """
    place = out.parent / f".{out.name}.part"
    if helper:
        yield place
        return
    place.mkdir(parents=True, exist_ok=True)
    with _held(place, out):
        if _plan(place) != identity:
            for child in place.iterdir():
                shutil.rmtree(child) if child.is_dir() else child.unlink()
        write_atomic(place / PLAN, [json.dumps(identity).encode()])
        try:
            yield place
        except BaseException as error:
            if isinstance(error, NonFiniteError) or not any(place.rglob(STATE)):
                shutil.rmtree(place, ignore_errors=True)
            raise
        shutil.rmtree(place, ignore_errors=True)


def _plan(place: Path) -> Any:
    try:
        return json.loads((place / PLAN).read_bytes())
    except (OSError, ValueError):
        return None


@contextlib.contextmanager
def _held(place: Path, out: Path) -> Iterator[None]:
    """Hold the folder itself; the system lets go of it when the process ends, however it ends."""
    import fcntl
    import os

    handle = os.open(place, os.O_RDONLY)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise RunExistsError(
                f"{out}: another process trains this run now ({place / 'status.json'} says which). "
                "Wait for it, or choose another --out."
            ) from error
        yield
    finally:
        os.close(handle)

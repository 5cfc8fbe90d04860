"""Digests that are kept in the user's cache: what takes minutes to read is read once per machine, not once per run."""

from __future__ import annotations

import json
import logging
import re
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from store.caches import user_cache
from store.digest import DIGEST_PATTERN, digest_bytes, digest_text
from store.errors import StoreError
from store.files import write_atomic

log = logging.getLogger(__name__)

_RACY = 2.0
"""A file that was written less than so many seconds ago may be written again without a trace in its time stamp."""


def remembered(rule: str, name: str, files: Sequence[Path], make: Callable[[], str]) -> str:
    """What `make` returns, a digest of these files; the one kept under `rule` and `name` if no file has changed since.

    A file has changed if its size, inode, or a time of change is another.

    Args:
        rule: how the digest is made, and the number of that version, such as `clip of ScanNet, 1`. Raise it when `make`
            makes another digest of the same files, or checks more: what was kept is then not used.
        name: all else that the digest depends on, such as the place of the files and which part of them is read.
        files: what is read.
        make: reads them.

    Raises:
        OSError: a file is missing.
    """
    before = _stamp(files)
    # Names of files need not be UTF-8.
    key = f"{rule}\0{name}".encode(errors="surrogateescape")
    memo = user_cache("digests") / f"{digest_bytes(key)}.json"
    if found := _recall(memo, before):
        return found
    digest = make()
    if _stamp(files) == before and time.time() - _newest(files) > _RACY:
        _keep(memo, before, digest)
    return digest


def _stamp(files: Sequence[Path]) -> str:
    found = [file.stat() for file in files]
    lines = [f"{each.st_size}:{each.st_ino}:{each.st_mtime_ns}:{each.st_ctime_ns}" for each in found]
    return lines[0] if len(lines) == 1 else digest_text("\n".join(lines))


def _newest(files: Sequence[Path]) -> float:
    return max(time for file in files for found in (file.stat(),) for time in (found.st_mtime, found.st_ctime))


def _recall(memo: Path, known: str) -> str | None:
    try:
        entry = json.loads(memo.read_bytes())
        digest = entry["digest"] if entry["file"] == known else None
    except (OSError, ValueError, KeyError, TypeError):  # a cache that cannot be read is an empty one
        return None
    return digest if isinstance(digest, str) and re.fullmatch(DIGEST_PATTERN, digest) else None


def _keep(memo: Path, known: str, digest: str) -> None:
    try:
        memo.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(memo, [json.dumps({"file": known, "digest": digest}).encode()])
    except (OSError, StoreError) as error:
        log.info("the digest cannot be remembered: %s", error)

"""Digests of weight files, remembered: 60 GB are read once per machine, not once per run."""

from __future__ import annotations

import json
import logging
import re
import time
from collections.abc import Iterable
from pathlib import Path

from store.caches import user_cache
from store.digest import DIGEST_PATTERN, digest_file, digest_files, digest_text
from store.errors import StoreError
from store.files import write_atomic

log = logging.getLogger(__name__)

_SMALL = 1 << 24
"""Files up to this size are read every time; that is quicker than it is to remember them."""
_RACY = 2.0
"""A file that was written less than so many seconds ago may be written again without a trace in its time stamp."""


def digest_weights(root: Path, files: Iterable[Path]) -> str:
    """xxh3_128 over names (relative to `root`) and contents, the same in any order, as `store.digest.digest_files`.

    The digest of a large file is remembered by its path, size, inode and time of change, in the user's cache.
    """
    return digest_files(root, files, _digest)


def _digest(file: Path) -> str:
    size = file.stat().st_size
    if size <= _SMALL:
        return digest_file(file)
    before = _stamp(file)
    memo = user_cache("digests") / f"{digest_text(str(file.resolve()))}.json"
    if remembered := _recall(memo, before):
        return remembered
    log.info("reading %s (%.1f GB) to know which weights it holds; done once", file, size / 1e9)
    digest = digest_file(file)
    found = file.stat()
    if _stamp(file) == before and time.time() - max(found.st_mtime, found.st_ctime) > _RACY:
        _remember(memo, before, digest)
    return digest


def _stamp(file: Path) -> str:
    found = file.stat()
    return f"{found.st_size}:{found.st_ino}:{found.st_mtime_ns}:{found.st_ctime_ns}"


def _recall(memo: Path, known: str) -> str | None:
    try:
        entry = json.loads(memo.read_bytes())
        digest = entry["digest"] if entry["file"] == known else None
    except (OSError, ValueError, KeyError, TypeError):  # a cache that cannot be read is an empty one
        return None
    return digest if isinstance(digest, str) and re.fullmatch(DIGEST_PATTERN, digest) else None


def _remember(memo: Path, known: str, digest: str) -> None:
    try:
        memo.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(memo, [json.dumps({"file": known, "digest": digest}).encode()])
    except (OSError, StoreError) as error:
        log.info("the digest cannot be remembered: %s", error)

"""Digests of weight files, remembered: 60 GB are read once per machine, not once per run."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from pathlib import Path

from extract.remembered import remembered
from store.digest import digest_file, digest_files

log = logging.getLogger(__name__)

_RULE = "file, 1"
"""How a digest is made; the number is raised when that changes, so that none is remembered that was made otherwise."""
_SMALL = 1 << 24
"""Files up to this size are read every time; that is quicker than it is to remember them."""


def digest_weights(root: Path, files: Iterable[Path]) -> str:
    """xxh3_128 over names (relative to `root`) and contents, the same in any order, as `store.digest.digest_files`.

    The digest of a large file is remembered by its path, size, inode and time of change, in the user's cache.
    """
    return digest_files(root, files, _digest)


def _digest(file: Path) -> str:
    size = file.stat().st_size
    if size <= _SMALL:
        return digest_file(file)

    def read() -> str:
        log.info("reading %s (%.1f GB) to know which weights it holds; done once", file, size / 1e9)
        return digest_file(file)

    return remembered(_RULE, str(file.resolve()), [file], read)

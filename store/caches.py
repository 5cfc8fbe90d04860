"""Where this user's caches lie: what can be made again, and is only kept to save time."""

from __future__ import annotations

import os
from pathlib import Path


def user_cache(name: str) -> Path:
    """`spatial-probing/NAME` in `$XDG_CACHE_HOME` or `~/.cache`. It may not exist."""
    # The XDG specification: a value that is no absolute path is to be ignored.
    base = Path(os.environ.get("XDG_CACHE_HOME", ""))
    return (base if base.is_absolute() else Path.home() / ".cache") / "spatial-probing" / name

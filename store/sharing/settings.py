"""The cache of shards that the environment asks for: `FEATURE_CACHE` and `FEATURE_CACHE_SIZE`."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from store.caches import user_cache
from store.errors import SettingError
from store.sharing.cache import ShardCache
from store.sizes import parse_size

PLACE = "FEATURE_CACHE"
SIZE = "FEATURE_CACHE_SIZE"
_MOST = 20 * 10**9


def default_cache() -> ShardCache | None:
    """The cache to open remote stores with; `None` if `FEATURE_CACHE_SIZE=0` asks to keep nothing.

    `FEATURE_CACHE` names its folder, by default `spatial-probing/shards` in `$XDG_CACHE_HOME` or `~/.cache`.
    `FEATURE_CACHE_SIZE` bounds it (`20GB`, `500MB`), by default 20 GB, or a tenth of the free disk if that is less.

    Raises:
        SettingError: one of them makes no sense.
    """
    place = cache_place()
    text = os.environ.get(SIZE, "").strip()
    if not text:
        return ShardCache(place, _default_size(place))
    try:
        size = parse_size(text)
    except ValueError as error:
        raise SettingError(f"{SIZE}={text!r}: {error}. 0 keeps nothing, unset means the default.") from error
    return ShardCache(place, size) if size else None


def cache_place() -> Path:
    """The folder of the cache. Raises `SettingError` if the environment names one that cannot be."""
    if override := os.environ.get(PLACE, "").strip():
        path = Path(override).expanduser().absolute()
        if path.exists() and not path.is_dir():
            raise SettingError(f"{PLACE}={override!r}: is a file. Name a folder; it is made if it is not there.")
        return path
    return user_cache("shards")


def _default_size(place: Path) -> int:
    """What the cache already holds counts as free, or it would shrink as it fills."""
    there = next(folder for folder in (place, *place.parents) if folder.exists())
    free = shutil.disk_usage(there).free + ShardCache(place, 0).held_bytes()
    return min(_MOST, free // 10)

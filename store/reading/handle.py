"""A store that may be sent to other processes: each opens it anew, once for everything that comes from it."""

from __future__ import annotations

import pickle
from threading import Lock
from typing import Any

from store.digest import digest_text
from store.errors import RecipeMismatchError
from store.feature_store import FeatureStore
from store.folder import Folder

_KEPT = 4
"""Stores that a process keeps open for what it was sent.

Each holds up to 128 shards open, and a process may commonly open 1024 files, of which others need some too.
"""
_opened: dict[tuple[bytes, str], FeatureStore] = {}
_lock = Lock()


class StoreHandle:
    """An open store, or one to be opened when it is first used.

    The folder is what is sent, so that another process reads with the same login and through the same cache.

    Args:
        store: the store.

    Attributes:
        url: where it is.
        fingerprint: of the store.
        state: fingerprint and commits of the store, as a digest: equal for equal contents.
    """

    def __init__(self, store: FeatureStore) -> None:
        self._store: FeatureStore | None = store
        self._folder = store.folder
        self.url = store.folder.url
        self.fingerprint = store.fingerprint
        self.state = digest_text("\n".join([store.fingerprint, *store.commits]))

    @property
    def store(self) -> FeatureStore:
        """The store. Raises `RecipeMismatchError` if another one has taken its place since."""
        if self._store is None:
            self._store = _open(self._folder, self.state)
        if self._store.fingerprint != self.fingerprint:
            raise RecipeMismatchError(
                f"{self._folder.url}: held the store {self.fingerprint} when this was made, now holds "
                f"{self._store.fingerprint}. Open it again."
            )
        return self._store

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_store": None}


def _open(folder: Folder, state: str) -> FeatureStore:
    """The store in `folder`, opened after it had reached `state`."""
    with _lock:
        key = pickle.dumps(folder), state  # the URL for messages tells neither logins nor caches apart
        if key not in _opened:
            _opened[key] = FeatureStore(folder)
            while len(_opened) > _KEPT:
                del _opened[next(iter(_opened))]
        return _opened[key]

"""A store that may be sent to other processes: each opens it anew, once for everything that comes from it."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from threading import Lock
from typing import Any

from store.errors import RecipeMismatchError
from store.readable import Readable

_KEPT = 4
"""How many stores a process keeps open of what it was sent; a fusion is several.

Each store holds up to 128 shards open, and a process may commonly open 1024 files, of which others need some too.
"""
_opened: dict[tuple[bytes, str], Readable] = {}
_lock = Lock()


class StoreHandle:
    """An open store, or one to be opened when it is first used.

    What opens it is sent, so that another process reads with the same login and through the same cache.

    Args:
        store: the store.

    Attributes:
        url, fingerprint, state: of the store, see `Readable`.
    """

    def __init__(self, store: Readable) -> None:
        self._store: Readable | None = store
        self._reopen = store.reopener()
        self.url, self.fingerprint, self.state = store.url, store.fingerprint, store.state

    @property
    def store(self) -> Readable:
        """The store. Raises `RecipeMismatchError` if another one has taken its place since."""
        if self._store is None:
            self._store = _open(self._reopen, self.state)
        if self._store.fingerprint != self.fingerprint:
            raise RecipeMismatchError(
                f"{self.url}: held the store {self.fingerprint} when this was made, now holds "
                f"{self._store.fingerprint}. Open it again."
            )
        return self._store

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_store": None}


def _open(reopen: Callable[[], Readable], state: str) -> Readable:
    """The store, opened after it had reached `state`."""
    with _lock:
        key = pickle.dumps(reopen), state  # the URL for messages tells neither logins nor caches apart
        if key not in _opened:
            _opened[key] = reopen()
            while len(_opened) > 1 and sum(len(store.urls) for store in _opened.values()) > _KEPT:
                del _opened[next(iter(_opened))]
        return _opened[key]

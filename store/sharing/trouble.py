"""Network trouble: what passes by itself is tried again, the rest becomes one error that a user can act on.

The clients below (aiohttp, botocore, httpx of two generations, hf_xet) each have exceptions of their own and may not be
installed, so they are told apart by the names of their classes.
"""

from __future__ import annotations

import errno
import logging
import random
import time
from collections.abc import Callable, Iterator
from typing import NoReturn, TypeVar

from store.errors import CorruptShardError, RemoteError, StoreError

log = logging.getLogger(__name__)
T = TypeVar("T")

FIRST_DELAY = 0.5
"""Seconds before the second attempt; doubled before every further one."""

_CLIENTS = {"aiohttp", "aiobotocore", "botocore", "httpx", "httpx2", "httpcore", "huggingface_hub", "hf_xet", "urllib3"}
_PASSING = {
    "TimeoutError",
    "ConnectionError",  # of Python and of botocore: refused, reset, no route
    "ClientConnectionError",  # aiohttp
    "ClientPayloadError",  # aiohttp: the body ended early
    "TransportError",  # httpx
    "HTTPClientError",  # botocore
    "IncompleteReadError",  # botocore
}
_LASTING = {"ClientSSLError", "SSLError", "InvalidURL", "OfflineModeIsEnabled"}
_PASSING_STATUS = {408, 425, 429, 500, 502, 503, 504}
_REFUSED_STATUS = {401, 403}
_DISK_FULL = {errno.ENOSPC, errno.EDQUOT}


def attempt(call: Callable[[], T], where: str, access: str, attempts: int, passing: frozenset[int] = frozenset()) -> T:
    """Return what `call` returns, trying again while the network's trouble may pass.

    Args:
        call: does one request. May be called again.
        where: what is read or written, for messages.
        access: what to check if access is refused: where credentials come from.
        attempts: at most this many calls.
        passing: further HTTP statuses that are worth another try.

    Raises:
        FileNotFoundError: it is not there.
        RemoteError: trouble that stayed, or that trying again cannot mend.
        Exception: whatever is no trouble of the network: a full disk, a `StoreError`, a mistake in the code.
    """
    for number in range(1, attempts + 1):
        try:
            return call()
        except (StoreError, FileNotFoundError):
            raise
        except Exception as error:
            if not _of_network(error):
                raise
            if number == attempts or not _passes(error, passing):
                _raise(error, where, access, number)
            # Many readers that failed together must not come back together.
            delay = FIRST_DELAY * 2 ** (number - 1) * random.uniform(0.75, 1.25)
            log.info("%s: %s; trying again in %.1f s", where, _words(error), delay)
            time.sleep(delay)
    raise AssertionError("at least one attempt is made")


def damaged(where: str, found: str) -> CorruptShardError:
    """The error for a shard that is not what was committed. `found` says what it is instead."""
    return CorruptShardError(
        f"{where}: {found}; nothing of it was kept. Ask whoever shares the store to run `python -m store verify` on "
        "their copy, and to share it again."
    )


def status_of(error: BaseException) -> int | None:
    """The HTTP status behind an exception of any of the clients, or `None`."""
    for link in _chain(error):
        status = getattr(link, "status", None)
        if isinstance(status, int):
            return status
        response = getattr(link, "response", None)
        if isinstance(response, dict):
            status = response.get("ResponseMetadata", {}).get("HTTPStatusCode")
        else:
            status = getattr(response, "status_code", None)
        if isinstance(status, int):
            return status
    return None


def _raise(error: Exception, where: str, access: str, attempts: int) -> NoReturn:
    status = status_of(error)
    if status == 404:
        raise FileNotFoundError(errno.ENOENT, "not there", where) from error
    if status in _REFUSED_STATUS or isinstance(error, PermissionError) or _names(error) & {"NoCredentialsError"}:
        raise RemoteError(f"{where}: access refused ({_words(error)}). {access}") from error
    tried = f" after {attempts} attempts" if attempts > 1 else ""
    raise RemoteError(
        f"{where}: network trouble{tried} ({_words(error)}). Check the address and the connection, then run the same "
        "command again; what is in the cache stays."
    ) from error


def _of_network(error: Exception) -> bool:
    if isinstance(error, OSError):
        return error.errno not in _DISK_FULL
    clients = {kind.__module__.split(".")[0] for kind in type(error).__mro__} & _CLIENTS
    # The hub's client has errors for malformed names too, which are about the caller's input.
    return bool(clients) and not (isinstance(error, ValueError) and "huggingface_hub" in clients)


def _passes(error: Exception, passing: frozenset[int]) -> bool:
    if _names(error) & _LASTING:
        return False
    status = status_of(error)
    if status is not None:
        return status in _PASSING_STATUS or status in passing
    return bool(_names(error) & _PASSING)


def _names(error: BaseException) -> set[str]:
    return {kind.__name__ for kind in type(error).__mro__}


def _chain(error: BaseException) -> Iterator[BaseException]:
    link: BaseException | None = error
    while link is not None:
        yield link
        link = link.__cause__


def _words(error: BaseException) -> str:
    """The error in one line; many timeouts have no text of their own."""
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text}" if text else type(error).__name__

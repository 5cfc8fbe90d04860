"""A folder behind a plain web server, which need not list, and with a cache need not send parts of files. Read only."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import quote, urlsplit, urlunsplit

from store.errors import NotWritableError, RemoteError, StoreNotFoundError
from store.sharing.objects import file_system
from store.sharing.trouble import attempt

T = TypeVar("T")

_ATTEMPTS = 4
_BLOCK = 1 << 20
_CONNECT_SECONDS = 30
_SILENCE_SECONDS = 60
"""A transfer may take as long as it likes while bytes arrive."""
_ACCESS = "The server wants a login: give it as https://user:password@host/…, or in ~/.netrc."


class WebPlace:
    """A folder on a web server. See `Place`.

    Args:
        url: `https://host/folder`.
    """

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        if parts.query or parts.fragment or not parts.hostname:
            raise StoreNotFoundError(f"{url}: is no folder on a web server. It looks like https://host/folder.")
        path = quote(parts.path.rstrip("/"), safe="/%:@=+~,")
        host = parts.netloc.rpartition("@")[2]
        self._base = urlunsplit((parts.scheme, parts.netloc, path, "", ""))
        self.url = urlunsplit((parts.scheme, host, path, "", ""))
        self._made = os.getpid(), self._connect()

    def read(self, name: str, limit: int) -> bytes:
        """See `Place.read`: one request, stopped once there is more than the limit."""
        return self._attempt(name, lambda: self._get(name, limit + 1))

    def fetch(self, name: str, start: int, stop: int) -> bytes:
        """See `Place.fetch`. Raises `RemoteError` if the server sends whole files only."""
        return self._attempt(name, lambda: self._get(name, stop - start, start=start))

    def download(self, name: str, size: int, path: Path) -> None:
        """See `Place.download`: one request."""

        def call() -> None:
            with path.open("wb") as file:
                self._stream(name, size + 1, file.write)

        self._attempt(name, call)

    def names(self, under: str) -> list[str] | None:
        """See `Place.names`: a web server need not say."""
        return None

    def write(self, name: str, content: bytes) -> None:
        """See `Place.write`: never."""
        raise NotWritableError(
            f"{self.url}: a web server is read from only. Copy the store to where the server takes its files, or to "
            "s3://… or hf://datasets/…."
        )

    def _get(self, name: str, most: int, start: int | None = None) -> bytes:
        content = bytearray()
        self._stream(name, most, content.extend, start)
        return bytes(content)

    def _stream(self, name: str, most: int, take: Callable[[bytes], Any], start: int | None = None) -> None:
        """Hand the body to `take`, at most `most` bytes of it."""
        from fsspec.asyn import sync  # type: ignore[import-untyped]

        system = self._fs
        url = f"{self._base}/{quote(name, safe='/=~')}"
        # Compressed on the way, sizes and offsets would mean something else.
        headers = {"Accept-Encoding": "identity"}
        if start is not None:
            headers["Range"] = f"bytes={start}-{start + most - 1}"

        async def get() -> None:
            session = await system.set_session()
            left = most
            async with session.get(system.encode_url(url), headers=headers) as response:
                if response.status == 404:
                    raise FileNotFoundError(f"{self.url}/{name}")
                if response.status == 416:  # the file ends before `start`
                    return
                response.raise_for_status()
                if start is not None and response.status != 206:
                    raise RemoteError(
                        f"{self.url}/{name}: the server sends whole files only, so frames cannot be read one by one. "
                        "Give the cache room for whole shards (FEATURE_CACHE_SIZE), or copy the store to this machine."
                    )
                async for block in response.content.iter_chunked(_BLOCK):
                    take(block[:left])
                    left -= len(block)
                    if left <= 0:
                        return

        sync(system.loop, get)

    def _attempt(self, name: str, call: Callable[[], T]) -> T:
        return attempt(call, f"{self.url}/{name}", _ACCESS, _ATTEMPTS)

    @property
    def _fs(self) -> Any:
        process, system = self._made
        if process != os.getpid():
            system = self._connect()
            self._made = os.getpid(), system
        return system

    def _connect(self) -> Any:
        return file_system("http", self.url, get_client=_session, encoded=True)  # names are quoted here


async def _session(**options: Any) -> Any:
    from aiohttp import ClientSession, ClientTimeout

    timeout = ClientTimeout(total=None, sock_connect=_CONNECT_SECONDS, sock_read=_SILENCE_SECONDS)
    # `trust_env`: proxies and ~/.netrc count, as with other tools.
    return ClientSession(timeout=timeout, trust_env=True, **options)

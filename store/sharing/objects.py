"""Object storage: S3, and every other kind of place that fsspec has a package for."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from pathlib import Path
from threading import Lock
from typing import Any, TypeVar

from store.errors import MissingPackageError, NotWritableError, StoreNotFoundError
from store.sharing.trouble import attempt, status_of

log = logging.getLogger(__name__)
T = TypeVar("T")

_ATTEMPTS = 2
"""The clients below try again by themselves; this is for what passes them by, such as a body that ends early."""
_PART = 8 << 20
"""Bytes of one request. One connection to S3 gives some 80 MB/s, so a large file is fetched in parts, side by side."""
_PARTS = 8
_ATOMIC = {"s3", "s3a", "gs", "gcs", "az", "abfs", "abfss", "memory"}
"""Places where a file appears whole when its upload is complete."""
_TAKEN = 412
"""Answer to a conditional PUT: the name is taken."""
_CONFLICT = frozenset({409})
"""Somebody puts a file of that name at this moment. Whether it arrives is known at the next try."""
_UNCONDITIONAL = 501
"""Some servers that speak S3 do not know conditions; others pass them over, which nobody can see."""
_IN_MEMORY = Lock()
_ACCESS = {
    "s3": (
        "Credentials are those of every AWS tool: AWS_ACCESS_KEY_ID, AWS_PROFILE, AWS_ENDPOINT_URL …; for a public "
        "bucket set FSSPEC_S3_ANON=true."
    )
}
HUB_EXTRA = 'Install it: pip install -e ".[hub]"'


class ObjectPlace:
    """A folder in object storage. See `Place`.

    Args:
        url: `s3://bucket/key`, `gs://bucket/key`, …
    """

    def __init__(self, url: str) -> None:
        self.url = url.rstrip("/")
        self._scheme = self.url.partition("://")[0]
        self._made = os.getpid(), self._connect()

    def read(self, name: str, limit: int) -> bytes:
        """See `Place.read`: one request."""
        return self._range(name, 0, limit + 1)

    def fetch(self, name: str, start: int, stop: int) -> bytes:
        """See `Place.fetch`: one request up to 8 MiB."""
        if stop - start <= _PART:
            return self._range(name, start, stop)
        return b"".join(self._parts(name, start, stop))

    def download(self, name: str, size: int, path: Path) -> None:
        """See `Place.download`: parts side by side, 64 MiB in memory at most."""
        start, stop = 0, size + 1  # a byte more than there should be
        with path.open("wb") as file:
            while start < stop:
                end = min(stop, start + _PART * _PARTS)
                file.writelines(self._parts(name, start, end))
                if file.tell() < end:  # the file ends here, whatever its record says
                    return
                start = end

    def names(self, under: str) -> list[str] | None:
        """See `Place.names`."""
        folder = self._where(under)

        def call() -> list[str]:
            listed: list[str] = self._fs.ls(folder, detail=False, refresh=True)
            return listed

        try:
            listed = self._attempt(under, call)
        except FileNotFoundError:
            return []
        prefix = f"{self._fs._strip_protocol(folder)}/"
        return [path[len(prefix) :].rstrip("/") for path in listed if path.startswith(prefix)]

    def write(self, name: str, content: bytes) -> None:
        """See `Place.write`: one PUT."""
        self._publish(name, lambda: self._fs.pipe_file(self._where(name), content))

    def create(self, name: str, content: bytes) -> bool:
        """See `Shelf.create`: a request whether it is there, then one PUT on the condition that it is not.

        S3, Google and Azure keep the condition by themselves, and memory is of one process. Servers that speak S3 and
        pass conditions over are told what was there a moment before: there only one writer may work at a time.
        """

        def call() -> bool:
            try:  # spares sending a large file in vain, and is all there is where conditions are unknown
                self._range(name, 0, 1)
            except FileNotFoundError:
                return self._put_new(self._where(name), content)
            return False

        if self._scheme != "memory":
            return self._publish(name, call)
        with _IN_MEMORY:  # fsspec looks first and writes then
            return self._publish(name, call)

    def _put_new(self, path: str, content: bytes) -> bool:
        try:
            self._fs.pipe_file(path, content, mode="create")
        except FileExistsError:
            return False
        except Exception as error:
            status = status_of(error)
            if status == _TAKEN:
                return False
            if status != _UNCONDITIONAL:
                raise
            log.warning("%s: this server knows no conditional PUT: only one writer may work at a time", self.url)
            self._fs.pipe_file(path, content)
        return True

    def _publish(self, name: str, call: Callable[[], T]) -> T:
        if self._scheme not in _ATOMIC:
            raise NotWritableError(
                f"{self.url}: a file over {self._scheme}:// could be seen half-written, so nothing is written there. "
                "Copy the store to a folder of this machine, and that folder with the tools of the place."
            )
        try:
            return self._attempt(name, call, _CONFLICT)
        except FileNotFoundError as error:
            raise NotWritableError(f"{self.url}: there is no such bucket ({error}). Create it first.") from error

    def _range(self, name: str, start: int, stop: int) -> bytes:
        def call() -> bytes:
            try:
                content: bytes = self._fs.cat_file(self._where(name), start=start, end=stop)
            except Exception as error:
                if status_of(error) == 416:  # the file ends before `start`
                    return b""
                raise
            return content

        return self._attempt(name, call)

    def _parts(self, name: str, start: int, stop: int) -> list[bytes]:
        starts = list(range(start, stop, _PART))
        if len(starts) == 1:
            return [self._range(name, start, stop)]
        stops = [*starts[1:], stop]

        def call() -> list[bytes]:
            paths = [self._where(name)] * len(starts)
            parts: list[bytes | Exception] = self._fs.cat_ranges(paths, starts, stops, on_error="return")
            found = []
            for part in parts:
                if isinstance(part, Exception) and status_of(part) != 416:
                    raise part
                found.append(b"" if isinstance(part, Exception) else part)
            return found

        return self._attempt(name, call)

    def _attempt(self, name: str, call: Callable[[], T], passing: frozenset[int] = frozenset()) -> T:
        access = _ACCESS.get(self._scheme, "Check your credentials.")
        return attempt(call, self._where(name), access, _ATTEMPTS, passing)

    def _where(self, name: str) -> str:
        return f"{self.url}/{name}" if name else self.url

    @property
    def _fs(self) -> Any:
        """The file system of this process; connections do not survive a fork."""
        process, system = self._made
        if process != os.getpid():
            system = self._connect()
            self._made = os.getpid(), system
        return system

    def _connect(self) -> Any:
        return file_system(self._scheme, self.url, use_listings_cache=False)


_SYSTEMS: dict[tuple[Any, ...], Any] = {}
_SETTINGS = ("AWS_", "FSSPEC_", "GOOGLE_", "AZURE_")


def file_system(scheme: str, url: str, **options: Any) -> Any:
    """The fsspec file system for a scheme; one for all folders, as long as the environment's settings stay the same.

    Raises:
        MissingPackageError: its package is not installed; names it.
        StoreNotFoundError: fsspec knows no such scheme.
    """
    import fsspec  # type: ignore[import-untyped]
    from fsspec.asyn import reset_lock  # type: ignore[import-untyped]

    # A forked child makes its own and must never let go of its parent's: closing those connections would take them
    # from the event queue of the operating system, which both share, and the parent would wait for answers in vain.
    settings = sorted(item for item in os.environ.items() if item[0].startswith(_SETTINGS))
    key = os.getpid(), scheme, tuple(settings)
    if key in _SYSTEMS:
        return _SYSTEMS[key]
    if _SYSTEMS and all(made[0] != os.getpid() for made in _SYSTEMS):
        reset_lock()  # older releases of fsspec would go on with the parent's event loop, which does not run here
    try:
        return _SYSTEMS.setdefault(key, fsspec.filesystem(scheme, skip_instance_cache=True, **options))
    except ImportError as error:
        remedy = HUB_EXTRA if scheme in ("s3", "s3a", "http", "https") else "Install it with pip."
        raise MissingPackageError(f"{url}: a package is missing ({error}). {remedy}") from error
    except ValueError as error:
        raise StoreNotFoundError(
            f"{url}: nothing here can read {scheme}:// ({error}). Known are s3://, hf://datasets/…, https://, and what "
            "fsspec has packages for."
        ) from error

"""What a remote folder needs of the place where it is, and which kind of place a URL names."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Protocol, runtime_checkable

from store.errors import StoreNotFoundError

_SCHEME = re.compile(r"([a-z][a-z0-9+.-]*)://(.+)", re.DOTALL)
_LOCAL = {"file", "local"}
_UNPRINTABLE = re.compile(r"[\x00-\x20\x7f\\]")


@runtime_checkable
class Place(Protocol):
    """A folder behind a network. Names were checked by `check_name`; trouble is raised as in `trouble.attempt`."""

    url: str
    """The address without a password, for messages."""

    def read(self, name: str, limit: int) -> bytes:
        """A whole file, or of a larger one its first `limit + 1` bytes."""

    def fetch(self, name: str, start: int, stop: int) -> bytes:
        """The bytes `start … stop - 1`; fewer if the file ends before, never more."""

    def download(self, name: str, size: int, path: Path) -> None:
        """Write the file into `path`, replacing what that holds. Files that are not of `size` may be cut off."""

    def names(self, under: str) -> list[str] | None:
        """Names directly inside a folder; empty if it is not there, `None` if the place cannot list."""

    def write(self, name: str, content: bytes) -> None:
        """Publish a file, whole or not at all. Raises `NotWritableError` where that cannot be done."""


@runtime_checkable
class Shelf(Protocol):
    """A place where a file can be published that must not replace another."""

    def create(self, name: str, content: bytes) -> bool:
        """Publish a file, whole or not at all, unless there is one of that name. Returns whether it was published."""


def connect(url: str) -> Place:
    """The place that a URL names: `s3://…`, `hf://datasets/…`, `https://…`, or what else fsspec can reach.

    Nothing is requested yet.

    Raises:
        StoreNotFoundError: it is no URL of a remote folder.
        MissingPackageError: the package for this kind of place is not installed.
    """
    match = _SCHEME.fullmatch(url)
    if match is None or _UNPRINTABLE.search(url) or ".." in match[2].split("/"):
        raise StoreNotFoundError(f"{url!r}: no URL of a store. They look like s3://bucket/key or https://host/folder.")
    scheme = match[1]
    if scheme in _LOCAL:
        raise StoreNotFoundError(f"{url}: is on this machine. Give its path: {match[2]}")
    if scheme in ("http", "https"):
        from store.sharing.web import WebPlace

        return WebPlace(url)
    if "?" in url or "#" in url:
        raise StoreNotFoundError(f"{url}: '?' and '#' have no place in the URL of a store. Leave out what they begin.")
    if scheme == "hf":
        from store.sharing.hub import HubPlace

        return HubPlace(url)
    from store.sharing.objects import ObjectPlace

    return ObjectPlace(url)

"""Errors of the store: what is wrong, where, what was got, and the remedy."""

from __future__ import annotations


class StoreError(Exception):
    """Base of every error that `store` raises for a user to read."""


class StoreNotFoundError(StoreError):
    """A reference names no feature store."""


class FormatError(StoreError):
    """A file of a store cannot be read, or has a format version that this code does not know."""


class RecipeMismatchError(StoreError):
    """A store exists, but was made by another recipe."""


class UnknownArrayError(StoreError):
    """A store has no array of that name."""


class FusionError(StoreError):
    """Stores cannot be read as one, or it is not said how."""


class MissingClipError(StoreError):
    """No commit says that the clip exists."""


class CorruptShardError(StoreError):
    """The bytes of a shard are not those that were committed."""


class ArrayValueError(StoreError):
    """An array to be written has the wrong shape, a non-finite value, or one its storage type cannot hold."""


class StorageFullError(StoreError):
    """The disk has no room left. What was committed before stays valid."""


class RemoteError(StoreError):
    """A remote place cannot be reached, refuses access, or sends something else than what was asked for."""


class NotWritableError(StoreError):
    """A place that can be read from, but that nothing can be written to."""


class MissingPackageError(StoreError):
    """An optional package is needed and is not installed."""


class SettingError(StoreError):
    """An environment variable has a value that makes no sense."""

"""The message for a damaged file of a scan."""

from __future__ import annotations

from extract.errors import DataError

REMEDY = "Copy the scan anew, or move its folder out of scans/ to leave it out."


def damaged(where: object, what: str) -> DataError:
    """The error that says which file of which scan (a path names both) is wrong, and what to do."""
    return DataError(f"{where}: {what}. Remedy: {REMEDY}")


def unreadable(where: object, error: Exception) -> DataError:
    """The error for a file that is missing or that the system or a library cannot read."""
    return damaged(where, "missing" if isinstance(error, FileNotFoundError) else f"cannot be read ({error})")

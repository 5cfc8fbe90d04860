"""Errors of evaluation: what is wrong, where, what was got, and the remedy."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches
from pathlib import Path


class EvaluateError(Exception):
    """Base of every error that `evaluate` raises for a user to read."""


class UnknownProtocolError(EvaluateError):
    """A task, protocol family or protocol version that does not exist."""


class InputError(EvaluateError):
    """Predictions or targets whose shape, range or number cannot be scored."""


class RunNotFoundError(EvaluateError):
    """No directory of a finished run is where it was looked for."""


class RunExistsError(EvaluateError):
    """A run is already kept where a new one was to be written."""


class SchemaVersionError(EvaluateError):
    """A run was written in a format that this version does not read."""


class RunDamagedError(EvaluateError):
    """A run directory lacks a file, or a file of it is truncated or contradicts another."""


class MixedProtocolsError(EvaluateError):
    """Runs that were measured by different rules were asked for in one table."""


class QueryError(EvaluateError):
    """A condition on results that cannot be understood."""


class FileError(EvaluateError):
    """A file of results that cannot be read, or that is not one."""


class MissingExtraError(EvaluateError):
    """A package is needed that is installed only with an extra of this project."""


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return a sentence that names the nearest of `known`, then all of them."""
    names = sorted(known)
    near = get_close_matches(name, names, n=1)
    hint = f"Did you mean {near[0]!r}? " if near else ""
    return f"{hint}Known: {', '.join(names)}."


def damaged(path: Path, what: str) -> RunDamagedError:
    """Return the error that says what is wrong with the run in `path`."""
    return RunDamagedError(f"{path}: damaged run: {what}; remove the directory and run `python -m probes.train` again")

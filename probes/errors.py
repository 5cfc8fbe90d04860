"""Errors of probing: what is wrong, where, what was got, and the remedy."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches


class ProbesError(Exception):
    """Base of every error that `probes` raises for a user to read."""


class UnknownNameError(ProbesError):
    """A task, tap, head or device that does not exist."""


class TargetsError(ProbesError):
    """The targets store is missing, lacks an array, or belongs to other clips than the features."""


class SplitError(ProbesError):
    """A split has no clip to train on or to evaluate, or clips too short for the asked number of views."""


class NonFiniteError(ProbesError):
    """A feature in the store, or the loss of a probe, is NaN or infinite."""


class CheckpointError(ProbesError):
    """Files of trained probes are missing or damaged, or do not fit each other."""


class RunExistsError(ProbesError):
    """The place of the new run is taken by something that must not be replaced unasked."""


def did_you_mean(what: str, got: str, known: Iterable[str]) -> str:
    """Message for an unknown name: what it is, what was got, the nearest match, or what there is."""
    names = sorted(known)
    near = get_close_matches(got, names, n=3, cutoff=0.5)
    if near:
        return f"unknown {what} {got!r}. Did you mean {' or '.join(near)}?"
    listing = ", ".join(names) if len(names) <= 24 else f"{', '.join(names[:24])}, … ({len(names)} in all)"
    return f"unknown {what} {got!r}. Known: {listing or 'none'}"

"""Errors of probing: what is wrong, where, what was got, and the remedy."""

from __future__ import annotations


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


class NetworkError(ProbesError):
    """Sizes of a probe's network that do not fit each other, or do not fit its input."""

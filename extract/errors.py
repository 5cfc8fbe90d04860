"""Errors of extraction: what is wrong, where, what was got, and the remedy."""

from __future__ import annotations


class ExtractError(Exception):
    """Base of every error that `extract` raises for a user to read."""


class UnknownNameError(ExtractError):
    """A model, dataset, site or noise level that does not exist."""


class DatasetNotFoundError(ExtractError):
    """The files of a dataset are not where they were looked for."""


class DataError(ExtractError):
    """A file of a dataset is missing, truncated, or says something impossible."""


class WeightsError(ExtractError):
    """A checkpoint is missing, incomplete, or not what the family expects."""


class NonFiniteFeatureError(ExtractError):
    """A backbone produced NaN or infinity, or a value that the storage dtype cannot hold."""

"""The error of a pipeline."""

from __future__ import annotations


class PipelineError(Exception):
    """pipelines.yaml is wrong, or names something that does not exist."""

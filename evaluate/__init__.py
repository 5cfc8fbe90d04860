"""Metrics, statistics and the report: what probes' records say, and how sure one may be of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from evaluate.results.frames import load_records, load_scores, to_xarray

__all__ = ["load_records", "load_scores", "to_xarray"]


def __getattr__(name: str) -> Any:
    # Imported when asked for: most who import something of this package need no tables.
    if name in __all__:
        from evaluate.results import frames

        return getattr(frames, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

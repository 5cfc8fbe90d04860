"""What whole stores hold: statistics, ranks, principal components and similarity of taps, a few clips at a time.

>>> from store import analysis
>>> analysis.statistics("store/svd", taps=["up_blocks.1@sigma1"], split="train")
>>> analysis.cka("store/svd", "store/qwen3-vl-8b")

Whatever scheduler dask has at hand runs it: threads, those of `dask.config.set(scheduler=…)`, or the workers of a
`distributed.Client` that is active.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from store.analysis.components import pca
    from store.analysis.similarity import cka
    from store.analysis.summary import statistics
    from store.analysis.table import as_dataset

_HOME = {
    "as_dataset": "store.analysis.table",
    "cka": "store.analysis.similarity",
    "pca": "store.analysis.components",
    "statistics": "store.analysis.summary",
}

__all__ = ["as_dataset", "cka", "pca", "statistics"]


def __getattr__(name: str) -> Any:
    """Names are imported when they are first used (PEP 562)."""
    if name not in _HOME:
        raise AttributeError(f"module 'store.analysis' has no attribute {name!r}")
    return getattr(import_module(_HOME[name]), name)

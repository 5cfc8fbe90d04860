"""Similarity of taps as a picture."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from store.analysis.similarity import Similarity
from store.errors import StoreError

_FORMS = (".svg", ".png")
_SIDE = 0.42
"""Inches of a cell."""
_MARGIN = 2.6
"""Inches for names and scale."""
_WRITTEN = 16
"""Taps along an axis up to which every number is written into its cell."""


def check_figure(path: Path) -> None:
    """Raise `StoreError` unless a picture can be written to this name."""
    if path.suffix not in _FORMS:
        raise StoreError(f"{path}: unknown kind of picture {path.suffix!r}. Name a file in {' or '.join(_FORMS)}.")
    if not path.absolute().parent.is_dir():
        raise StoreError(f"{path}: there is no folder {path.absolute().parent}. Make it first.")


def write_figure(found: Similarity, path: Path, names: tuple[str, str]) -> None:
    """Write a heat-map from 0 to 1, the taps of a downwards and those of b to the right; values below 0 look like 0.

    Args:
        found: what is drawn; a tap that cannot be compared is left white.
        path: ends in .svg or .png.
        names: of the stores a and b.
    """
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    check_figure(path)
    rows, columns = found.values.shape
    figure = Figure(figsize=(_SIDE * columns + _MARGIN, _SIDE * rows + _MARGIN), layout="constrained")
    axes = figure.subplots()
    picture = axes.imshow(np.ma.masked_invalid(found.values), vmin=0, vmax=1, cmap="viridis")
    axes.set_xticks(range(columns), found.b, rotation=90)
    axes.set_yticks(range(rows), found.a)
    axes.set_xlabel(names[1])
    axes.set_ylabel(names[0])
    if max(rows, columns) <= _WRITTEN:
        for (row, column), value in np.ndenumerate(found.values):
            if np.isfinite(value):
                shade = "white" if value < 0.6 else "black"
                axes.text(column, row, f"{value:.2f}", ha="center", va="center", color=shade, fontsize=7)
    figure.colorbar(picture, label=f"linear CKA, {found.estimator}")
    # Names from a store are no mathematics, and the same picture is the same file.
    for text in (*axes.get_xticklabels(), *axes.get_yticklabels(), axes.xaxis.label, axes.yaxis.label):
        text.set_parse_math(False)
    with rc_context({"svg.hashsalt": "cka"}):
        figure.savefig(path, dpi=200, metadata={"Date": None} if path.suffix == ".svg" else {"Software": None})

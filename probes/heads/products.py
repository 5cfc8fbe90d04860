"""Products of the same rows with many small matrices, by the faster of the libraries that torch has."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor


class Rows:
    """Rows that are multiplied again and again.

    On a CPU, in float32, oneDNN does it, and also what is needed for the gradient by the matrix: for a few dozen
    columns it takes about half the time of MKL, which `F.linear` calls otherwise, on processors that are not Intel's.

    Args:
        rows: need no gradient.
    """

    def __init__(self, rows: Float[Tensor, "row channel"]) -> None:
        self._rows = rows.to_mkldnn() if _for_onednn(rows) else rows

    def times(self, matrix: Float[Tensor, "column channel"]) -> Float[Tensor, "row column"]:
        """The inner product of each row with each row of the matrix."""
        products: Tensor = F.linear(self._rows, matrix)
        return products.to_dense() if products.is_mkldnn else products


def _for_onednn(rows: Tensor) -> bool:
    single = rows.device.type == "cpu" and rows.dtype == torch.float32 and not torch.is_autocast_enabled("cpu")
    return single and torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]

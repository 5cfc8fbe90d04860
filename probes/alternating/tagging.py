"""The tagging read-out: one query per class asks all views whether the class is there."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn

from probes.alternating.attention import mlp
from probes.errors import NetworkError

WIDTH, LAYERS, HEADS, DROPOUT = 512, 2, 8, 0.1
QUERY_STD = 0.02


class DecoderLayer(nn.Module):
    """Queries read each other, then the cells, then pass an MLP; pre-norm (Xiong et al. 2020, arXiv 2002.04745).

    The layer of Query2Label (arXiv 2107.10834), section 3.2, with the norms moved before each part and no positions:
    a query is known by its class, a cell by what the trunk wrote into it.

    Args:
        width: of queries and cells.
        heads: of both attentions.
        dropout: rate on the attention weights, and in the MLP.
    """

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.own_norm = nn.LayerNorm(width)
        self.own = nn.MultiheadAttention(width, heads, dropout, batch_first=True)
        self.cell_norm = nn.LayerNorm(width)
        self.cell = nn.MultiheadAttention(width, heads, dropout, batch_first=True)
        self.mlp_norm = nn.LayerNorm(width)
        self.mlp = mlp(width, dropout)

    def forward(
        self, queries: Float[Tensor, "clip thing width"], cells: Float[Tensor, "clip cell width"]
    ) -> Float[Tensor, "clip thing width"]:
        """What the queries know after this layer."""
        normed = self.own_norm(queries)
        queries = queries + self.own(normed, normed, normed, need_weights=False)[0]
        queries = queries + self.cell(self.cell_norm(queries), cells, cells, need_weights=False)[0]
        out: Tensor = queries + self.mlp(self.mlp_norm(queries))
        return out


class TaggingHead(nn.Module):
    """Query2Label (arXiv 2107.10834, section 3.2) over the cells of all views: one logit per class and clip.

    Args:
        channels: of the cells, twice the trunk's width.
        classes: how many.
        embeddings: frozen embeddings of the class names, from which a linear map makes the queries; without them the
            queries are learned. They are kept with the weights, so that a checkpoint is whole.
        width: of the decoder.
        layers, heads, dropout: see `DecoderLayer`.

    Raises:
        NetworkError: if there is not one embedding per class.
    """

    embeddings: Tensor | None

    def __init__(
        self,
        channels: int,
        classes: int,
        embeddings: Float[Tensor, "thing embedding"] | None = None,
        width: int = WIDTH,
        layers: int = LAYERS,
        heads: int = HEADS,
        dropout: float = DROPOUT,
    ) -> None:
        super().__init__()
        self.project = nn.Linear(channels, width)
        if embeddings is None:
            self.queries: nn.Module | nn.Parameter = nn.Parameter(torch.randn(classes, width) * QUERY_STD)
        elif len(embeddings) != classes:
            raise NetworkError(f"{classes} classes, but {len(embeddings)} class embeddings: give one per class.")
        else:
            self.queries = nn.Linear(embeddings.shape[1], width)
        self.register_buffer("embeddings", None if embeddings is None else embeddings.detach().clone())
        self.layers = nn.ModuleList(DecoderLayer(width, heads, dropout) for _ in range(layers))
        bound = width**-0.5  # torch's own choice for a linear layer of this width
        self.weight = nn.Parameter(torch.empty(classes, width).uniform_(-bound, bound))
        self.bias = nn.Parameter(torch.empty(classes).uniform_(-bound, bound))

    def forward(self, cells: Float[Tensor, "clip view y x channel"]) -> Float[Tensor, "clip thing"]:
        """Logits: query c after the decoder against the weights of class c (Query2Label, eq. 5)."""
        read = self.project(cells).flatten(1, 3)
        queries = self._queries().expand(len(read), -1, -1)
        for layer in self.layers:
            queries = layer(queries, read)
        return (queries * self.weight).sum(-1) + self.bias

    def _queries(self) -> Float[Tensor, "thing width"]:
        queries: Tensor = self.queries if self.embeddings is None else self.queries(self.embeddings)  # type: ignore[assignment,operator]
        return queries

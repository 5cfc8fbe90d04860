"""One affine map: the strictest probe. It can show only what the features say linearly."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from probes.heads.base import WEIGHT_STD, Grid, Head, Layout, places, start_bias
from probes.heads.products import Rows

BLOCK = 32
"""Outputs that one product of matrices gives at least."""


class LinearHead(Head):
    """W x + b of each cell, of the mean of each view, or of the means of two views.

    Args:
        layout: what is read.
        channels: channels of the tap.
        outputs: numbers per cell, view or pair.
    """

    layouts = frozenset({"cells", "views", "pairs"})

    def __init__(self, layout: Layout, channels: int, outputs: int) -> None:
        super().__init__()
        self.layout = layout
        inputs = 2 * channels if layout == "pairs" else channels
        self.weight = nn.Parameter(torch.randn(outputs, inputs) * WEIGHT_STD)
        self.bias = nn.Parameter(torch.zeros(outputs))

    def forward(self, grid: Grid) -> Float[Tensor, "clip *where output"]:
        """Outputs of what the layout names."""
        inputs: Tensor = getattr(grid, self.layout)
        return F.linear(inputs, self.weight, self.bias)

    @property
    def outputs(self) -> int:
        """Numbers per cell, view or pair."""
        return len(self.bias)

    def kept_numbers(self, views: int, cells: int) -> int:
        """Outputs."""
        return places(self.layout, views, cells) * self.outputs

    def start_at(self, prior: Float[Tensor, " output"]) -> None:
        """Set the bias."""
        start_bias(self.bias, prior)


def losses_of(
    heads: Sequence[LinearHead],
    inputs: Float[Tensor, "*where channel"],
    loss: Callable[[Float[Tensor, "*where output"]], Float[Tensor, ""]],
) -> list[Float[Tensor, ""]]:
    """Losses of heads of one shape on the same inputs.

    No bit of a head's loss or gradients depends on the other heads, nor on how many there are: see `outputs_of`.
    Gradients are taken along with the losses, a few heads at a time. What is in work then stays in the cache, and the
    memory that it takes does not grow with the number of heads.

    Args:
        heads: at least one.
        inputs: need no gradient.
        loss: of the outputs of one head.
    """
    if not torch.is_grad_enabled():
        return [loss(outputs) for block in _outputs(heads, inputs) for outputs in block]
    parameters = [parameter for head in heads for parameter in (head.weight, head.bias)]
    return list(_Losses.apply(heads, inputs, loss, *parameters))  # type: ignore[no-untyped-call]


class _Losses(torch.autograd.Function):
    """See `losses_of`. Each loss has a gradient by the parameters of one head."""

    @staticmethod
    def forward(
        ctx: Any, heads: Sequence[LinearHead], inputs: Tensor, loss: Callable[[Tensor], Tensor], *parameters: Tensor
    ) -> tuple[Tensor, ...]:
        losses: list[Tensor] = []
        gradients: list[Tensor] = []
        with torch.enable_grad():
            for block in _outputs(heads, inputs):
                found = [loss(outputs) for outputs in block]
                start = 2 * len(losses)
                gradients += torch.autograd.grad(found, parameters[start : start + 2 * len(found)])
                losses += [each.detach() for each in found]
        ctx.save_for_backward(*gradients)
        return tuple(losses)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *of_losses: Tensor) -> tuple[Tensor | None, ...]:
        scales = (scale for scale in of_losses for _ in ("weight", "bias"))
        return None, None, None, *(each * scale for each, scale in zip(ctx.saved_tensors, scales, strict=True))


def outputs_of(
    heads: Sequence[LinearHead], inputs: Float[Tensor, "*where channel"]
) -> list[Float[Tensor, "*where output"]]:
    """What heads of one shape give for the same inputs, in as few products of matrices as that takes.

    No bit of a head's outputs or gradients depends on the other heads, nor on how many there are. A library rounds a
    product of matrices in a way that depends on the shapes, but not on what else is in it, or where: so all products
    have one shape, of as many heads as give `BLOCK` outputs, with zeros in place of those that are not there. Biases
    are added head by head, as sums over places depend on what is beside them.

    Args:
        heads: at least one.
        inputs: need no gradient.
    """
    return [outputs for block in _outputs(heads, inputs) for outputs in block]


def _outputs(heads: Sequence[LinearHead], inputs: Tensor) -> Iterator[list[Tensor]]:
    """Outputs of the heads, block by block."""
    outputs, rows = heads[0].outputs, Rows(inputs.flatten(0, -2))
    size = -(-BLOCK // outputs)
    for start in range(0, len(heads), size):
        block = heads[start : start + size]
        weight = torch.cat([head.weight for head in block])
        padded = F.pad(weight, (0, 0, 0, size * outputs - len(weight)))
        values = rows.times(padded).view(-1, size, outputs).unbind(1)
        yield [(each + head.bias).view(*inputs.shape[:-1], -1) for each, head in zip(values, block, strict=False)]

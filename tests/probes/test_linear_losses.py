"""Losses of many linear heads, whose gradients are taken along with them, against one loss at a time."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from probes.heads.linear import LinearHead, losses_of
from probes.heads.products import Rows


def squares(outputs: Tensor) -> Tensor:
    return outputs.square().mean()


@pytest.mark.parametrize("outputs", [1, 3, 20, 40])
def test_losses_and_gradients_are_those_of_each_head(outputs: int) -> None:
    torch.manual_seed(0)
    inputs = torch.randn(2, 3, 17, 24)
    heads = [LinearHead("cells", 24, outputs) for _ in range(5)]
    scales = torch.arange(1.0, 6.0)
    losses = losses_of(heads, inputs, squares)
    (torch.stack(losses) * scales).sum().backward()  # type: ignore[no-untyped-call]
    for head, loss, scale in zip(heads, losses, scales, strict=True):
        expected = squares(F.linear(inputs, head.weight, head.bias))
        torch.testing.assert_close(loss, expected)
        for parameter, gradient in zip(
            (head.weight, head.bias), torch.autograd.grad(scale * expected, (head.weight, head.bias)), strict=True
        ):
            assert parameter.grad is not None
            torch.testing.assert_close(parameter.grad, gradient, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("outputs", [1, 20, 32])
@pytest.mark.parametrize("threads", [1, 2])
def test_no_bit_of_a_gradient_depends_on_the_other_heads(threads: int, outputs: int) -> None:
    torch.manual_seed(0)
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        inputs = torch.randn(2, 256, 384)
        heads = [LinearHead("cells", 384, outputs) for _ in range(35)]
        together = losses_of(heads, inputs, squares)
        torch.stack(together).sum().backward()  # type: ignore[no-untyped-call]
        for head, loss in zip(heads, together, strict=True):
            there = [parameter.grad for parameter in (head.weight, head.bias)]
            head.zero_grad()
            (alone,) = losses_of([head], inputs, squares)
            alone.backward()  # type: ignore[no-untyped-call]
            assert torch.equal(alone, loss)
            for parameter, gradient in zip((head.weight, head.bias), there, strict=True):
                assert parameter.grad is not None
                assert gradient is not None
                assert torch.equal(parameter.grad, gradient)
    finally:
        torch.set_num_threads(before)


def test_without_gradients_the_losses_are_the_same_bits() -> None:
    inputs = torch.randn(2, 16, 24)
    heads = [LinearHead("cells", 24, 20) for _ in range(5)]
    with torch.no_grad():
        evaluated = losses_of(heads, inputs, squares)
    for loss, there in zip(losses_of(heads, inputs, squares), evaluated, strict=True):
        assert torch.equal(loss, there)


def test_under_autocast_products_are_of_its_type() -> None:
    rows, matrix = torch.randn(8, 16), torch.randn(4, 16)
    with torch.autocast("cpu", torch.bfloat16):
        assert Rows(rows).times(matrix).dtype == torch.bfloat16
    torch.testing.assert_close(Rows(rows).times(matrix), rows @ matrix.T)

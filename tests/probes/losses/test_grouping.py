"""The gradient of grouping, which is written by hand, against finite differences and against autograd."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from probes.losses import grouping_loss, pair_weights


def plain(embeddings: Tensor, pull: Tensor, push: Tensor, margin: float) -> Tensor:
    """The same, as autograd is given it."""
    unit = F.normalize(embeddings, dim=-1)
    distance = (2 - 2 * unit @ unit.transpose(1, 2) + 1e-6).clamp(min=1e-6).sqrt()
    return (distance * pull + F.relu(margin - distance) * push).sum() / len(unit)


@pytest.fixture
def pairs() -> tuple[Tensor, Tensor]:
    torch.manual_seed(0)
    pull, push = pair_weights(torch.randint(0, 4, (3, 12)))
    return pull.double(), push.double()


@pytest.mark.parametrize("margin", [0.5, 1.0, 1.7])
def test_the_gradient_is_that_of_the_loss(pairs: tuple[Tensor, Tensor], margin: float) -> None:
    embeddings = torch.randn(3, 12, 5, dtype=torch.float64, requires_grad=True)
    expected = plain(embeddings, *pairs, margin)
    loss = grouping_loss(embeddings, *pairs, margin)
    assert loss.item() == pytest.approx(expected.item(), rel=1e-12)
    (gradient,) = torch.autograd.grad(3 * loss, embeddings)
    torch.testing.assert_close(gradient, 3 * torch.autograd.grad(expected, embeddings)[0], rtol=1e-9, atol=1e-12)
    assert torch.autograd.gradcheck(lambda values: grouping_loss(values, *pairs, margin), embeddings)


def test_near_pairs_have_the_gradient_of_the_loss(pairs: tuple[Tensor, Tensor]) -> None:
    """Nearer than what is added to the distance."""
    direction = torch.randn(3, 1, 5, dtype=torch.float64)
    embeddings = (direction + 1e-4 * torch.randn(3, 12, 5, dtype=torch.float64)).requires_grad_()
    (gradient,) = torch.autograd.grad(grouping_loss(embeddings, *pairs), embeddings)
    (expected,) = torch.autograd.grad(plain(embeddings, *pairs, 1.0), embeddings)
    assert expected.any()
    torch.testing.assert_close(gradient, expected, rtol=1e-5, atol=1e-9)


def test_without_a_gradient_the_loss_is_the_same(pairs: tuple[Tensor, Tensor]) -> None:
    embeddings = torch.randn(3, 12, 5, dtype=torch.float64, requires_grad=True)
    with torch.no_grad():
        assert torch.equal(grouping_loss(embeddings, *pairs), grouping_loss(embeddings.detach(), *pairs))
    assert torch.equal(grouping_loss(embeddings, *pairs).detach(), grouping_loss(embeddings.detach(), *pairs))

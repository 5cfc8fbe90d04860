"""The read-outs: shapes, who may influence what, and that each can learn."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import nn

from probes.alternating.camera import CameraHead, activate
from probes.alternating.instance import InstanceHead
from probes.alternating.tagging import DecoderLayer, TaggingHead
from probes.errors import NetworkError


@pytest.fixture(autouse=True)
def seed() -> None:
    torch.manual_seed(0)


def learn(net: nn.Module, predict: Callable[[], torch.Tensor], target: torch.Tensor, rate: float = 1e-2) -> float:
    """Loss after 60 steps over the loss before; every parameter must have got a finite gradient that is not zero."""
    optimizer = torch.optim.Adam(net.parameters(), rate)
    losses = []
    touched = dict.fromkeys((name for name, _ in net.named_parameters()), False)
    for _ in range(60):
        loss = (predict() - target).square().mean()
        optimizer.zero_grad()
        loss.backward()
        for name, parameter in net.named_parameters():
            assert parameter.grad is not None, name
            assert parameter.grad.isfinite().all(), name
            touched[name] |= bool(parameter.grad.any())
        optimizer.step()
        losses.append(loss.item())
    assert all(touched.values()), [name for name, was in touched.items() if not was]
    return losses[-1] / losses[0]


def camera_head(iterations: int = 4) -> CameraHead:
    return CameraHead(16, heads=2, blocks=2, iterations=iterations)


def test_camera_gives_every_iteration() -> None:
    assert camera_head()(torch.randn(2, 3, 16)).shape == (4, 2, 3, 9)


def test_camera_tokens_are_modulated_by_the_estimate() -> None:
    head, tokens = CameraHead(16, heads=2, blocks=1, iterations=2), torch.randn(2, 3, 16)
    normed = nn.functional.layer_norm(tokens, (16,))

    def step(estimate: torch.Tensor) -> torch.Tensor:
        embedded = head.embed(estimate)
        shift, scale, gate = head.modulation[1](embedded * embedded.sigmoid()).split(16, -1)
        centred = normed - normed.mean(-1, keepdim=True)
        unit = centred / (centred.square().mean(-1, keepdim=True) + 1e-6).sqrt()
        return head.change(head.change_norm(head.blocks[0](normed + gate * (unit * (1 + scale) + shift))))

    first = step(head.empty.expand(2, 3, 9))
    expected = torch.stack([first, first + step(first)])
    torch.testing.assert_close(head(tokens), activate(expected), rtol=1e-4, atol=1e-5)


def test_camera_iterations_continue_from_their_estimate() -> None:
    head, tokens = camera_head(), torch.randn(2, 3, 16)
    estimates = head(tokens)
    torch.testing.assert_close(camera_head_like(head, 2)(tokens), estimates[:2])
    assert not torch.allclose(estimates[0], estimates[1], atol=1e-5)


def camera_head_like(head: CameraHead, iterations: int) -> CameraHead:
    """The same weights with other iterations."""
    other = camera_head(iterations)
    other.load_state_dict(head.state_dict())
    return other


def test_camera_estimates_are_detached() -> None:
    """The empty estimate acts on the first iteration alone; later ones get no gradient to it."""
    head, tokens = camera_head(), torch.randn(2, 3, 16)
    for iteration, reached in enumerate((True, False, False, False)):
        (gradient,) = torch.autograd.grad(head(tokens)[iteration].sum(), head.empty, allow_unused=True)
        assert (gradient is not None and bool(gradient.any())) == reached


def test_camera_views_read_each_other_and_clips_do_not() -> None:
    head, tokens = camera_head(), torch.randn(2, 3, 16)
    other = tokens.clone()
    other[0, 2] += torch.randn(16)
    changed = (head(other) - head(tokens))[-1].abs().amax(-1) > 0
    assert changed.tolist() == [[True] * 3, [False] * 3]


def test_only_the_field_of_view_is_rectified() -> None:
    assert activate(torch.full((2, 9), -1.0)).tolist() == [[-1.0] * 7 + [0.0] * 2] * 2


def test_camera_learns() -> None:
    head, tokens = camera_head(), torch.randn(2, 3, 16)
    nn.init.ones_(head.change[-1].bias)  # a rectifier that starts shut stays shut
    assert learn(head, lambda: head(tokens), torch.rand(2, 3, 9)) < 0.1


@pytest.mark.parametrize("named", [True, False])
def test_tagging_learns(named: bool) -> None:
    embeddings = torch.randn(5, 7) if named else None
    head = TaggingHead(6, 5, embeddings, width=16, heads=2, dropout=0.0)
    cells = torch.randn(3, 2, 2, 3, 6)
    assert head(cells).shape == (3, 5)
    assert learn(head, lambda: head(cells), torch.randn(3, 5)) < 0.1


def test_a_decoder_layer_is_torchs_own_with_its_norms_first() -> None:
    layer = DecoderLayer(8, 2, 0.5).eval()
    for parameter in layer.parameters():
        nn.init.normal_(parameter)
    expected = nn.TransformerDecoderLayer(8, 2, 32, 0.0, "gelu", batch_first=True, norm_first=True)
    pairs = [
        (expected.self_attn, layer.own),
        (expected.multihead_attn, layer.cell),
        (expected.norm1, layer.own_norm),
        (expected.norm2, layer.cell_norm),
        (expected.norm3, layer.mlp_norm),
        (expected.linear1, layer.mlp[0]),
        (expected.linear2, layer.mlp[3]),
    ]
    for theirs, ours in pairs:
        theirs.load_state_dict(ours.state_dict())
    queries, cells = torch.randn(2, 3, 8), torch.randn(2, 5, 8)
    torch.testing.assert_close(layer(queries, cells), expected(queries, cells), rtol=1e-4, atol=1e-4)


def test_tagging_reads_a_set_of_cells() -> None:
    """Views and cells may come in any order: position is what the trunk wrote into them."""
    head = TaggingHead(6, 5, width=16, heads=2).eval()
    cells = torch.randn(1, 2, 2, 3, 6)
    torch.testing.assert_close(head(cells.flip(1, 2, 3)), head(cells))
    other = cells.clone()
    other[0, 1, 1, 2] += 1
    assert (head(other) != head(cells)).all()


def test_tagging_scores_each_query_with_the_weights_of_its_class() -> None:
    head = TaggingHead(6, 5, width=16, heads=2).eval()
    cells = torch.randn(1, 1, 2, 2, 6)
    before = head(cells)
    with torch.no_grad():
        head.weight[3] += 1
        head.bias[1] += 1
    assert (head(cells) != before).tolist() == [[False, True, False, True, False]]


def test_tagging_keeps_frozen_embeddings_with_its_weights() -> None:
    embeddings = torch.randn(5, 7)
    head = TaggingHead(6, 5, embeddings, width=16, heads=2)
    assert torch.equal(head.state_dict()["embeddings"], embeddings)
    assert "embeddings" not in dict(head.named_parameters())
    assert "embeddings" not in TaggingHead(6, 5, width=16, heads=2).state_dict()
    with pytest.raises(NetworkError, match="4 classes, but 5"):
        TaggingHead(6, 4, embeddings)


def test_instance_learns_and_looks_at_one_cell_at_a_time() -> None:
    head, cells = InstanceHead(6, hidden=16, outputs=4), torch.randn(1, 2, 2, 3, 6)
    torch.testing.assert_close(head(cells)[:, 1:, :1], head(cells[:, 1:, :1]))
    first, second, third = head.layers[::2]
    gelu = nn.functional.gelu
    torch.testing.assert_close(head(cells), third(gelu(second(gelu(first(cells))))))
    assert learn(head, lambda: head(cells), torch.randn(1, 2, 2, 3, 4)) < 0.1

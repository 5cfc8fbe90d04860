"""Who sees whom in the trunk, what is kept for the backward pass, and what depth 0 leaves out."""

from __future__ import annotations

import pytest
import torch

from probes.alternating.trunk import SPECIALS, Trunk, TrunkOutput
from probes.errors import NetworkError

CHANNELS, WIDTH, HEADS = 6, 8, 2


@pytest.fixture(autouse=True)
def seed() -> None:
    torch.manual_seed(0)


def trunk(depth: int = 2, dropout: float = 0.0, checkpointing: bool = False) -> Trunk:
    """A tiny trunk whose residual branches matter as much as its stream."""
    built = Trunk(CHANNELS, WIDTH, depth, HEADS, dropout, checkpointing=checkpointing)
    for name, parameter in built.named_parameters():
        if name.endswith("_scale"):
            torch.nn.init.ones_(parameter)
        elif name == "specials":
            torch.nn.init.normal_(parameter)
    return built


def features(clips: int = 2, views: int = 3, y: int = 2, x: int = 3) -> torch.Tensor:
    return torch.randn(clips, views, y, x, CHANNELS)


def test_shapes() -> None:
    out = trunk(depth=3)(features())
    assert [tuple(stage.shape) for stage in out.stages] == [(2, 3, SPECIALS + 6, 2 * WIDTH)] * 3
    assert out.grid == (2, 3)
    assert out.cells.shape == (2, 3, 2, 3, 2 * WIDTH)
    assert out.camera.shape == (2, 3, 2 * WIDTH)
    assert torch.equal(out.cells[0, 1, 1, 2], out.stages[-1][0, 1, -1])
    assert torch.equal(out.camera[1, 2], out.stages[-1][1, 2, 0])


def test_views_after_the_first_are_exchangeable_and_the_first_is_not() -> None:
    net, given = trunk(), features(views=4)
    swapped = given[:, [0, 3, 2, 1]]
    for before, after in zip(net(given).stages, net(swapped).stages, strict=True):
        torch.testing.assert_close(after, before[:, [0, 3, 2, 1]])
    order = [1, 0, 2, 3]
    assert not torch.allclose(net(given[:, order]).cells, net(given).cells[:, order], atol=1e-3)


def test_a_frame_block_sees_its_own_view_and_a_global_block_all() -> None:
    net, given = trunk(), features()
    other = given.clone()
    other[:, 2] += torch.randn_like(other[:, 2])
    before, after = net(given).stages[0], net(other).stages[0]
    within, across = slice(None, WIDTH), slice(WIDTH, None)
    torch.testing.assert_close(after[:, :2, :, within], before[:, :2, :, within])
    assert ((after - before)[:, :2, :, across].abs().amax(-1) > 1e-5).all()
    assert ((after - before)[:, 2, :, within].abs().amax(-1) > 1e-5).all()  # each token of a view reads the others


def test_clips_do_not_see_each_other() -> None:
    net, given = trunk(), features()
    torch.testing.assert_close(net(given).cells[1:], net(given[1:]).cells)


def test_cells_know_where_they_lie() -> None:
    net, given = trunk(), features(1, 1)
    moved = given.roll(1, dims=3)
    assert not torch.allclose(net(moved).cells, net(given).cells.roll(1, dims=3), atol=1e-3)


@pytest.mark.parametrize("dropout", [0.0, 0.3])
def test_checkpointing_changes_memory_only(dropout: float) -> None:
    given = features()
    results = []
    for checkpointing in (False, True):
        torch.manual_seed(1)
        net = trunk(dropout=dropout, checkpointing=checkpointing)
        out = net(given).cells
        out.square().sum().backward()
        results.append((out, [parameter.grad for parameter in net.parameters()], torch.rand(1)))
    (plain, plain_gradients, plain_next), (saved, saved_gradients, saved_next) = results
    assert torch.equal(plain, saved)
    assert torch.equal(plain_next, saved_next)  # whoever draws next draws the same
    for one, two in zip(plain_gradients, saved_gradients, strict=True):
        assert one is not None
        assert torch.equal(one, two)


def test_checkpointing_keeps_less() -> None:
    def kept(checkpointing: bool) -> int:
        total = 0

        def count(tensor: torch.Tensor) -> torch.Tensor:
            nonlocal total
            total += tensor.numel()
            return tensor

        net = trunk(checkpointing=checkpointing)
        given = features(y=8, x=8)
        with torch.autograd.graph.saved_tensors_hooks(count, lambda tensor: tensor):
            net(given)
        return total

    assert kept(True) < kept(False) / 5


def test_at_depth_zero_each_cell_speaks_for_itself() -> None:
    net, given = trunk(depth=0), features()
    out = net(given)
    assert len(out.stages) == 4
    assert all(torch.equal(stage, out.stages[0]) for stage in out.stages)
    assert torch.equal(out.cells[..., :WIDTH], out.cells[..., WIDTH:])
    assert torch.equal(out.cells[..., :WIDTH], net.project(net.norm(given)))
    other = given.clone()
    other[1, 2, 0, 1] += torch.randn(CHANNELS)
    changed = (net(other).cells != out.cells).any(-1)
    assert changed.nonzero().tolist() == [[1, 2, 0, 1]]


def test_gradients_reach_every_parameter() -> None:
    net = trunk(checkpointing=True)
    (net(features()).cells ** 3).sum().backward()
    for name, parameter in net.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
        assert parameter.grad.abs().max() > 0, name


def test_a_single_view_of_a_single_cell() -> None:
    assert trunk()(features(1, 1, 1, 1)).cells.isfinite().all()


def test_initial_special_tokens_differ_by_next_to_nothing() -> None:
    specials = Trunk(CHANNELS, 64, 0, HEADS).specials
    assert specials.shape == (2, SPECIALS, 64)
    assert 0.5e-6 < specials.std().item() < 2e-6


def test_a_negative_depth_is_refused() -> None:
    with pytest.raises(NetworkError, match="depth -1"):
        trunk(depth=-1)


def test_the_output_counts_its_special_tokens() -> None:
    stage = torch.arange(8.0).reshape(1, 1, 8, 1)
    assert TrunkOutput([stage], (2, 3), specials=2).cells.flatten().tolist() == [2, 3, 4, 5, 6, 7]

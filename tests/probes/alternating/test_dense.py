"""The dense read-out: stages, activations, positions, any size, and that it can learn."""

from __future__ import annotations

import math

import pytest
import torch

from probes.alternating.dense import (
    DenseHead,
    Fusion,
    ResidualUnit,
    above_one,
    enlarge,
    exponential,
    inverse_log,
    position_map,
    stages_of,
)
from probes.alternating.trunk import SPECIALS, TrunkOutput
from tests.probes.alternating.test_readouts import learn

CHANNELS = 6


@pytest.fixture(autouse=True)
def seed() -> None:
    torch.manual_seed(0)


def head(outputs: int = 2, depth: int = 4, chunk: int = 8, checkpointing: bool = False) -> DenseHead:
    return DenseHead(CHANNELS, depth, outputs, (8, 8, 16, 16), 16, chunk, checkpointing=checkpointing)


def stages(y: int = 2, x: int = 3, clips: int = 1, views: int = 2, depth: int = 4) -> TrunkOutput:
    return TrunkOutput([torch.randn(clips, views, SPECIALS + y * x, CHANNELS) for _ in range(depth)], (y, x))


@pytest.mark.parametrize(
    ("depth", "expected"),
    [(0, (0, 1, 2, 3)), (1, (0, 0, 0, 0)), (2, (0, 0, 1, 1)), (4, (0, 1, 2, 3)), (8, (1, 3, 5, 7))],
)
def test_stages_are_spread_evenly(depth: int, expected: tuple[int, ...]) -> None:
    assert stages_of(depth) == expected


def test_activations() -> None:
    values = torch.tensor([-2.0, 0.0, 1.5])
    assert exponential(values).tolist() == pytest.approx([math.exp(-2), 1, math.exp(1.5)])
    assert inverse_log(values).tolist() == pytest.approx([1 - math.exp(2), 0, math.exp(1.5) - 1])
    assert above_one(values).tolist() == pytest.approx([1 + math.exp(-2), 2, 1 + math.exp(1.5)])


def test_the_position_map_is_sines_of_coordinates_over_the_half_diagonal() -> None:
    rows, columns, aspect = 2, 4, 2.0
    waves = position_map(8, rows, columns, aspect)
    for row in range(rows):
        for column in range(columns):
            u = ((column + 0.5) / columns * 2 - 1) * 2 / math.sqrt(5)
            v = ((row + 0.5) / rows * 2 - 1) / math.sqrt(5)
            expected = [f(c * w) for c in (u, v) for f in (math.sin, math.cos) for w in (1, 0.1)]
            assert waves[:, row, column].tolist() == pytest.approx(expected, abs=1e-6)


def test_the_corners_of_a_map_stay_when_it_grows() -> None:
    maps = torch.tensor([[[[0.0, 3.0], [6.0, 9.0]]]])
    expected = [[0.0, 1, 2, 3], [3, 4, 5, 6], [6, 7, 8, 9]]
    torch.testing.assert_close(enlarge(maps, (3, 4))[0, 0], torch.tensor(expected))


def test_maps_are_told_where_they_lie_before_they_are_resized_and_at_the_end() -> None:
    net, given = head(), stages()
    seen: dict[str, torch.Tensor] = {}
    net.projects[3].register_forward_hook(lambda _, __, out: seen.update(projected=out))
    net.resizes[3].register_forward_hook(lambda _, given, __: seen.update(placed=given[0]))
    net.halve.register_forward_hook(lambda _, __, out: seen.update(halved=out))
    net.last.register_forward_hook(lambda _, given, __: seen.update(last=given[0]))
    net(given, (9, 11))
    told = seen["placed"] - seen["projected"], seen["last"] - enlarge(seen["halved"], (9, 11))
    torch.testing.assert_close(told[0][1], 0.1 * position_map(16, 2, 3, 11 / 9), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(told[1][1], 0.1 * position_map(8, 9, 11, 11 / 9), rtol=1e-4, atol=1e-5)


def test_a_residual_unit_rectifies_what_it_skips() -> None:
    unit = ResidualUnit(2)
    for parameter in unit.parameters():
        torch.nn.init.zeros_(parameter)
    maps = torch.randn(1, 2, 3, 3)
    assert torch.equal(unit(maps), maps.relu())


def test_the_coarsest_step_has_no_finer_map() -> None:
    assert Fusion(4, finer=False).enter is None
    coarse, fine = torch.randn(1, 4, 2, 2), torch.randn(1, 4, 2, 2)
    fusion = Fusion(4, finer=True)
    assert fusion(coarse, fine, (4, 5)).shape == (1, 4, 4, 5)
    assert not torch.equal(fusion(coarse, fine, (4, 5)), fusion(coarse, fine + 1, (4, 5)))


@pytest.mark.parametrize("grid", [(1, 1), (1, 4), (2, 2), (3, 5), (9, 16), (17, 30), (24, 24)])
def test_any_grid_to_any_size(grid: tuple[int, int]) -> None:
    out = head(outputs=3)(stages(*grid, views=1), (21, 37))
    assert out.shape == (1, 1, 21, 37, 3)
    assert out.isfinite().all()


def test_without_a_size_a_cell_is_fourteen_pixels() -> None:
    assert head()(stages(2, 3)).shape == (1, 2, 28, 42, 2)


def test_each_view_is_read_by_itself_from_all_four_stages() -> None:
    net, given = head(), stages(clips=2)
    before = net(given, (9, 9))
    for stage in given.stages:
        stage[1, 0] += torch.randn(CHANNELS)
        after = net(given, (9, 9))
        changed = (after != before).flatten(2).any(-1)
        assert changed.tolist() == [[False, False], [True, False]]
        before = after


def test_special_tokens_are_not_read() -> None:
    net, given = head(), stages()
    before = net(given, (9, 9))
    for stage in given.stages:
        stage[:, :, :SPECIALS] += 1
    assert torch.equal(net(given, (9, 9)), before)


def test_chunks_and_checkpointing_change_memory_only() -> None:
    given = stages(clips=2, views=3)
    plain, saved = head(), head(chunk=2, checkpointing=True)
    saved.load_state_dict(plain.state_dict())
    for net in (plain, saved):
        net(given, (9, 11)).square().mean().backward()
    torch.testing.assert_close(plain(given, (9, 11)), saved(given, (9, 11)))
    for one, two in zip(plain.parameters(), saved.parameters(), strict=True):
        assert one.grad is not None
        torch.testing.assert_close(one.grad, two.grad)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_checkpointing_alone_is_exact(dtype: torch.dtype) -> None:
    given = stages()
    given = TrunkOutput([stage.to(dtype) for stage in given.stages], given.grid)
    nets = head().to(dtype), head(checkpointing=True).to(dtype)
    nets[1].load_state_dict(nets[0].state_dict())
    for net in nets:
        net(given, (9, 11)).square().mean().backward()
    for one, two in zip(nets[0].parameters(), nets[1].parameters(), strict=True):
        assert one.grad is not None
        assert torch.equal(one.grad, two.grad)


def test_it_learns() -> None:
    net, given = head(), stages(3, 4)
    target = torch.randn(1, 2, 3, 4, 2).repeat_interleave(2, 2).repeat_interleave(2, 3)
    assert learn(net, lambda: net(given, (6, 8)), target) < 0.1

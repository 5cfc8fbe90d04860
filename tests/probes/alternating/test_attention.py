"""Rotary positions, attention against a literal version, and the parts of a block."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from probes.alternating.attention import LAYER_SCALE, Block, SelfAttention, grid_positions, rotary_table, rotate
from probes.errors import NetworkError


@pytest.fixture(autouse=True)
def seed() -> None:
    torch.manual_seed(0)


def at(position: tuple[int, int], vector: torch.Tensor) -> torch.Tensor:
    """`vector` turned to `position`."""
    table = rotary_table(torch.tensor([position]), len(vector))
    return rotate(vector[None, None, None], table)[0, 0, 0]


def test_positions_are_row_major_and_special_tokens_lie_at_zero() -> None:
    positions = grid_positions(2, 3, 2)
    assert positions.tolist() == [[0, 0], [0, 0], [1, 1], [1, 2], [1, 3], [2, 1], [2, 2], [2, 3]]


def test_inner_products_depend_on_the_offset_only() -> None:
    query, key = torch.randn(16), torch.randn(16)
    near = at((2, 5), query) @ at((1, 3), key)
    far = at((12, 7), query) @ at((11, 5), key)
    torch.testing.assert_close(near, far, rtol=1e-4, atol=1e-5)
    assert not torch.isclose(near, at((2, 5), query) @ at((1, 4), key), rtol=1e-2)
    assert not torch.isclose(near, at((2, 5), query) @ at((2, 3), key), rtol=1e-2)


def test_position_zero_turns_nothing_and_no_position_changes_a_length() -> None:
    vector = torch.randn(8)
    torch.testing.assert_close(at((0, 0), vector), vector)
    torch.testing.assert_close(at((9, 4), vector).norm(), vector.norm())


def test_rotation_is_a_complex_product() -> None:
    vector = torch.randn(8)  # per axis: two real parts, then two imaginary parts
    turned = at((3, 5), vector)
    for axis, position in enumerate((3, 5)):
        for index, frequency in enumerate((1.0, 100**-0.5)):
            real, imaginary = 4 * axis + index, 4 * axis + 2 + index
            expected = complex(vector[real], vector[imaginary]) * complex(
                math.cos(position * frequency), math.sin(position * frequency)
            )
            assert complex(turned[real], turned[imaginary]) == pytest.approx(expected, rel=1e-4, abs=1e-6)


def test_attention_is_a_weighted_mean_of_values() -> None:
    attention = SelfAttention(8, 2, normed=True, dropout=0.0)
    for parameter in attention.parameters():
        nn.init.normal_(parameter)
    tokens = torch.randn(2, 5, 8)
    table = rotary_table(torch.randint(0, 4, (5, 2)), 4)
    query, key, value = attention.inward(tokens).chunk(3, -1)
    heads = []
    for head in range(2):
        own = slice(4 * head, 4 * head + 4)
        q = rotate(attention.query_norm(query[..., own])[:, None], table)[:, 0]
        k = rotate(attention.key_norm(key[..., own])[:, None], table)[:, 0]
        heads.append((q @ k.transpose(1, 2) / 2).softmax(-1) @ value[..., own])
    expected = attention.outward(torch.cat(heads, -1))
    torch.testing.assert_close(attention(tokens, table), expected, rtol=1e-4, atol=1e-5)


def test_a_block_starts_near_the_identity_with_a_small_gain() -> None:
    block = Block(8, 2)
    assert torch.equal(block.attention_scale, torch.full((8,), LAYER_SCALE))
    tokens = torch.randn(1, 4, 8)
    attended = tokens + LAYER_SCALE * block.attention(block.attention_norm(tokens))
    torch.testing.assert_close(block(tokens), attended + LAYER_SCALE * block.mlp(block.mlp_norm(attended)))


def test_dropout_is_off_in_evaluation_and_on_in_training() -> None:
    block, tokens = Block(8, 2, dropout=0.5), torch.randn(1, 4, 8)
    assert not torch.equal(block(tokens), block(tokens))
    block.eval()
    assert torch.equal(block(tokens), block(tokens))


def test_sizes_that_do_not_fit_are_refused() -> None:
    with pytest.raises(NetworkError, match="width 10 and 4 heads"):
        Block(10, 4)
    with pytest.raises(NetworkError, match="multiple of 4"):
        rotary_table(grid_positions(1, 1, 0), 6)

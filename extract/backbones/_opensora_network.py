"""The diffusion transformer of Open-Sora 2 (arXiv:2503.09642), written from its published layout.

It is of the kind of FLUX.1: double blocks, in which video and text have weights of their own, then single blocks on one
sequence, the text before the video. Names of modules are those of the released file, so that it loads as it is.

It differs from FLUX.1 in what its tokens are (`_opensora_tokens`), in a condition that is added to them, and in that a
layer makes the queries of a block, another the keys.

Precision, as published: all in the type of the weights, but in float32 the mean squares of queries and keys, rotary
positions and the sinusoids of the time.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.modeling_utils import ModelMixin
from jaxtyping import Float
from torch import Tensor, nn

from extract.backbones._opensora_tokens import SINUSOIDS, Rotation, rotate, rotation_of, sinusoids

EPS = 1e-6


class Embedder(nn.Module):
    """Two layers that make a vector as wide as the network."""

    def __init__(self, inputs: int, width: int) -> None:
        super().__init__()
        self.in_layer = nn.Linear(inputs, width)
        self.out_layer = nn.Linear(width, width)

    def forward(self, x: Float[Tensor, "batch inputs"]) -> Float[Tensor, "batch width"]:
        """Linear, SiLU, linear."""
        y: Tensor = self.out_layer(F.silu(self.in_layer(x)))
        return y


class RootMeanSquare(nn.Module):
    """Divide by the root mean square, then scale each component."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(width))

    def forward(self, x: Float[Tensor, "*batch width"]) -> Float[Tensor, "*batch width"]:
        """The mean is taken in float32 at least, the scale applied in the type of `x`."""
        exact = x.to(at_least_single(x.dtype))
        exact = exact * torch.rsqrt(exact.square().mean(-1, keepdim=True) + EPS)
        scaled: Tensor = exact.to(x.dtype) * self.scale
        return scaled


class QueryKeyNorm(nn.Module):
    """Normalise queries and keys, head by head."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.query_norm = RootMeanSquare(width)
        self.key_norm = RootMeanSquare(width)


class Modulation(nn.Module):
    """Shift, scale and gate of `parts` / 3 branches from what is the same for all tokens."""

    def __init__(self, width: int, parts: int) -> None:
        super().__init__()
        self.parts = parts
        self.lin = nn.Linear(width, parts * width)

    def forward(self, vector: Float[Tensor, "batch width"]) -> tuple[Float[Tensor, "batch 1 width"], ...]:
        """`parts` tensors: shift, scale, gate, and again for a second branch."""
        return tuple(self.lin(F.silu(vector))[:, None].chunk(self.parts, dim=-1))


class Attention(nn.Module):
    """Projections of one stream of a double block."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.q_proj = nn.Linear(width, width)
        self.k_proj = nn.Linear(width, width)
        self.v_proj = nn.Linear(width, width)
        self.norm = QueryKeyNorm(width // heads)
        self.proj = nn.Linear(width, width)

    def forward(self, x: Float[Tensor, "batch token width"]) -> tuple[Tensor, Tensor, Tensor]:
        """Queries, keys and values, each (batch, head, token, component)."""
        q, k, v = (split_heads(layer(x), self.heads) for layer in (self.q_proj, self.k_proj, self.v_proj))
        return self.norm.query_norm(q), self.norm.key_norm(k), v


class DoubleBlock(nn.Module):
    """Video and text attend to each other; each has its own weights."""

    def __init__(self, width: int, heads: int, hidden: int) -> None:
        super().__init__()
        self.img_mod, self.txt_mod = Modulation(width, 6), Modulation(width, 6)
        self.img_attn, self.txt_attn = Attention(width, heads), Attention(width, heads)
        self.img_mlp, self.txt_mlp = (
            nn.Sequential(nn.Linear(width, hidden), nn.GELU(approximate="tanh"), nn.Linear(hidden, width))
            for _ in range(2)
        )

    def forward(
        self,
        img: Float[Tensor, "batch token width"],
        txt: Float[Tensor, "batch word width"],
        vector: Float[Tensor, "batch width"],
        rotation: Rotation,
    ) -> tuple[Float[Tensor, "batch token width"], Float[Tensor, "batch word width"]]:
        """(video, text)."""
        img_parts, txt_parts = self.img_mod(vector), self.txt_mod(vector)
        streams = (self.txt_attn(modulate(txt, *txt_parts[:2])), self.img_attn(modulate(img, *img_parts[:2])))
        q, k, v = (torch.cat(pair, dim=2) for pair in zip(*streams, strict=True))
        attended = attend(q, k, v, rotation)
        words = txt.shape[1]
        txt = txt + txt_parts[2] * self.txt_attn.proj(attended[:, :words])
        img = img + img_parts[2] * self.img_attn.proj(attended[:, words:])
        txt = txt + txt_parts[5] * self.txt_mlp(modulate(txt, *txt_parts[3:5]))
        img = img + img_parts[5] * self.img_mlp(modulate(img, *img_parts[3:5]))
        return img, txt


class SingleBlock(nn.Module):
    """One sequence; attention and the two-layer perceptron run side by side, and share their last layer."""

    def __init__(self, width: int, heads: int, hidden: int) -> None:
        super().__init__()
        self.width, self.heads, self.hidden = width, heads, hidden
        self.q_proj = nn.Linear(width, width)
        self.k_proj = nn.Linear(width, width)
        self.v_mlp = nn.Linear(width, width + hidden)
        self.linear2 = nn.Linear(width + hidden, width)
        self.norm = QueryKeyNorm(width // heads)
        self.modulation = Modulation(width, 3)

    def forward(
        self, x: Float[Tensor, "batch token width"], vector: Float[Tensor, "batch width"], rotation: Rotation
    ) -> Float[Tensor, "batch token width"]:
        """Text and video, the text first."""
        shift, scale, gate = self.modulation(vector)
        normed = modulate(x, shift, scale)
        q = self.norm.query_norm(split_heads(self.q_proj(normed), self.heads))
        k = self.norm.key_norm(split_heads(self.k_proj(normed), self.heads))
        v, inner = self.v_mlp(normed).split((self.width, self.hidden), dim=-1)
        attended = attend(q, k, split_heads(v, self.heads), rotation)
        y: Tensor = x + gate * self.linear2(torch.cat([attended, F.gelu(inner, approximate="tanh")], dim=-1))
        return y


class FinalLayer(nn.Module):
    """From tokens to the velocity of the latents."""

    def __init__(self, width: int, outputs: int) -> None:
        super().__init__()
        self.linear = nn.Linear(width, outputs)
        self.adaLN_modulation = nn.Sequential(nn.SiLU(), nn.Linear(width, 2 * width))

    def forward(
        self, x: Float[Tensor, "batch token width"], vector: Float[Tensor, "batch width"]
    ) -> Float[Tensor, "batch token outputs"]:
        """Modulate and project."""
        shift, scale = self.adaLN_modulation(vector)[:, None].chunk(2, dim=-1)
        y: Tensor = self.linear(modulate(x, shift, scale))
        return y


class OpenSoraTransformer(ModelMixin, ConfigMixin):  # type: ignore[misc]
    """The whole network; of the library's model class, so that it is configured and offloaded as the library's own.

    Args:
        in_channels: features of a token: latent channels times `patch_size`^2.
        patch_size: latents of a token along y and x.
        vec_in_dim: of the pooled text.
        context_in_dim: of a text token.
        hidden_size: of a token inside.
        mlp_ratio: width of the perceptrons, in `hidden_size`.
        num_heads: of the attention.
        depth, depth_single_blocks: double and single blocks.
        axes_dim: components of a head that tell time, y and x; together all of them.
        theta: of the rotary positions.
    """

    @register_to_config  # type: ignore[untyped-decorator]
    def __init__(
        self,
        in_channels: int = 64,
        patch_size: int = 2,
        vec_in_dim: int = 768,
        context_in_dim: int = 4096,
        hidden_size: int = 3072,
        mlp_ratio: float = 4.0,
        num_heads: int = 24,
        depth: int = 19,
        depth_single_blocks: int = 38,
        axes_dim: Sequence[int] = (16, 56, 56),
        theta: float = 10_000.0,
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.axes_dim, self.theta = tuple(axes_dim), theta
        hidden = int(mlp_ratio * hidden_size)
        self.img_in = nn.Linear(in_channels, hidden_size)
        self.txt_in = nn.Linear(context_in_dim, hidden_size)
        self.time_in = Embedder(SINUSOIDS, hidden_size)
        self.vector_in = Embedder(vec_in_dim, hidden_size)
        self.cond_in = nn.Linear(in_channels + patch_size**2, hidden_size)  # and a mask
        self.double_blocks = nn.ModuleList(DoubleBlock(hidden_size, num_heads, hidden) for _ in range(depth))
        self.single_blocks = nn.ModuleList(
            SingleBlock(hidden_size, num_heads, hidden) for _ in range(depth_single_blocks)
        )
        self.final_layer = FinalLayer(hidden_size, in_channels)

    def forward(
        self,
        img: Float[Tensor, "batch token features"],
        cond: Float[Tensor, "batch token conditions"],
        positions: Float[Tensor, "token 3"],
        txt: Float[Tensor, "batch word context"],
        pooled: Float[Tensor, "batch pool"],
        time: Float[Tensor, " batch"],
    ) -> Float[Tensor, "batch token features"]:
        """The velocity, eps - x_0, packed.

        Args:
            img: noisy latents, packed.
            cond: mask and latents of the condition, packed; zero if there is none.
            positions: (time, y, x) of every token. All text is at the origin.
            txt: text tokens; all of them are attended to.
            pooled: of the text.
            time: 0 for data to 1 for noise.
        """
        x = self.img_in(img) + self.cond_in(cond)
        text = self.txt_in(txt)
        exact = at_least_single(x.dtype)
        vector = self.time_in(sinusoids(time.to(exact)).to(x.dtype)) + self.vector_in(pooled)
        origin = positions.new_zeros(text.shape[1], 3)
        rotation = rotation_of(torch.cat([origin, positions]).to(exact), self.axes_dim, self.theta)
        for block in self.double_blocks:
            x, text = block(x, text, vector, rotation)
        both = torch.cat([text, x], dim=1)
        for block in self.single_blocks:
            both = block(both, vector, rotation)
        velocity: Tensor = self.final_layer(both[:, text.shape[1] :], vector)
        return velocity


def at_least_single(dtype: torch.dtype) -> torch.dtype:
    """float32, or float64 if that is what is computed in."""
    return torch.promote_types(dtype, torch.float32)


def modulate(
    x: Float[Tensor, "batch token width"], shift: Float[Tensor, "batch 1 width"], scale: Float[Tensor, "batch 1 width"]
) -> Float[Tensor, "batch token width"]:
    """Normalise the layer, scale by 1 + `scale`, and shift."""
    return (1 + scale) * F.layer_norm(x, x.shape[-1:], eps=EPS) + shift


def split_heads(x: Float[Tensor, "batch token width"], heads: int) -> Float[Tensor, "batch {heads} token component"]:
    """Heads are the outer part of the features."""
    return x.reshape(*x.shape[:2], heads, -1).transpose(1, 2)


def attend(
    q: Float[Tensor, "batch head token component"],
    k: Float[Tensor, "batch head token component"],
    v: Float[Tensor, "batch head token component"],
    rotation: Rotation,
) -> Float[Tensor, "batch token width"]:
    """Full attention of rotated queries and keys, heads side by side."""
    attended = F.scaled_dot_product_attention(rotate(q, rotation), rotate(k, rotation), v)
    return attended.transpose(1, 2).flatten(2)

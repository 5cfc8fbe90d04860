"""Open-Sora's transformer: against its formulas written out in loops, and against the FLUX of diffusers.

The loops follow the formulas number by number, in float64, and share nothing with the network.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from extract.backbones._opensora_network import OpenSoraTransformer
from extract.backbones._opensora_tokens import pack, positions_of
from extract.registry import make_family
from tests.extract.video.tiny import loud, record, seeded
from tests.extract.video.tiny_opensora import NETWORK

Array = NDArray[np.float64]
Weights = dict[str, Array]
WIDTH, HEADS, HEAD = 32, 2, 16
WIDE = {**NETWORK, "mlp_ratio": 4.0}  # as all of FLUX
WORDS, GRID = 3, (2, 2, 3)


@pytest.fixture(scope="module")
def network() -> OpenSoraTransformer:
    """Norms that scale, and gates that differ."""
    with seeded():
        made = loud(OpenSoraTransformer(**WIDE))
        for name, parameter in made.named_parameters():
            if name.endswith(".scale"):
                torch.nn.init.uniform_(parameter, 0.5, 2.0)
    return made.double().eval()  # type: ignore[return-value]


@pytest.fixture(scope="module")
def inputs() -> dict[str, Tensor]:
    tokens = math.prod(GRID)
    generator = torch.Generator().manual_seed(1)

    def draw(*shape: int) -> Tensor:
        return torch.randn(*shape, dtype=torch.float64, generator=generator)

    return {
        "img": draw(1, tokens, 16),
        "cond": draw(1, tokens, 20),
        "positions": positions_of(*GRID, torch.device("cpu")),
        "txt": draw(1, WORDS, 16),
        "pooled": draw(1, 12),
        "time": torch.tensor([0.3125], dtype=torch.float64),
    }


def run(network: OpenSoraTransformer, inputs: dict[str, Tensor]) -> dict[str, Any]:
    """Output of every block, and of the network."""
    names = [f"double_blocks.{k}" for k in range(2)] + [f"single_blocks.{k}" for k in range(3)]
    with record(network, names) as heard, torch.no_grad():
        out = network(**inputs)
    return {**heard, "out": out}


# --- in loops -----------------------------------------------------------------------------------


def linear(weights: Weights, name: str, x: Array) -> Array:
    return x @ weights[f"{name}.weight"].T + weights[f"{name}.bias"]


def silu(x: Array) -> Array:
    return x / (1 + np.exp(-x))


def gelu_tanh(x: Array) -> Array:
    return 0.5 * x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))


def modulated(x: Array, shift: Array, scale: Array) -> Array:
    out = np.empty_like(x)
    for token, row in enumerate(x):
        mean = sum(row) / len(row)
        variance = sum((row - mean) ** 2) / len(row)
        out[token] = (1 + scale) * (row - mean) / math.sqrt(variance + 1e-6) + shift
    return out


def rotated(x: Array, position: Array) -> Array:
    """One head of one token: components 0..1 and 8..9 tell t, 2..4 and 10..12 y, 5..7 and 13..15 x."""
    out = np.empty_like(x)
    j = 0
    for axis, components in enumerate((4, 6, 6)):
        for k in range(components // 2):
            angle = position[axis] * 10_000 ** (-2 * k / components)
            a, b = x[j], x[j + 8]
            out[j] = a * math.cos(angle) - b * math.sin(angle)
            out[j + 8] = b * math.cos(angle) + a * math.sin(angle)
            j += 1
    return out


def normed(x: Array, scale: Array) -> Array:
    return x / math.sqrt(sum(x**2) / len(x) + 1e-6) * scale


def attention(q: Array, k: Array, v: Array, positions: Array, scales: list[tuple[Array, Array]]) -> Array:
    """(token, width) each; `scales`: of query and key of every token."""
    out = np.empty_like(v)
    for head in range(HEADS):
        own = slice(HEAD * head, HEAD * (head + 1))
        queries = [rotated(normed(row[own], s), p) for row, p, (s, _) in zip(q, positions, scales, strict=True)]
        keys = [rotated(normed(row[own], s), p) for row, p, (_, s) in zip(k, positions, scales, strict=True)]
        for token, query in enumerate(queries):
            scores = np.array([query @ key for key in keys]) / math.sqrt(HEAD)
            chances = np.exp(scores - scores.max())
            out[token, own] = sum(c * row[own] for c, row in zip(chances / chances.sum(), v, strict=True))
    return out


def by_loops(weights: Weights, inputs: dict[str, Tensor]) -> dict[str, Any]:
    img, cond, txt, pooled = (inputs[name][0].numpy() for name in ("img", "cond", "txt", "pooled"))
    positions = inputs["positions"].numpy()
    time = float(inputs["time"])
    waves = [1000 * time * math.exp(-math.log(10_000) * j / 128) for j in range(128)]
    known = np.array([*map(math.cos, waves), *map(math.sin, waves)])[None]
    x = linear(weights, "img_in", img) + linear(weights, "cond_in", cond)
    text = linear(weights, "txt_in", txt)
    vector = np.zeros((1, WIDTH))
    for name, told in (("time_in", known), ("vector_in", pooled[None])):
        vector += linear(weights, f"{name}.out_layer", silu(linear(weights, f"{name}.in_layer", told)))
    places = np.concatenate([np.zeros((WORDS, 3)), positions])
    heard: dict[str, Any] = {}

    def scale(name: str) -> tuple[Array, Array]:
        return weights[f"{name}.query_norm.scale"], weights[f"{name}.key_norm.scale"]

    for k in range(2):
        block = f"double_blocks.{k}"
        parts = {s: np.split(linear(weights, f"{block}.{s}_mod.lin", silu(vector))[0], 6) for s in ("txt", "img")}
        streams = {"txt": text, "img": x}
        z = {s: modulated(streams[s], parts[s][0], parts[s][1]) for s in streams}
        q, key, v = (
            np.concatenate([linear(weights, f"{block}.{s}_attn.{name}_proj", z[s]) for s in ("txt", "img")])
            for name in "qkv"
        )
        scales = [scale(f"{block}.txt_attn.norm")] * WORDS + [scale(f"{block}.img_attn.norm")] * len(x)
        out = attention(q, key, v, places, scales)
        attended = {"txt": out[:WORDS], "img": out[WORDS:]}
        for s, (shift1, scale1, gate1, shift2, scale2, gate2) in parts.items():
            del shift1, scale1
            y = streams[s] + gate1 * linear(weights, f"{block}.{s}_attn.proj", attended[s])
            inner = gelu_tanh(linear(weights, f"{block}.{s}_mlp.0", modulated(y, shift2, scale2)))
            streams[s] = y + gate2 * linear(weights, f"{block}.{s}_mlp.2", inner)
        text, x = streams["txt"], streams["img"]
        heard[block] = x, text
    both = np.concatenate([text, x])
    for k in range(3):
        block = f"single_blocks.{k}"
        shift, gain, gate = np.split(linear(weights, f"{block}.modulation.lin", silu(vector))[0], 3)
        z_all = modulated(both, shift, gain)
        u = linear(weights, f"{block}.v_mlp", z_all)
        out = attention(
            linear(weights, f"{block}.q_proj", z_all),
            linear(weights, f"{block}.k_proj", z_all),
            u[:, :WIDTH],
            places,
            [scale(f"{block}.norm")] * len(both),
        )
        both = both + gate * linear(weights, f"{block}.linear2", np.concatenate([out, gelu_tanh(u[:, WIDTH:])], axis=1))
        heard[block] = both
    shift, gain = np.split(linear(weights, "final_layer.adaLN_modulation.1", silu(vector))[0], 2)
    heard["out"] = linear(weights, "final_layer.linear", modulated(both[WORDS:], shift, gain))
    return heard


def test_it_computes_its_formulas(network: OpenSoraTransformer, inputs: dict[str, Tensor]) -> None:
    got = run(network, inputs)
    expected = by_loops({name: each.numpy() for name, each in network.state_dict().items()}, inputs)
    assert got.keys() == expected.keys()
    for name, each in expected.items():
        pairs = zip(got[name], each, strict=True) if isinstance(each, tuple) else [(got[name], each)]
        for ours, theirs in pairs:
            torch.testing.assert_close(ours[0], torch.from_numpy(theirs), atol=1e-9, rtol=1e-9, msg=name)
            assert float(ours.abs().max()) > 0.5


# --- FLUX ---------------------------------------------------------------------------------------


def as_flux(network: OpenSoraTransformer) -> Any:
    """The same network in diffusers' FLUX: image and condition as one input, and components of a head in pairs."""
    from diffusers import FluxTransformer2DModel

    ours = network.state_dict()
    pairs = torch.arange(HEAD).reshape(2, -1).T.flatten()  # component 2 j of FLUX is ours j, 2 j + 1 is ours j + half
    rows = torch.cat([HEAD * head + pairs for head in range(HEADS)])
    theirs: dict[str, Tensor] = {}

    def put(name: str, source: str, change: Callable[[Tensor], Tensor] = lambda each: each) -> None:
        for kind in ("weight", "bias"):
            theirs[f"{name}.{kind}"] = change(ours[f"{source}.{kind}"])

    def put_attention(name: str, source: str, prefix: str, layers: tuple[str, str, str], norm: str) -> None:
        for layer, mine in zip(layers[:2], ("q_proj", "k_proj"), strict=True):
            put(f"{name}.{layer}", f"{source}{mine}", lambda each: each[rows])
        for kind, mine in zip("qk", ("query_norm", "key_norm"), strict=True):
            theirs[f"{name}.norm_{prefix}{kind}.weight"] = ours[f"{norm}.{mine}.scale"][pairs]

    theirs["x_embedder.weight"] = torch.cat([ours["img_in.weight"], ours["cond_in.weight"]], dim=1)
    theirs["x_embedder.bias"] = ours["img_in.bias"] + ours["cond_in.bias"]
    put("context_embedder", "txt_in")
    for name, source in (("timestep_embedder", "time_in"), ("text_embedder", "vector_in")):
        put(f"time_text_embed.{name}.linear_1", f"{source}.in_layer")
        put(f"time_text_embed.{name}.linear_2", f"{source}.out_layer")
    for k in range(2):
        name, source = f"transformer_blocks.{k}", f"double_blocks.{k}"
        put(f"{name}.norm1.linear", f"{source}.img_mod.lin")
        put(f"{name}.norm1_context.linear", f"{source}.txt_mod.lin")
        own, added = ("to_q", "to_k", "to_v"), ("add_q_proj", "add_k_proj", "add_v_proj")
        put_attention(f"{name}.attn", f"{source}.img_attn.", "", own, f"{source}.img_attn.norm")
        put_attention(f"{name}.attn", f"{source}.txt_attn.", "added_", added, f"{source}.txt_attn.norm")
        put(f"{name}.attn.to_v", f"{source}.img_attn.v_proj")
        put(f"{name}.attn.add_v_proj", f"{source}.txt_attn.v_proj")
        put(f"{name}.attn.to_out.0", f"{source}.img_attn.proj")
        put(f"{name}.attn.to_add_out", f"{source}.txt_attn.proj")
        for feed, mlp in (("ff", "img_mlp"), ("ff_context", "txt_mlp")):
            put(f"{name}.{feed}.net.0.proj", f"{source}.{mlp}.0")
            put(f"{name}.{feed}.net.2", f"{source}.{mlp}.2")
    for k in range(3):
        name, source = f"single_transformer_blocks.{k}", f"single_blocks.{k}"
        put(f"{name}.norm.linear", f"{source}.modulation.lin")
        put_attention(f"{name}.attn", f"{source}.", "", ("to_q", "to_k", "to_v"), f"{source}.norm")
        put(f"{name}.attn.to_v", f"{source}.v_mlp", lambda each: each[:WIDTH])
        put(f"{name}.proj_mlp", f"{source}.v_mlp", lambda each: each[WIDTH:])
        put(f"{name}.proj_out", f"{source}.linear2")
    put("norm_out.linear", "final_layer.adaLN_modulation.1", lambda each: torch.cat(each.chunk(2)[::-1]))
    put("proj_out", "final_layer.linear")
    flux = FluxTransformer2DModel(
        patch_size=1,
        in_channels=16 + 20,
        out_channels=16,
        num_layers=2,
        num_single_layers=3,
        attention_head_dim=HEAD,
        num_attention_heads=HEADS,
        joint_attention_dim=16,
        pooled_projection_dim=12,
        guidance_embeds=False,
        axes_dims_rope=(4, 6, 6),
    )
    flux.load_state_dict(theirs, strict=True)
    return flux.double().eval()


@torch.no_grad()
def test_it_is_flux_but_for_the_order_of_components(network: OpenSoraTransformer, inputs: dict[str, Tensor]) -> None:
    flux = as_flux(network)
    names = [f"transformer_blocks.{k}" for k in range(2)] + [f"single_transformer_blocks.{k}" for k in range(3)]
    with record(flux, names) as heard:
        (out,) = flux(
            hidden_states=torch.cat([inputs["img"], inputs["cond"]], dim=-1),
            encoder_hidden_states=inputs["txt"],
            pooled_projections=inputs["pooled"],
            timestep=inputs["time"],
            img_ids=inputs["positions"],
            txt_ids=torch.zeros(WORDS, 3),
            return_dict=False,
        )
    got = run(network, inputs)
    close = {"atol": 2e-4, "rtol": 2e-4}  # FLUX takes sines and cosines in float32
    torch.testing.assert_close(got["out"], out, **close)
    for k in range(2):
        text, video = heard[f"transformer_blocks.{k}"]
        for ours, theirs in zip(got[f"double_blocks.{k}"], (video, text), strict=True):
            torch.testing.assert_close(ours, theirs, **close)
    for k in range(3):
        text, video = heard[f"single_transformer_blocks.{k}"]
        torch.testing.assert_close(got[f"single_blocks.{k}"], torch.cat([text, video], dim=1), **close)


# --- what it depends on -------------------------------------------------------------------------


@pytest.mark.parametrize("changed", ["img", "cond", "positions", "txt", "pooled", "time"])
def test_every_input_matters_to_every_block(
    network: OpenSoraTransformer, inputs: dict[str, Tensor], changed: str
) -> None:
    other = {**inputs, changed: inputs[changed] * 1.5}
    before, after = run(network, inputs), run(network, other)
    for name in before:
        for a, b in zip(before[name], after[name], strict=True):
            assert float((a - b).abs().max()) > 1e-3, name


def test_short_types_keep_sinusoids_exact(network: OpenSoraTransformer, inputs: dict[str, Tensor]) -> None:
    """sigma = 0.7644 times 1000 is no number of bfloat16; rounded, most of the embedding would be another."""
    told: list[Tensor] = []
    short = OpenSoraTransformer(**WIDE).to(torch.bfloat16)
    short.time_in.register_forward_pre_hook(lambda _, given: told.append(given[0]))
    with torch.no_grad():
        moved = {name: each.to(torch.bfloat16) for name, each in inputs.items() if name not in ("time", "positions")}
        short(**moved, positions=inputs["positions"], time=torch.tensor([0.7644]))
    angles = [764.4 * math.exp(-math.log(10_000) * j / 128) for j in range(128)]
    expected = torch.tensor([*map(math.cos, angles), *map(math.sin, angles)])
    assert told[0].dtype == torch.bfloat16
    torch.testing.assert_close(told[0][0].float(), expected, atol=5e-3, rtol=0)


def test_tokens_are_patches_in_the_order_of_their_places() -> None:
    time, rows, columns = GRID
    latents = torch.arange(5 * time * 2 * rows * 2 * columns).reshape(1, 5, time, 2 * rows, 2 * columns).float()
    packed = pack(latents, 2)
    assert packed.shape == (1, math.prod(GRID), 20)
    for token, (t, y, x) in enumerate(positions_of(*GRID, torch.device("cpu")).int().tolist()):
        expected = [latents[0, c, t, 2 * y + i, 2 * x + j] for c in range(5) for i in range(2) for j in range(2)]
        assert packed[0, token].tolist() == expected
        assert token == (t * rows + y) * columns + x


# --- full size ----------------------------------------------------------------------------------


def published() -> dict[str, tuple[int, ...]]:
    """Names and shapes of the released file, as its code makes them."""
    d, m = 3072, 4 * 3072
    shapes: dict[str, tuple[int, ...]] = {}

    def layer(name: str, inputs: int, outputs: int) -> None:
        shapes[f"{name}.weight"], shapes[f"{name}.bias"] = (outputs, inputs), (outputs,)

    def norms(name: str) -> None:
        shapes[f"{name}.query_norm.scale"] = shapes[f"{name}.key_norm.scale"] = (128,)

    layer("img_in", 64, d)
    layer("txt_in", 4096, d)
    layer("cond_in", 68, d)
    for name, inputs in (("time_in", 256), ("vector_in", 768)):
        layer(f"{name}.in_layer", inputs, d)
        layer(f"{name}.out_layer", d, d)
    layer("final_layer.linear", d, 64)
    layer("final_layer.adaLN_modulation.1", d, 2 * d)
    for k in range(19):
        for s in ("img", "txt"):
            layer(f"double_blocks.{k}.{s}_mod.lin", d, 6 * d)
            for name in ("q_proj", "k_proj", "v_proj", "proj"):
                layer(f"double_blocks.{k}.{s}_attn.{name}", d, d)
            norms(f"double_blocks.{k}.{s}_attn.norm")
            layer(f"double_blocks.{k}.{s}_mlp.0", d, m)
            layer(f"double_blocks.{k}.{s}_mlp.2", m, d)
    for k in range(38):
        layer(f"single_blocks.{k}.q_proj", d, d)
        layer(f"single_blocks.{k}.k_proj", d, d)
        layer(f"single_blocks.{k}.v_mlp", d, d + m)
        layer(f"single_blocks.{k}.linear2", d + m, d)
        norms(f"single_blocks.{k}.norm")
        layer(f"single_blocks.{k}.modulation.lin", d, 3 * d)
    return shapes


def test_names_and_shapes_are_those_of_the_release() -> None:
    from extract.checkpoints.loading import build

    family: Any = make_family("opensora-2")
    part = next(part for part in family.networks if part.name == "transformer")
    with torch.device("meta"):
        network = build(part, family.configs["transformer"])
    assert {name: tuple(each.shape) for name, each in network.state_dict().items()} == published()
    assert len(published()) == 1082
    assert sum(math.prod(shape) for shape in published().values()) == 11_891_390_528

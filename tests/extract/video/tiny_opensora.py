"""A tiny Open-Sora checkpoint in the layout of the release, and its network called straight.

What the network itself computes is checked in `test_opensora_network.py`, against other implementations.
"""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from typing import Any

import torch
from einops import rearrange
from safetensors.torch import load_file, save_file
from torch import Tensor

from extract.backbones.base import NoiseLevel
from tests.extract.video.tiny import Tiny, loud, record, seeded, t5_encoder, t5_tokenizer
from tests.extract.video.tiny_hunyuan_video import CLIP, clip_tokenizer

CHANNELS, DOUBLE, SINGLE = 4, 2, 3
VAE = {"latent_channels": CHANNELS, "block_out_channels": [4, 4, 4, 4], "layers_per_block": 1, "norm_num_groups": 2}
VAE_FACTS = {"scaling_factor": 0.476986, "spatial_compression_ratio": 8, "temporal_compression_ratio": 4}
NETWORK: dict[str, Any] = {
    "in_channels": 4 * CHANNELS,
    "patch_size": 2,
    "vec_in_dim": 12,
    "context_in_dim": 16,
    "hidden_size": 32,
    "mlp_ratio": 2.0,
    "num_heads": 2,
    "depth": DOUBLE,
    "depth_single_blocks": SINGLE,
    "axes_dim": [4, 6, 6],
    "theta": 10000.0,
}
T5_FOLDER, CLIP_FOLDER = "google/t5-v1_1-xxl", "openai/clip-vit-large-patch14"


def clip() -> Any:
    """Text and image, as it is published."""
    from transformers import CLIPConfig, CLIPModel

    text = {**CLIP, "vocab_size": 6, "bos_token_id": 4, "eos_token_id": 5, "pad_token_id": 5}
    image = {**CLIP, "patch_size": 16, "image_size": 32}
    return CLIPModel(CLIPConfig(text_config=text, vision_config=image, projection_dim=8))


def build(folder: Path) -> Path:
    from diffusers import AutoencoderKLHunyuanVideo

    from extract.backbones._opensora_network import OpenSoraTransformer

    with seeded():
        transformer = loud(OpenSoraTransformer(**NETWORK))
        vae = AutoencoderKLHunyuanVideo(**VAE)
        t5, both = t5_encoder(16), clip()
    for name, network, config in (("transformer", transformer, NETWORK), ("vae", vae, {**VAE, **VAE_FACTS})):
        (folder / name).mkdir(parents=True)
        (folder / name / "config.json").write_text(json.dumps(config))
        file = {"transformer": "Open_Sora_v2", "vae": "hunyuan_vae"}[name]
        save_file(network.state_dict(), folder / f"{file}.safetensors")
    pickled_shards(t5, folder / T5_FOLDER)
    t5_tokenizer().save_pretrained(folder / T5_FOLDER)
    both.save_pretrained(folder / CLIP_FOLDER)
    clip_tokenizer().save_pretrained(folder / CLIP_FOLDER)
    return folder


def pickled_shards(network: Any, folder: Path) -> None:
    """Two pickles and their index, as T5 is published there."""
    network.config.save_pretrained(folder)
    weights = network.state_dict()
    names = [f"pytorch_model-0000{k}-of-00002.bin" for k in (1, 2)]
    where = {name: names[k % 2] for k, name in enumerate(weights)}
    for file in names:
        torch.save({name: weights[name].clone() for name in where if where[name] == file}, folder / file)
    index = {"metadata": {}, "weight_map": where}
    (folder / "pytorch_model.bin.index.json").write_text(json.dumps(index))


def load_vae(root: Path) -> Any:
    from diffusers import AutoencoderKLHunyuanVideo

    vae = AutoencoderKLHunyuanVideo(**VAE)
    vae.load_state_dict(load_file(root / "hunyuan_vae.safetensors"))
    return vae.eval()


@torch.no_grad()
def embedding(root: Path) -> tuple[Tensor, Tensor]:
    """512 tokens of T5 and the pooled state of CLIP for an empty prompt, from token numbers written out."""
    from transformers import CLIPTextModel, T5EncoderModel

    plain = {"attn_implementation": "eager", "local_files_only": True}
    t5 = T5EncoderModel.from_pretrained(root / T5_FOLDER, **plain)
    text = CLIPTextModel.from_pretrained(root / CLIP_FOLDER, **plain)
    end, pad = 1, 0
    tokens = t5(torch.tensor([[end] + [pad] * 511])).last_hidden_state
    return tokens, text(torch.tensor([[4] + [5] * 76])).pooler_output


@torch.no_grad()
def straight_line(
    root: Path, images: Tensor, noise: Tensor, level: NoiseLevel, image: str | None = None
) -> dict[str, Tensor]:
    """`image`: which frame of the window conditions, `first` or `last`."""
    from extract.backbones._opensora_network import OpenSoraTransformer

    transformer = OpenSoraTransformer(**NETWORK)
    transformer.load_state_dict(load_file(root / "Open_Sora_v2.safetensors"))
    vae = load_vae(root)
    clip = images.movedim(0, 1)[None]
    latents = vae.encode(clip).latent_dist.mode() * 0.476986
    _, _, time, rows, columns = latents.shape
    mask, known = torch.zeros(1, 1, time, rows, columns), torch.zeros_like(latents)
    if image:
        at = {"first": 0, "last": time - 1}[image]
        frame = clip[:, :, :1] if image == "first" else clip[:, :, -1:]
        mask[:, :, at] = 1
        known[:, :, at : at + 1] = vae.encode(frame).latent_dist.mode() * 0.476986
    patches = partial(rearrange, pattern="b c t (h ph) (w pw) -> b (t h w) (c ph pw)", ph=2, pw=2)
    text, pooled = embedding(root)
    grid = time, rows // 2, columns // 2
    places = [[t, y, x] for t in range(grid[0]) for y in range(grid[1]) for x in range(grid[2])]
    names = [f"double_blocks.{k}" for k in range(DOUBLE)] + [f"single_blocks.{k}" for k in range(SINGLE)]
    with record(transformer, names) as heard:
        transformer(
            patches((1 - level.sigma) * latents + level.sigma * noise),
            patches(torch.cat([mask, known], dim=1)),
            torch.tensor(places, dtype=torch.float32),
            text,
            pooled,
            torch.tensor([level.sigma]),
        )
    features = {name: heard[name][0] if name.startswith("double") else heard[name][:, 512:] for name in names}
    return {"vae.latent": latents[0].movedim(0, -1)} | {
        name: each.reshape(*grid, -1) for name, each in features.items()
    }


SIZE = (32, 48)
TINY = [
    Tiny("opensora-2", build, 9, SIZE, partial(straight_line, image="first")),
    Tiny("opensora-2", build, 9, SIZE, partial(straight_line, image="last"), {"condition": "last"}, "last"),
]

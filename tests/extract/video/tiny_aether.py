"""Tiny Aether checkpoints, and Aether computed with diffusers' components; its own pipeline is not in the library."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from extract.backbones.base import NoiseLevel
from tests.extract.video.tiny import Tiny, record
from tests.extract.video.tiny_cogvideox import CHANNELS, LAYERS, SIZE, networks

RAY_MAP = 24
NOISY, SEEN = 2 * CHANNELS + RAY_MAP, 3 * CHANNELS + 2 * RAY_MAP
FRAMES = 17


def build(folder: Path) -> Path:
    """As a user puts it together: folders of components, and nothing that describes the whole."""
    for name, part in networks(in_channels=SEEN, out_channels=NOISY).items():
        part.save_pretrained(folder / name)
    return folder


def components(root: Path) -> Any:
    """The pipeline of the base model, with Aether's transformer in it."""
    import diffusers
    from transformers import T5EncoderModel, T5TokenizerFast

    plain = {"dtype": torch.float32, "local_files_only": True}
    return diffusers.CogVideoXImageToVideoPipeline(
        transformer=diffusers.CogVideoXTransformer3DModel.from_pretrained(root / "transformer", **plain),
        vae=diffusers.AutoencoderKLCogVideoX.from_pretrained(root / "vae", **plain),
        text_encoder=T5EncoderModel.from_pretrained(root / "text_encoder", attn_implementation="eager", **plain),
        tokenizer=T5TokenizerFast.from_pretrained(root / "tokenizer"),
        scheduler=diffusers.CogVideoXDPMScheduler.from_pretrained(root / "scheduler"),
    )


@torch.no_grad()
def straight_line(
    root: Path, images: Tensor, noise: Tensor, level: NoiseLevel, image: str = "first", geometry: Tensor | None = None
) -> dict[str, Tensor]:
    """`geometry`: x_0 of disparity and ray map, (1, channel, time, y, x), if not zero; and 8 frames per second then."""
    pipeline = components(root)
    vae, transformer = pipeline.vae, pipeline.transformer
    video = 0.7 * vae.encode(images.movedim(0, 1)[None]).latent_dist.mode()
    _, _, time, rows, columns = video.shape
    unknown = torch.zeros(1, CHANNELS + RAY_MAP, time, rows, columns) if geometry is None else geometry
    kept = pipeline.scheduler.alphas_cumprod[int(level.timestep)]
    clean = torch.cat([video, unknown], dim=1).transpose(1, 2)
    noisy = float(kept**0.5) * clean + float((1 - kept) ** 0.5) * noise.transpose(1, 2)
    given = torch.zeros(1, time, CHANNELS + RAY_MAP, rows, columns)
    if image != "none":
        alone = images[[0 if image == "first" else -1]][:, :, None]
        given[:, :1, :CHANNELS] = 0.7 * vae.encode(alone).latent_dist.mode().transpose(1, 2)
    rotary = positions(pipeline, time, *images.shape[-2:], rate=12 if geometry is None else 8)
    names = [f"transformer_blocks.{k}" for k in range(LAYERS)]
    with record(transformer, names) as heard:
        transformer(
            hidden_states=torch.cat([noisy, given], dim=2),
            encoder_hidden_states=pipeline.encode_prompt("", do_classifier_free_guidance=False)[0],
            timestep=torch.tensor([int(level.timestep)]),
            image_rotary_emb=rotary,
            return_dict=False,
        )
    grid = time, rows // 2, columns // 2, -1
    blocks = {name: heard[name][0].reshape(grid) for name in names}
    return {"vae.latent": video[0].permute(1, 2, 3, 0)} | blocks


def positions(pipeline: Any, time: int, height: int, width: int, rate: int) -> tuple[Tensor, Tensor]:
    """In closed form, token by token; and at 12 frames per second the library's."""
    cos, sin = pipeline._prepare_rotary_positional_embeddings(height, width, time, torch.device("cpu"))
    if rate != 12:
        size = pipeline.transformer.config.attention_head_dim // 4
        speeds = 1.0 / 10000 ** (torch.arange(0, size, 2, dtype=torch.float32) / size)
        at = torch.arange(time).repeat_interleave(len(cos) // time) * (12 / rate)
        angles = torch.outer(at, speeds).repeat_interleave(2, dim=1)
        cos, sin = (torch.cat([new, old[:, size:]], dim=1) for new, old in ((angles.cos(), cos), (angles.sin(), sin)))
    return cos, sin


TINY = [Tiny("aether", build, FRAMES, SIZE, straight_line)]

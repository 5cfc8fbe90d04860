"""Tiny Wan checkpoints, and Wan computed with diffusers' own pipelines and components."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from extract.backbones.base import NoiseLevel
from tests.extract.video.tiny import Tiny, loud, record, save, seeded, t5_tokenizer

CHANNELS, LAYERS = 4, 5
VAE = {
    "base_dim": 4,
    "z_dim": CHANNELS,
    "dim_mult": [1, 1, 1, 1],
    "num_res_blocks": 1,
    "latents_mean": [0.1, -0.2, 0.3, 0.0],
    "latents_std": [0.5, 1.5, 1.0, 0.7],
}
VAE_2_2 = {
    **VAE,
    "patch_size": 2,
    "in_channels": 12,
    "out_channels": 12,
    "is_residual": True,
    "scale_factor_spatial": 16,
    "decoder_base_dim": 4,
}
CLIP = {
    "hidden_size": 16,
    "intermediate_size": 16,
    "num_hidden_layers": 3,
    "num_attention_heads": 2,
    "patch_size": 16,
    "image_size": 32,
    "projection_dim": 8,
}


def build(folder: Path, pipeline: str = "WanPipeline", ti2v: bool = False) -> Path:
    from diffusers import AutoencoderKLWan, UniPCMultistepScheduler, WanTransformer3DModel
    from transformers import (
        CLIPImageProcessor,
        CLIPVisionConfig,
        CLIPVisionModelWithProjection,
        UMT5Config,
        UMT5EncoderModel,
    )

    image = pipeline == "WanImageToVideoPipeline"
    with seeded():
        transformer = WanTransformer3DModel(
            num_attention_heads=2,
            attention_head_dim=12,
            in_channels=CHANNELS * (2 if image else 1) + (4 if image else 0),
            out_channels=CHANNELS,
            text_dim=16,
            freq_dim=16,
            ffn_dim=24,
            num_layers=LAYERS,
            rope_max_seq_len=32,
            image_dim=16 if image else None,
            added_kv_proj_dim=24 if image else None,
        )
        parts: dict[str, Any] = {
            "transformer": loud(transformer),
            "vae": AutoencoderKLWan(**(VAE_2_2 if ti2v else VAE)),
            "text_encoder": UMT5EncoderModel(
                UMT5Config(vocab_size=8, d_model=16, d_kv=4, d_ff=16, num_layers=1, num_heads=2)
            ),
            "tokenizer": t5_tokenizer(),
            "scheduler": UniPCMultistepScheduler(use_flow_sigmas=True, flow_shift=3.0),
        }
        if image:
            parts["image_encoder"] = CLIPVisionModelWithProjection(CLIPVisionConfig(**CLIP))
            parts["image_processor"] = CLIPImageProcessor(
                size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32}
            )
    return save(folder, pipeline, parts, **({"expand_timesteps": True} if ti2v else {}))


@torch.no_grad()
def straight_line(
    root: Path, images: Tensor, noise: Tensor, level: NoiseLevel, image: str | None = None
) -> dict[str, Tensor]:
    """`image`: which frame of the window conditions, `first` or `last`."""
    import diffusers

    kind = diffusers.WanImageToVideoPipeline if image else diffusers.WanPipeline
    pipeline = kind.from_pretrained(root, dtype=torch.float32, local_files_only=True)
    vae, transformer = pipeline.vae, pipeline.transformer
    mean = torch.tensor(vae.config.latents_mean)[:, None, None, None]
    std = 1.0 / torch.tensor(vae.config.latents_std)[:, None, None, None]
    clip = images.movedim(0, 1)[None]
    latents = (vae.encode(clip).latent_dist.mode() - mean) * std
    text, _ = pipeline.encode_prompt("", do_classifier_free_guidance=False, max_sequence_length=512)
    sample = (1 - level.sigma) * latents + level.sigma * noise
    timestep = torch.tensor([level.timestep])
    told: dict[str, Tensor] = {}
    _, _, time, rows, columns = sample.shape
    if pipeline.config.expand_timesteps:
        mask = torch.ones_like(sample)
        if image:
            chosen = images[0 if image == "first" else -1][None]
            _, condition, mask = pipeline.prepare_latents(
                chosen, 1, CHANNELS, *images.shape[-2:], len(images), torch.float32, sample.device, latents=noise
            )
            sample = (1 - mask) * condition + mask * sample
        timestep = (mask[0][0][:, ::2, ::2] * level.timestep).flatten()[None]
    elif image:
        chosen = images[0 if image == "first" else -1][None]
        _, condition = pipeline.prepare_latents(
            chosen, 1, CHANNELS, *images.shape[-2:], len(images), torch.float32, sample.device, latents=noise
        )
        sample = torch.cat([sample, condition], dim=1)
        told["encoder_hidden_states_image"] = clip_features(pipeline, chosen)
    names = [f"blocks.{k}" for k in range(LAYERS)]
    with record(transformer, names) as heard:
        transformer(hidden_states=sample, timestep=timestep, encoder_hidden_states=text, return_dict=False, **told)
    grid = time, rows // 2, columns // 2, -1
    return {"vae.latent": latents[0].movedim(0, -1)} | {name: heard[name].reshape(grid) for name in names}


def clip_features(pipeline: Any, image: Tensor) -> Tensor:
    """Frames of these tests are 32 pixels high: the shortest edge needs no resizing, only a crop."""
    side = pipeline.image_encoder.config.image_size
    assert image.shape[-2] == side
    left = (image.shape[-1] - side) // 2
    pixels = (image[..., left : left + side] + 1) / 2
    mean, std = (torch.tensor(each)[:, None, None] for each in (CLIP_MEAN, CLIP_STD))
    output = pipeline.image_encoder((pixels - mean) / std, output_hidden_states=True)
    features: Tensor = output.hidden_states[-2]
    return features


CLIP_MEAN = [0.48145466, 0.4578275, 0.40821073]
CLIP_STD = [0.26862954, 0.26130258, 0.27577711]
i2v = partial(build, pipeline="WanImageToVideoPipeline")
ti2v = partial(build, ti2v=True)
SIZE = (32, 48)
TINY = [
    Tiny("wan2.1-t2v-1.3b", build, 9, SIZE, straight_line),
    Tiny("wan2.1-i2v-14b", i2v, 9, SIZE, partial(straight_line, image="first")),
    Tiny("wan2.1-i2v-14b", i2v, 9, SIZE, partial(straight_line, image="last"), {"condition": "last"}, "last"),
    Tiny("wan2.2-ti2v-5b", ti2v, 9, (64, 96), straight_line),
    Tiny("wan2.2-ti2v-5b", ti2v, 9, (64, 96), partial(straight_line, image="first"), {"condition": "first"}, "first"),
]

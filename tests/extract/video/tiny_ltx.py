"""A tiny LTX-Video checkpoint, and LTX-Video computed with diffusers' own pipeline and components."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from extract.backbones.base import NoiseLevel
from tests.extract.video.tiny import Tiny, loud, record, save, seeded, t5_encoder, t5_tokenizer

CHANNELS, LAYERS = 4, 5
VAE = {
    "latent_channels": CHANNELS,
    "block_out_channels": (8, 8, 8, 8),
    "decoder_block_out_channels": (8, 8, 8, 8),
    "layers_per_block": (1, 1, 1, 1, 1),
    "decoder_layers_per_block": (1, 1, 1, 1, 1),
    "scaling_factor": 0.9,
}


def build(folder: Path) -> Path:
    from diffusers import AutoencoderKLLTXVideo, FlowMatchEulerDiscreteScheduler, LTXVideoTransformer3DModel

    with seeded():
        transformer = LTXVideoTransformer3DModel(
            in_channels=CHANNELS,
            out_channels=CHANNELS,
            num_attention_heads=2,
            attention_head_dim=12,
            cross_attention_dim=24,
            num_layers=LAYERS,
            caption_channels=16,
        )
        vae = AutoencoderKLLTXVideo(**VAE)
        vae.latents_mean.copy_(torch.tensor([0.1, -0.2, 0.3, 0.0]))
        vae.latents_std.copy_(torch.tensor([0.5, 1.5, 1.0, 0.7]))
        parts = {
            "transformer": loud(transformer),
            "vae": vae,
            "text_encoder": t5_encoder(),
            "tokenizer": t5_tokenizer(),
            "scheduler": FlowMatchEulerDiscreteScheduler(
                use_dynamic_shifting=True,
                base_shift=0.95,
                max_shift=2.05,
                base_image_seq_len=1024,
                max_image_seq_len=4096,
                shift_terminal=0.1,
            ),
        }
    return save(folder, "LTXPipeline", parts)


@torch.no_grad()
def straight_line(
    root: Path, images: Tensor, noise: Tensor, level: NoiseLevel, image: str | None = None
) -> dict[str, Tensor]:
    """`image`: which frame of the window conditions, `first` or `last`."""
    from diffusers import LTXPipeline

    pipeline = LTXPipeline.from_pretrained(root, dtype=torch.float32, local_files_only=True)
    vae, transformer = pipeline.vae, pipeline.transformer

    def encode(clip: Tensor) -> Tensor:
        mean, std = (each[:, None, None, None] for each in (vae.latents_mean, vae.latents_std))
        latents: Tensor = (vae.encode(clip).latent_dist.mode() - mean) * vae.config.scaling_factor / std
        return latents

    latents = encode(images.movedim(0, 1)[None])
    pipeline.text_encoder.set_attn_implementation("eager")  # which not all versions of the library choose by themselves
    text, mask, _, _ = pipeline.encode_prompt("", do_classifier_free_guidance=False)
    sample = (1 - level.sigma) * latents + level.sigma * noise
    _, _, time, rows, columns = sample.shape
    timestep = torch.tensor([level.timestep])
    if image:
        sample[:, :, :1] = encode(images[0 if image == "first" else -1][None, :, None])
        clean = torch.zeros(1, time, rows, columns)
        clean[:, 0] = 1
        timestep = timestep[:, None] * (1 - clean.flatten(1))
    names = [f"transformer_blocks.{k}" for k in range(LAYERS)]
    with record(transformer, names) as heard:
        transformer(
            hidden_states=pipeline._pack_latents(sample),
            encoder_hidden_states=text,
            timestep=timestep,
            encoder_attention_mask=mask,
            num_frames=time,
            height=rows,
            width=columns,
            rope_interpolation_scale=(8 / 25, 32, 32),
            return_dict=False,
        )
    grid = time, rows, columns, -1
    return {"vae.latent": latents[0].movedim(0, -1)} | {name: heard[name].reshape(grid) for name in names}


SIZE = (64, 96)
TINY = [
    Tiny("ltx-video", build, 17, SIZE, straight_line),
    Tiny("ltx-video", build, 17, SIZE, partial(straight_line, image="first"), {"condition": "first"}, "first"),
]
LAST = Tiny("ltx-video", build, 17, SIZE, partial(straight_line, image="last"), {"condition": "last"}, "last")

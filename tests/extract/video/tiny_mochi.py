"""Tiny Mochi checkpoints, and Mochi computed with diffusers' own pipeline and components."""

from __future__ import annotations

import warnings
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from extract.backbones.base import NoiseLevel
from tests.extract.video.tiny import Tiny, loud, record, save, seeded, t5_encoder, t5_tokenizer

CHANNELS, LAYERS = 4, 5
VAE = {
    "latent_channels": CHANNELS,
    "encoder_block_out_channels": (32, 32, 32, 32),  # the group norm has 32 groups
    "decoder_block_out_channels": (32, 32, 32, 32),
    "layers_per_block": (1, 1, 1, 1, 1),
    "latents_mean": (0.1, -0.2, 0.3, 0.0),
    "latents_std": (0.5, 1.5, 1.0, 0.7),
    "scaling_factor": 0.9,
}


def build(folder: Path, no_text: bool = False) -> Path:
    from diffusers import AutoencoderKLMochi, FlowMatchEulerDiscreteScheduler, MochiTransformer3DModel

    with seeded():
        transformer = MochiTransformer3DModel(
            num_attention_heads=2,
            attention_head_dim=12,
            num_layers=LAYERS,
            pooled_projection_dim=12,  # 8 makes a layer 21 wide, whose last bits depend on where weights lie in memory
            in_channels=CHANNELS,
            text_embed_dim=16,
            time_embed_dim=16,
        )
        # They begin at zero, which would leave the order of tokens unknown.
        torch.nn.init.normal_(transformer.pos_frequencies, std=0.1)
        parts = {
            "transformer": loud(transformer),
            "vae": AutoencoderKLMochi(**VAE),
            "text_encoder": t5_encoder(),
            "tokenizer": t5_tokenizer(),
            "scheduler": FlowMatchEulerDiscreteScheduler(invert_sigmas=True),
        }
    return save(folder, "MochiPipeline", parts, **({"force_zeros_for_empty_prompt": True} if no_text else {}))


@torch.no_grad()
def straight_line(root: Path, images: Tensor, noise: Tensor, level: NoiseLevel) -> dict[str, Tensor]:
    from diffusers import MochiPipeline

    pipeline = MochiPipeline.from_pretrained(root, dtype=torch.float32, local_files_only=True)
    vae, transformer = pipeline.vae, pipeline.transformer
    mean, std = (torch.tensor(each)[:, None, None, None] for each in (vae.config.latents_mean, vae.config.latents_std))
    clip = images.movedim(0, 1)[None]
    latents = (vae.encode(clip).latent_dist.mode() - mean) * vae.config.scaling_factor / std
    pipeline.text_encoder.set_attn_implementation("eager")  # which not all versions of the library choose by themselves
    text, mask, _, _ = pipeline.encode_prompt("", do_classifier_free_guidance=False)
    assert int(mask.sum()) == (0 if pipeline.config.force_zeros_for_empty_prompt else 1)
    sample = (1 - level.sigma) * latents + level.sigma * noise
    names = [f"transformer_blocks.{k}" for k in range(LAYERS)]
    with record(transformer, names) as heard, warnings.catch_warnings():
        warnings.filterwarnings("ignore", "In CPU autocast", UserWarning)
        transformer(
            hidden_states=sample,
            encoder_hidden_states=text,
            timestep=torch.tensor([1000 * (1 - level.sigma)]),
            encoder_attention_mask=mask,
            return_dict=False,
        )
    _, _, time, rows, columns = sample.shape
    grid = time, rows // 2, columns // 2, -1
    return {"vae.latent": latents[0].movedim(0, -1)} | {name: heard[name][0].reshape(grid) for name in names}


SIZE = (32, 48)
TINY = [Tiny("mochi-1", build, 13, SIZE, straight_line)]
NO_TEXT = Tiny("mochi-1", partial(build, no_text=True), 13, SIZE, straight_line, name="no-text")

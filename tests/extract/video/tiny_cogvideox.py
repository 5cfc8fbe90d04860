"""Tiny CogVideoX checkpoints, and CogVideoX computed with diffusers' own pipelines and components."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from extract.backbones.base import NoiseLevel
from tests.extract.video.tiny import Tiny, loud, record, save, seeded, t5_encoder, t5_tokenizer

CHANNELS, LAYERS = 4, 3
T2V, I2V = "CogVideoXPipeline", "CogVideoXImageToVideoPipeline"
VAE = {"block_out_channels": [4, 4, 4, 8], "latent_channels": CHANNELS, "layers_per_block": 1, "norm_num_groups": 2}
SCHEDULER = {
    "beta_schedule": "scaled_linear",
    "prediction_type": "v_prediction",
    "rescale_betas_zero_snr": True,
    "timestep_spacing": "trailing",
    "clip_sample": False,
}
FRAMES, SIZE = 9, (32, 48)


def networks(shift: float = 1.0, scaling: float = 0.7, invert: bool = False, **facts: Any) -> dict[str, Any]:
    """Components of a checkpoint; `facts` go to the transformer."""
    from diffusers import AutoencoderKLCogVideoX, CogVideoXDDIMScheduler, CogVideoXTransformer3DModel

    known: dict[str, Any] = {
        "num_attention_heads": 2,
        "attention_head_dim": 16,
        "in_channels": CHANNELS,
        "out_channels": CHANNELS,
        "time_embed_dim": 8,
        "text_embed_dim": 16,
        "num_layers": LAYERS,
        "sample_height": SIZE[0] // 8,
        "sample_width": SIZE[1] // 8,
        "sample_frames": FRAMES,
        "use_rotary_positional_embeddings": True,
    }
    with seeded():
        transformer = CogVideoXTransformer3DModel(**(known | facts))
        if transformer.config.use_learned_positional_embeddings:
            transformer.patch_embed.pos_embedding.normal_()  # a table that cannot be computed again
        return {
            "transformer": loud(transformer),
            "vae": AutoencoderKLCogVideoX(**VAE, scaling_factor=scaling, invert_scale_latents=invert),
            "text_encoder": t5_encoder(),
            "tokenizer": t5_tokenizer(),
            "scheduler": CogVideoXDDIMScheduler(**SCHEDULER, snr_shift_scale=shift),
        }


def build_2b(folder: Path) -> Path:
    """Positions by sines and cosines, which are added."""
    parts = networks(shift=3.0, scaling=1.15258426, use_rotary_positional_embeddings=False)
    return save(folder, T2V, parts)


def build_5b(folder: Path) -> Path:
    return save(folder, T2V, networks())


def build_i2v(folder: Path, invert: bool = False, **facts: Any) -> Path:
    facts = {"in_channels": 2 * CHANNELS, "use_learned_positional_embeddings": True, **facts}
    return save(folder, I2V, networks(invert=invert, **facts))


def build_offset(folder: Path) -> Path:
    """With what later checkpoints have: an `ofs`, and image latents that are divided."""
    return build_i2v(folder, invert=True, use_learned_positional_embeddings=False, ofs_embed_dim=8)


def open_pipeline(root: Path, name: str) -> Any:
    """The library's pipeline. Its text encoder computes attention as ours does: plainly."""
    import diffusers
    from transformers import T5EncoderModel

    plain = {"dtype": torch.float32, "local_files_only": True}
    text = T5EncoderModel.from_pretrained(root / "text_encoder", attn_implementation="eager", **plain)
    return getattr(diffusers, name).from_pretrained(root, text_encoder=text, **plain)


@torch.no_grad()
def straight_line(
    root: Path, images: Tensor, noise: Tensor, level: NoiseLevel, image: str | None = None
) -> dict[str, Tensor]:
    """`image`: which frame of the window conditions, `first`, `last` or `none`; `None` for text to video."""
    pipeline = open_pipeline(root, I2V if image else T2V)
    vae, transformer = pipeline.vae, pipeline.transformer
    scaling = vae.config.scaling_factor
    text, _ = pipeline.encode_prompt("", do_classifier_free_guidance=False)
    latents = (scaling * vae.encode(images.movedim(0, 1)[None]).latent_dist.mode()).permute(0, 2, 1, 3, 4)
    kept = pipeline.scheduler.alphas_cumprod[int(level.timestep)]
    sample = float(kept**0.5) * latents + float((1 - kept) ** 0.5) * noise.permute(0, 2, 1, 3, 4)
    if image:
        condition = torch.zeros_like(latents)
        if image != "none":
            alone = images[[0 if image == "first" else -1]]
            mean = vae.encode(alone[:, :, None]).latent_dist.mode()
            scale = 1 / scaling if vae.config.invert_scale_latents else scaling
            condition[:, :1] = (scale * mean).permute(0, 2, 1, 3, 4)
        sample = torch.cat([sample, condition], dim=2)
    _, time, _, rows, columns = sample.shape
    rotary = None
    if transformer.config.use_rotary_positional_embeddings:
        rotary = pipeline._prepare_rotary_positional_embeddings(*images.shape[-2:], time, sample.device)
    names = [f"transformer_blocks.{k}" for k in range(LAYERS)]
    with record(transformer, names) as heard:
        transformer(
            hidden_states=sample,
            encoder_hidden_states=text,
            timestep=torch.tensor([int(level.timestep)]),
            ofs=None if transformer.config.ofs_embed_dim is None else sample.new_full((1,), fill_value=2.0),
            image_rotary_emb=rotary,
            return_dict=False,
        )
    grid = time, rows // 2, columns // 2, -1
    blocks = {name: heard[name][0].reshape(grid) for name in names}
    return {"vae.latent": latents[0].permute(0, 2, 3, 1)} | blocks


first = partial(straight_line, image="first")
TINY = [
    Tiny("cogvideox-2b", build_2b, 13, (48, 32), straight_line),  # not what its table is for
    Tiny("cogvideox-5b", build_5b, 13, SIZE, straight_line),
    Tiny("cogvideox-5b-i2v", build_i2v, FRAMES, SIZE, first),
    Tiny("cogvideox-5b-i2v", build_offset, FRAMES, SIZE, first, name="ofs"),
]

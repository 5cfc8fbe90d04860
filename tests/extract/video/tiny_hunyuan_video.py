"""A tiny HunyuanVideo checkpoint, and HunyuanVideo computed with diffusers' own pipeline and components."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from extract.backbones.base import NoiseLevel
from tests.extract.video.tiny import Tiny, loud, record, save, seeded

CHANNELS, DOUBLE, SINGLE = 4, 2, 3
VAE = {"latent_channels": CHANNELS, "block_out_channels": (4, 4, 4, 4), "layers_per_block": 1, "norm_num_groups": 2}
CLIP = {"hidden_size": 12, "intermediate_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2}
GUIDANCE = 6.0


def llama_tokenizer() -> Any:
    """One token for each word or sign: the instructions of the pipeline are more than the 95 tokens that it crops."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    words = Tokenizer(models.WordLevel({"<pad>": 0, "<unk>": 1, "the": 2, "of": 3, ",": 4, ".": 5}, unk_token="<unk>"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    return PreTrainedTokenizerFast(tokenizer_object=words, pad_token="<pad>", unk_token="<unk>", padding_side="right")


def clip_tokenizer() -> Any:
    from transformers import CLIPTokenizer

    vocabulary = {"a": 0, "a</w>": 1, "b": 2, "b</w>": 3, "<|startoftext|>": 4, "<|endoftext|>": 5}
    return CLIPTokenizer(vocab=vocabulary, merges=[])


def clip_encoder() -> Any:
    from transformers import CLIPTextConfig, CLIPTextModel

    return CLIPTextModel(CLIPTextConfig(vocab_size=6, bos_token_id=4, eos_token_id=5, pad_token_id=5, **CLIP))


def build(folder: Path) -> Path:
    from diffusers import (
        AutoencoderKLHunyuanVideo,
        FlowMatchEulerDiscreteScheduler,
        HunyuanVideoTransformer3DModel,
    )
    from transformers import LlamaConfig, LlamaModel

    llama = LlamaConfig(
        vocab_size=6,
        hidden_size=16,
        intermediate_size=16,
        num_hidden_layers=4,
        num_attention_heads=2,
        num_key_value_heads=1,
        pad_token_id=0,
    )
    with seeded():
        transformer = HunyuanVideoTransformer3DModel(
            in_channels=CHANNELS,
            out_channels=CHANNELS,
            num_attention_heads=2,
            attention_head_dim=16,
            num_layers=DOUBLE,
            num_single_layers=SINGLE,
            num_refiner_layers=1,
            mlp_ratio=2.0,
            text_embed_dim=16,
            pooled_projection_dim=12,
            rope_axes_dim=(4, 6, 6),
        )
        parts = {
            "transformer": loud(transformer),
            "vae": AutoencoderKLHunyuanVideo(**VAE),
            "text_encoder": LlamaModel(llama),
            "tokenizer": llama_tokenizer(),
            "text_encoder_2": clip_encoder(),
            "tokenizer_2": clip_tokenizer(),
            "scheduler": FlowMatchEulerDiscreteScheduler(shift=7.0),
        }
    return save(folder, "HunyuanVideoPipeline", parts)


def load_pipeline(root: Path, dtype: torch.dtype = torch.float32) -> Any:
    """With the plain attention of text encoders, as ours are loaded."""
    from diffusers import HunyuanVideoPipeline
    from transformers import CLIPTextModel, LlamaModel

    plain = {"dtype": dtype, "attn_implementation": "eager", "local_files_only": True}
    return HunyuanVideoPipeline.from_pretrained(
        root,
        text_encoder=LlamaModel.from_pretrained(root / "text_encoder", **plain),
        text_encoder_2=CLIPTextModel.from_pretrained(root / "text_encoder_2", **plain),
        dtype=dtype,
        local_files_only=True,
    )


@torch.no_grad()
def straight_line(root: Path, images: Tensor, noise: Tensor, level: NoiseLevel) -> dict[str, Tensor]:
    pipeline = load_pipeline(root)
    vae, transformer = pipeline.vae, pipeline.transformer
    vae.use_framewise_encoding = False
    latents = vae.encode(images.movedim(0, 1)[None]).latent_dist.mode() * vae.config.scaling_factor
    text, pooled, mask = pipeline.encode_prompt("")
    names = [f"transformer_blocks.{k}" for k in range(DOUBLE)]
    names += [f"single_transformer_blocks.{k}" for k in range(SINGLE)]
    with record(transformer, names) as heard:
        transformer(
            hidden_states=(1 - level.sigma) * latents + level.sigma * noise,
            timestep=torch.tensor([level.timestep]),
            encoder_hidden_states=text,
            encoder_attention_mask=mask,
            pooled_projections=pooled,
            guidance=torch.tensor([GUIDANCE]) * 1000,
            return_dict=False,
        )
    _, _, time, rows, columns = latents.shape
    grid = time, rows // 2, columns // 2, -1
    return {"vae.latent": latents[0].movedim(0, -1)} | {name: heard[name][0].reshape(grid) for name in names}


TINY = [Tiny("hunyuanvideo", build, 9, (32, 48), straight_line)]

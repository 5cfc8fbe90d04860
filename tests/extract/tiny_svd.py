"""A tiny Stable Video Diffusion checkpoint: the real classes and folder layout, random weights, under two megabytes.

`python -m tests.extract.tiny_svd DIR` writes one.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

FRAMES = 4
STRIDE = 2
UNET = {
    "sample_size": 24,  # 36 x 64 pixels
    "down_block_types": ("CrossAttnDownBlockSpatioTemporal", "DownBlockSpatioTemporal"),
    "up_block_types": ("UpBlockSpatioTemporal", "CrossAttnUpBlockSpatioTemporal"),
    "block_out_channels": (32, 32),  # the least that its GroupNorm(32) allows
    "addition_time_embed_dim": 4,
    "projection_class_embeddings_input_dim": 12,
    "layers_per_block": 1,
    "cross_attention_dim": 8,
    "num_attention_heads": (2, 4),
    "num_frames": FRAMES,
}
VAE = {
    "down_block_types": ("DownEncoderBlock2D", "DownEncoderBlock2D"),
    "block_out_channels": (32, 32),
    "layers_per_block": 1,
    "sample_size": 32,
}
CLIP = {
    "hidden_size": 16,
    "intermediate_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "patch_size": 28,
    "image_size": 224,
    "projection_dim": 8,
}
SCHEDULER = {
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "beta_start": 0.00085,
    "prediction_type": "v_prediction",
    "sigma_max": 700.0,
    "sigma_min": 0.002,
    "steps_offset": 1,
    "timestep_spacing": "leading",
    "timestep_type": "continuous",
    "use_karras_sigmas": True,
}


def build(folder: Path, seed: int = 0, dtype: str = "float16", variant: str | None = None) -> Path:
    """Write the checkpoint below `folder` and return `folder`. The same seed gives the same weights."""
    import torch
    from diffusers import AutoencoderKLTemporalDecoder, EulerDiscreteScheduler, UNetSpatioTemporalConditionModel
    from transformers import CLIPImageProcessor, CLIPVisionConfig, CLIPVisionModelWithProjection

    kind = getattr(torch, dtype)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        parts = {
            "unet": UNetSpatioTemporalConditionModel(**UNET),
            "vae": AutoencoderKLTemporalDecoder(**VAE),
            "image_encoder": CLIPVisionModelWithProjection(CLIPVisionConfig(**CLIP)),
        }
        with torch.no_grad():
            # As initialised, the attention is so faint, and every blend so even, that a wrong order of frames or
            # tokens would hide in rounding.
            for name, parameter in parts["unet"].named_parameters():
                if "mix_factor" in name:
                    parameter.uniform_(-1, 1)
                elif parameter.ndim == 2:
                    parameter.mul_(2)
    for name, part in parts.items():
        torch.nn.Module.to(part, kind).save_pretrained(folder / name, variant=variant)
    EulerDiscreteScheduler(**SCHEDULER).save_pretrained(folder / "scheduler")
    CLIPImageProcessor().save_pretrained(folder / "feature_extractor")
    index = {
        "_class_name": "StableVideoDiffusionPipeline",
        "feature_extractor": ["transformers", "CLIPImageProcessor"],
        "image_encoder": ["transformers", "CLIPVisionModelWithProjection"],
        "scheduler": ["diffusers", "EulerDiscreteScheduler"],
        "unet": ["diffusers", "UNetSpatioTemporalConditionModel"],
        "vae": ["diffusers", "AutoencoderKLTemporalDecoder"],
    }
    (folder / "model_index.json").write_text(json.dumps(index, indent=2), encoding="utf-8")
    return folder


if __name__ == "__main__":
    print(build(Path(sys.argv[1])))

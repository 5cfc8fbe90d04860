"""Wan: text- and image-to-video diffusion transformers (Wan Team 2025, arXiv:2503.20314).

The causal autoencoder keeps the first frame alone, then makes one latent of every four frames. Noise is rectified flow.
The stream of tokens is the video alone, row-major in (time, y, x); text and image enter by cross-attention.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from extract.backbones.base import Checkpoint, NoiseLevel
from extract.checkpoints.folder import Component, read_config
from extract.diffusion.facts import Native, Preset, Stack, Strides
from extract.diffusion.latent_video import LatentVideoFamily
from extract.errors import WeightsError

if TYPE_CHECKING:
    from torch import Tensor

APACHE = "Apache-2.0"
TEXT_TOKENS = 512
T2V, I2V = "WanPipeline", "WanImageToVideoPipeline"
NEEDED = ("num_layers", "num_attention_heads", "attention_head_dim", "in_channels", "patch_size", "text_dim")
COMPONENTS = (
    Component("transformer", "WanTransformer3DModel", needs=NEEDED),
    Component("vae", "AutoencoderKLWan", needs=("z_dim", "dim_mult", "latents_mean", "latents_std")),
    Component("text_encoder", "UMT5EncoderModel", "transformers", role="text"),
    Component("tokenizer", role="tokenizer"),
)
IMAGE_COMPONENTS = (
    Component("image_encoder", "CLIPVisionModel", "transformers", needs=("image_size", "patch_size", "hidden_size")),
    Component("image_processor", config="preprocessor_config.json", needs=("image_mean", "image_std"), role="facts"),
)
PAPER = Preset(sites=("blocks.18", "blocks.20"), noise=("t=502",))  # its t = 749 of 1000, at flow_shift 3


class Wan(LatentVideoFamily):
    """Wan 2.1 and 2.2, without classifier-free guidance."""

    name: ClassVar[str] = "wan"
    version: ClassVar[int] = 1
    models: ClassVar[Mapping[str, Checkpoint]] = {
        "wan2.1-t2v-1.3b": Checkpoint("Wan-AI/Wan2.1-T2V-1.3B-Diffusers", None, 1_545_889_331, APACHE),
        "wan2.1-t2v-14b": Checkpoint("Wan-AI/Wan2.1-T2V-14B-Diffusers", None, 14_415_384_115, APACHE),
        "wan2.1-i2v-14b": Checkpoint("Wan-AI/Wan2.1-I2V-14B-480P-Diffusers", None, 17_152_537_395, APACHE),
        "wan2.2-ti2v-5b": Checkpoint("Wan-AI/Wan2.2-TI2V-5B-Diffusers", None, 5_704_476_380, APACHE),
    }
    pipelines: ClassVar[Mapping[str, str]] = {**dict.fromkeys(models, T2V), "wan2.1-i2v-14b": I2V}
    native: ClassVar[Mapping[str, Native]] = {
        **dict.fromkeys(models, Native(81, 480, 832)),
        "wan2.2-ti2v-5b": Native(121, 704, 1280),
    }
    paper: ClassVar[Mapping[str, Preset]] = {name: PAPER for name in models if name.startswith("wan2.1")}

    # --- facts ------------------------------------------------------------------------------

    @property
    def parts(self) -> Sequence[Component]:
        """Image-to-video checkpoints hold a CLIP image encoder too."""
        return (*COMPONENTS, *IMAGE_COMPONENTS) if self.pipeline == I2V else COMPONENTS

    def check_configs(self, configs: Mapping[str, Mapping[str, Any]], root: Path) -> None:
        """One transformer, and timesteps told as in the published model: not Wan 2.2's larger models."""
        usual = bool(read_config(self.published_configs / self.model, "model_index.json").get("expand_timesteps"))
        if any(self.index.get("transformer_2") or ()) or self.per_token != usual:
            raise WeightsError(
                f"checkpoint {root}: model_index.json describes another Wan than {self.model} (expand_timesteps "
                f"{self.per_token}, transformer_2 {self.index.get('transformer_2')}). Ask for it by the right name; "
                "models of two transformers are not covered."
            )

    @property
    def per_token(self) -> bool:
        """Whether every token has a timestep of its own, and a clean first latent is the condition (Wan 2.2 5B)."""
        return bool(self.index.get("expand_timesteps"))

    @property
    def conditions(self) -> Sequence[str]:
        """Image-to-video models want an image; Wan 2.2 5B was trained with and without."""
        if self.pipeline == I2V:
            return ("first", "last", "none")
        return ("none", "first", "last") if self.per_token else ()

    @property
    def strides(self) -> Strides:
        """4 frames and 8 pixels (16 in Wan 2.2) per latent; 2 x 2 latents per token."""
        vae = self.configs["vae"]
        time = 2 ** sum(vae["temperal_downsample"])
        space = 2 ** (len(vae["dim_mult"]) - 1) * (vae.get("patch_size") or 1)
        return Strides(time, space, self.configs["transformer"]["patch_size"][1])

    @property
    def latent_channels(self) -> int:
        """16, or 48 in Wan 2.2."""
        return int(self.configs["vae"]["z_dim"])

    @property
    def stacks(self) -> Sequence[Stack]:
        """One list of blocks."""
        return [self.stack("blocks")]

    def settings(self) -> Mapping[str, Any]:
        """And whether the timestep is told per clip or per token."""
        return {**super().settings(), "timestep": "per token" if self.per_token else "per clip"}

    def prompt_shapes(self) -> Mapping[str, tuple[int, ...]]:
        """512 text tokens, zero beyond the end of the text."""
        return {"text": (1, TEXT_TOKENS, self.configs["transformer"]["text_dim"])}

    # --- networks ---------------------------------------------------------------------------

    def compress(self, networks: Any, clip: Tensor) -> Tensor:
        """(posterior mean - latents_mean) / latents_std, in float32."""
        mean: Tensor = networks["vae"].encode(clip).latent_dist.mode().float()
        facts = self.configs["vae"]
        shift, scale = (mean.new_tensor(facts[key])[:, None, None, None] for key in ("latents_mean", "latents_std"))
        latents: Tensor = (mean - shift) * (1 / scale)
        return latents

    def condition(self, networks: Any, clip: Tensor, latents: Tensor, image: Tensor | None) -> dict[str, Tensor]:
        """Image to video: mask and latent of the image followed by grey, and CLIP features of the image.

        The mask is 1 on the four channels of the first latent. The image stands in the first place whichever frame it
        is, the only place that the network knows; without one, mask and CLIP features are zero and all frames grey.
        """
        import torch

        if self.per_token:
            return {} if image is None else {"first": self.compress(networks, image[None, :, None].to(clip))}
        if self.pipeline != I2V:
            return {}
        still = torch.zeros_like(clip)
        mask = latents.new_zeros(1, self.strides.time, *latents.shape[2:])
        if image is not None:
            still[:, :, 0] = image
            mask[:, :, 0] = 1
        return {
            "channels": torch.cat([mask, self.compress(networks, still)], dim=1),
            "image": self._clip_features(networks["image_encoder"], image),
        }

    def denoise(self, networks: Any, sample: Tensor, level: NoiseLevel, told: Mapping[str, Tensor]) -> None:
        """One call; a condition adds channels (Wan 2.1), or replaces the first latent and tells it t = 0 (Wan 2.2)."""
        import torch

        timestep = torch.tensor([level.timestep], device=sample.device)
        if self.per_token:
            sample, timestep = self.clean_first(sample, told.get("first"), level)
        if "channels" in told:
            sample = torch.cat([sample, told["channels"].to(sample)], dim=1)
        networks["transformer"](
            hidden_states=sample,
            timestep=timestep,
            encoder_hidden_states=told["text"],
            encoder_hidden_states_image=told.get("image"),
            return_dict=False,
        )

    def _clip_features(self, encoder: Any, image: Tensor | None) -> Tensor:
        """All tokens of CLIP's last layer but one, (1, 1 + patches, channels). The image is in [-1, 1]."""
        facts = encoder.config
        like: Tensor = next(encoder.parameters())
        if image is None:
            return like.new_zeros(1, 1 + (facts.image_size // facts.patch_size) ** 2, facts.hidden_size)
        processor = self.configs["image_processor"]
        pixels = shortest_edge_crop((image.float()[None] + 1) / 2, facts.image_size)
        mean, std = (pixels.new_tensor(processor[key])[:, None, None] for key in ("image_mean", "image_std"))
        features: Tensor = encoder(((pixels - mean) / std).to(like), output_hidden_states=True).hidden_states[-2]
        return features


def shortest_edge_crop(images: Tensor, side: int) -> Tensor:
    """Resize so that the shorter edge is `side` pixels, anti-aliased bicubic, then cut out the centre.

    As `CLIPImageProcessor`, but without its rounding to 8 bits. Images are (batch, 3, y, x) in [0, 1].
    """
    import torch.nn.functional as F

    height, width = images.shape[-2:]
    short = min(height, width)
    size = side * height // short, side * width // short
    resized = F.interpolate(images, size, mode="bicubic", align_corners=False, antialias=True).clamp(0, 1)
    top, left = (size[0] - side) // 2, (size[1] - side) // 2
    return resized[..., top : top + side, left : left + side]

"""Stable Video Diffusion as a loaded network: how frames become latents, conditions and UNet inputs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from diffusers import AutoencoderKLTemporalDecoder, UNetSpatioTemporalConditionModel
from jaxtyping import Float, UInt8
from torch import Tensor, nn
from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

from extract.backbones.base import Backbone, NoiseLevel, Site, State
from extract.errors import ExtractError, WeightsError

if TYPE_CHECKING:
    from extract.backbones.svd import SVD

Configs = Mapping[str, Mapping[str, Any]]
ATTENTION = "sdpa"
"""As `SVD.attention` says in the recipe: torch's scaled dot-product attention in all three networks."""


@dataclass(kw_only=True)
class SVDState(State):
    """What all noise levels of one clip share. B windows of T frames; float32.

    Attributes:
        latents: scaled VAE latents x_0, (B, T, 4, y, x).
        noise: eps, standard normal, as `latents`.
        condition: unscaled VAE latent of the noisy condition image, (4, y, x).
        embedding: CLIP image embedding of the condition image, (1, channels).
    """

    latents: Tensor
    noise: Tensor
    condition: Tensor
    embedding: Tensor


class SVDBackbone(Backbone):
    """UNet, VAE encoder and image encoder below one `module`; all windows of a clip are one batch."""

    def __init__(self, networks: nn.ModuleDict, family: SVD) -> None:
        self.module = networks.eval().requires_grad_(False)
        self.family = family
        self.preprocess = family.preprocessing()
        self.scaling = float(family.configs["vae"]["scaling_factor"])
        self.unet: Any = networks["unet"]
        self.vae: Any = networks["vae"]
        self.image_encoder: Any = networks["image_encoder"]
        self.dtype = next(networks["unet"].parameters()).dtype

    @torch.no_grad()
    def encode(self, frames: UInt8[Tensor, "frame y x 3"], bank: Sequence[int], generator: torch.Generator) -> SVDState:
        """Latents of all frames, conditions from the first, and the noise, drawn on the CPU.

        The generator gives the noise of the condition image, (3, height, width), then eps of all windows at once.
        """
        length = self.family.num_frames
        if len(frames) == 0 or len(frames) % length:
            raise ExtractError(
                f"{len(frames)} frames for {self.family.model}: need whole windows of {length}. Ask `window` for them."
            )
        images = self.preprocess(frames)
        first = images[0]
        augmentation = torch.randn(first.shape, generator=generator).to(first)
        noisy = first + self.family.conditioning.noise_aug_strength * augmentation

        # The last mean is the condition's. The VAE's own `mode()` is the mean.
        means = self._moments([*images, noisy]).chunk(2, dim=1)[0].float()
        latents = (means[:-1] * self.scaling).reshape(-1, length, *means.shape[1:])
        noise = torch.randn(latents.shape, generator=generator).to(latents)
        return SVDState(
            bank=bank, latents=latents, noise=noise, condition=means[-1], embedding=self._embed(first[None])
        )

    @torch.no_grad()
    def forward(self, state: State, level: NoiseLevel | None) -> None:
        """One UNet call on c_in * x_t with the condition latents as further channels (Karras et al. 2022, table 1)."""
        assert isinstance(state, SVDState)
        if level is None:
            raise ExtractError(f"{self.family.model} is a diffusion model and needs a noise level: --noise sigma=1.5")
        windows, length = state.latents.shape[:2]
        c_in = (level.sigma**2 + 1) ** -0.5
        sample = c_in * (state.latents + level.sigma * state.noise)
        condition = state.condition.expand(windows, length, -1, -1, -1)
        facts = self.family.conditioning
        ids = [facts.fps - 1, facts.motion_bucket_id, facts.noise_aug_strength]
        self.unet(
            torch.cat([sample, condition], dim=2).to(self.dtype),
            torch.tensor(level.timestep, device=sample.device),
            encoder_hidden_states=state.embedding.expand(windows, 1, -1).to(self.dtype),
            added_time_ids=torch.tensor([ids], device=sample.device).expand(windows, -1),
            return_dict=False,
        )

    def grid(self, site: Site, output: Any, state: State) -> Float[Tensor, "bank y x channel"]:
        """Maps (N, C, y, x) and token streams (N, y*x, C) become grids; N runs over windows, then frames."""
        features: Tensor = output[0] if isinstance(output, tuple) else output
        if site.stage == "encode":
            features = features.chunk(2, dim=1)[0] * self.scaling
        tokens = features.ndim == 3
        grids = features.reshape(len(features), *site.grid, -1) if tokens else features.movedim(1, -1)
        return grids[list(state.bank)]

    def _moments(self, images: Sequence[Float[Tensor, "3 height width"]]) -> Float[Tensor, "image moments y x"]:
        """What `vae.encode` computes, with one call of `quant_conv` for hooks to see.

        The encoder takes one image at a time: it is the peak of memory, and a frame's latent must not depend on
        which other frames are beside it.
        """
        dtype = self.vae.quant_conv.weight.dtype
        hidden = [self.vae.encoder(image[None].to(dtype)) for image in images]
        moments: Tensor = self.vae.quant_conv(torch.cat(hidden))
        return moments

    def _embed(self, image: Float[Tensor, "1 3 height width"]) -> Float[Tensor, "1 channel"]:
        facts = self.family.configs["feature_extractor"]
        side = int(self.image_encoder.config.image_size)
        small = (antialiased_resize(image, (side, side)) + 1) / 2
        mean, std = (small.new_tensor(facts[key])[:, None, None] for key in ("image_mean", "image_std"))
        embedding: Tensor = self.image_encoder(((small - mean) / std).to(self.dtype)).image_embeds
        return embedding


def antialiased_resize(
    image: Float[Tensor, "batch channel y x"], size: tuple[int, int]
) -> Float[Tensor, "batch channel rows columns"]:
    """Resize as the model's CLIP branch was trained: Gaussian blur, then bicubic interpolation with aligned corners.

    Per axis with scale s = old / new, the blur has standard deviation (s - 1) / 2 as in scikit-image's `resize`, cut at
    two standard deviations to an odd number of at least three taps; borders are reflected. No blur when enlarging.
    """
    for axis, new in ((-1, size[1]), (-2, size[0])):
        scale = image.shape[axis] / new
        if scale > 1:
            image = _blur(image, axis, (scale - 1) / 2)
    return F.interpolate(image, size, mode="bicubic", align_corners=True)


def _blur(image: Float[Tensor, "batch channel y x"], axis: int, sigma: float) -> Float[Tensor, "batch channel y x"]:
    taps = max(int(4 * sigma), 3) | 1
    offsets = torch.arange(taps, dtype=image.dtype, device=image.device) - taps // 2
    weights = torch.exp(-(offsets**2) / (2 * sigma**2))
    lines = image.movedim(axis, -1)
    padded = F.pad(lines.reshape(-1, 1, lines.shape[-1]), (taps // 2, taps // 2), mode="reflect")
    blurred = F.conv1d(padded, (weights / weights.sum())[None, None])
    return blurred.reshape(lines.shape).movedim(-1, axis)


NETWORKS: dict[str, Any] = {
    "unet": UNetSpatioTemporalConditionModel,
    "vae": AutoencoderKLTemporalDecoder,
    "image_encoder": CLIPVisionModelWithProjection,
}


def load_trained(root: Path, variant: str | None, configs: Configs, dtype: torch.dtype) -> nn.ModuleDict:
    """The networks of a checkpoint folder. Raises `WeightsError` if a file does not fill its network exactly."""
    common = {"variant": variant, "use_safetensors": True, "local_files_only": True, "output_loading_info": True}
    special: dict[str, dict[str, Any]] = {
        "unet": {"low_cpu_mem_usage": False},  # the other way needs a package more
        "vae": {"low_cpu_mem_usage": False},
        "image_encoder": {"dtype": torch.float32, "attn_implementation": ATTENTION},
    }
    networks = {}
    for part, network in NETWORKS.items():
        try:
            networks[part], info = network.from_pretrained(root / part, **common, **special[part])
            wrong = sorted(map(str, [*info["missing_keys"], *info["mismatched_keys"]]))
        except (OSError, ValueError, RuntimeError) as error:
            wrong = [str(error)]
        if wrong:
            raise WeightsError(
                f"checkpoint {root}: the weights of {part} do not fill its network: {wrong[0]}\n"
                "Weights and config.json belong to different models; fetch both again."
            )
    return _assemble(networks, configs, dtype)


def load_untrained(configs: Configs, seed: int, dtype: torch.dtype) -> nn.ModuleDict:
    """The networks of `configs` with their libraries' random initialisation, drawn on the CPU from `seed`."""
    clip = CLIPVisionConfig.from_dict({**configs["image_encoder"], "attn_implementation": ATTENTION})
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        networks = {part: NETWORKS[part].from_config(dict(configs[part])) for part in ("unet", "vae")}
        networks["image_encoder"] = NETWORKS["image_encoder"](clip)
    return _assemble(networks, configs, dtype)


def check_attention(networks: Mapping[str, Any]) -> None:
    """Raise `WeightsError` unless every attention layer uses the backend that the recipe names."""
    used = {
        type(module.processor).__name__
        for part in ("unet", "vae")
        for module in networks[part].modules()
        if hasattr(module, "processor")
    }
    clip = networks["image_encoder"].config._attn_implementation
    if used != {"AttnProcessor2_0"} or clip != ATTENTION:
        raise WeightsError(
            f"attention runs as {', '.join(sorted(used)) or 'nothing'} and {clip}, but the recipe says {ATTENTION}. "
            "Use a version of diffusers and transformers that has scaled dot-product attention."
        )


def _assemble(networks: dict[str, Any], configs: Configs, dtype: torch.dtype) -> nn.ModuleDict:
    """One module, cast to `dtype`; the VAE stays in float32 where float16 would overflow (`force_upcast`)."""
    del networks["vae"].decoder  # features need no pixels back
    check_attention(networks)
    single = dtype == torch.float16 and configs["vae"]["force_upcast"]
    for part, network in networks.items():
        # Not `network.to`, which logs a warning about modules to keep in float32 although there are none.
        nn.Module.to(network, torch.float32 if single and part == "vae" else dtype)
    return nn.ModuleDict(networks)

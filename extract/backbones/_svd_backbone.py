"""Stable Video Diffusion as a loaded network: how frames become latents, conditions and UNet inputs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from jaxtyping import Float, UInt8
from torch import Tensor, nn

from extract.backbones.base import Backbone, NoiseLevel, Offload, Site, State
from extract.checkpoints.loading import load_networks
from extract.checkpoints.residence import Residence
from extract.diffusion.noise import unit_variance
from extract.errors import ExtractError

if TYPE_CHECKING:
    from extract.backbones.svd import SVD


@dataclass(kw_only=True)
class SVDState(State):
    """What all noise levels of one clip share. B windows of T frames; float32.

    Attributes:
        latents: scaled VAE latents x_0, (B, T, 4, y, x).
        noise: eps, standard normal, as `latents`.
        image: the condition image in [-1, 1], (3, height, width); `None` for none.
        hidden: all images of the windows before the VAE encoder's last layer.
        condition: unscaled VAE latent of the noisy condition image, (4, y, x).
        embedding: CLIP image embedding of the condition image, (1, channels).
    """

    latents: Tensor
    noise: Tensor
    image: Tensor | None
    hidden: list[Tensor]
    condition: Tensor
    embedding: Tensor


class SVDBackbone(Backbone):
    """UNet, VAE encoder and image encoder below one `module`; all windows of a clip are one batch."""

    def __init__(
        self,
        networks: nn.ModuleDict,
        family: SVD,
        device: torch.device = torch.device("cpu"),  # noqa: B008
        offload: Offload = "none",
    ) -> None:
        self.module = networks.eval().requires_grad_(False)
        self.residence = Residence(networks, "unet", device, offload)
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
        image = self._image(images, bank)
        if image is None:
            with self.residence.visit("vae"):
                hidden = [self._hidden(each) for each in images]
                means = self._means(hidden)
            condition, embedding = torch.zeros_like(means[0]), self._no_embedding(means)
        else:
            with self.residence.visit("vae", "image_encoder"):
                hidden = [self._hidden(each) for each in images]
                # The last mean is the condition's: one call of the VAE's last layer, for hooks to see.
                means = self._means([*hidden, self._hidden(self._noisy(image, generator))])
                embedding = self._embed(image[None])
            means, condition = means[:-1], means[-1]
        latents = (means * self.scaling).reshape(-1, length, *means.shape[1:])
        if self.family.options.untrained is not None:
            latents = unit_variance(latents.transpose(1, 2)).transpose(1, 2)
        noise = torch.randn(latents.shape, generator=generator).to(latents)
        return SVDState(
            bank=bank,
            latents=latents,
            noise=noise,
            image=image,
            hidden=hidden,
            condition=condition,
            embedding=embedding,
        )

    @torch.no_grad()
    def redraw(self, state: State, generator: torch.Generator) -> SVDState:
        """The same latents with other noise, on them and on the condition image."""
        assert isinstance(state, SVDState)
        condition = state.condition
        if state.image is not None:
            with self.residence.visit("vae"):
                # With all others beside it, as in `encode`: what a layer makes of one row of a batch depends, in its
                # last bits, on the length of the batch.
                condition = self._means([*state.hidden, self._hidden(self._noisy(state.image, generator))])[-1]
        noise = torch.randn(state.latents.shape, generator=generator).to(state.latents)
        return replace(state, condition=condition, noise=noise)

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

    def _image(self, images: Tensor, bank: Sequence[int]) -> Tensor | None:
        chosen = {"first": 0, "last": -1, "none": None}[self.family.condition_frame]
        return None if chosen is None else images[bank[chosen]]

    def _noisy(self, image: Tensor, generator: torch.Generator) -> Tensor:
        augmentation = torch.randn(image.shape, generator=generator).to(image)
        return image + self.family.conditioning.noise_aug_strength * augmentation

    def _hidden(self, image: Float[Tensor, "3 height width"]) -> Float[Tensor, "1 moment y x"]:
        """What the VAE's last layer gets of an image.

        The encoder takes one image at a time: it is the peak of memory, and a frame's latent must not depend on
        which other frames are beside it.
        """
        hidden: Tensor = self.vae.encoder(image[None].to(self.vae.quant_conv.weight.dtype))
        return hidden

    def _means(self, hidden: Sequence[Tensor]) -> Float[Tensor, "image channel y x"]:
        """Unscaled latents as `vae.encode(…).latent_dist.mode()`, float32, with one call of `quant_conv`."""
        means: Tensor = self.vae.quant_conv(torch.cat(list(hidden))).chunk(2, dim=1)[0].float()
        return means

    def _no_embedding(self, like: Tensor) -> Float[Tensor, "1 channel"]:
        return like.new_zeros(1, self.image_encoder.config.projection_dim)

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


def load(family: SVD, device: torch.device, dtype: torch.dtype, offload: Offload) -> SVDBackbone:
    """Load or draw the networks."""
    networks = load_networks(family, dtype)
    del networks["vae"].decoder  # features need no pixels back
    return SVDBackbone(nn.ModuleDict(networks), family, device, offload)

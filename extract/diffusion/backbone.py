"""A latent video diffusion transformer as a loaded network: windows are encoded once, and denoised one by one."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from jaxtyping import Float, UInt8
from torch import Tensor, nn

from extract.backbones.base import Backbone, NoiseLevel, Offload, Site, State
from extract.checkpoints.loading import load_networks
from extract.checkpoints.residence import Residence
from extract.diffusion.latent_video import LATENT, LatentVideoFamily
from extract.diffusion.noise import unit_variance
from extract.diffusion.prompt import prompt_embedding
from extract.diffusion.windows import latent_at
from extract.errors import ExtractError


@dataclass(kw_only=True)
class VideoState(State):
    """What all noise levels of one clip, or of one of its windows, share. float32.

    Attributes:
        latents: x_0, (window, channel, time, y, x): normalised latents, and what the family adds to them.
        noise: eps, standard normal, as `latents`.
        told: what the network is told of each window besides.
        places: index of every bank frame's latent, windows laid end to end.
    """

    latents: Tensor
    noise: Tensor
    told: list[Mapping[str, Tensor]] = field(default_factory=list)
    places: Sequence[int]


class LatentVideoBackbone(Backbone):
    """All networks of a family below one `module`, and a module `latent` that passes the latents on for hooks to see.

    Args:
        networks: components by name, on the CPU, each in its type.
        family: that says how they are called.
        prompt: embedding of the prompt.
        device: that computes.
        dtype: of the computation.
        offload: where weights wait.
    """

    def __init__(
        self,
        networks: Mapping[str, nn.Module],
        family: LatentVideoFamily,
        prompt: Mapping[str, Tensor],
        device: torch.device,
        dtype: torch.dtype,
        offload: Offload = "none",
    ) -> None:
        self.latent = nn.Identity()
        modules = nn.ModuleDict({**networks, "latent": self.latent}).eval().requires_grad_(False)
        self.module, self.networks = modules, modules
        self.family, self.dtype = family, dtype
        self.preprocess = family.preprocessing()
        self.residence = Residence(modules, family.denoiser, device, offload)
        self.prompt = {name: tensor.to(device) for name, tensor in prompt.items()}
        self.others = [name for name in networks if name != family.denoiser]
        vae = next(networks["vae"].parameters())
        self.autoencoder_dtype = vae.dtype

    @torch.no_grad()
    def encode(
        self, frames: UInt8[Tensor, "frame y x 3"], bank: Sequence[int], generator: torch.Generator
    ) -> VideoState:
        """Latents of all windows, one window at a time, what the network is told of each, and the noise.

        The generator gives eps of all windows at once, (window, channel, time, y, x), on the CPU.
        """
        length = self.family.frames
        if len(frames) == 0 or len(frames) % length:
            raise ExtractError(
                f"{len(frames)} frames for {self.family.model}: need whole windows of {length}. Ask `window` for them."
            )
        encoded: list[Tensor] = []
        told: list[Mapping[str, Tensor]] = []
        with self.residence.visit(*self.others):
            for start in range(0, len(frames), length):
                clip = self.preprocess(frames[start : start + length]).movedim(0, 1)[None].to(self.autoencoder_dtype)
                latent = self.family.compress(self.networks, clip).float()
                self._check(latent)
                if self.family.options.untrained is not None:
                    latent = unit_variance(latent)
                encoded.append(latent)
                told.append(self.family.condition(self.networks, clip, latent, self._image(clip)))
        latents: Tensor = self.latent(torch.cat(encoded))
        shape = len(encoded), self.family.denoised_channels, *latents.shape[2:]
        noise = torch.randn(shape, generator=generator).to(latents)
        clean = [
            self.family.clean(self.networks, each[None], {**self.prompt, **facts}, generator)
            for each, facts in zip(latents, told, strict=True)
        ]
        held = latents.shape[2]
        stride = self.family.strides.time
        places = [at // length * held + latent_at(at % length, stride) for at in bank]
        return VideoState(bank=bank, latents=torch.cat(clean), noise=noise, told=told, places=places)

    def redraw(self, state: State, generator: torch.Generator) -> VideoState:
        """The same latents with other noise."""
        assert isinstance(state, VideoState)
        noise = torch.randn(state.latents.shape, generator=generator).to(state.latents)
        return replace(state, noise=noise)

    def parts(self, state: State) -> Iterator[VideoState]:
        """One window at a time: windows do not see each other, and one is as much as a device holds."""
        assert isinstance(state, VideoState)
        held = state.latents.shape[2]
        for w, told in enumerate(state.told):
            rows = [row for row, place in enumerate(state.places) if place // held == w]
            if not rows:  # as in the paper's windows, of which it reads one
                continue
            yield VideoState(
                bank=[state.bank[row] for row in rows],
                rows=rows,
                latents=state.latents[w : w + 1],
                noise=state.noise[w : w + 1],
                told=[told],
                places=[state.places[row] % held for row in rows],
            )

    @torch.no_grad()
    def forward(self, state: State, level: NoiseLevel | None) -> None:
        """One call of the transformer on the noisy latents of one window."""
        assert isinstance(state, VideoState)
        family = self.family
        if level is None:
            raise ExtractError(f"{family.model} is a diffusion model and needs a noise level: --noise sigma=0.5")
        (told,) = state.told
        sample = family.schedule.mix(state.latents, state.noise, level).to(self.dtype)
        family.denoise(self.networks, sample, level, {**self.prompt, **told})

    def grid(self, site: Site, output: Any, state: State) -> Float[Tensor, "bank y x channel"]:
        """Latents, or tokens in the order (time, y, x), of the bank frames."""
        assert isinstance(state, VideoState)
        if site.name == LATENT:
            grids = output.movedim(1, -1).flatten(0, 1)
        else:
            tokens = self.family.tokens(output)
            time, area = state.latents.shape[2], site.grid[0] * site.grid[1]
            if tokens.shape[:2] != (1, time * area):
                raise ExtractError(
                    f"site {site.name}: got tokens of shape {tuple(tokens.shape)}, expected 1 x {time * area}. "
                    "The checkpoint is not of the architecture its config describes, or the adapter is wrong."
                )
            grids = tokens.reshape(time, *site.grid, -1)
        picked: Tensor = grids[list(state.places)]
        return picked

    def _image(self, clip: Float[Tensor, "1 3 frame height width"]) -> Tensor | None:
        choice = self.family.condition_frame
        return None if choice in (None, "none") else clip[0, :, 0 if choice == "first" else -1]

    def _check(self, latent: Tensor) -> None:
        if tuple(latent.shape) != (1, *self.family.latent_shape):
            raise ExtractError(
                f"{self.family.model}: the autoencoder gave latents of shape {tuple(latent.shape)}, the configuration "
                f"says {(1, *self.family.latent_shape)}. The checkpoint is not what its config describes."
            )


def load(family: LatentVideoFamily, device: torch.device, dtype: torch.dtype, offload: Offload) -> LatentVideoBackbone:
    """Embed the prompt, then load or draw the networks: the text encoder is gone before they come."""
    prompt = prompt_embedding(family, device, dtype)
    networks = load_networks(family, dtype)
    return LatentVideoBackbone(networks, family, prompt, device, dtype, offload)

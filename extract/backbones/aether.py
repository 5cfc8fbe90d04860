"""Aether: CogVideoX trained on to see geometry (Aether Team 2025, arXiv:2503.18945); one network for video and 3D.

It denoises the latents of a video, of its disparity, and a ray map (camera poses, packed to the same grid); further
channels tell it which image or clip, and which camera, are given. Layout and numbers: aether/pipelines/
aetherv1_pipeline_cogvideox.py of InternRobotics/Aether at 871c6f7 (MIT). Disparity and cameras are unknown to us:

- `standard` leaves their x_0 zero, so that these channels are noise alone. The choice is ours. It needs no sampler, and
  the channels of the video are what they are in training; the others are the less so, the less noise there is.
- `paper` first reconstructs both in 4 steps of the library's sampler, the whole window given, as the published code of
  arXiv 2605.28132 does: five passes instead of one. That code computes in bfloat16, draws the latents of what is given
  from the posterior where we take its mean, and seeds nothing. Its positions in time are those of 8 frames per second,
  where 12 is the network's own.

Not certain: the transformer's published config.json was not seen. Ours agrees with it in length, and in the size that
its weights then have. What a checkpoint says is compared with ours, or read from its folder.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from extract.backbones.base import Checkpoint, Weights
from extract.backbones.cogvideox import I2V, PAPER, CogVideoX
from extract.checkpoints.family import names_of
from extract.checkpoints.folder import check_entries, check_reference, download
from extract.diffusion.facts import Native, Preset
from extract.errors import ExtractError, WeightsError
from store.caches import user_cache
from store.digest import digest_text

if TYPE_CHECKING:
    import torch
    from jaxtyping import Float
    from torch import Tensor

    from extract.backbones.cogvideox import Rotary

BASE = "zai-org/CogVideoX-5b-I2V"
"""Where everything but the transformer comes from."""
ASSEMBLE = (
    "Aether's transformer is in one repository and the rest in another. Put them into one folder:\n"
    '  hf download AetherWorldModel/AetherV1 --include "transformer/*" --local-dir DIR\n'
    f'  hf download {BASE} --include "vae/*" "text_encoder/*" "tokenizer/*" "scheduler/*" --local-dir DIR\n'
    "and pass --checkpoint DIR."
)
LENGTHS = (17, 25, 33, 41)
RAY_MAP = 24
"""Channels: direction and origin of a pixel's ray in four frames, spread over the window, not those of the latent."""
HOME_RATE, PAPER_RATE = 12, 8
RECONSTRUCTION_STEPS = 4
TRANSFORMER = {
    "use_rotary_positional_embeddings": True,
    "use_learned_positional_embeddings": False,
    "ofs_embed_dim": None,
}


class Aether(CogVideoX):
    """AetherV1 as it predicts a video from one image, without classifier-free guidance."""

    name: ClassVar[str] = "aether"
    version: ClassVar[int] = 1
    models: ClassVar[Mapping[str, Checkpoint]] = {
        "aether": Checkpoint(
            "AetherWorldModel/AetherV1", None, 5_787_341_699, "MIT; other components: CogVideoX License"
        )
    }
    pipelines: ClassVar[Mapping[str, str]] = {"aether": I2V}
    native: ClassVar[Mapping[str, Native]] = {"aether": Native(41, 480, 720)}
    paper: ClassVar[Mapping[str, Preset]] = {"aether": PAPER}

    # --- facts ------------------------------------------------------------------------------

    @cached_property
    def index(self) -> dict[str, Any]:
        """Neither repository describes the whole: what ours would say."""
        if self.options.checkpoint is not None:
            check_reference(self.options.checkpoint)
        return {"_class_name": self.pipeline}

    @cached_property
    def configs(self) -> dict[str, dict[str, Any]]:
        """Configuration of every component."""
        try:
            return super().configs
        except WeightsError as error:
            raise WeightsError(f"{error}\n{ASSEMBLE}") from error

    def weights(self) -> Weights:
        """As always; an incomplete folder is told how to be completed."""
        try:
            return super().weights()
        except WeightsError as error:
            raise WeightsError(str(error) if ASSEMBLE in str(error) else f"{error}\n{ASSEMBLE}") from error

    def check_configs(self, configs: Mapping[str, Mapping[str, Any]], root: Path) -> None:
        """As for CogVideoX; and what the published networks are, as far as the computation depends on it."""
        super().check_configs(configs, root)
        outputs = 2 * configs["vae"]["latent_channels"] + RAY_MAP
        wanted = {**TRANSFORMER, "out_channels": outputs}
        check_entries(root, "transformer/config.json", configs["transformer"], wanted)
        check_entries(root, "vae/config.json", configs["vae"], {"invert_scale_latents": False})
        check_entries(root, "scheduler/scheduler_config.json", configs["scheduler"], {"snr_shift_scale": 1.0})

    def inputs(self, latent: int) -> int:
        """Video, disparity and ray map, noisy; image and ray map, given: 96."""
        return 3 * latent + 2 * RAY_MAP

    @property
    def denoised_channels(self) -> int:
        """Video, disparity and ray map: 56."""
        return 2 * self.latent_channels + RAY_MAP

    @property
    def frames(self) -> int:
        """Frames of a window. Raises `ExtractError` if the network does not know windows of this length."""
        frames = super().frames
        if frames not in LENGTHS:
            raise ExtractError(
                f"window of {frames} frames: {self.model} takes {', '.join(map(str, LENGTHS))}. Choose one of them."
            )
        return frames

    @property
    def rate(self) -> int:
        """Frames per second, of which the network is told by its positions in time."""
        return HOME_RATE if self.preset is None else PAPER_RATE

    def settings(self) -> Mapping[str, Any]:
        """And frame rate, and what stands for disparity and cameras."""
        steps = f"reconstructed in {RECONSTRUCTION_STEPS} steps"
        return {
            **super().settings(),
            "fps": self.rate,
            "disparity and ray map": "x_0 = 0" if self.preset is None else steps,
            "given ray map": "none",
        }

    # --- weights ----------------------------------------------------------------------------

    def fetch(self) -> Path:
        """A folder that looks into the snapshots of both repositories. It is named by both commits."""
        own = [part for part in self.parts if part.name == self.denoiser]
        rest = [part for part in self.parts if part.name != self.denoiser]
        try:
            revision = self.options.revision or self.published.revision
            snapshots = {
                download(self._hub_id, revision, names_of(own), own): own,
                download(BASE, None, names_of(rest), [part for part in rest if part.network is not None]): rest,
            }
        except WeightsError as error:
            raise WeightsError(f"{error}\n{ASSEMBLE}") from error
        place = user_cache("joined") / digest_text("\0".join(map(str, snapshots)))
        root = place / "+".join(snapshot.name for snapshot in snapshots)
        root.mkdir(parents=True, exist_ok=True)
        for snapshot, parts in snapshots.items():
            for part in parts:
                with suppress(FileExistsError):  # of an earlier run, or of one beside this; they all say the same
                    (root / part.name).symlink_to(snapshot / part.name, target_is_directory=True)
        return root

    # --- networks ---------------------------------------------------------------------------

    def condition(self, networks: Any, clip: Tensor, latents: Tensor, image: Tensor | None) -> dict[str, Tensor]:
        """The latent of the image in the first place, as in CogVideoX; and no ray map, which is zeros."""
        given = super().condition(networks, clip, latents, image)
        return {"channels": _with_zeros(given["channels"], RAY_MAP)}

    def clean(
        self, networks: Any, latents: Tensor, told: Mapping[str, Tensor], generator: torch.Generator
    ) -> Float[Tensor, "1 denoised time y x"]:
        """The video's latents; then zeros, or what a reconstruction makes of the window."""
        import torch

        if self.preset is None:
            return _with_zeros(latents, self.denoised_channels - self.latent_channels)
        made = self._reconstruct(networks, latents, told, generator)
        return torch.cat([latents, made[:, self.latent_channels :]], dim=1)

    def _reconstruct(
        self, networks: Any, latents: Tensor, told: Mapping[str, Tensor], generator: torch.Generator
    ) -> Float[Tensor, "1 denoised time y x"]:
        """Sample video, disparity and ray map, given the whole window."""
        import diffusers
        import torch

        kind: Any = diffusers.CogVideoXDPMScheduler
        scheduler = kind.from_config(dict(self.configs["scheduler"]))
        scheduler.set_timesteps(RECONSTRUCTION_STEPS)
        told = {**told, "channels": _with_zeros(latents, RAY_MAP)}
        shape = 1, self.denoised_channels, *latents.shape[2:]
        sample = torch.randn(shape, generator=generator).to(latents)
        dtype = next(networks[self.denoiser].parameters()).dtype
        guess, before = None, None
        for t in scheduler.timesteps:
            velocity = self.predict(networks, sample.to(dtype), int(t), told).float()
            sample, guess = scheduler.step(velocity, guess, t, before, sample, generator=generator, return_dict=False)
            before = t
        return sample

    def make_rotary(self, device: torch.device) -> Rotary:
        """As CogVideoX at 12 frames per second; at another rate time passes at another pace."""
        return at_pace(super().make_rotary(device), self.latent_shape[1], HOME_RATE / self.rate)


def at_pace(rotary: Rotary, time: int, pace: float) -> Rotary:
    """Multiply the positions in time by `pace`: their angles are in the first quarter of the channels.

    Args:
        rotary: (cos, sin) of tokens in the order (time, y, x), for positions 0, 1, 2, ... in time.
        time: number of latents.
        pace: of time.
    """
    import torch
    from diffusers.models import embeddings

    tokens, channels = rotary[0].shape
    positions = torch.arange(time, device=rotary[0].device, dtype=torch.float32) * pace
    angles: Any = embeddings.get_1d_rotary_pos_embed
    moved = angles(channels // 4, positions, use_real=True)
    cos, sin = (
        torch.cat([new.repeat_interleave(tokens // time, dim=0), old[:, channels // 4 :]], dim=1)
        for new, old in zip(moved, rotary, strict=True)
    )
    return cos, sin


def _with_zeros(latents: Tensor, channels: int) -> Float[Tensor, "1 more time y x"]:
    """Append channels of zeros."""
    import torch

    return torch.cat([latents, latents.new_zeros(1, channels, *latents.shape[2:])], dim=1)

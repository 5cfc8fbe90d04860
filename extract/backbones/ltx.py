"""LTX-Video 0.9.0: a text- and image-to-video diffusion transformer (HaCohen et al. 2024, arXiv:2501.00103).

The causal autoencoder keeps the first frame alone, then makes one latent of every eight; one latent is one token. The
stream of tokens is the video alone, row-major in (time, y, x), and is packed before the network, which is told its
shape; text enters by cross-attention, under a mask. Positions are rotary and in seconds and pixels. Noise is rectified
flow.

Later versions have another autoencoder, whose decoder denoises. They have repositories of their own and are refused.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from extract.backbones.base import Checkpoint, NoiseLevel
from extract.checkpoints.folder import Component, check_entries, read_config
from extract.diffusion.facts import Native, Stack, Strides
from extract.diffusion.latent_video import LatentVideoFamily
from extract.errors import WeightsError

if TYPE_CHECKING:
    from torch import Tensor

TEXT_TOKENS = 128
FRAME_RATE = 25
"""Frames per second that the network is told: default of the library's pipeline, whatever the clip's own is."""
NEEDED = ("num_layers", "num_attention_heads", "attention_head_dim", "in_channels", "caption_channels")
AUTOENCODER = ("latent_channels", "spatio_temporal_scaling", "patch_size", "scaling_factor")


class LTXVideo(LatentVideoFamily):
    """LTX-Video 0.9.0, without classifier-free guidance."""

    name: ClassVar[str] = "ltx-video"
    version: ClassVar[int] = 1
    models: ClassVar[Mapping[str, Checkpoint]] = {
        "ltx-video": Checkpoint("Lightricks/LTX-Video", None, 2_342_579_121, "LTX-Video Open Weights"),
    }
    pipelines: ClassVar[Mapping[str, str]] = {"ltx-video": "LTXPipeline"}
    components: ClassVar[tuple[Component, ...]] = (
        Component("transformer", "LTXVideoTransformer3DModel", needs=NEEDED),
        Component("vae", "AutoencoderKLLTXVideo", needs=AUTOENCODER),
        Component("text_encoder", "T5EncoderModel", "transformers", role="text"),
        Component("tokenizer", role="tokenizer"),
    )
    native: ClassVar[Mapping[str, Native]] = {"ltx-video": Native(121, 512, 704)}
    # Its weights are published in float32, and it runs once per clip.
    exact_autoencoder: ClassVar[bool] = True

    # --- facts ------------------------------------------------------------------------------

    @property
    def conditions(self) -> Sequence[str]:
        """The same weights go on from a first frame, which then is a clean first latent."""
        return ("none", "first", "last")

    @property
    def strides(self) -> Strides:
        """8 frames and 32 pixels per latent, one latent per token."""
        facts = self.configs["vae"]
        halved = 2 ** sum(facts["spatio_temporal_scaling"])
        return Strides(halved, facts["patch_size"] * halved, 1)

    @property
    def stacks(self) -> Sequence[Stack]:
        """One list of blocks."""
        return [self.stack("transformer_blocks")]

    def settings(self) -> Mapping[str, Any]:
        """And the frame rate, which scales positions in time."""
        return {**super().settings(), "frame_rate": FRAME_RATE}

    def prompt_shapes(self) -> Mapping[str, tuple[int, ...]]:
        """128 text tokens, and which of them count; of an empty prompt one, the end of the text."""
        return {
            "text": (1, TEXT_TOKENS, self.configs["transformer"]["caption_channels"]),
            "text_mask": (1, TEXT_TOKENS),
        }

    def check_configs(self, configs: Mapping[str, Mapping[str, Any]], root: Path) -> None:
        """Only version 0.9.0, whose autoencoder knows no timestep, and one latent per token."""
        if configs["vae"].get("timestep_conditioning"):
            raise WeightsError(
                f"checkpoint {root}: vae/config.json has timestep_conditioning, so it is LTX-Video 0.9.1 or later; "
                f"{self.model} is 0.9.0. Give a folder of that version with --checkpoint, "
                "or a commit of that version with --revision."
            )
        check_entries(root, "vae/config.json", {"encoder_causal": True, **configs["vae"]}, {"encoder_causal": True})
        patch = {"patch_size": 1, "patch_size_t": 1}
        check_entries(root, "transformer/config.json", patch | dict(configs["transformer"]), patch)

    def fetch(self) -> Path:
        """As always, but says at once if the repository has gone on to a later version."""
        root = super().fetch()
        self.check_configs({part: read_config(root, f"{part}/config.json") for part in ("transformer", "vae")}, root)
        return root

    # --- networks ---------------------------------------------------------------------------

    def compress(self, networks: Any, clip: Tensor) -> Tensor:
        """(posterior mean - latents_mean) scaling_factor / latents_std, in float32; mean and std are buffers."""
        from diffusers import LTXPipeline

        vae = networks["vae"]
        latents: Tensor = LTXPipeline._normalize_latents(
            vae.encode(clip).latent_dist.mode().float(), vae.latents_mean, vae.latents_std, vae.config.scaling_factor
        )
        return latents

    def condition(self, networks: Any, clip: Tensor, latents: Tensor, image: Tensor | None) -> dict[str, Tensor]:
        """The latent of the image, which takes the first place whichever frame it is."""
        return {} if image is None else {"first": self.compress(networks, image[None, :, None].to(clip))}

    def denoise(self, networks: Any, sample: Tensor, level: NoiseLevel, told: Mapping[str, Tensor]) -> None:
        """One call on packed latents; a condition replaces those of the first latent, which are told t = 0."""
        import torch
        from diffusers import LTXPipeline

        _, _, time, rows, columns = sample.shape
        timestep = torch.tensor([level.timestep], device=sample.device)
        if "first" in told:
            sample, timestep = self.clean_first(sample, told["first"], level)
        strides = self.strides
        networks["transformer"](
            hidden_states=LTXPipeline._pack_latents(sample),
            encoder_hidden_states=told["text"],
            timestep=timestep,
            encoder_attention_mask=told["text_mask"],
            num_frames=time,
            height=rows,
            width=columns,
            rope_interpolation_scale=(strides.time / FRAME_RATE, strides.space, strides.space),
            return_dict=False,
        )

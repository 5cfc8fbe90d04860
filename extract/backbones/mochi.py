"""Mochi 1: a text-to-video diffusion transformer (Genmo 2024, github.com/genmoai/mochi).

The causal autoencoder keeps the first frame alone, then makes one latent of every six. Blocks hold video and text as
two streams with weights of their own that attend to each other; the text's is 256 tokens under a mask. Noise is
rectified flow, but the network counts time from noise to data. Frequencies of its rotary positions are learned and
begin at zero, so that an untrained network knows no positions.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from extract.backbones.base import Checkpoint, NoiseLevel
from extract.checkpoints.folder import Component
from extract.diffusion.facts import Native, Stack, Strides
from extract.diffusion.latent_video import LatentVideoFamily
from extract.diffusion.noise import FlowMatching

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor

TEXT_TOKENS = 256
NEEDED = ("num_layers", "num_attention_heads", "attention_head_dim", "in_channels", "patch_size", "text_embed_dim")
AUTOENCODER = (
    "latent_channels",
    "temporal_expansions",
    "spatial_expansions",
    "latents_mean",
    "latents_std",
    "scaling_factor",
)


class Mochi(LatentVideoFamily):
    """Mochi 1 preview, without classifier-free guidance."""

    name: ClassVar[str] = "mochi"
    version: ClassVar[int] = 1
    models: ClassVar[Mapping[str, Checkpoint]] = {
        "mochi-1": Checkpoint("genmo/mochi-1-preview", None, 10_487_426_355, "Apache-2.0"),
    }
    pipelines: ClassVar[Mapping[str, str]] = {"mochi-1": "MochiPipeline"}
    components: ClassVar[tuple[Component, ...]] = (
        Component("transformer", "MochiTransformer3DModel", needs=NEEDED),
        Component("vae", "AutoencoderKLMochi", needs=AUTOENCODER),
        Component("text_encoder", "T5EncoderModel", "transformers", role="text"),
        Component("tokenizer", role="tokenizer"),
    )
    native: ClassVar[Mapping[str, Native]] = {"mochi-1": Native(31, 480, 848)}
    default_noise = ("sigma=0.2", "sigma=0.5", "sigma=0.8")
    # Its Fourier features turn 128 times while a colour goes up by 1: bfloat16 is off by up to a quarter of a turn.
    exact_autoencoder: ClassVar[bool] = True

    # --- facts ------------------------------------------------------------------------------

    @property
    def strides(self) -> Strides:
        """6 frames and 8 pixels per latent, 2 x 2 latents per token."""
        vae = self.configs["vae"]
        time, space = math.prod(vae["temporal_expansions"]), math.prod(vae["spatial_expansions"])
        return Strides(time, space, self.configs["transformer"]["patch_size"])

    @property
    def stacks(self) -> Sequence[Stack]:
        """One list of blocks."""
        return [self.stack("transformer_blocks")]

    @property
    def schedule(self) -> FlowMatching:
        """x_t = (1 - sigma) x_0 + sigma eps; the network is told 1000 (1 - sigma)."""
        return FlowMatching(rising=True)

    @property
    def no_text(self) -> bool:
        """Whether no token counts in an empty prompt (as in the original code), or one does (as published)."""
        return bool(self.index.get("force_zeros_for_empty_prompt"))

    def settings(self) -> Mapping[str, Any]:
        """And how many tokens of the prompt count, and that frames are rounded."""
        tokens = "no token" if self.no_text else "one token"
        return {**super().settings(), "empty prompt": tokens, "pixels": "rounded to 8 bits"}

    def prompt_shapes(self) -> Mapping[str, tuple[int, ...]]:
        """256 text tokens, and which of them count; of an empty prompt one, the end of the text."""
        return {
            "text": (1, TEXT_TOKENS, self.configs["transformer"]["text_embed_dim"]),
            "text_mask": (1, TEXT_TOKENS),
        }

    # --- networks ---------------------------------------------------------------------------

    def compress(self, networks: Any, clip: Tensor) -> Tensor:
        """(posterior mean - latents_mean) scaling_factor / latents_std, of frames rounded to 8 bits, in float32."""
        mean: Tensor = networks["vae"].encode(in_8_bits(clip)).latent_dist.mode().float()
        facts = self.configs["vae"]
        shift, scale = (mean.new_tensor(facts[key])[:, None, None, None] for key in ("latents_mean", "latents_std"))
        return (mean - shift) * float(facts["scaling_factor"]) / scale

    def denoise(self, networks: Any, sample: Tensor, level: NoiseLevel, told: Mapping[str, Tensor]) -> None:
        """One call."""
        import torch

        mask = told["text_mask"]
        with warnings.catch_warnings():
            # The network asks for autocast to float32, which torch does not offer, and does not need, on a CPU.
            warnings.filterwarnings("ignore", "In CPU autocast", UserWarning)
            networks["transformer"](
                hidden_states=sample,
                encoder_hidden_states=told["text"],
                timestep=torch.tensor([level.timestep], device=sample.device),
                encoder_attention_mask=torch.zeros_like(mask) if self.no_text else mask,
                return_dict=False,
            )


def in_8_bits(clip: Float[Tensor, "1 3 frame height width"]) -> Float[Tensor, "1 3 frame height width"]:
    """Round frames in [-1, 1] to the nearest of 256 values; frames of 8 bits stay what they are, bit for bit.

    The first layer of the autoencoder is sine and cosine of 64 and 128 periods per unit: one step of an 8-bit colour is
    about half a period and a whole one. The original code encodes frames of 8 bits. What lies between, as after
    resizing, has phases that no such frame has.
    """
    return (((clip * 0.5 + 0.5) * 255).round() / 255 - 0.5) / 0.5

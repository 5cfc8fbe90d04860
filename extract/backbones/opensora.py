"""Open-Sora 2: a text- and image-to-video diffusion transformer (Zheng et al. 2025, arXiv:2503.09642).

Double blocks hold video and text as two streams, single blocks as one sequence that begins with the text; in both all
tokens attend to each other, padding of the text included. A condition, a mask beside the latents of known frames, is
added to the tokens of the video. The autoencoder is HunyuanVideo's. The network is not in diffusers: it stands in
`_opensora_network.py`.

The checkpoint is `hpcai-tech/Open-Sora-v2`, which is no folder of diffusers: two files, `Open_Sora_v2.safetensors` and
`hunyuan_vae.safetensors`, without configurations (ours are used), and the folders of T5 and CLIP.

Not established, for want of the weights: the names and the type of the tensors in `Open_Sora_v2.safetensors` (names
follow from the published configuration, from the file's size, and from a port that loads it, and loading refuses any
other; bfloat16 is presumed, any floating-point type is taken); that the weights expect the rotary pairing of
`_opensora_tokens.py`; which files the folders of T5 and CLIP hold, besides T5's pickled shards; whether the tag
Apache-2.0 on the weights holds, as they were trained starting from FLUX.1-dev, whose licence is non-commercial, and the
autoencoder is from HunyuanVideo, which has a licence of its own.

With `--preset paper` the clip is conditioned on its first frame and noised to the published code's t = 0.25, which the
shift of its sampler makes sigma = 0.7644 at 129 frames of 480 x 848. Of the 33 latents that code keeps the first 21,
where the bank is. It draws from the autoencoder's posterior instead of taking its mean, and rounds sigma to bfloat16
(0.765625): neither is repeated.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from extract.backbones import _hunyuan_vae as autoencoder
from extract.backbones.base import Checkpoint, NoiseLevel
from extract.checkpoints.folder import Component, tensors_in
from extract.diffusion.facts import Native, Preset, Stack, Strides
from extract.diffusion.latent_video import LatentVideoFamily
from extract.errors import ExtractError, WeightsError

if TYPE_CHECKING:
    import torch
    from torch import Tensor

TEXT_TOKENS, CLIP_TOKENS = 512, 77
PAPER_TIME = 0.25
TRANSFORMER, VAE = "Open_Sora_v2.safetensors", "hunyuan_vae.safetensors"
T5, CLIP = "google/t5-v1_1-xxl", "openai/clip-vit-large-patch14"
SMALL = ("*.json", "*.model", "*.txt")
"""Files of the folders of T5 and CLIP that are not weights: tokenizers, configurations, lists of shards."""
NEEDED = (
    "depth",
    "depth_single_blocks",
    "hidden_size",
    "num_heads",
    "axes_dim",
    "in_channels",
    "patch_size",
    "context_in_dim",
    "vec_in_dim",
)


class OpenSora(LatentVideoFamily):
    """Open-Sora 2, without classifier-free guidance.

    The network is told sigma, and multiplies it by 1000 itself. The published x_t has 1e-5 of the noise left at
    sigma = 0, which is less than bfloat16 resolves.
    """

    name: ClassVar[str] = "open-sora"
    version: ClassVar[int] = 1
    models: ClassVar[Mapping[str, Checkpoint]] = {
        "opensora-2": Checkpoint("hpcai-tech/Open-Sora-v2", None, 12_137_869_331, "Apache-2.0"),
    }
    components: ClassVar[tuple[Component, ...]] = (
        Component(
            "transformer", "extract.backbones._opensora_network:OpenSoraTransformer", needs=NEEDED, file=TRANSFORMER
        ),
        Component("vae", "AutoencoderKLHunyuanVideo", needs=autoencoder.NEEDED, file=VAE),
        Component("text_encoder", "T5EncoderModel", "transformers", role="text", folder=T5, pickled=True),
        Component("tokenizer", role="tokenizer", folder=T5, files=SMALL),
        Component("text_encoder_2", "CLIPTextModel", "transformers", role="text", folder=CLIP, pickled=True),
        Component("tokenizer_2", role="tokenizer", folder=CLIP, files=SMALL),
    )
    compiles = False
    native: ClassVar[Mapping[str, Native]] = {"opensora-2": Native(129, 480, 848)}
    paper: ClassVar[Mapping[str, Preset]] = {
        "opensora-2": Preset(sites=("single_blocks.18", "single_blocks.20"), noise=())  # see `default_levels`
    }

    # --- facts ------------------------------------------------------------------------------

    @property
    def conditions(self) -> Sequence[str]:
        """It was trained on all of them, most often on the first frame."""
        return ("first", "last", "none")

    @property
    def strides(self) -> Strides:
        """4 frames and 8 pixels per latent, 2 x 2 latents per token."""
        return autoencoder.strides(self.configs["vae"], self.configs["transformer"]["patch_size"])

    @property
    def stacks(self) -> Sequence[Stack]:
        """Double blocks, then single blocks."""
        facts = self.configs["transformer"]
        return [
            Stack("double_blocks", facts["depth"], facts["hidden_size"]),
            Stack("single_blocks", facts["depth_single_blocks"], facts["hidden_size"]),
        ]

    def noise_level(self, text: str) -> NoiseLevel:
        """Parse `t=500` or `sigma=0.5`. Times of the published code, from 0 to 1, are not taken for timesteps."""
        level = super().noise_level(text)
        if text.startswith("t") and level.timestep < 1:
            height, width = self.size
            raise ExtractError(
                f"noise level {text!r}: timesteps of {self.model} run from 0 to 1000. Open-Sora's own time t = "
                f"{level.timestep:g} is sigma={self._shifted(level.timestep):.4f} after the shift of its sampler, at "
                f"{self.frames} frames of {height}x{width}. Name the noise by sigma."
            )
        return level

    def default_levels(self) -> Sequence[str]:
        """The paper's t = 0.25 after the shift that the published code applies, or the family's."""
        return super().default_levels() if self.preset is None else [f"sigma={self._shifted(PAPER_TIME):.4f}"]

    def _shifted(self, time: float) -> float:
        _, latents, rows, columns = self.latent_shape
        return time_shift(time, rows * columns // self.strides.patch**2, latents)

    def settings(self) -> Mapping[str, Any]:
        """And how the autoencoder is called."""
        return {**super().settings(), "autoencoder": autoencoder.TILES}

    def prompt_shapes(self) -> Mapping[str, tuple[int, ...]]:
        """512 text tokens, and one pooled vector."""
        facts = self.configs["transformer"]
        return {"text": (1, TEXT_TOKENS, facts["context_in_dim"]), "pooled": (1, facts["vec_in_dim"])}

    def check_configs(self, configs: Mapping[str, Mapping[str, Any]], root: Path) -> None:
        """Axes fill a head, and tokens are patches of the autoencoder's latents."""
        facts = configs["transformer"]
        head = facts["hidden_size"] / facts["num_heads"]
        features = configs["vae"]["latent_channels"] * facts["patch_size"] ** 2
        odd = any(n % 2 for n in facts["axes_dim"])
        if sum(facts["axes_dim"]) != head or odd or len(facts["axes_dim"]) != 3 or facts["in_channels"] != features:
            raise WeightsError(
                f"checkpoint {root}: transformer/config.json has heads of {head:g} components for axes_dim "
                f"{facts['axes_dim']}, and in_channels {facts['in_channels']} for patches of {features} numbers. Three "
                "even numbers must add up to a head, and in_channels be a patch."
            )

    def check_weights(self, root: Path) -> None:
        """Not the relatives that are easily taken for it: they would differ in more than the names of tensors."""
        path = root / TRANSFORMER
        tensors = tensors_in(path) if path.is_file() else {}
        if any(name.startswith("double_blocks.0.img_attn.qkv.") for name in tensors):
            raise WeightsError(
                f"weights {path}: queries, keys and values are one layer, as in FLUX.1, and then rotary positions mean "
                f"other components. Give the released {TRANSFORMER}, in which they are q_proj, k_proj and v_proj."
            )
        _, shape = tensors.get("img_in.weight", ("", ()))
        if shape and shape[1] != self.configs["transformer"]["in_channels"]:
            raise WeightsError(
                f"weights {path}: tokens have {shape[1]} features instead of "
                f"{self.configs['transformer']['in_channels']}. Those of the release for another autoencoder "
                f"(Open-Sora-v2-Video-DC-AE) have 128. Give {TRANSFORMER} of {self.published.id}."
            )

    # --- networks ---------------------------------------------------------------------------

    def embed(self, pipeline: Any, prompt: str, device: torch.device) -> dict[str, Tensor]:
        """T5 tokens, padding included and attended to, and CLIP's pooled state, not projected."""

        def ids(tokenizer: str, length: int) -> Tensor:
            tokens = pipeline[tokenizer](
                prompt, max_length=length, padding="max_length", truncation=True, return_tensors="pt"
            )
            numbers: Tensor = tokens.input_ids.to(device)
            return numbers

        return {
            "text": pipeline["text_encoder"](ids("tokenizer", TEXT_TOKENS)).last_hidden_state,
            "pooled": pipeline["text_encoder_2"](ids("tokenizer_2", CLIP_TOKENS)).pooler_output,
        }

    def compress(self, networks: Any, clip: Tensor) -> Tensor:
        """Posterior mean times 0.476986, tiled in space."""
        return autoencoder.compress(networks["vae"], clip)

    def condition(self, networks: Any, clip: Tensor, latents: Tensor, image: Tensor | None) -> dict[str, Tensor]:
        """A mask that is 1 on the first or the last latent, and there the latent of that frame alone; else zeros.

        (1, 1 + channel, time, y, x). The noisy latents themselves are left as they are.
        """
        told = latents.new_zeros(1, 1 + latents.shape[1], *latents.shape[2:])
        if image is not None:
            place = 0 if self.condition_frame == "first" else -1
            told[:, 0, place] = 1
            told[:, 1:, place] = self.compress(networks, image[None, :, None].to(clip))[:, :, 0]
        return {"condition": told}

    def denoise(self, networks: Any, sample: Tensor, level: NoiseLevel, told: Mapping[str, Tensor]) -> None:
        """One call on patches of the latents."""
        import torch

        from extract.backbones._opensora_tokens import pack, positions_of

        patch = self.strides.patch
        _, _, time, rows, columns = sample.shape
        networks["transformer"](
            img=pack(sample, patch),
            cond=pack(told["condition"].to(sample), patch),
            positions=positions_of(time, rows // patch, columns // patch, sample.device),
            txt=told["text"],
            pooled=told["pooled"],
            time=torch.tensor([level.sigma], device=sample.device),
        )

    def tokens(self, output: Any) -> Tensor:
        """The video's: first of a double block's two streams, after the text in a single block's sequence."""
        tokens: Tensor = output[0] if isinstance(output, tuple) else output[:, TEXT_TOKENS:]
        return tokens


def time_shift(time: float, tokens: int, latents: int) -> float:
    """Where the published sampler and training put a time: later, the larger and longer the clip.

    a t / (1 + (a - 1) t) with a = (1 + (n - 256) / 1920) sqrt(m).

    Args:
        time: t, from 0 for data to 1 for noise.
        tokens: n, of one latent frame.
        latents: m, latent frames.
    """
    a = (1 + (tokens - 256) / 1920) * math.sqrt(latents)
    return a * time / (1 + (a - 1) * time)

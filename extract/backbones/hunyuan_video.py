"""HunyuanVideo: a text-to-video diffusion transformer (Kong et al. 2024, arXiv:2412.03603).

Double blocks hold video and text as two streams with weights of their own, single blocks as one; in both all tokens
attend to each other. The released network is distilled from classifier-free guidance: it runs once, and is told a
guidance scale. The text is what a language model makes of a prompt inside fixed instructions, of which only the prompt
is kept, and a pooled embedding of CLIP. Of the 256 text tokens those beyond the end of the text are masked.

The checkpoint is `hunyuanvideo-community/HunyuanVideo`; image-to-video checkpoints are refused.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from extract.backbones import _hunyuan_vae as autoencoder
from extract.backbones.base import Checkpoint, NoiseLevel
from extract.checkpoints.folder import Component, check_entries
from extract.diffusion.facts import Native, Stack, Strides
from extract.diffusion.latent_video import LatentVideoFamily

if TYPE_CHECKING:
    import torch
    from torch import Tensor

TEXT_TOKENS = 256
GUIDANCE = 6.0
"""Default of the library's pipeline. The network is told 1000 times that."""
NEEDED = (
    "num_layers",
    "num_single_layers",
    "num_attention_heads",
    "attention_head_dim",
    "in_channels",
    "patch_size",
    "patch_size_t",
    "text_embed_dim",
    "pooled_projection_dim",
)


class HunyuanVideo(LatentVideoFamily):
    """HunyuanVideo, text to video."""

    name: ClassVar[str] = "hunyuan-video"
    version: ClassVar[int] = 1
    models: ClassVar[Mapping[str, Checkpoint]] = {
        "hunyuanvideo": Checkpoint(
            "hunyuanvideo-community/HunyuanVideo", None, 13_067_491_347, "Tencent Hunyuan Community"
        ),
    }
    pipelines: ClassVar[Mapping[str, str]] = {"hunyuanvideo": "HunyuanVideoPipeline"}
    components: ClassVar[tuple[Component, ...]] = (
        Component("transformer", "HunyuanVideoTransformer3DModel", needs=NEEDED),
        Component("vae", "AutoencoderKLHunyuanVideo", needs=autoencoder.NEEDED),
        Component("text_encoder", "LlamaModel", "transformers", role="text"),
        Component("tokenizer", role="tokenizer"),
        Component("text_encoder_2", "CLIPTextModel", "transformers", role="text"),
        Component("tokenizer_2", role="tokenizer"),
    )
    native: ClassVar[Mapping[str, Native]] = {"hunyuanvideo": Native(61, 544, 960)}

    # --- facts ------------------------------------------------------------------------------

    @property
    def strides(self) -> Strides:
        """4 frames and 8 pixels per latent, 2 x 2 latents per token."""
        return autoencoder.strides(self.configs["vae"], self.configs["transformer"]["patch_size"])

    @property
    def stacks(self) -> Sequence[Stack]:
        """Double blocks, then single blocks."""
        return [self.stack("transformer_blocks"), self.stack("single_transformer_blocks", "num_single_layers")]

    def settings(self) -> Mapping[str, Any]:
        """And the guidance scale, and how the autoencoder is called."""
        return {
            **super().settings(),
            "guidance": f"embedded, {GUIDANCE}" if self._guided else "none",
            "autoencoder": autoencoder.TILES,
        }

    def prompt_shapes(self) -> Mapping[str, tuple[int, ...]]:
        """256 text tokens, which of them count, and one pooled vector."""
        facts = self.configs["transformer"]
        return {
            "text": (1, TEXT_TOKENS, facts["text_embed_dim"]),
            "text_mask": (1, TEXT_TOKENS),
            "pooled": (1, facts["pooled_projection_dim"]),
        }

    def check_configs(self, configs: Mapping[str, Mapping[str, Any]], root: Path) -> None:
        """Only text-to-video networks, and tokens of one latent in time."""
        wanted = {"image_condition_type": None, "in_channels": configs["vae"]["latent_channels"], "patch_size_t": 1}
        check_entries(root, "transformer/config.json", configs["transformer"], wanted)

    @property
    def _guided(self) -> bool:
        return bool(self.configs["transformer"].get("guidance_embeds", True))

    # --- networks ---------------------------------------------------------------------------

    def embed(self, pipeline: Any, prompt: str, device: torch.device) -> dict[str, Tensor]:
        """What Llama makes of the prompt after the pipeline's instructions, its mask, and CLIP's pooled embedding."""
        text, pooled, mask = pipeline.encode_prompt(prompt, device=device, max_sequence_length=TEXT_TOKENS)
        return {"text": text, "text_mask": mask.bool(), "pooled": pooled}

    def compress(self, networks: Any, clip: Tensor) -> Tensor:
        """Posterior mean times 0.476986, tiled in space."""
        return autoencoder.compress(networks["vae"], clip)

    def denoise(self, networks: Any, sample: Tensor, level: NoiseLevel, told: Mapping[str, Tensor]) -> None:
        """One call."""
        import torch

        networks["transformer"](
            hidden_states=sample,
            timestep=torch.tensor([level.timestep], device=sample.device),
            encoder_hidden_states=told["text"],
            encoder_attention_mask=told["text_mask"].to(sample.dtype),
            pooled_projections=told["pooled"],
            # Exactly, so that it does not depend on the type of the computation: bfloat16 would make 6016 of 6000.
            guidance=torch.tensor([1000 * GUIDANCE], device=sample.device) if self._guided else None,
            return_dict=False,
        )

"""CogVideoX: text- and image-to-video diffusion transformers (Yang et al. 2024, arXiv:2408.06072), version 1.0.

The autoencoder keeps the first frame alone, then makes one latent of every four frames. Its convolutions look back
only, but it takes eight frames at a time (the first time up to five more) and normalises over them, so that a latent
knows a little of all frames of its batch. Noise is variance preserving. Tokens of text and video go through the blocks
together; a block returns them apart, those of the video row-major in (time, y, x).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from extract.backbones.base import Checkpoint, Options
from extract.checkpoints.folder import Component, check_entries
from extract.diffusion.facts import Native, Preset, Stack, Strides
from extract.diffusion.latent_video import LatentVideoFamily
from extract.diffusion.noise import VariancePreserving, scaled_linear
from extract.errors import ExtractError

if TYPE_CHECKING:
    import torch
    from jaxtyping import Float
    from torch import Tensor

    from extract.backbones.base import NoiseLevel

    Rotary = tuple[Float[Tensor, "token channel"], Float[Tensor, "token channel"]]

APACHE, CUSTOM = "Apache-2.0", "CogVideoX License"
T2V, I2V = "CogVideoXPipeline", "CogVideoXImageToVideoPipeline"
SIZES = ("num_layers", "num_attention_heads", "attention_head_dim", "in_channels", "out_channels", "patch_size")
POSITIONS = ("sample_height", "sample_width", "sample_frames")
SCHEDULE = ("beta_start", "beta_end", "num_train_timesteps", "snr_shift_scale")
COMPONENTS = (
    Component(
        "transformer",
        "CogVideoXTransformer3DModel",
        needs=(*SIZES, *POSITIONS, "text_embed_dim", "max_text_seq_length"),
    ),
    Component(
        "vae",
        "AutoencoderKLCogVideoX",
        needs=("latent_channels", "block_out_channels", "temporal_compression_ratio", "scaling_factor"),
    ),
    Component("text_encoder", "T5EncoderModel", "transformers", role="text"),
    Component("tokenizer", role="tokenizer"),
    Component("scheduler", config="scheduler_config.json", needs=SCHEDULE, role="facts"),
)
COVERED = {"beta_schedule": "scaled_linear", "trained_betas": None, "rescale_betas_zero_snr": True}
"""Of a scheduler's configuration; `scaled_linear` computes no other."""
OFFSET = 2.0
"""What the library's pipelines tell a transformer that embeds an `ofs`."""
PAPER = Preset(("transformer_blocks.18", "transformer_blocks.20"), ("t=250",), interleaved=True)
"""Its t = 749 counts the descending steps of a 1000-step schedule."""


class CogVideoX(LatentVideoFamily):
    """CogVideoX 1.0, without classifier-free guidance. Version 1.5, whose tokens are two latents deep, is refused."""

    name: ClassVar[str] = "cogvideox"
    version: ClassVar[int] = 1
    models: ClassVar[Mapping[str, Checkpoint]] = {
        "cogvideox-2b": Checkpoint("zai-org/CogVideoX-2b", None, 1_909_367_779, APACHE),
        "cogvideox-5b": Checkpoint("zai-org/CogVideoX-5b", None, 5_785_866_979, CUSTOM),
        "cogvideox-5b-i2v": Checkpoint("zai-org/CogVideoX-5b-I2V", None, 5_786_063_587, CUSTOM),
    }
    pipelines: ClassVar[Mapping[str, str]] = {**dict.fromkeys(models, T2V), "cogvideox-5b-i2v": I2V}
    native: ClassVar[Mapping[str, Native]] = dict.fromkeys(models, Native(49, 480, 720))
    paper: ClassVar[Mapping[str, Preset]] = dict.fromkeys(models, PAPER)
    components = COMPONENTS
    default_noise = ("sigma=0.2425", "sigma=0.7071", "sigma=0.9701")
    """Signal to noise 16, 1 and 1/16, as rectified flow has it at sigma = 0.2, 0.5 and 0.8."""
    # float32, as `force_upcast` of the configuration asks. Memory allows it: 9 frames of 480 x 720 in 128 channels are
    # 1.6 GB, and a batch needs a handful of those at a time.
    exact_autoencoder: ClassVar[bool] = True

    def __init__(self, model: str, options: Options | None = None) -> None:
        super().__init__(model, options)
        self._rotary: dict[torch.device, Rotary] = {}

    # --- facts ------------------------------------------------------------------------------

    def check_configs(self, configs: Mapping[str, Mapping[str, Any]], root: Path) -> None:
        """Refuse CogVideoX 1.5, another schedule, and a transformer that does not fit its autoencoder."""
        inputs = self.inputs(configs["vae"]["latent_channels"])
        check_entries(root, "scheduler/scheduler_config.json", configs["scheduler"], COVERED)
        wanted = {"patch_size_t": None, "in_channels": inputs}
        check_entries(root, "transformer/config.json", configs["transformer"], wanted)

    def inputs(self, latent: int) -> int:
        """Channels that the transformer sees, if the autoencoder has `latent`."""
        return 2 * latent if self.pipeline == I2V else latent

    @property
    def conditions(self) -> Sequence[str]:
        """Image-to-video models want an image."""
        return ("first", "last", "none") if self.pipeline == I2V else ()

    @property
    def frames(self) -> int:
        """Frames of a window. Raises `ExtractError` if the network cannot take as many."""
        return super().frames if self._table is None else self._table.frames

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) in pixels. Raises `ExtractError` if the network cannot take the size asked for."""
        return super().size if self._table is None else (self._table.height, self._table.width)

    @property
    def strides(self) -> Strides:
        """4 frames and 8 pixels per latent; 2 x 2 latents per token."""
        vae = self.configs["vae"]
        space = 2 ** (len(vae["block_out_channels"]) - 1)
        return Strides(int(vae["temporal_compression_ratio"]), space, self.configs["transformer"]["patch_size"])

    @property
    def stacks(self) -> Sequence[Stack]:
        """One list of blocks."""
        return [self.stack("transformer_blocks")]

    @cached_property
    def schedule(self) -> VariancePreserving:
        """x_t = sqrt(abar_t) x_0 + sqrt(1 - abar_t) eps; the network is told t."""
        facts = self.configs["scheduler"]
        return scaled_linear(*(facts[key] for key in SCHEDULE))

    def prompt_shapes(self) -> Mapping[str, tuple[int, ...]]:
        """226 text tokens, padding included; the network sees no mask."""
        facts = self.configs["transformer"]
        return {"text": (1, facts["max_text_seq_length"], facts["text_embed_dim"])}

    @cached_property
    def _table(self) -> Native | None:
        """What a learned table of positions is for, if there is one. Raises `ExtractError` if something else is asked.

        The library refuses another size; for another number of frames it would replace the table without a word.
        """
        facts, asked, space = self.configs["transformer"], self.options, self.strides.space
        if not facts.get("use_learned_positional_embeddings"):
            return None
        table = Native(facts["sample_frames"], facts["sample_height"] * space, facts["sample_width"] * space)
        size = asked.size or (table.height, table.width)
        if Native(asked.frames or table.frames, *size) != table:
            raise ExtractError(
                f"windows of {asked.frames or table.frames} frames of {size[0]}x{size[1]}: {self.model} has a learned "
                f"table of positions, for {table.frames} frames of {table.height}x{table.width} and nothing else. "
                "Leave out --frames and --size, or take cogvideox-2b or cogvideox-5b, which compute their positions."
            )
        return table

    # --- networks ---------------------------------------------------------------------------

    def compress(self, networks: Any, clip: Tensor) -> Tensor:
        """scaling_factor times the posterior mean."""
        latents: Tensor = self.configs["vae"]["scaling_factor"] * self._mean(networks, clip)
        return latents

    def condition(self, networks: Any, clip: Tensor, latents: Tensor, image: Tensor | None) -> dict[str, Tensor]:
        """Image to video: the latent of the image, encoded alone, then zeros; without an image zeros throughout.

        The image stands in the first place whichever frame it is, the only place that the network knows.
        """
        import torch

        if self.pipeline != I2V:
            return {}
        channels = torch.zeros_like(latents)
        if image is not None:
            facts = self.configs["vae"]
            # The library's pipeline divides where the configuration says that training forgot to multiply.
            scale = 1 / facts["scaling_factor"] if facts.get("invert_scale_latents") else facts["scaling_factor"]
            channels[:, :, :1] = scale * self._mean(networks, image[None, :, None].to(clip))
        return {"channels": channels}

    def denoise(self, networks: Any, sample: Tensor, level: NoiseLevel, told: Mapping[str, Tensor]) -> None:
        """One call."""
        self.predict(networks, sample, int(level.timestep), told)

    def predict(
        self, networks: Any, sample: Float[Tensor, "1 denoised time y x"], timestep: int, told: Mapping[str, Tensor]
    ) -> Float[Tensor, "1 denoised time y x"]:
        """What the transformer says of noisy latents; it wants (1, time, channel, y, x), the condition appended."""
        import torch

        facts = self.configs["transformer"]
        if "channels" in told:
            sample = torch.cat([sample, told["channels"].to(sample)], dim=1)
        rotary = self.rotary(sample.device) if facts.get("use_rotary_positional_embeddings") else None
        velocity: Tensor = networks["transformer"](
            hidden_states=sample.transpose(1, 2),
            encoder_hidden_states=told["text"],
            timestep=torch.tensor([timestep], device=sample.device),
            ofs=sample.new_full((1,), OFFSET) if facts.get("ofs_embed_dim") else None,
            image_rotary_emb=rotary,
            return_dict=False,
        )[0]
        return velocity.transpose(1, 2)

    def rotary(self, device: torch.device) -> Rotary:
        """(cos, sin) of a window's tokens in float32, computed once, on the device, as the library's pipelines do."""
        if device not in self._rotary:
            self._rotary[device] = self.make_rotary(device)
        return self._rotary[device]

    def make_rotary(self, device: torch.device) -> Rotary:
        """Positions are frames, and rows and columns of the grid stretched to that of the training, uncropped."""
        from diffusers.models.embeddings import get_3d_rotary_pos_embed
        from diffusers.pipelines.cogvideo import pipeline_cogvideox

        facts, patch = self.configs["transformer"], self.strides.patch
        _, time, rows, columns = self.latent_shape
        grid = rows // patch, columns // patch
        crop: Any = pipeline_cogvideox.get_resize_crop_region_for_grid
        region = crop(grid, facts["sample_width"] // patch, facts["sample_height"] // patch)
        cos, sin = get_3d_rotary_pos_embed(facts["attention_head_dim"], region, grid, time, device=device)
        return cos, sin

    def _mean(self, networks: Any, clip: Float[Tensor, "1 3 frame y x"]) -> Float[Tensor, "1 channel time y x"]:
        mean: Tensor = networks["vae"].encode(clip).latent_dist.mode().float()
        return mean

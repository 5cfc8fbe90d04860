"""Families of latent video diffusion transformers: an autoencoder in space and time, and a transformer on its latents.

What they share stands here. A family file states what is its own: which configuration entry is which fact, how a clip
becomes a latent (`compress`), what the network is told besides (`embed`, `condition`), and the call (`denoise`).
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar

from extract.backbones._default_sites import even_blocks
from extract.backbones.base import PAPER, STANDARD, NoiseLevel, Offload, Site
from extract.checkpoints.family import FolderFamily
from extract.checkpoints.folder import Component
from extract.diffusion.facts import Native, Preset, Stack, Strides
from extract.diffusion.noise import FlowMatching, Schedule
from extract.diffusion.windows import Windows, interleaved, latent_per_frame, latents_of
from extract.preprocess import Preprocessing

if TYPE_CHECKING:
    import torch
    from jaxtyping import Float
    from torch import Tensor

    from extract.diffusion.backbone import LatentVideoBackbone

LATENT = "vae.latent"


class LatentVideoFamily(FolderFamily):
    """One architecture of latent video diffusion transformers."""

    kind = "vgm"
    attentions = ("sdpa",)
    compiles = True
    native: ClassVar[Mapping[str, Native]]
    default_noise = ("t=200", "t=500", "t=800")
    paper: ClassVar[Mapping[str, Preset]] = {}
    denoiser: ClassVar[str] = "transformer"
    """Component that is hooked, and moved block by block with --offload."""
    exact_autoencoder: ClassVar[bool] = True
    """Whether the autoencoder runs in float32 whatever the type of the computation."""

    # --- what a family states ---------------------------------------------------------------

    @property
    @abstractmethod
    def strides(self) -> Strides:
        """Of autoencoder and transformer."""

    @property
    def latent_channels(self) -> int:
        """Channels of the autoencoder's latents."""
        return int(self.configs["vae"]["latent_channels"])

    @property
    def denoised_channels(self) -> int:
        """Channels that the transformer denoises: the latents', unless it makes more than a video."""
        return self.latent_channels

    @property
    @abstractmethod
    def stacks(self) -> Sequence[Stack]:
        """All lists of blocks, in execution order."""

    @property
    def schedule(self) -> Schedule:
        """What a noise level means: rectified flow, where the network is told 1000 sigma."""
        return FlowMatching()

    @abstractmethod
    def prompt_shapes(self) -> Mapping[str, tuple[int, ...]]:
        """Shapes of what `embed` returns, for an untrained network, which has no text encoder.

        What is called `..._mask` says which tokens count, and is of type bool.
        """

    # --- what a family computes; `networks` holds the components by name ----------------------

    def embed(self, pipeline: Any, prompt: str, device: torch.device) -> dict[str, Tensor]:
        """Embed a prompt with the library's own pipeline, which holds nothing but text encoders and tokenizers.

        By default one text, padded to the length that `prompt_shapes` states, and its mask where the pipeline gives
        one. A family without a pipeline gets text encoders and tokenizers by name.
        """
        length = self.prompt_shapes()["text"][1]
        found = pipeline.encode_prompt(
            prompt, do_classifier_free_guidance=False, max_sequence_length=length, device=device
        )
        return {name: each for name, each in zip(("text", "text_mask"), found, strict=False) if each is not None}

    @abstractmethod
    def compress(
        self, networks: Any, clip: Float[Tensor, "1 3 frame height width"]
    ) -> Float[Tensor, "1 channel time y x"]:
        """The latent that the transformer was trained on: posterior mean of the autoencoder, normalised.

        Args:
            networks: the components by name.
            clip: frames in [-1, 1], on the device, in the autoencoder's type.
        """

    def condition(
        self,
        networks: Any,
        clip: Float[Tensor, "1 3 frame height width"],
        latents: Float[Tensor, "1 channel time y x"],
        image: Float[Tensor, "3 height width"] | None,
    ) -> dict[str, Tensor]:
        """What the transformer is told of a window besides its noisy latents; the same for all noise levels.

        Args:
            networks: the components by name.
            clip: the window, in [-1, 1].
            latents: of the window, normalised.
            image: the frame that `--condition` chooses, in [-1, 1]; `None` for `none`.
        """
        return {}

    def clean(
        self,
        networks: Any,
        latents: Float[Tensor, "1 channel time y x"],
        told: Mapping[str, Tensor],
        generator: torch.Generator,
    ) -> Float[Tensor, "1 denoised time y x"]:
        """x_0 of all that the transformer denoises of a window: the latents, and what a family adds to them.

        Args:
            networks: the components by name.
            latents: of the window, normalised.
            told: what `embed` and `condition` returned.
            generator: on the CPU, for a family that draws something to come by x_0.
        """
        return latents

    @abstractmethod
    def denoise(
        self,
        networks: Any,
        sample: Float[Tensor, "1 denoised time y x"],
        level: NoiseLevel,
        told: Mapping[str, Tensor],
    ) -> None:
        """Call the transformer once.

        Args:
            networks: the components by name.
            sample: noisy latents, in the type of the computation.
            level: of the noise.
            told: what `embed` and `condition` returned.
        """

    def stack(self, name: str, length: str = "num_layers") -> Stack:
        """The list of blocks `name`, as long as entry `length` of the transformer's configuration says."""
        facts = self.configs[self.denoiser]
        return Stack(name, facts[length], facts["num_attention_heads"] * facts["attention_head_dim"])

    def clean_first(
        self, sample: Float[Tensor, "1 channel time y x"], first: Tensor | None, level: NoiseLevel
    ) -> tuple[Float[Tensor, "1 channel time y x"], Float[Tensor, "1 token"]]:
        """Put a clean latent into the first place and tell its tokens t = 0: the sample, and a timestep per token."""
        import torch

        _, _, time, rows, columns = sample.shape
        patch = self.strides.patch
        timestep = sample.new_full((time, rows // patch * (columns // patch)), level.timestep, dtype=torch.float32)
        if first is not None:
            sample = torch.cat([first.to(sample), sample[:, :, 1:]], dim=2)
            timestep[0] = 0
        return sample, timestep.reshape(1, -1)

    def tokens(self, output: Any) -> Float[Tensor, "1 token channel"]:
        """The tokens of the video among what a block returned, in the order (time, y, x)."""
        tokens: Tensor = output[0] if isinstance(output, tuple) else output
        return tokens

    # --- facts ------------------------------------------------------------------------------

    @property
    def frames(self) -> int:
        """Frames of a window."""
        return self.options.frames or self.native[self.model].frames

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) in pixels. Raises `ExtractError` if the network cannot take the size asked for."""
        native = self.native[self.model]
        size = self.options.size or (native.height, native.width)
        step = self.strides.space * self.strides.patch
        return self.in_multiples(size, step)

    @property
    def latent_shape(self) -> tuple[int, int, int, int]:
        """(channels, time, y, x) of a window's latents."""
        space = self.strides.space
        height, width = self.size
        return self.latent_channels, latents_of(self.frames, self.strides.time), height // space, width // space

    @property
    def presets(self) -> Sequence[str]:
        """`standard`, and `paper` for the models of the paper."""
        return (STANDARD, PAPER) if self.model in self.paper else (STANDARD,)

    @property
    def takes_windows(self) -> bool:
        """Yes: `--frames`."""
        return True

    @property
    def preset(self) -> Preset | None:
        """What the paper's code reads, if that is asked for."""
        return self.paper[self.model] if self.options.preset == PAPER else None

    @property
    def condition_frame(self) -> str | None:
        """Which frame the network is conditioned on: `first`, `last` or `none`; `None` if it takes no image."""
        return self.options.condition or next(iter(self.conditions), None)

    def sites(self) -> Sequence[Site]:
        """The latent, then every block, in execution order."""
        channels, _, rows, columns = self.latent_shape
        grid = rows // self.strides.patch, columns // self.strides.patch
        sites = [Site(LATENT, "latent", channels, (rows, columns), 0, "encode")]
        for stack in self.stacks:
            for k in range(stack.length):
                name = f"{stack.name}.{k}"
                sites.append(Site(name, f"{self.denoiser}.{name}", stack.channels, grid, len(sites)))
        return sites

    def default_sites(self) -> Sequence[str]:
        """The paper's, or four blocks at even distances: at 1/5, 2/5, 3/5 and 4/5 of the depth."""
        if self.preset is not None:
            return self.preset.sites
        blocks = [site.name for site in self.sites() if site.stage == "forward"]
        return [blocks[k] for k in even_blocks(len(blocks))]

    def default_levels(self) -> Sequence[str]:
        """The paper's noise level, or the family's."""
        return self.default_noise if self.preset is None else self.preset.noise

    def preprocessing(self) -> Preprocessing:
        """Frames stretched to the network's size, in [-1, 1], the range of the autoencoder."""
        height, width = self.size
        return Preprocessing(height=height, width=width, mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))

    def settings(self) -> Mapping[str, Any]:
        """Windows, prompt, condition: all that the network is told besides the frames."""
        return {
            "prompt": "",
            "guidance": "none",
            "frames": self.frames,
            "window": "odd and even frames interleaved" if self._interleaved else "one latent per bank frame",
            "condition": self.condition_frame,
            "latent": "posterior mean"
            + (", float32" if self.exact_autoencoder else "")
            + ("" if self.options.untrained is None else ", unit variance"),
        }

    def noise_level(self, text: str) -> NoiseLevel:
        """Parse `t=500` or `sigma=0.5`."""
        return self.schedule.level(text, self.model)

    def windows(self, n_frames: int, bank: Sequence[int]) -> Windows:
        """Which frames every window holds, and where the bank is."""
        plan = interleaved if self._interleaved else latent_per_frame
        return plan(n_frames, bank, self.frames, self.strides.time)

    def window(self, n_frames: int, bank: Sequence[int]) -> tuple[Sequence[int], Sequence[int]]:
        """All windows laid end to end; see `extract.diffusion.windows`."""
        windows = self.windows(n_frames, bank)
        return [frame for window in windows.frames for frame in window], windows.positions

    def spans(self, n_frames: int, bank: Sequence[int]) -> Sequence[tuple[int, int]]:
        """The frames that the latent of every bank frame was made of."""
        return self.windows(n_frames, bank).spans

    @cached_property
    def _interleaved(self) -> bool:
        return self.preset is not None and self.preset.interleaved

    # --- weights ----------------------------------------------------------------------------

    def load_offloaded(self, device: torch.device, dtype: torch.dtype, offload: Offload) -> LatentVideoBackbone:
        """As `load`, with the transformer's blocks in main memory until they are needed."""
        from extract.diffusion.backbone import load

        return load(self, device, dtype, offload)

    def dtype_of(self, part: Component, dtype: torch.dtype) -> torch.dtype:
        """The type of a component's weights for a computation in `dtype`."""
        import torch

        return torch.float32 if self.exact_autoencoder and part.name == "vae" else dtype

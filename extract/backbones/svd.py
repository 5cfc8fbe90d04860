"""Stable Video Diffusion: an image-to-video latent diffusion UNet (Blattmann et al. 2023, arXiv:2311.15127).

The UNet sees 14 (`svd`) or 25 (`svd-xt`) frames at once and keeps one map per frame, so every bank row summarises
its own frame. Noise follows EDM (Karras et al. 2022, arXiv:2206.00364) with sigma_data = 1.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from extract.backbones._svd_sites import image_multiple, last_layers, native_size, svd_sites
from extract.backbones._svd_windows import plan_windows
from extract.backbones.base import Checkpoint, NoiseLevel, Offload, Site
from extract.checkpoints.family import FolderFamily
from extract.checkpoints.folder import Component
from extract.diffusion.noise import NUMBER, short
from extract.errors import ExtractError, WeightsError
from extract.preprocess import Preprocessing

if TYPE_CHECKING:
    import torch

    from extract.backbones._svd_backbone import SVDBackbone

COMPONENTS = (
    Component(
        "unet",
        "UNetSpatioTemporalConditionModel",
        needs=(
            "block_out_channels",
            "down_block_types",
            "up_block_types",
            "layers_per_block",
            "transformer_layers_per_block",
            "num_frames",
        ),
    ),
    Component(
        "vae",
        "AutoencoderKLTemporalDecoder",
        needs=("block_out_channels", "latent_channels", "scaling_factor", "force_upcast"),
    ),
    Component("image_encoder", "CLIPVisionModelWithProjection", "transformers", needs=("image_size",)),
    Component("scheduler", config="scheduler_config.json", needs=("sigma_min", "sigma_max"), role="facts"),
    Component("feature_extractor", config="preprocessor_config.json", needs=("image_mean", "image_std"), role="facts"),
)
CONDITIONS = {
    "first": "first bank frame: noisy VAE latent and CLIP embedding",
    "last": "last bank frame: noisy VAE latent and CLIP embedding",
    "none": "none: zeros",
}
LICENCE = "Stability AI non-commercial research community licence (gated)"
PARAMETERS = 2_254_442_729  # UNet 1,524,623,082 + image encoder 632,076,800 + VAE 97,742,847


@dataclass(frozen=True)
class Conditioning:
    """What the UNet is told besides image and noise; the values that the authors sample with.

    Attributes:
        fps: frames per second; the UNet gets fps - 1, as in its training.
        motion_bucket_id: amount of motion, 0 to 255.
        noise_aug_strength: standard deviation of the noise on the condition image, in units of [-1, 1].
    """

    fps: int = 7
    motion_bucket_id: int = 127
    noise_aug_strength: float = 0.02


class SVD(FolderFamily):
    """Stable Video Diffusion, image to video, without classifier-free guidance."""

    name: ClassVar[str] = "svd"
    version: ClassVar[int] = 1
    kind = "vgm"
    models: ClassVar[Mapping[str, Checkpoint]] = {
        "svd": Checkpoint("stabilityai/stable-video-diffusion-img2vid", None, PARAMETERS, LICENCE),
        "svd-xt": Checkpoint("stabilityai/stable-video-diffusion-img2vid-xt", None, PARAMETERS, LICENCE),
    }
    pipelines: ClassVar[Mapping[str, str]] = dict.fromkeys(models, "StableVideoDiffusionPipeline")
    components = COMPONENTS
    attentions = ("sdpa",)
    compiles = True
    default_noise = ("sigma=0.1", "sigma=0.4", "sigma=1.5", "sigma=6", "sigma=25")
    conditioning: ClassVar[Conditioning] = Conditioning()

    def check_configs(self, configs: Mapping[str, Mapping[str, Any]], root: Path) -> None:
        """A video model sees two frames or more."""
        if int(configs["unet"]["num_frames"]) < 2:
            raise WeightsError(f"checkpoint {root}: unet/config.json has num_frames below 2: no video model.")

    @property
    def conditions(self) -> Sequence[str]:
        """The first bank frame, the last, or no image: both conditions are then zero, as without guidance."""
        return ("first", "last", "none")

    @property
    def condition_frame(self) -> str:
        """Which bank frame the UNet is conditioned on: `first`, `last`, or `none`."""
        return self.options.condition or "first"

    @property
    def num_frames(self) -> int:
        """Frames the UNet was trained on, and sees in every window."""
        return int(self.configs["unet"]["num_frames"])

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) in pixels. Raises `ExtractError` if the network cannot take the size asked for."""
        size = self.options.size or native_size(self.configs["unet"], self.configs["vae"])
        step = image_multiple(self.configs["unet"], self.configs["vae"])
        return self.in_multiples(size, step)

    def sites(self) -> Sequence[Site]:
        """The VAE latent, then every layer and block of the UNet, in execution order."""
        return svd_sites(self.configs["unet"], self.configs["vae"], self.size)

    def default_sites(self) -> Sequence[str]:
        """The last layer of every UNet block before it changes the resolution, and the middle block."""
        return last_layers(self.configs["unet"])

    def preprocessing(self) -> Preprocessing:
        """Frames in [-1, 1], the range of the VAE."""
        height, width = self.size
        return Preprocessing(height=height, width=width, mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))

    def settings(self) -> Mapping[str, Any]:
        """Conditioning, window rule and where the condition image comes from."""
        return {
            **asdict(self.conditioning),
            "num_frames": self.num_frames,
            "window": "first bank frame, then every W-th bank frame; filled halfway in the largest gap, then forward",
            "condition": CONDITIONS[self.condition_frame],
            "guidance": "none",
            **({} if self.options.untrained is None else {"latent": "unit variance"}),
        }

    def noise_level(self, text: str) -> NoiseLevel:
        """Parse `sigma=1.5`: x_t = x_0 + sigma * eps, with x_0 the scaled VAE latent.

        The latent is scaled to unit variance (sigma_data = 1), so log-SNR = ln(1 / sigma^2) = -2 ln sigma. The network
        is told c_noise = ln(sigma) / 4 (Karras et al. 2022, table 1).
        """
        low, high = float(self.configs["scheduler"]["sigma_min"]), float(self.configs["scheduler"]["sigma_max"])
        remedy = f"Name the noise by its standard deviation, {low:g} to {high:g}: --noise sigma=1.5"
        if re.match(r"t\s*=?\s*[-+.\d]", text):
            raise ExtractError(
                f"noise level {text!r}: {self.model} is an EDM model, trained on a continuum of sigmas; "
                f"it has no integer timesteps. {remedy}"
            )
        match = re.fullmatch(rf"sigma=?{NUMBER}", text)
        if match is None:
            raise ExtractError(f"noise level {text!r}: not understood. {remedy}")
        sigma = float(match[1])
        if not low <= sigma <= high:
            raise ExtractError(f"noise level {text!r}: outside the range {self.model} was trained on. {remedy}")
        return NoiseLevel(f"sigma{short(sigma)}", sigma, log_snr=-2 * math.log(sigma), timestep=0.25 * math.log(sigma))

    def window(self, n_frames: int, bank: Sequence[int]) -> tuple[Sequence[int], Sequence[int]]:
        """One or several windows of `num_frames` frames laid end to end; see `plan_windows`."""
        windows, positions = plan_windows(n_frames, bank, self.num_frames)
        return [frame for window in windows for frame in window], positions

    # --- weights ----------------------------------------------------------------------------

    def dtype_of(self, part: Component, dtype: torch.dtype) -> torch.dtype:
        """The VAE stays in float32 where float16 would overflow (`force_upcast`)."""
        import torch

        single = dtype == torch.float16 and part.name == "vae" and self.configs["vae"]["force_upcast"]
        return torch.float32 if single else dtype

    def load_offloaded(self, device: torch.device, dtype: torch.dtype, offload: Offload) -> SVDBackbone:
        """As `load`, with the blocks of the UNet in main memory until they are needed."""
        from extract.backbones._svd_backbone import load

        return load(self, device, dtype, offload)

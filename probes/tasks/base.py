"""What a task is: targets, a loss, and predictions in the form its protocol scores."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, NamedTuple

import numpy as np
from jaxtyping import Float, Integer
from numpy.typing import NDArray
from torch import Tensor

from probes.heads.base import Layout
from probes.labels import ClipLabels, LabelSpace, PixelPool
from probes.sampling import GridMap

Arrays = Mapping[str, NDArray[Any]]
Tensors = Mapping[str, Tensor]


class Wanted(NamedTuple):
    """Which targets.

    Attributes:
        task: its name.
        layout: what the head speaks of, and hence the form in which the task is asked.
        shuffled: whether a training clip gets those of another scene.
    """

    task: str
    layout: Layout
    shuffled: bool = False


class Task(ABC):
    """Ties targets to a training loss and to what a protocol scores.

    Args:
        space: classes and image size of the targets.

    Attributes:
        name: the task's name, also that of its protocol.
        fields: what training keeps of a clip (see `PixelPool`).
        layout: what a head predicts for.
        constant: arrays of the target that are the same for all windows of all scenes, and have no such axis.
        dense_size: rows and columns that dense read-outs answer for; `None` = as many as they like.
        embeddings: of the class names (class, channel), for heads that can use them.
        framed: whether evaluation goes frame by frame over the whole bank (True) or by windows of views (False).
        trained: whether a head is trained for it. If not, `predict` is given the features of the cells, and `sample`,
            `prior` and `loss` must not be called.
        untrained_head: what it then has for a head: `identity`, the standardised features; or `raw`, those as stored.
    """

    name: ClassVar[str]
    fields: ClassVar[frozenset[str]]
    layout: ClassVar[Layout]
    framed: ClassVar[bool] = False
    constant: ClassVar[frozenset[str]] = frozenset()
    dense_size: ClassVar[tuple[int, int] | None] = None
    embeddings: Tensor | None = None
    trained: ClassVar[bool] = True
    untrained_head: ClassVar[str] = "identity"

    def __init__(self, space: LabelSpace) -> None:
        self.space = space

    def wanted(self, *, shuffled: bool = False) -> Wanted:
        """Which targets a probe of this task is trained with."""
        return Wanted(self.name, self.layout, shuffled)

    @property
    def classes(self) -> list[str]:
        """Class names for the protocol; empty for tasks without classes."""
        return []

    @property
    @abstractmethod
    def outputs(self) -> int:
        """Numbers that a head gives per cell, view or pair."""

    @abstractmethod
    def sample(
        self, pool: PixelPool, frames: Integer[np.ndarray, " view"], pixels: int, rng: np.random.Generator
    ) -> dict[str, NDArray[Any]]:
        """Training targets of one clip seen in `frames` (positions in the bank), at `pixels` pixels of each view.

        Tasks with cells say where these pixels are under `xy` (view, sample, 2), normalised image coordinates.
        """

    @abstractmethod
    def prior(self, targets: Tensors) -> Float[Tensor, " output"]:
        """The best outputs that ignore the features, from samples of all training clips (leading axis `clip`)."""

    @abstractmethod
    def loss(self, outputs: Tensor, targets: Tensors) -> Float[Tensor, ""]:
        """Loss of a batch (leading axis `clip`). Outputs of cells come read at `xy`: (clip, view, sample, output)."""

    def share(self, targets: dict[str, Tensor]) -> dict[str, Tensor]:
        """Add what all probes of the task need of a batch's targets, computed once."""
        return targets

    @abstractmethod
    def target(self, labels: ClipLabels, windows: Integer[np.ndarray, "window view"]) -> dict[str, NDArray[Any]]:
        """Targets of one clip as the protocol wants them."""

    def pad(self, arrays: Arrays, windows: int) -> Arrays:
        """Bring one scene to `windows` windows, without effect on any metric, if its statistics keep that axis."""
        return arrays

    @abstractmethod
    def predict(self, outputs: Tensor, grid_map: GridMap) -> dict[str, NDArray[Any]]:
        """Predictions of one clip as the protocol wants them, from a head's outputs.

        `outputs`: (window, view, y, x, output), (window, view, output) or (window, pair, output); for framed tasks
        there is one window, which holds all bank frames.
        """

    def predict_seeing(
        self, outputs: Tensor, grid_map: GridMap, labels: ClipLabels, windows: Integer[np.ndarray, "window view"]
    ) -> dict[str, NDArray[Any]]:
        """The same, where the rules leave out what the targets do not know. Most tasks do not look at `labels`."""
        return self.predict(outputs, grid_map)


def at_pixels(space: LabelSpace, xy: Float[np.ndarray, "*batch 2"]) -> NDArray[np.float32]:
    """Normalise image positions from pixels to [0, 1]."""
    return (xy / (space.width, space.height)).astype(np.float32)


def stack_windows(values: NDArray[Any], windows: Integer[np.ndarray, "window view"]) -> NDArray[Any]:
    """(frame, …) -> (window, view, …)."""
    return np.asarray(values[windows.reshape(-1)]).reshape(*windows.shape, *values.shape[1:])


def join(parts: Sequence[Arrays], constant: frozenset[str] = frozenset()) -> dict[str, NDArray[Any]]:
    """Concatenate the clips of one scene along their first axis; what is constant is that of the first."""
    return {
        name: parts[0][name] if name in constant else np.concatenate([part[name] for part in parts])
        for name in parts[0]
    }

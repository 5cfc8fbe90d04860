"""What a family of latent video transformers states as data."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Native:
    """What a model was trained on: the length of its windows, and the size of their frames in pixels."""

    frames: int
    height: int
    width: int


@dataclass(frozen=True)
class Strides:
    """Frames and pixels per latent, and latents per token along each side."""

    time: int
    space: int
    patch: int


@dataclass(frozen=True)
class Preset:
    """What the published code of arXiv 2605.28132 reads of a model.

    Attributes:
        sites: of its two layer choices, for geometry and for semantics.
        noise: as a user names it; the code counts it as an index into a schedule.
        interleaved: whether it splits a clip into odd and even frames, so that two bank frames can share a latent.
    """

    sites: tuple[str, ...]
    noise: tuple[str, ...]
    interleaved: bool = False


@dataclass(frozen=True)
class Stack:
    """A list of transformer blocks.

    Attributes:
        name: of the list in the network.
        length: number of blocks.
        channels: of what they return for a token of the video.
    """

    name: str
    length: int
    channels: int

"""The flags of `python -m extract`, which are also the keys of an extraction in pipelines.yaml."""

from __future__ import annotations

from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field

from extract.backbones.base import STANDARD, Offload


class Flags(BaseModel):
    """One backbone over a data set. See `python -m extract --help`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    model: str
    sites: tuple[str, ...] = ()
    noise: tuple[str, ...] = ()
    preset: str = STANDARD
    draws: int = Field(default=1, ge=1)
    condition: str | None = None
    frames: int | None = Field(default=None, ge=1)
    layout: str | None = None
    prompt: str | None = None
    attention: str | None = None
    grid: tuple[int, int] | None = None
    checkpoint: str | None = None
    revision: str | None = None
    size: tuple[int, int] | None = None
    untrained: bool = False
    split: str | None = None
    limit: int | None = Field(default=None, ge=1)
    skip_damaged: bool = False
    seed: int = 0
    device: str = "auto"
    dtype: str = "float32"
    store_dtype: str = "float16"
    offload: Offload = "none"
    compile: bool = False
    batch_clips: int = Field(default=1, ge=1)
    out: str | None = None
    cluster: str | None = None


class Arguments(Flags):
    """One `python -m extract`, parsed."""

    dataset: str
    root: Path | None = None
    clip_frames: int | None = Field(default=None, ge=1)
    clip_window: str | None = None
    bank: str | None = None
    profile: bool = False
    profile_to: Path | None = None
    rank: int | None = Field(default=None, ge=0)
    world: int | None = Field(default=None, ge=1)

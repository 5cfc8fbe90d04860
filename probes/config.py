"""What a user may ask of a training run. Everything here that can change a number is kept in `run.json`."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

LEARNING_RATE = 0.01


class TrainConfig(BaseModel):
    """How probes are trained.

    Attributes:
        tasks: what to probe for, in the order of tables.
        taps: arrays of the feature store.
        head: kind of head.
        learning_rates: one probe per task, tap and learning rate; the best is chosen on val.
        weight_decay: of AdamW, on weights and not on biases.
        epochs: how often each training clip is seen.
        batch_clips: clips per step.
        views: random bank frames of a clip per sample, and views of an evaluation window.
        pixels: pixels per clip and sample at which losses of dense tasks are taken.
        seed: of initial weights, views and pixels.
        limit: at most this many clips of each split; for trying things out.
        shuffle_labels: control: every training clip has the targets of another one. Val and test keep their own.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    tasks: tuple[str, ...]
    taps: tuple[str, ...]
    head: str = "linear"
    learning_rates: tuple[Annotated[float, Field(gt=0)], ...] = (LEARNING_RATE,)
    weight_decay: Annotated[float, Field(ge=0)] = 0.01
    epochs: Annotated[int, Field(ge=1)] = 40
    batch_clips: Annotated[int, Field(ge=1)] = 4
    views: Annotated[int, Field(ge=2)] = 4
    pixels: Annotated[int, Field(ge=8)] = 512
    seed: int = 0
    limit: Annotated[int, Field(ge=1)] | None = None
    shuffle_labels: bool = False


class TapSpec(BaseModel):
    """One tap, as a probe must know it: where it was read, its channels, and what part of the image its grid spans."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    site: str
    depth: int
    noise: str | None
    channels: int
    grid_map: tuple[float, float, float, float]


class ProbeSpec(BaseModel):
    """One probe: what it predicts from where, and how it is trained."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    task: str
    tap: str
    head: str
    learning_rate: float
    weight_decay: float
    seed: int

    @property
    def id(self) -> str:
        """Unique and stable: `depth/blocks.20@t502/linear/lr0.01/seed0`. The initial weights are seeded by it."""
        return f"{self.task}/{self.tap}/{self.head}/lr{self.learning_rate:g}/seed{self.seed}"


def probes_of(config: TrainConfig) -> list[ProbeSpec]:
    """All probes that a configuration asks for, by task, then tap, then learning rate."""
    return [
        ProbeSpec(
            task=task,
            tap=tap,
            head=config.head,
            learning_rate=rate,
            weight_decay=config.weight_decay,
            seed=config.seed,
        )
        for task in config.tasks
        for tap in config.taps
        for rate in config.learning_rates
    ]

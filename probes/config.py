"""What a user may ask of a training run. Everything here that can change a number is kept in `run.json`."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

LEARNING_RATES = (0.001, 0.01)
WEIGHT_DECAYS = (0.01, 1.0)
VALIDATIONS = 10
"""How often in a run the loss is taken on val, and with that weights are kept."""

Rate = Annotated[float, Field(gt=0)]
Decay = Annotated[float, Field(ge=0)]


class TrainConfig(BaseModel):
    """How probes are trained.

    Attributes:
        tasks: what to probe for, in the order of tables.
        taps: arrays of the feature store.
        heads: kinds of heads; each answers the tasks that it can.
        width, depth: of those heads that can be had in several sizes; `None` = as usual for the task.
        protocol: whose rules: `standard`, or `paper`, those of arXiv 2605.28132, flaws included. Its tasks, losses and
            views are the paper's; its train split is train and val together, and weights are chosen on test, which it
            then reports. `probe3d` trains as `standard` does, and scores by the rules of arXiv 2404.08636. See
            `docs/probes.md`.
        joint: tasks of one tap share the trunk of their heads, where these have one, and learn together.
        class_embeddings: digest of the embeddings of class names that a head was given.
        learning_rates, weight_decays: one probe per task, head, tap, learning rate and weight decay; the best is chosen
            on val. Of AdamW; no weight decay on biases and on what scales channels.
        warmup: share of the steps in which the learning rate rises.
        epochs: how often each training clip is seen.
        batch_clips: clips per step.
        views: random bank frames of a clip per sample, and views of an evaluation window.
        pixels: pixels per clip and sample at which losses of dense tasks are taken.
        seeds: of initial weights and dropout, one probe each; the first is also that of views, pixels and order.
        keep: which weights: `best`, those with the least loss on val; or `last`.
        patience: validations without a smaller loss on val after which a probe is trained no more; `None` = never.
        limit: at most this many clips of each split; for trying things out.
        control: beside every trained probe, one whose training clips have the targets of another scene. Val and test
            keep their own.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    tasks: tuple[str, ...]
    taps: tuple[str, ...]
    heads: Annotated[tuple[str, ...], Field(min_length=1)] = ("linear",)
    width: Annotated[int, Field(ge=16)] | None = None
    depth: Annotated[int, Field(ge=0)] | None = None
    protocol: Literal["standard", "paper", "probe3d"] = "standard"
    joint: bool = False
    class_embeddings: str | None = None
    learning_rates: Annotated[tuple[Rate, ...], Field(min_length=1)] = LEARNING_RATES
    weight_decays: Annotated[tuple[Decay, ...], Field(min_length=1)] = WEIGHT_DECAYS
    warmup: Annotated[float, Field(ge=0, lt=1)] = 0.05
    epochs: Annotated[int, Field(ge=1)] = 40
    batch_clips: Annotated[int, Field(ge=1)] = 4
    views: Annotated[int, Field(ge=2)] = 4
    pixels: Annotated[int, Field(ge=8)] = 512
    seeds: Annotated[tuple[int, ...], Field(min_length=1)] = (0,)
    keep: Literal["best", "last"] = "best"
    patience: Annotated[int, Field(ge=1)] | None = None
    limit: Annotated[int, Field(ge=1)] | None = None
    control: bool = False

    @property
    def seed(self) -> int:
        """Seed of everything that probes share: the order of clips, views and pixels."""
        return self.seeds[0]


Asked = tuple[str, str]
"""A task, and the head that it is asked of."""


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
    """One probe: what it predicts from where, and how it is trained.

    `shuffled` makes a control of it: its training clips have the targets of another scene, and all else is as for its
    twin, initial weights and dropout too.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    task: str
    tap: str
    head: str
    learning_rate: float
    weight_decay: float
    seed: int
    width: int | None = None
    depth: int | None = None
    joint: bool = False
    shuffled: bool = False

    @property
    def asked(self) -> Asked:
        """Task and head, which together say in what form the task is asked; see `probes.tasks.tasks_of`."""
        return self.task, self.head

    @property
    def label(self) -> str:
        """The head with its size, if that is not the usual one: `alternating-w256-d0`."""
        sizes = (("w", self.width), ("d", self.depth))
        return "-".join([self.head, *(f"{letter}{size}" for letter, size in sizes if size is not None)])

    @property
    def id(self) -> str:
        """Unique and stable: `depth/blocks.20@t502/linear/lr0.01/wd0.01/seed0`; `…/shuffled` for a control."""
        return f"{self.task}/{self._trained}"

    @property
    def unit(self) -> str:
        """Equal for probes that share a trunk, and that can be trained and judged together only."""
        return f"joint/{self._trained}" if self.joint else self.id

    @property
    def _trained(self) -> str:
        trained = f"lr{self.learning_rate:g}/wd{self.weight_decay:g}/seed{self.seed}"
        return f"{self.tap}/{self.label}/{trained}{'/shuffled' * self.shuffled}"

    @property
    def start(self) -> tuple[str, str, str, int]:
        """What initial weights and dropout are seeded by: probes that differ in how they are trained start alike.

        A control starts as its twin does, so that the labels are all that differs.
        """
        return self.task, self.tap, self.label, self.seed


def probes_of(config: TrainConfig) -> list[ProbeSpec]:
    """All probes that a configuration asks for, by task, head, tap, learning rate, weight decay, seed, control.

    A task that is solved without training gets one probe per tap, with the features themselves for a head.

    Raises:
        ProbesError: a task that no head answers, or a head that answers no task.
    """
    from probes.heads import JOINT, SIZED
    from probes.pairs import heads_of
    from probes.tasks import untrained_head

    probes = []
    for task, heads in heads_of(config.tasks, config.heads, config.protocol).items():
        trained = bool(heads)
        for head in heads or [untrained_head(task, config.protocol)]:
            size = {name: getattr(config, name) if head in sized else None for name, sized in SIZED.items()}
            probes += [
                ProbeSpec(
                    task=task,
                    tap=tap,
                    head=head,
                    learning_rate=rate,
                    weight_decay=decay,
                    seed=seed,
                    joint=config.joint and head in JOINT,
                    shuffled=shuffled,
                    **size,
                )
                for tap in config.taps
                for rate in (config.learning_rates if trained else (0.0,))
                for decay in (config.weight_decays if trained else (0.0,))
                for seed in (config.seeds if trained else config.seeds[:1])
                for shuffled in ((False, True) if config.control and trained else (False,))
            ]
    return probes

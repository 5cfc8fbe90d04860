"""What a pipeline is made of. The keys of a step are flags of the command that it stands for."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from extract.arguments import Flags
from extract.datasets.sampling import Window


class Strict(BaseModel):
    """An unknown key is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class DatasetStep(Strict):
    """Which data: flags of `python -m extract`. `root` is where it is, if not where its environment variable points."""

    name: str
    root: Path | None = None
    clip_frames: int | None = Field(default=None, ge=1)
    clip_window: Window | None = None
    bank: Literal["paper"] | int | None = None

    @property
    def store(self) -> str:
        """Name of its stores: a folder of recordings may have one of its own. Raises `DataError` if that is damaged."""
        from extract.registry import dataset_classes

        known = dataset_classes().get(self.name)
        return known.name_in(self.root) if known else self.name


class ExtractStep(Flags):
    """One backbone over the data set: the flags of `python -m extract`."""

    out: str | None = Field(default=None, pattern=r"^[\w.-]+$")

    @property
    def store(self) -> str:
        """Name of the store that the step fills."""
        return self.out or (f"{self.model}-untrained" if self.untrained else self.model)

    @property
    def features(self) -> list[str]:
        """The flags of `python -m probes.train` that name it."""
        return ["--features", f"store/{self.store}"]


class FuseStep(Strict):
    """Stores that are probed as one: flags of `python -m probes.train`."""

    stores: str = Field(alias="features", pattern=r"^[\w.-]+(\+[\w.-]+)+$")
    fusion: Literal["lnconcat", "concat"]
    taps: tuple[str, ...] = ()

    @property
    def store(self) -> str:
        """Name of what is probed."""
        return f"{self.stores}-{self.fusion}"

    @property
    def features(self) -> list[str]:
        """The flags of `python -m probes.train` that name it."""
        flags = ["--features", "store/" + self.stores.replace("+", "+store/"), "--fusion", self.fusion]
        return flags + (["--taps", ",".join(self.taps)] if self.taps else [])


class ProbeStep(Strict):
    """The probes trained on every store and every fusion of the pipeline: the flags of `python -m probes.train`."""

    tasks: tuple[str, ...] = ("all",)
    heads: tuple[str, ...] = ("linear",)
    width: int | None = None
    depth: int | None = None
    protocol: Literal["standard", "paper", "probe3d"] = "standard"
    joint: bool = False
    learning_rates: tuple[float, ...] = ()
    weight_decays: tuple[float, ...] = ()
    seeds: tuple[int, ...] = ()
    warmup: float | None = None
    epochs: int | None = Field(default=None, ge=1)
    batch_clips: int | None = None
    views: int | None = None
    pixels: int | None = None
    keep: Literal["best", "last"] | None = None
    patience: int | None = None
    control: bool = False

    @property
    def flags(self) -> list[str]:
        """Flags of `python -m probes.train` for all that is not as usual; lists repeat theirs."""
        flags = [part for task in self.tasks for part in ("--task", task)]
        for field, info in type(self).model_fields.items():
            value = getattr(self, field)
            if field == "tasks" or value == info.default:
                continue
            flag = "--" + field.replace("_", "-")
            if value is True:
                flags.append(flag)
            elif isinstance(value, tuple):
                flags += [part for each in value for part in (flag.removesuffix("s"), str(each))]
            else:
                flags += [flag, str(value)]
        return flags


class Pipeline(Strict):
    """Data set, extractions, fusions of these, probes, report."""

    about: str
    dataset: DatasetStep
    extract: tuple[ExtractStep, ...] = Field(min_length=1)
    fuse: tuple[FuseStep, ...] = ()
    probes: ProbeStep = Field(default_factory=lambda: ProbeStep())
    report: str = "report"

    @property
    def probed(self) -> tuple[ExtractStep | FuseStep, ...]:
        """What is probed, in this order."""
        return *self.extract, *self.fuse

    @model_validator(mode="after")
    def _one_run_for_each(self) -> Self:
        names = [step.store for step in self.probed]
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise ValueError(
                f"{', '.join(twice)} would be made twice, in one place. Put their sites or taps into one step, or give "
                "an extraction a name of its own (out)"
            )
        return self

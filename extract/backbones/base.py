"""What a backbone is: facts that need no weights (`Family`), and a loaded model (`Backbone`).

A family is one file. It states sites, preprocessing and noise levels as data, so that
`python -m extract sites MODEL` answers without importing torch, and it holds the two calls the
engine makes once per clip (`encode`) and once per noise level (`forward`).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from extract.backbones._options import check_options
from extract.errors import ExtractError, UnknownNameError
from store.suggest import did_you_mean

if TYPE_CHECKING:
    import torch
    from jaxtyping import Float, UInt8
    from torch import Tensor, nn

    from extract.preprocess import Preprocessing

Kind = Literal["vgm", "vlm", "encoder", "control"]
Offload = Literal["none", "group", "sequential"]
STANDARD, PAPER = "standard", "paper"
WEIGHTS_AND_SIZE = frozenset({"checkpoint", "revision", "size", "untrained"})


@dataclass(frozen=True)
class Checkpoint:
    """Where the weights of one model name come from.

    Attributes:
        id: hub repository, Python package, or the family's own name for weightless controls.
        revision: hub revision; `None` means the default branch.
        parameters: number of parameters, where published and checked.
        licence: licence of the weights.
    """

    id: str
    revision: str | None = None
    parameters: int | None = None
    licence: str = "unknown"


@dataclass(frozen=True)
class Site:
    """A place in a backbone whose output can be read.

    Attributes:
        name: the site's name in taps and stores (`up_blocks.1.attentions.2`).
        module: dotted path below `Backbone.module` of the module whose output is read.
        channels: number of channels of the grid.
        grid: (rows, columns) of the grid at the family's preprocessing size.
        depth: position in execution order, counted from 0.
        stage: `encode` sites see no noise and are read once per clip, `forward` sites once per noise level.
    """

    name: str
    module: str
    channels: int
    grid: tuple[int, int]
    depth: int
    stage: Literal["encode", "forward"] = "forward"


@dataclass(frozen=True)
class NoiseLevel:
    """How noisy the input of a diffusion backbone is: x_t = alpha * x_0 + sigma_vp * eps, up to scale.

    Attributes:
        name: as it stands in a tap after the `@`: `t502`, `sigma15.6`.
        sigma: noise standard deviation in the scheduler's own parametrisation.
        log_snr: ln(signal variance / noise variance).
        timestep: what the network is told, in the scheduler's own unit.
    """

    name: str
    sigma: float
    log_snr: float
    timestep: float


@dataclass(frozen=True)
class Weights:
    """What was loaded, as it enters the recipe. `digest` is the xxh3_128 of the weight files."""

    id: str
    revision: str | None
    digest: str


@dataclass(frozen=True)
class Options:
    """What a user may ask of a family. All of it enters the recipe.

    Attributes:
        checkpoint: local directory or hub id that replaces the model's published checkpoint.
        revision: hub revision.
        size: (height, width) that replaces the family's preprocessing size.
        untrained: seed of random weights, or `None` for the trained ones.
        frames: length of the windows that a video network sees, instead of the family's.
        condition: which frame an image-to-video network is conditioned on: `first`, `last` or `none`.
        preset: `paper` repeats the published code of arXiv 2605.28132, flaws included; `standard` mends them.
        attention: how attention is computed (`sdpa`, `flash_attention_2`), instead of the family's default.
        layout: how a language model is shown the frames: as `images`, or as one `video`.
        prompt: what a language model reads before the frames.
        compiled: whether blocks are compiled, which changes last bits.
        batch_clips: how many clips share a forward, which changes last bits.
    """

    checkpoint: str | None = None
    revision: str | None = None
    size: tuple[int, int] | None = None
    untrained: int | None = None
    frames: int | None = None
    condition: str | None = None
    preset: str = STANDARD
    attention: str | None = None
    layout: str | None = None
    prompt: str | None = None
    compiled: bool = False
    batch_clips: int = 1


@dataclass
class State:
    """What `encode` leaves behind for `forward` and `grid`. Families subclass or fill `values`.

    Attributes:
        bank: positions of the bank frames within the frames that were given to `encode`.
        rows: of the bank that `grid` will give, if this is a part of a clip; `None` = all, in order.
    """

    bank: Sequence[int]
    values: dict[str, Any] = field(default_factory=dict)
    rows: Sequence[int] | None = None


class Family(ABC):
    """One architecture: facts without weights, and the way to load it."""

    name: ClassVar[str]
    version: ClassVar[int]
    """Raise it when a change of the adapter changes a feature: it is part of the recipe."""
    kind: ClassVar[Kind]
    models: ClassVar[Mapping[str, Checkpoint]]
    default_noise: ClassVar[tuple[str, ...]] = ()
    takes: ClassVar[frozenset[str]] = frozenset()
    """Which of `checkpoint`, `revision`, `size` and `untrained` the family heeds. The others are refused."""
    attentions: ClassVar[tuple[str, ...]] = ()
    """Ways to compute attention that `load` can choose, its default first; none for a network without attention."""
    compiles: ClassVar[bool] = False
    """Whether its blocks have been compiled one by one and were found to give the same features."""

    def __init__(self, model: str, options: Options | None = None) -> None:
        if model not in self.models:
            raise UnknownNameError(did_you_mean("model", model, self.models))
        self.model = model
        self.options = options or Options()
        self.published = self.models[model]
        check_options(self)

    # --- facts, without weights -------------------------------------------------------------

    @abstractmethod
    def sites(self) -> Sequence[Site]:
        """All sites, in execution order."""

    @abstractmethod
    def preprocessing(self) -> Preprocessing:
        """How frames become the network's input. Part of the recipe."""

    def default_sites(self) -> Sequence[str]:
        """The sites read when the user names none."""
        return [site.name for site in self.sites()]

    def settings(self) -> Mapping[str, Any]:
        """Further facts that change numbers (conditioning frame, fps, prompt). JSON values; part of the recipe."""
        return {}

    @property
    def attention(self) -> str | None:
        """How `load` has attention computed; `None` for a network without attention. Part of the recipe."""
        return self.options.attention or next(iter(self.attentions), None)

    @property
    def layouts(self) -> Sequence[str]:
        """Values of `Options.layout` that this model takes, its default first; none if it has no language model."""
        return ()

    @property
    def conditions(self) -> Sequence[str]:
        """Values of `Options.condition` that this model takes, its default first; none if it sees no extra image."""
        return ()

    @property
    def presets(self) -> Sequence[str]:
        """Values of `Options.preset` that this model takes."""
        return (STANDARD,)

    @property
    def takes_windows(self) -> bool:
        """Whether `Options.frames` means something."""
        return False

    @property
    def offloads(self) -> bool:
        """Whether `load_offloaded` works."""
        return False

    @property
    def batches(self) -> bool:
        """Whether frames do not see each other, so that several clips can share a forward: see `Backbone.join`."""
        return False

    def default_levels(self) -> Sequence[str]:
        """The noise levels read when the user names none."""
        return self.default_noise

    def noise_level(self, text: str) -> NoiseLevel:
        """Parse `t=502` or `sigma=1.5`. Raises `ExtractError` for a family without noise."""
        raise ExtractError(
            f"noise level {text!r}: {self.model} is no diffusion model and takes no noise. Leave out --noise."
        )

    def window(self, n_frames: int, bank: Sequence[int]) -> tuple[Sequence[int], Sequence[int]]:
        """The clip frames the network sees, and where the bank frames are among them.

        Per-frame networks see just the bank. Returns (frame numbers in the clip, positions of the bank frames).
        """
        return list(bank), list(range(len(bank)))

    def spans(self, n_frames: int, bank: Sequence[int]) -> Sequence[tuple[int, int]]:
        """First and last clip frame that each bank row's features summarise."""
        return [(frame, frame) for frame in bank]

    # --- weights ----------------------------------------------------------------------------

    @abstractmethod
    def weights(self) -> Weights:
        """Identity of the weights that `load` would load. Raises `WeightsError` with what to do if they are missing."""

    @abstractmethod
    def load(self, device: torch.device, dtype: torch.dtype) -> Backbone:
        """The network in evaluation mode on `device`; random weights if `options.untrained` is set."""

    def load_offloaded(self, device: torch.device, dtype: torch.dtype, offload: Offload) -> Backbone:
        """As `load`, but the weights stay in main memory and visit `device` only to be used. Changes no number.

        Args:
            offload: `group` moves one block at a time, `sequential` one layer at a time.
        """
        raise NotImplementedError(f"{type(self).__name__}.offloads says that it does not.")

    def site(self, name: str) -> Site:
        """The site called `name`. Raises `UnknownNameError` with the nearest names."""
        sites = {site.name: site for site in self.sites()}
        if name not in sites:
            raise UnknownNameError(did_you_mean(f"site of {self.model}", name, sites))
        return sites[name]


class Backbone(ABC):
    """A loaded, frozen network. The engine hooks `module`; nothing here knows about taps."""

    module: nn.Module

    @abstractmethod
    def encode(self, frames: UInt8[Tensor, "frame y x 3"], bank: Sequence[int], generator: torch.Generator) -> State:
        """Everything that is the same for all noise levels. Called once per clip.

        Args:
            frames: RGB frames as `Family.window` asked for them, on the backbone's device.
            bank: positions of the bank frames among them.
            generator: CPU generator seeded by recipe seed and clip id; all noise comes from it, drawn once.
        """

    def redraw(self, state: State, generator: torch.Generator) -> State:
        """The same clip with other noise, encoded no second time. For features averaged over several draws."""
        raise ExtractError(f"{type(self).__name__} draws no noise, so there is nothing to average: leave out --draws.")

    def join(self, states: Sequence[State]) -> State:
        """Several clips as one, bank after bank. Asked for only where `Family.batches`."""
        raise NotImplementedError(f"{type(self).__name__} computes one clip at a time.")

    def parts(self, state: State) -> Iterator[State]:
        """Split a clip whose frames do not see each other; every part says which `rows` of the bank it fills.

        `forward` and `grid` are called once for every part. The default is one part.
        """
        yield state

    @abstractmethod
    def forward(self, state: State, level: NoiseLevel | None) -> None:
        """Run the network once. Hooks see the features; an early stop may leave it by an exception."""

    @abstractmethod
    def grid(self, site: Site, output: Any, state: State) -> Float[Tensor, "bank y x channel"]:
        """Turn what the site's module returned into one grid per bank frame."""


def checkpoint_dir(options: Options) -> Path | None:
    """The local directory given by `--checkpoint`, or `None` if it is a hub id or not given."""
    if options.checkpoint is None:
        return None
    path = Path(options.checkpoint).expanduser()
    return path if path.is_dir() else None

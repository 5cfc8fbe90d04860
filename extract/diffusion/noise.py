"""How noisy the input of a diffusion backbone is: two kinds of schedules, and how a user names a level of them."""

from __future__ import annotations

import math
import re
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING

from extract.backbones.base import NoiseLevel
from extract.errors import ExtractError

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor

NUMBER = r"(\d+\.?\d*(?:[eE][-+]?\d+)?|\.\d+(?:[eE][-+]?\d+)?)"
"""A decimal number without a sign, as a pattern with one group."""


class Schedule(ABC):
    """Turns `t=502` or `sigma=0.5` into a level, and mixes noise in."""

    @abstractmethod
    def level(self, text: str, model: str) -> NoiseLevel:
        """Parse a noise level. Raises `ExtractError` with the range that `model` takes."""

    @abstractmethod
    def mix(self, latents: Tensor, noise: Tensor, level: NoiseLevel) -> Tensor:
        """x_t, of the shape and type of `latents`."""


@dataclass(frozen=True)
class FlowMatching(Schedule):
    """Rectified flow: x_t = (1 - sigma) x_0 + sigma eps (Lipman et al. 2023, arXiv:2210.02747; Esser et al. 2024).

    `t=502` is sigma = 0.502: networks are told 1000 sigma. A schedule's shift says at which sigmas a sampler stops,
    not what a sigma means, so that it plays no part here.

    Attributes:
        rising: the network is told 1000 (1 - sigma), so that its timestep rises as noise falls (Mochi). `t=` is then
            refused: it would mean the opposite of what it means elsewhere.
    """

    rising: bool = False

    def level(self, text: str, model: str) -> NoiseLevel:
        """Parse `sigma=0.5`, between 0 and 1, or `t=500`, between 0 and 1000."""
        kind, value = _parse(text, model, "sigma=0.5" if self.rising else "t=500 or sigma=0.5")
        if kind == "t" and self.rising:
            raise ExtractError(
                f"noise level {text!r}: {model} counts time from noise to data, against the others. "
                f"Name its noise by sigma, for example sigma=0.5."
            )
        sigma = value / 1000 if kind == "t" else value
        if not 0 < sigma < 1:
            raise ExtractError(
                f"noise level {text!r}: outside the range of {model}, which is 0 < sigma < 1 (0 < t < 1000)."
            )
        log_snr = 2 * (math.log1p(-sigma) - math.log(sigma))
        timestep = 1000 * (1 - sigma) if self.rising else (value if kind == "t" else 1000 * sigma)
        return NoiseLevel(f"{kind}{short(value)}", sigma, log_snr, timestep)

    def mix(self, latents: Tensor, noise: Tensor, level: NoiseLevel) -> Tensor:
        """(1 - sigma) x_0 + sigma eps."""
        return (1 - level.sigma) * latents + level.sigma * noise


@dataclass(frozen=True)
class VariancePreserving(Schedule):
    """x_t = sqrt(abar_t) x_0 + sqrt(1 - abar_t) eps (Ho et al. 2020, arXiv:2006.11239, equation 4).

    The network knows only whole timesteps. `sigma=0.78` is the timestep whose sqrt(1 - abar_t) is nearest.

    Attributes:
        alphas_cumprod: abar_t for every timestep, falling.
    """

    alphas_cumprod: tuple[float, ...]

    def level(self, text: str, model: str) -> NoiseLevel:
        """Parse `t=250` or `sigma=0.78`; the level is named by its timestep."""
        kind, value = _parse(text, model, "t=250 or sigma=0.6")
        last = max(t for t, kept in enumerate(self.alphas_cumprod) if kept > 0)
        if kind == "sigma":
            if not 0 < value < 1:
                raise ExtractError(f"noise level {text!r}: outside the range of {model}, which is 0 < sigma < 1.")
            t = min(range(last + 1), key=lambda t: abs(math.sqrt(1 - self.alphas_cumprod[t]) - value))
        elif not value.is_integer() or not 0 <= value <= last:
            raise ExtractError(
                f"noise level {text!r}: {model} takes whole timesteps from 0 to {last}. At the next nothing of the "
                "clip is left."
            )
        else:
            t = int(value)
        kept = self.alphas_cumprod[t]
        return NoiseLevel(f"t{t}", math.sqrt(1 - kept), math.log(kept / (1 - kept)), float(t))

    def mix(self, latents: Tensor, noise: Tensor, level: NoiseLevel) -> Tensor:
        """sqrt(abar_t) x_0 + sqrt(1 - abar_t) eps."""
        return math.sqrt(1 - level.sigma**2) * latents + level.sigma * noise


def scaled_linear(beta_start: float, beta_end: float, steps: int, snr_shift: float) -> VariancePreserving:
    """The schedule of CogVideoX: scaled-linear betas, shifted signal-to-noise ratio, no signal at the end.

    beta_t = (sqrt(b_0) + t / (T - 1) (sqrt(b_1) - sqrt(b_0)))^2, abar_t = prod (1 - beta). The shift is
    abar / (s + (1 - s) abar) (Yang et al. 2024, arXiv:2408.06072, section 3.2). Then sqrt(abar) is moved and scaled so
    that it ends at 0 and begins where it did (Lin et al. 2024, arXiv:2305.08891, algorithm 1).
    """
    low, high = math.sqrt(beta_start), math.sqrt(beta_end)
    kept, roots = 1.0, []
    for t in range(steps):
        kept *= 1 - (low + t / (steps - 1) * (high - low)) ** 2
        roots.append(math.sqrt(kept / (snr_shift + (1 - snr_shift) * kept)))
    first, end = roots[0], roots[-1]
    return VariancePreserving(tuple(((root - end) * first / (first - end)) ** 2 for root in roots))


def unit_variance(latents: Float[Tensor, "clip channel time y x"]) -> Float[Tensor, "clip channel time y x"]:
    """Mean 0 and variance 1 in every channel of a clip: about what the latents of a trained autoencoder have.

    For untrained networks. An autoencoder with random weights makes so little of its input that beside noise of any
    level nothing would be left of the clip, and the control would show that and nothing else.
    """
    centred = latents - latents.mean((2, 3, 4), keepdim=True)
    scaled: Tensor = centred / centred.square().mean((2, 3, 4), keepdim=True).sqrt().clamp(min=1e-6)
    return scaled


def _parse(text: str, model: str, examples: str) -> tuple[str, float]:
    match = re.fullmatch(rf"(t|sigma)=?{NUMBER}", text)
    if match is None:
        raise ExtractError(f"noise level {text!r}: not understood. {model} takes {examples}.")
    return match[1], float(match[2])


def short(value: float) -> str:
    """As few digits as tell the number."""
    text = f"{value:g}"
    return text if float(text) == value else repr(value)

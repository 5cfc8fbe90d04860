"""How large a backbone is, where that is known."""

from __future__ import annotations

import re

from evaluate.schema import RunInfo

_SIZE = re.compile(r"(?<![a-z0-9.])(\d+(?:\.\d+)?)([bm])(?![a-z0-9])")
_UNITS = {"b": 1e9, "m": 1e6}


def parameters(info: RunInfo) -> float | None:
    """Return the number of parameters of a run's backbone: as counted, else as its name states; None without either.

    `wan-t2v-14b` says 14e9. The name of a fusion says the sizes of its branches, which add up. Sizes in names are
    nominal: publishers put them there, and they are no counts.
    """
    if info.kind == "control":
        return None
    if info.parameters:
        return float(info.parameters)
    sizes = [float(number) * _UNITS[unit] for number, unit in _SIZE.findall(info.model.lower())]
    return sum(sizes) if sizes and (len(sizes) == 1 or info.kind == "fusion") else None


def series(info: RunInfo) -> str:
    """Return the model's name without its size: models that share it are one series (`wan-t2v`)."""
    return re.sub(r"[-_]{2,}", "-", _SIZE.sub("", info.model.lower())).strip("-_")


def counted(info: RunInfo) -> bool:
    """Whether `parameters` is a count, and not what the name states."""
    return bool(info.parameters)


def readable(count: float) -> str:
    """Return `14 B`, `1.3 B` or `86 M`, to three digits."""
    return f"{count / 1e9:.3g} B" if count >= 999.5e6 else f"{count / 1e6:.3g} M"

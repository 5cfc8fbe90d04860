"""Numbers of bytes as people write them: 20GB, 500MB, 1.5 TiB."""

from __future__ import annotations

import re

_UNITS = ("", "k", "M", "G", "T")
_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([kmgt]?)(i?)b?", re.IGNORECASE | re.ASCII)


def parse_size(text: str) -> int:
    """Bytes that `20GB`, `500 MB`, `1.5TiB` or `0` stand for. GB is 1000^3, GiB 1024^3. Raises `ValueError`."""
    match = _SIZE.fullmatch(text.strip())
    if match is None or (match[3] and not match[2]):
        raise ValueError(f"{text!r} is no size; sizes look like 20GB, 500MB or 0")
    base = 1024 if match[3] else 1000
    return int(float(match[1]) * base ** [unit.lower() for unit in _UNITS].index(match[2].lower()))


def show_size(size: int | float) -> str:
    """`20 GB`, `1.5 MB`, `7 B`: three digits are enough for people."""
    value, unit = float(size), 0
    while value >= 999.5 and unit < len(_UNITS) - 1:
        value, unit = value / 1000, unit + 1
    return f"{value:.3g} {_UNITS[unit]}B"

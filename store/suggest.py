"""One way to say that a name is unknown, with the nearest names that exist."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches

_LISTED = 24


def did_you_mean(what: str, got: str, known: Iterable[str]) -> str:
    """Message for an unknown name: what it is, what was got, the nearest match, or all names if there are few."""
    names = sorted(known)
    near = get_close_matches(got, names, n=3, cutoff=0.5)
    if near:
        return f"unknown {what} {got!r}. Did you mean {' or '.join(near)}?"
    listing = ", ".join(names) if len(names) <= _LISTED else f"{', '.join(names[:_LISTED])}, … ({len(names)} in all)"
    return f"unknown {what} {got!r}. Known: {listing or 'none'}"

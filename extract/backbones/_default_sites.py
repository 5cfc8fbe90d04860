"""Which blocks of a network are read when the user names none."""

from __future__ import annotations

BLOCKS = 4


def even_blocks(count: int) -> list[int]:
    """Numbers of up to four of `count` blocks, at 1/5, 2/5, 3/5 and 4/5 of the depth."""
    chosen = [round((k + 1) * count / (BLOCKS + 1)) - 1 for k in range(BLOCKS)]
    return list(dict.fromkeys(max(0, k) for k in chosen))

"""What a run over clips did."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass
class Outcome:
    """What an extraction did.

    Attributes:
        done: rows committed by this run.
        skipped: rows that were committed before.
        failed: clip id -> what went wrong. Nothing of these clips was written.
        bytes: bytes written.
    """

    done: list[int] = field(default_factory=list)
    skipped: list[int] = field(default_factory=list)
    failed: dict[str, str] = field(default_factory=dict)
    bytes: int = 0

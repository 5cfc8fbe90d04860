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

    def __iadd__(self, other: Outcome) -> Outcome:
        """What was done in all."""
        self.done += other.done
        self.skipped += other.skipped
        self.failed |= other.failed
        self.bytes += other.bytes
        return self

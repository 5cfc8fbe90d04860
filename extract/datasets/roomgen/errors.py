"""What can go wrong while rooms are made or measured."""

from __future__ import annotations


class RoomError(Exception):
    """A problem a person can mend: the message says what, where and the remedy."""

"""The one place that imports bpy: it is big, optional and has no type stubs."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
from typing import Any

from extract.datasets.roomgen.errors import RoomError


def load() -> Any:
    """Return the `bpy` module, or say how to install it."""
    try:
        import bpy  # type: ignore[import-not-found, import-untyped, unused-ignore]
    except ImportError as error:
        raise RoomError(
            f"rendering needs Blender as a Python module (bpy): {error}\n"
            "  remedy: in an environment of its own (Python 3.11; bpy 4.5 needs numpy < 2):\n"
            "          pip install 'bpy==4.5.*' pillow      (or the project's extra: pip install -e '.[render]')"
        ) from error
    return bpy


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Keep what Blender prints for every frame and import away from standard output."""
    sys.stdout.flush()
    saved = os.dup(1)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 1)
        yield
    finally:
        os.dup2(saved, 1)
        os.close(saved)
        os.close(nowhere)

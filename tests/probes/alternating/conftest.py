"""Shapes checked at run time."""

from __future__ import annotations

from jaxtyping import install_import_hook

install_import_hook("probes.alternating", "beartype.beartype")

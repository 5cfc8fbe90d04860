"""`--compile`: every block of a network is compiled by itself, so that hooks and early stops stay where they are."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import torch

from extract.errors import ExtractError

if TYPE_CHECKING:
    from torch import nn

    from extract.backbones.base import Site

BACKEND = "inductor"


def compile_blocks(network: nn.Module, sites: Sequence[Site]) -> None:
    """Compile what every block computes, in place, when it first runs.

    A module's `forward` is compiled and its call is not: forward hooks run outside of what is compiled, and may be put
    up and taken down at any time. Blocks of one class share their compiled code.

    Args:
        network: whose blocks are named by sites.
        sites: of the family, all of them: which blocks are compiled must not depend on which are read.
    """
    names = list(block_names(network, sites))
    if not names:
        raise ExtractError("--compile: the network has no list of blocks whose outputs are sites. Leave it out.")
    for name in names:
        block: Any = network.get_submodule(name)
        block.forward = torch.compile(block.forward, backend=BACKEND)


def block_names(network: nn.Module, sites: Sequence[Site]) -> Iterator[str]:
    """Modules of sites that are members of a list, and hold the module of no other site."""
    modules = list(dict.fromkeys(site.module for site in sites))
    for name in modules:
        parent, _, _ = name.rpartition(".")
        inner = any(other.startswith(f"{name}.") for other in modules)
        if not inner and isinstance(network.get_submodule(parent), torch.nn.ModuleList):
            yield name

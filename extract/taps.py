"""Reading features with forward hooks: always removed, and the forward stops after the deepest one asked for."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from typing import TYPE_CHECKING, Any

from extract.errors import ExtractError, UnknownNameError

if TYPE_CHECKING:
    from torch import nn

    from extract.backbones.base import Site


class ForwardStopped(Exception):
    """Raised inside the last hook to leave a forward whose remaining blocks nobody reads."""


@contextmanager
def listen(module: nn.Module, sites: Sequence[Site], *, stop: bool) -> Iterator[dict[str, Any]]:
    """Collect the outputs of `sites` while the body runs `module`.

    Args:
        module: the backbone.
        sites: where to listen.
        stop: leave the forward once every site has been heard; the body ends there without an error.

    Yields:
        site name -> what its module returned, complete when the body has ended.

    Raises:
        UnknownNameError: a site's module does not exist in this network.
        ExtractError: a site was heard twice or not at all, so its features would be incomplete.
    """
    heard: dict[str, Any] = {}
    with ExitStack() as hooks:
        for site in sites:
            try:
                target = module.get_submodule(site.module)
            except AttributeError as error:
                raise UnknownNameError(
                    f"site {site.name!r}: the network has no module {site.module!r} ({error})."
                ) from error
            handle = target.register_forward_hook(_hook(site, sites, heard, stop))
            hooks.callback(handle.remove)
        with suppress(ForwardStopped):
            yield heard
    silent = [site.name for site in sites if site.name not in heard]
    if silent:
        raise ExtractError(
            f"sites {', '.join(silent)}: their modules were not called in this forward, so there is nothing to read."
        )


def _hook(site: Site, sites: Sequence[Site], heard: dict[str, Any], stop: bool) -> Any:
    def hear(_module: nn.Module, _inputs: Any, output: Any) -> None:
        if site.name in heard:
            raise ExtractError(
                f"site {site.name!r}: its module ran twice in one forward; which output is meant is not known."
            )
        heard[site.name] = output
        if stop and len(heard) == len(sites):
            raise ForwardStopped

    return hear

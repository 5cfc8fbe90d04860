"""Names of models and data sets. A new one is one new file in `backbones/` or `datasets/`; nothing else is edited.

The files are imported to be listed, so they keep torch and their libraries inside functions.
"""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import TypeVar

from extract import backbones, datasets
from extract.backbones.base import Family, Options
from extract.datasets.base import Dataset
from extract.datasets.sampling import Sampling
from extract.errors import ExtractError, UnknownNameError
from store.suggest import did_you_mean

_Base = TypeVar("_Base")


@cache
def families() -> dict[str, type[Family]]:
    """model name -> the family that knows it."""
    found: dict[str, type[Family]] = {}
    for family in _subclasses(backbones, Family):  # type: ignore[type-abstract]
        for model in family.models:
            if model in found:
                raise ExtractError(
                    f"model {model!r} is registered by both {found[model].__name__} and {family.__name__}."
                )
            found[model] = family
    return dict(sorted(found.items()))


@cache
def dataset_classes() -> dict[str, type[Dataset]]:
    """Name -> data set class."""
    return {dataset.name: dataset for dataset in sorted(_subclasses(datasets, Dataset), key=lambda each: each.name)}  # type: ignore[type-abstract]


def make_family(model: str, options: Options | None = None) -> Family:
    """The family of a model name, or of `package.module:Family` or `package.module:Family:MODEL` outside this project.

    Raises:
        UnknownNameError: there is none; names the nearest.
        ExtractError: what was given is no family.
    """
    if ":" in model:
        return _foreign_family(model, options)
    known = families()
    if model not in known:
        raise UnknownNameError(did_you_mean("model", model, known) + " List them with `python -m extract models`.")
    return known[model](model, options)


def _foreign_family(reference: str, options: Options | None) -> Family:
    """Import a family from a module that Python finds: an installed package, or a file in the current folder."""
    place, _, rest = reference.partition(":")
    name, _, model = rest.partition(":")
    try:
        family = getattr(importlib.import_module(place), name)
    except (ImportError, AttributeError, ValueError, TypeError) as error:
        raise UnknownNameError(
            f"model {reference!r}: cannot be imported ({error}). Give package.module:Family, where the module is "
            "installed or in the current folder; a name with dots, not a path."
        ) from error
    if not (inspect.isclass(family) and issubclass(family, Family)) or inspect.isabstract(family):
        raise ExtractError(
            f"model {reference!r}: is no concrete subclass of extract.backbones.base.Family. See docs/backbones.md."
        )
    if not model and len(family.models) != 1:
        raise UnknownNameError(
            f"model {reference!r}: {name} has {', '.join(family.models)}. Say which: {place}:{name}:MODEL."
        )
    return family(model or next(iter(family.models)), options)


def make_dataset(name: str, root: Path | None = None, sampling: Sampling | None = None) -> Dataset:
    """Open a data set. Raises `UnknownNameError` with the nearest names, `DatasetNotFoundError` with what to get."""
    known = dataset_classes()
    if name not in known:
        raise UnknownNameError(did_you_mean("data set", name, known) + " List them with `python -m extract datasets`.")
    return known[name](root, sampling)


def _subclasses(package: ModuleType, base: type[_Base]) -> list[type[_Base]]:
    """Concrete subclasses of `base` defined in the modules directly inside `package`."""
    found = []
    for module_info in pkgutil.iter_modules(package.__path__):
        if module_info.ispkg or module_info.name.startswith("_"):
            continue
        module = importlib.import_module(f"{package.__name__}.{module_info.name}")
        for _, candidate in inspect.getmembers(module, inspect.isclass):
            if (
                issubclass(candidate, base)
                and not inspect.isabstract(candidate)
                and candidate.__module__ == module.__name__
            ):
                found.append(candidate)
    return found

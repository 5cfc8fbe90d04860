"""What there is: models, data sets, and the sites of a model."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Any

from extract.errors import ExtractError

if TYPE_CHECKING:
    from extract.backbones.base import Family, Options


def list_models(as_json: bool) -> None:
    """Print all models."""
    from extract.registry import families

    rows = [
        {
            "model": model,
            "kind": family.kind,
            "checkpoint": family.models[model].id,
            "parameters": family.models[model].parameters,
            "licence": family.models[model].licence,
        }
        for model, family in families().items()
    ]
    print_table(rows, as_json)


def list_datasets(as_json: bool) -> None:
    """Print all data sets, and whether each is found on this machine."""
    from extract.registry import dataset_classes

    rows = []
    for name, cls in dataset_classes().items():
        try:
            dataset = cls(None)
            version, state = dataset.version, f"{len(dataset.clips())} clips in {dataset.root}"
            state += f"; {len(dataset.damaged)} cannot be read" if dataset.damaged else ""
        except ExtractError as error:
            version, state = None, str(error).splitlines()[0].rstrip(".")
        rows.append({"data set": name, "version": version, "variable": cls.environment, "found": state})
    print_table(rows, as_json)


def list_sites(model: str, options: Options, as_json: bool) -> None:
    """Print all sites of a model, marking those read by default."""
    from extract.backbones.base import checkpoint_dir
    from extract.registry import make_family

    family = make_family(model, options)
    default = set(family.default_sites())
    rows = [
        {
            "site": site.name,
            "depth": site.depth,
            "channels": site.channels,
            "grid": f"{site.grid[0]}x{site.grid[1]}",
            "noise": "no" if site.stage == "encode" or not family.default_noise else "yes",
            "default": "yes" if site.name in default else "",
        }
        for site in family.sites()
    ]
    print_table(rows, as_json)
    if not as_json:
        print(_input_of(family))
        if options.checkpoint is not None and checkpoint_dir(options) is None:
            print(
                f"This is what is published for {model}; the configuration of {options.checkpoint} is not here to be "
                "read."
            )


def _input_of(family: Family) -> str:
    """What the model sees, and what can be asked of it, in a line."""
    height, width = family.preprocessing().height, family.preprocessing().width
    facts = [f"input {height}x{width} pixels"]
    facts += [f"{family.settings()['frames']} frames at once"] if family.takes_windows else []
    facts += [f"noise {','.join(_levels(family))}"] if family.default_noise else []
    facts += [f"--condition {'|'.join(family.conditions)}"] if family.conditions else []
    facts += [f"--layout {'|'.join(family.layouts)}"] if family.layouts else []
    facts += [f"--preset {'|'.join(family.presets)}"] if len(family.presets) > 1 else []
    return "; ".join(facts)


def _levels(family: Family) -> list[str]:
    """Default noise levels as they stand in taps."""
    return [family.noise_level(text).name for text in family.default_levels()]


def print_table(rows: list[dict[str, Any]], as_json: bool) -> None:
    """Print rows of one kind; numbers with separators for people."""
    if as_json:
        print(json.dumps(rows, indent=1))
        return
    from rich.console import Console
    from rich.table import Table

    table = Table(*(rows[0] if rows else ()))
    for row in rows:
        table.add_row(
            *(
                "-" if value is None else f"{value:,}" if isinstance(value, int) else str(value)
                for value in row.values()
            )
        )
    Console(width=None if sys.stdout.isatty() else 160).print(table)

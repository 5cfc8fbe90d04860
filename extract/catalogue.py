"""All backbones as a table in Markdown, made of what their families state: `python -m extract models --markdown`."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from extract.backbones.base import PAPER, Family, Options
from extract.registry import families, make_family

KINDS = {
    "vlm": "Vision-language models",
    "vgm": "Video generation models",
    "encoder": "Encoders",
    "control": "Controls",
}
LONGEST = 4
"""So many groups of sites are listed."""
COLUMNS = ("model", "checkpoint", "licence", "sites", "grid", "channels", "weights in bfloat16", "paper preset")


def markdown() -> str:
    """One table per kind of backbone."""
    parts = []
    for kind, title in KINDS.items():
        models = [model for model, family in families().items() if family.kind == kind]
        rows = [_row(make_family(model)) for model in models]
        lines = [f"### {title}", "", _line(COLUMNS), _line(["---"] * len(COLUMNS)), *map(_line, rows)]
        parts.append("\n".join(lines))
    return "\n\n".join(parts) + "\n"


def _line(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _row(family: Family) -> list[str]:
    facts, sites = family.published, family.sites()
    grids = dict.fromkeys(f"{rows}×{columns}" for rows, columns in (site.grid for site in sites))
    channels = dict.fromkeys(f"{site.channels}" for site in sites)
    return [
        f"`{family.model}`",
        f"`{facts.id}`",
        facts.licence,
        _sites(family),
        ", ".join(grids),
        ", ".join(channels),
        _size(2 * facts.parameters) if facts.parameters else "–",
        _preset(family),
    ]


def _sites(family: Family) -> str:
    names = [f"`{name}`" for name in collapsed([site.name for site in family.sites()])]
    if len(names) <= LONGEST:
        return ", ".join(names)
    return f"{', '.join(names[:LONGEST])}, … (`python -m extract sites {family.model}`)"


def _size(count: int) -> str:
    return f"{count / 1e9:.2g} GB" if count >= 1e9 else f"{count / 1e6:.0f} MB"


def _preset(family: Family) -> str:
    if PAPER not in family.presets:
        return "–"
    paper = make_family(family.model, Options(preset=PAPER))
    levels = [paper.noise_level(text).name for text in paper.default_levels()] or [""]
    return ", ".join(f"`{site}{'@' * bool(level)}{level}`" for site in paper.default_sites() for level in levels)


def collapsed(names: Sequence[str]) -> list[str]:
    """Names that differ in numbers as one: `blocks.0…29` for one number, `up_blocks.*.attentions.*` for several."""
    groups: dict[str, list[str]] = {}
    for name in names:
        groups.setdefault(re.sub(r"\d+", "*", name), []).append(name)
    return [_joined(pattern, group) for pattern, group in groups.items()]


def _joined(pattern: str, names: Sequence[str]) -> str:
    if len(names) == 1:
        return names[0]
    numbers = [int(number) for name in names for number in re.findall(r"\d+", name)]
    if pattern.count("*") == 1 and numbers == list(range(numbers[0], numbers[0] + len(names))):
        return pattern.replace("*", f"{numbers[0]}…{numbers[-1]}")
    return pattern

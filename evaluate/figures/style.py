"""How every figure looks, and how it is written: as part of a page, or as a file of its own.

Colours are given as hexadecimals of the light theme. In a page they become names of CSS variables, so that one figure
serves light and dark. Hue says the kind of a model, tint which of that kind; marker and dashes say the same once more.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from html import escape
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

from evaluate.models import ModelResult
from evaluate.table import Axis

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.figure import Figure

WIDTH = 4.8
"""Inches of every figure: at 345 points, text keeps its size on a phone and on half a desktop page."""
INK, MUTED, RULE = "#111112", "#6b6b6e", "#ddddde"
# Okabe & Ito (2008); the purple is darkened, since theirs is faint as a line on white.
HUES = {"vgm": "#d55e00", "vlm": "#0072b2", "encoder": "#009e73", "fusion": "#b0508a"}
KINDS = {
    "vgm": "video generation",
    "vlm": "vision-language",
    "encoder": "encoder",
    "fusion": "fusion",
    "control": "control",
}
_TINTS = (0.0, -0.38, 0.36, -0.58, 0.52)
_DARK_BASE, _DARK_TINTS = 0.22, (0.0, 0.38, -0.26, 0.64, 0.2)
MARKERS = "os^Dv"

_STYLE: Any = {
    "svg.fonttype": "none",
    "text.parse_math": False,
    "font.size": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": MUTED,
    "axes.labelcolor": MUTED,
    "axes.linewidth": 0.8,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": RULE,
    "grid.linewidth": 0.8,
    "text.color": INK,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.major.size": 0,
    "ytick.major.size": 0,
    "xtick.minor.size": 0,
    "lines.linewidth": 1.8,
    "legend.frameon": False,
    "legend.fontsize": 9,
    "figure.facecolor": "none",
    "axes.facecolor": "none",
}


@dataclass(frozen=True)
class Look:
    """How one model is drawn everywhere; its untrained and shuffled twins share all but the dashes."""

    colour: str
    """Hexadecimal of the light theme."""
    variable: str
    """Name of the CSS variable that holds it in a page."""
    marker: str
    number: int
    """Place among all models; figures group what they draw of a model as `m-<number>`."""

    @property
    def group(self) -> str:
        """Name of the model's parts in every figure."""
        return f"m-{self.number}"


Looks = dict[str, Look]


def looks(axes: Sequence[Axis]) -> Looks:
    """Return model -> look, the same for all axes: hue of its kind, then tint and marker in order of names."""
    kinds = {model.info.model: model.info.kind for axis in axes for model in axis.models}
    found: Looks = {}
    ranks: dict[str, int] = {}
    for number, (model, kind) in enumerate(sorted(kinds.items())):
        rank = ranks.setdefault(kind, 0)
        ranks[kind] += 1
        tint = rank % len(_TINTS)
        colour = MUTED if kind == "control" else _mixed(HUES[kind], _TINTS[tint])
        variable = "--muted" if kind == "control" else f"--{kind}-{tint}"
        found[model] = Look(colour, variable, MARKERS[rank % len(MARKERS)], number)
    return found


def variables(*, dark: bool = False) -> dict[str, str]:
    """Return CSS variable -> colour of one theme, for every hue and tint."""
    tints = _DARK_TINTS if dark else _TINTS
    bases = {kind: _mixed(hue, _DARK_BASE) if dark else hue for kind, hue in HUES.items()}
    return {f"--{kind}-{k}": _mixed(base, tint) for kind, base in bases.items() for k, tint in enumerate(tints)}


@dataclass(frozen=True)
class Drawn:
    """A figure, and what must be read with it."""

    kind: str
    """What it shows: one of `evaluate.figures.FIGURES`."""
    key: str
    """Name of its files, without an ending."""
    title: str
    caption: str
    figure: Figure
    legend: tuple[Artist, ...] = ()
    """Keys of the legend that a file needs; a page has one for all its figures."""

    def svg(self) -> str:
        """Return an `<svg>` element that fits into a page: its fonts, its width, its colours, ids of its own."""
        stream = StringIO()
        with style(self.key):
            self.figure.savefig(stream, format="svg", transparent=True, metadata=_NO_DATE)
        return _fit(stream.getvalue(), re.sub(r"[^\w-]", "-", self.key), f"{self.title}. {self.caption}")

    def write(self, folder: Path, endings: Sequence[str]) -> list[Path]:
        """Write the figure with its legend as files on white; `endings` are of `svg` and `png`."""
        name = re.sub(r"[^\w.@-]", "-", self.key)
        files = [folder / f"{name}.{ending}" for ending in endings]
        with style(self.key):
            if self.legend:
                rows = -(-len(self.legend) // 2)
                width, height = self.figure.get_size_inches()
                self.figure.set_size_inches(width, height + 0.1 + 0.19 * rows)
                self.figure.legend(handles=list(self.legend), loc="outside lower left", ncols=2)
            for file in files:
                metadata = _NO_DATE if file.suffix == ".svg" else {"Software": None}
                self.figure.savefig(file, dpi=200, facecolor="white", metadata=metadata)
        return files


_NO_DATE = {"Date": None, "Creator": None}


def style(key: str = "") -> AbstractContextManager[None]:
    """Return the settings under which a figure is drawn and written; `key` makes its ids repeatable."""
    from matplotlib import rc_context

    return rc_context(_STYLE | ({"svg.hashsalt": key} if key else {}))


def axis_title(axis: Axis) -> str:
    """Return the label of an axis of numbers: `mAP (%) ↑`."""
    metric = axis.protocol.metrics[axis.protocol.primary]
    return f"{metric.title}{f' ({metric.unit})' if metric.unit else ''} {metric.arrow}"


def scale(axis: Axis) -> float:
    """Return what values are multiplied by to be shown in the metric's unit."""
    return 100.0 if axis.protocol.metrics[axis.protocol.primary].unit == "%" else 1.0


def dashes(model: ModelResult) -> Any:
    """Return the line style: solid for trained, dashed for untrained and other controls, dotted for shuffled labels."""
    return (0, (1, 1.8)) if model.shuffled else (0, (4, 2.5)) if model.is_control else "solid"


def place(axis: Axis, axes: Sequence[Axis]) -> str:
    """Return the task, with its data set where there are several."""
    return f"{axis.task} on {axis.dataset}" if len({other.dataset for other in axes}) > 1 else axis.task


def apart(places: Sequence[float], distance: float) -> list[float]:
    """Return places near the given ones, in their order, of which no two are closer than `distance`.

    Groups that collide are spread about their mean (pool adjacent violators).
    """
    order = sorted(range(len(places)), key=lambda k: places[k])
    blocks: list[list[float]] = []  # each [sum of places minus offsets, count]
    for rank, k in enumerate(order):
        blocks.append([places[k] - rank * distance, 1])
        while len(blocks) > 1 and blocks[-2][0] / blocks[-2][1] > blocks[-1][0] / blocks[-1][1]:
            total, count = blocks.pop()
            blocks[-1][0] += total
            blocks[-1][1] += count
    means = [total / count for total, count in blocks for _ in range(int(count))]
    found = [0.0] * len(places)
    for rank, k in enumerate(order):
        found[k] = means[rank] + rank * distance
    return found


def _fit(text: str, prefix: str, label: str) -> str:
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>|<!--.*?-->", "", text, flags=re.DOTALL)
    text = re.sub(r'id="m-(\d+)"', r'class="m m-\1"', text)
    used = set(re.findall(r'(?:href="#|url\(#)([^")]+)', text))
    text = re.sub(r' id="([^"]+)"', lambda found: f' id="{prefix}-{found[1]}"' if found[1] in used else "", text)
    text = re.sub(r'(href="#|url\(#)', rf"\1{prefix}-", text)
    named = {INK: "--ink", MUTED: "--muted", RULE: "--rule"} | {hue: name for name, hue in variables().items()}
    text = re.sub(r"#[0-9a-f]{6}\b", lambda found: f"var({named[found[0]]})" if found[0] in named else found[0], text)
    text = re.sub(r'(<svg[^>]*?) width="[^"]*"', r"\1", text, count=1)
    text = re.sub(r'(<svg[^>]*?) height="[^"]*"', r"\1", text, count=1)
    # The page's own font is inherited; its metrics differ little, and every label would repeat the whole list.
    text = re.sub(r"font: ([\d.]+px)[^;\"]*", r"font-size: \1", text)
    text = re.sub(r"\n\s*", "\n", text)
    return text.replace("<svg", f'<svg role="img" aria-label="{escape(label)}"', 1)


def _mixed(hue: str, amount: float) -> str:
    """Mix a hue with black (amounts below zero) or white."""
    end = 255 if amount > 0 else 0
    parts = (int(hue[k : k + 2], 16) for k in (1, 3, 5))
    return "#" + "".join(f"{round(c + abs(amount) * (end - c)):02x}" for c in parts)

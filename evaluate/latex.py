"""The results as LaTeX tables: one per aspect, a column per task, ready for `\\input` beside `booktabs`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from evaluate.aspects import ASPECTS
from evaluate.models import ModelResult
from evaluate.sentences import notes
from evaluate.statistics import LEVEL
from evaluate.table import Axis

_SPECIAL = {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "°": r"\textdegree{}",
    "↑": r"$\uparrow$",
    "↓": r"$\downarrow$",
    "−": r"$-$",
    "★": r"$\star$",
} | {letter: f"\\{letter}" for letter in "&%$#_{}"}


def write_latex(axes: Sequence[Axis], file: Path) -> None:
    """Write one table per data set, family of protocols and aspect, and the notes as comments."""
    lines = ["% Needs \\usepackage{booktabs} and \\usepackage{textcomp}."]
    lines += [f"% {note}" for note in notes(axes)]
    for dataset, family in dict.fromkeys((axis.dataset, axis.protocol.family) for axis in axes):
        mine = [axis for axis in axes if (axis.dataset, axis.protocol.family) == (dataset, family)]
        for aspect, tasks in ASPECTS.items():
            if group := [axis for axis in mine if axis.task in tasks]:
                lines += ["", *_table(aspect, group)]
    file.write_text("\n".join(lines) + "\n", "utf-8")


def escape(text: str) -> str:
    """Return text as LaTeX prints it."""
    return "".join(_SPECIAL.get(letter, letter) for letter in text)


def _table(aspect: str, axes: Sequence[Axis]) -> list[str]:
    first = axes[0]
    models = list({model.label: model for axis in axes for model in axis.models}.values())
    heads = ["model"]
    for axis in axes:
        metric = axis.protocol.metrics[axis.protocol.primary]
        heads.append(escape(f"{axis.task}: {metric.title}{f' ({metric.unit})' if metric.unit else ''} {metric.arrow}"))
    chosen = "val" if all(model.best.val_scenes for axis in axes for model in axis.models) else "test"
    caption = (
        f"{aspect.capitalize()} on {first.dataset}, best tap of each model as chosen on {chosen}, on test; below: "
        f"{100 * LEVEL:.0f} % interval. Protocols: {', '.join(axis.protocol.id for axis in axes)}."
    )
    rows = [row for model in models if not model.is_control for row in _rows(axes, model)]
    controls = [row for model in models if model.is_control for row in _rows(axes, model)]
    return table(escape(caption), heads, [*rows, *([r"\midrule"] if rows and controls else []), *controls])


def table(caption: str, heads: Sequence[str], rows: Sequence[str]) -> list[str]:
    """Return the lines of a table whose first column holds names; all that is given is escaped already."""
    return [
        r"\begin{table}",
        r"\centering",
        rf"\caption{{{caption}}}",
        rf"\begin{{tabular}}{{l{'r' * (len(heads) - 1)}}}",
        r"\toprule",
        f"{' & '.join(heads)} \\\\",
        r"\midrule",
        *rows,
        r"\bottomrule",
        r"\end{tabular}",
        r"\end{table}",
    ]


def _rows(axes: Sequence[Axis], model: ModelResult) -> list[str]:
    values, bounds = [], []
    for axis in axes:
        here = next((other for other in axis.models if other.label == model.label), None)
        metric = axis.protocol.metrics[axis.protocol.primary]
        if here is None:
            values.append("--")
            bounds.append("")
            continue
        interval = axis.interval(here.best)
        text = escape(metric.format(interval.value, unit=False))
        values.append(rf"\textbf{{{text}}}" if here is axis.leader else text)
        low, high = (escape(metric.format(bound, unit=False)) for bound in (interval.low, interval.high))
        bounds.append(rf"\scriptsize [{low}, {high}]")
    return [
        f"{' & '.join([escape(model.label), *values])} \\\\",
        f"{' & '.join(['', *bounds])} \\\\[2pt]",
    ]

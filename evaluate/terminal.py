"""The results for people at a terminal."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

from evaluate.sentences import headline, notes
from evaluate.table import Axis, ModelResult, tap_order


def show(axes: Sequence[Axis], console: Console) -> None:
    """Print headlines, one table tap x task per data set, and the notes."""
    for dataset in dict.fromkeys(axis.dataset for axis in axes):
        group = [axis for axis in axes if axis.dataset == dataset]
        console.print(_table(dataset, group))
        console.print(
            Text("★ best tap of a model, chosen on val    bold: best model of the task    below: 95 % interval", "dim")
        )
    console.print()
    for axis in axes:
        console.print(Text(f"• {headline(axis)}"))
    console.print()
    for note in notes(axes):
        console.print(Text(f"note: {note}", "dim"))


def _table(dataset: str, axes: Sequence[Axis]) -> Table:
    table = Table(title=f"{dataset}: test scenes", title_justify="left", show_lines=False, pad_edge=False)
    table.add_column("model, tap", no_wrap=True)
    for axis in axes:
        metric = axis.protocol.metrics[axis.protocol.primary]
        unit = f" {metric.unit}" if metric.unit else ""
        table.add_column(f"{axis.task}\n{metric.title}{unit} {metric.arrow}", justify="right", no_wrap=True)
    # A label is one row group: no two models of a data set share one.
    rows = {model.label: model for axis in axes for model in axis.models}
    for label, first in sorted(rows.items(), key=lambda item: (_place(item[1]), item[0])):
        control = first.is_control
        found = {axis.task: next((m for m in axis.models if m.label == label), None) for axis in axes}
        taps = sorted({tap_order(tap.probe) for model in found.values() if model for tap in model.taps})
        table.add_row(Text(first.label, "dim bold" if control else "bold cyan"))
        for index, (*_, tap) in enumerate(taps):
            cells = [_cell(axis, found[axis.task], tap) for axis in axes]
            table.add_row(Text(f"  {tap}", "dim" if control else ""), *cells, end_section=index == len(taps) - 1)
    return table


def _place(model: ModelResult) -> tuple[bool, str, bool, bool]:
    """Return a key that sorts a model's own controls right below it, and other controls last."""
    return (model.info.kind == "control", model.info.model, model.info.untrained, model.shuffled)


def _cell(axis: Axis, model: ModelResult | None, name: str) -> Text:
    tap = next((tap for tap in model.taps if tap.probe.tap == name), None) if model else None
    if model is None or tap is None:
        return Text("")
    metric = axis.protocol.metrics[axis.protocol.primary]
    interval = axis.interval(tap)
    low, high = (metric.format(bound, unit=False) for bound in (interval.low, interval.high))
    best = tap is model.best
    style = "bold green" if best and model is axis.leader else "dim" if model.is_control else ""
    value = Text(f"{'★ ' if best else ''}{metric.format(interval.value, unit=False)}", style)
    return value.append(f"\n{low}–{high}", "dim")

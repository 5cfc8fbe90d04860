"""Who wins, and which kind is ahead: what `evaluate.comparisons` and `evaluate.families` say, as tables."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from evaluate.comparisons import WinMatrix, who_wins
from evaluate.families import TITLES, FamilyGap, family_gaps
from evaluate.sentences import signed, with_interval
from evaluate.table import Axis


@dataclass(frozen=True)
class Wins:
    """A matrix of wins: of each row, its model and (text, verdict) per column."""

    title: str
    explained: str
    models: tuple[str, ...]
    rows: list[tuple[str, list[tuple[str, str]]]]


@dataclass(frozen=True)
class Gap:
    """One task of the comparison of two kinds."""

    task: str
    metric: str
    first: str
    second: str
    difference: str
    clear: bool
    claim: str


def wins(axes: Sequence[Axis]) -> list[Wins]:
    """Return the matrices of all aspects that have two trained models."""
    several = len({axis.dataset for axis in axes}) > 1
    return [_wins(matrix, several) for matrix in who_wins(axes)]


def gaps(axes: Sequence[Axis]) -> list[Gap]:
    """Return vision-language minus video generation on every task that has both, with every head that both have."""
    found = family_gaps(axes)
    heads = {gap.first.probed for gap in found}
    return [_gap(gap, several=len(heads) > 1) for gap in found]


def _wins(matrix: WinMatrix, several: bool) -> Wins:
    rows = []
    for row, label in enumerate(matrix.models):
        cells = []
        for column in range(len(matrix.models)):
            won, lost = int(matrix.wins[row, column]), int(matrix.wins[column, row])
            verdict = "self" if row == column else "won" if won > lost else "lost" if lost > won else "open"
            text = {"self": "", "won": f"{won}", "lost": f"−{lost}", "open": "·" if not won else "="}[verdict]
            cells.append((text, verdict))
        rows.append((label, cells))
    return Wins(
        f"{matrix.aspect} on {matrix.dataset}" if several else matrix.aspect,
        f"{', '.join(matrix.tasks)}; {matrix.tests} paired tests, Holm-corrected together at {matrix.alpha:g}",
        matrix.models,
        rows,
    )


def _gap(gap: FamilyGap, several: bool) -> Gap:
    axis, probed = gap.first.axis, gap.first.probed
    head = f", {probed.head or 'no head'}" if several else ""
    where = f", trained on {probed.trained_on}" if probed.trained_on else ""
    metric = axis.protocol.metrics[gap.first.metric]
    return Gap(
        f"{axis.task} on {axis.dataset}{where}{head}",
        f"{metric.title} {metric.arrow}",
        f"{TITLES[gap.first.kind]} {with_interval(metric, gap.first.fixed)}",
        f"{TITLES[gap.second.kind]} {with_interval(metric, gap.second.fixed)}",
        signed(metric, gap.fixed),
        gap.fixed.excludes_zero,
        gap.claim,
    )

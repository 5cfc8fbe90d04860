"""Which probes stand in one row of every table: runs that repeat each other are one, heads and controls are not.

Runs that differ only in the noise that was drawn for the features, or in the seeds of their probes, are one model
(`group_runs`). In it, each head is a row of its own, and so are its probes with shuffled labels (`rows_of`).
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from evaluate.records import Run
from evaluate.schema import ProbeInfo, RunInfo


@dataclass(frozen=True)
class Row:
    """Probes that stand in one row of every table: of runs that repeat each other, of one head, all shuffled or none.

    `heads` also holds `None`, which stands for probes that are not trained, if the runs have no other head.
    """

    runs: tuple[Run, ...]
    heads: tuple[str | None, ...]
    shuffled: bool

    @property
    def info(self) -> RunInfo:
        """What the first run says about itself."""
        return self.runs[0].info

    def probes(self, run: Run, task: str) -> list[ProbeInfo]:
        """Return the row's probes of one task in one of its runs."""
        return [
            probe
            for probe in run.info.probes
            if probe.task == task and probe.shuffled == self.shuffled and head_of(probe) in self.heads
        ]


def group_runs(runs: Sequence[Run]) -> list[tuple[Run, ...]]:
    """Return runs that repeat each other side by side, in the order of the first of each.

    They are of one model on one data set by the same rules and settings, and differ in the noise drawn for the features
    (`RunInfo.draw_of`) or in the seeds of the probes. Runs that hold the same probe twice are no repeats: all runs of
    such a group stay alone.
    """
    groups: dict[str, list[Run]] = {}
    for run in runs:
        groups.setdefault(_identity(run.info), []).append(run)
    whole = {key for key, group in groups.items() if not _overlap(group)}
    return [
        group
        for key, members in groups.items()
        for group in ([tuple(members)] if key in whole else [(run,) for run in members])
    ]


def _identity(info: RunInfo) -> str:
    known = info.model_dump(
        mode="json",
        include={"model", "kind", "untrained", "trained_on", "dataset", "protocols", "classes"},
    )
    settings = {name: value for name, value in info.config.items() if name != "seeds"}
    sources = [info.draw_of or info.features_fingerprint, info.targets_fingerprint]
    return json.dumps([known, settings, sources], sort_keys=True)


def _overlap(runs: Sequence[Run]) -> bool:
    probes = Counter(
        (info.features_fingerprint, *key) for info in (run.info for run in runs) for key in _probe_keys(info)
    )
    return any(count > 1 for count in probes.values())


def _probe_keys(info: RunInfo) -> set[tuple[str, str, str, int, bool]]:
    return {(probe.task, probe.tap, probe.head, probe.seed, probe.shuffled) for probe in info.probes}


def rows_of(runs: tuple[Run, ...]) -> list[Row]:
    """Return the rows of runs that repeat each other: one per head, each with its control right after it.

    Probes that are not trained stand with the head of their runs; where there are several, in a row of their own.
    """
    found = dict.fromkeys((head_of(probe), probe.shuffled) for run in runs for probe in run.info.probes)
    heads = list(dict.fromkeys(head for head, _ in found if head is not None))
    untrained = (None, False) in found
    beside = untrained and [shuffled for head, shuffled in found if head is not None].count(False) == 1
    rows = [
        Row(runs, (head, None) if beside and not shuffled else (head,), shuffled)
        for head in heads
        for shuffled in (False, True)
        if (head, shuffled) in found
    ]
    return rows + [Row(runs, (None,), False)] * (untrained and not beside)


def head_of(probe: ProbeInfo) -> str | None:
    """Return the head of a probe; `None` if it is not trained."""
    return probe.head if probe.parameters else None


def label_rows(rows: Sequence[Row]) -> list[str]:
    """Return how each row is called: by model; where that is not clear also by run, else by path.

    Where a data set has rows of several heads, every row also says its own.
    """
    titles = [row.info.titled(shuffled=row.shuffled) for row in rows]
    heads = [row.heads[0] or "" for row in rows]
    names = [row.info.name for row in rows]
    paths = [str(row.runs[0].path) for row in rows]
    labels: dict[int, str] = {}
    told = {(row.info.dataset, head) for row, head in zip(rows, heads, strict=True) if head}
    several = Counter(dataset for dataset, _ in told)
    heads = [head if several[row.info.dataset] > 1 else "" for row, head in zip(rows, heads, strict=True)]
    for parts in ([heads], [heads, names], [heads, paths]):
        called = [_called(title, *said) for title, *said in zip(titles, *parts, strict=True)]
        often = Counter((row.info.dataset, name) for row, name in zip(rows, called, strict=True))
        for index, row in enumerate(rows):
            if index not in labels and often[row.info.dataset, called[index]] == 1:
                labels[index] = called[index]
    return [labels[index] for index in range(len(rows))]


def _called(title: str, *parts: str) -> str:
    said = ", ".join(part for part in parts if part)
    return f"{title} [{said}]" if said else title

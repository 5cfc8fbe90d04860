"""The best row of every column of a table: of one data set, by one set of rules."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from evaluate.errors import QueryError, did_you_mean
from evaluate.results.columns import COLUMNS, COMPARABLE, Level

if TYPE_CHECKING:
    import pandas as pd


def best_rows(
    scores: pd.DataFrame, metric: str, per: Sequence[str] = (), *, any_tap: bool = False, controls: bool = False
) -> pd.DataFrame:
    """Return the best row of a metric of each data set, protocol, targets and number of views.

    Which way is better is what the protocol says. Of equals the first stays; NaN is never best. Where all rows are of
    controls that do not compete, there is none.

    Args:
        scores: rows of `evaluate.load_scores`.
        metric: its name; other libraries' spelling of it will do, such as `abs_rel`.
        per: more columns, for the best row of each of their values.
        any_tap: whether all taps compete, and not only the one of each model that was chosen on val. The best of many
            taps on the test scenes that it is reported on is flattered by that choice.
        controls: whether controls compete: untrained backbones, shuffled labels, raw pixels, position.

    Raises:
        QueryError: there is no such metric or column.
    """
    metric = _metric(metric, list(dict.fromkeys(scores["metric"])))
    for name in per:
        if name not in COLUMNS[Level.scores]:
            raise QueryError(f"unknown column {name!r}. {did_you_mean(name, COLUMNS[Level.scores])}")
    rows = scores[(scores["metric"] == metric) & scores["value"].notna()]
    rows = rows if any_tap else rows[rows["chosen_on_val"]]
    rows = rows if controls else rows[~is_control(rows)]
    # Where less is better, the greatest is the least of all turned round.
    turned = rows["value"].where(rows["higher_is_better"], -rows["value"])
    groups = turned.groupby([rows[name] for name in dict.fromkeys((*COMPARABLE, *per))], sort=False, dropna=False)
    return rows.loc[groups.idxmax()].reset_index(drop=True)


def _metric(asked: str, known: Sequence[str]) -> str:
    """The metric of that name, or the only one that differs by case, underscores and hyphens alone."""
    plain = {name: name.lower().replace("_", "").replace("-", "") for name in [asked, *known]}
    alike = [name for name in known if name == asked] or [name for name in known if plain[name] == plain[asked]]
    if len(alike) != 1:
        hint = did_you_mean(asked, list(known)) if known else "No row is left."
        raise QueryError(f"no row has the metric {asked!r}. {hint}")
    return alike[0]


def is_control(scores: pd.DataFrame) -> pd.Series[bool]:
    """Return whether each row is there for comparison only, as `evaluate.models.ModelResult.is_control`."""
    return scores["untrained"] | scores["shuffled"] | (scores["kind"] == "control").astype(bool)

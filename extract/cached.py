"""Why a clip has to be computed although stores are there: which store comes nearest, and in what it differs."""

from __future__ import annotations

from extract.plan import Plan
from store import root
from store.head import RECIPE
from store.layout import name_of
from store.upkeep.diff import nearest


def explain_miss(plan: Plan) -> list[str]:
    """Lines for the user if the plan's store is not there yet; none if no other store is of this model and data.

    A store that is there but has another recipe is not explained here: `store.create` raises, and names the fields.
    """
    if (plan.path / RECIPE).exists():
        return []
    lines = []
    for path, changes in nearest(plan.recipe, root()):
        name = name_of(path)
        if not changes:
            lines.append(f"store/{name} has this very recipe; to go on there: --out {path.parent.name}")
        else:
            fields = "; ".join(f"{field} is {there!r} there, {asked!r} asked for" for field, there, asked in changes)
            lines.append(f"store/{name} cannot be used: {fields}")
    return lines

"""Which head answers which task: a head speaks of cells, views or clips, and a task asks about some of these."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from probes.errors import ProbesError
from probes.heads import HEADS, head_class
from probes.tasks import TASKS, layouts_of

if TYPE_CHECKING:
    from probes.tasks import Rules


def answers(head: str, task: str, rules: Rules = "standard") -> bool:
    """Whether a head speaks of what a task asks about. Raises `UnknownNameError` for a head that there is not."""
    return bool(head_class(head).layouts & layouts_of(task, rules))


def answerable(tasks: Sequence[str], heads: Sequence[str], rules: Rules = "standard") -> list[str]:
    """The tasks that one of the heads answers, or that are not trained."""
    return [task for task in tasks if not TASKS[task].trained or any(answers(head, task, rules) for head in heads)]


def heads_of(tasks: Sequence[str], heads: Sequence[str], rules: Rules = "standard") -> dict[str, list[str]]:
    """Task -> those of the heads that answer it; none for a task that is not trained, which needs none.

    Raises:
        UnknownNameError: there is no such head.
        ProbesError: no head answers one of the tasks, or a head answers none of those that are trained; or there is no
            task at all.
    """
    if not tasks:
        others = "; ".join(f"{head}: {', '.join(t for t in TASKS if answers(head, t, rules))}" for head in heads)
        raise ProbesError(
            f"--head {', '.join(heads)}: answers no task that there are targets for. Heads answer {others}."
        )
    trained = [task for task in tasks if TASKS[task].trained]
    found = {task: [head for head in heads if task in trained and answers(head, task, rules)] for task in tasks}
    for task in trained:
        if not found[task]:
            fitting = ", ".join(other for other in HEADS if answers(other, task, rules))
            raise ProbesError(
                f"--head {', '.join(heads)}: speaks of {_listed(heads)}, and the task {task} asks about "
                f"{' or '.join(sorted(layouts_of(task, rules)))}. Heads for it: {fitting}; or leave the task out with "
                "--task."
            )
    for head in heads:
        if trained and not any(head in found[task] for task in trained):
            others = ", ".join(task for task in TASKS if answers(head, task, rules))
            raise ProbesError(
                f"--head {head}: answers none of the tasks {', '.join(trained)}. Leave it out, or ask for what it can "
                f"answer with --task: {others}."
            )
    return found


def left_out(tasks: Sequence[str], heads: Sequence[str], rules: Rules = "standard") -> dict[str, list[str]]:
    """Head -> the trained tasks that it cannot answer, of heads with such tasks."""
    trained = [task for task in tasks if TASKS[task].trained]
    found = {head: [task for task in trained if not answers(head, task, rules)] for head in heads}
    return {head: missing for head, missing in found.items() if missing}


def _listed(heads: Sequence[str]) -> str:
    return " or ".join(sorted(frozenset().union(*(head_class(head).layouts for head in heads))))

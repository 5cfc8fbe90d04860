"""Targets that training keeps in memory, one pool of pixels per clip; and whose targets a control gets."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor

from probes.errors import SplitError
from probes.inputs import TRAIN, Inputs
from probes.labels import PixelPool
from probes.seeding import generator
from probes.tasks.base import Task


class TargetPools:
    """Training targets of every clip, read once.

    Args:
        inputs: the stores.
        tasks: what is trained; nothing else is read.
        seed: of the choice of pixels that are kept.
        control: whether there are controls, which are given the pools of other scenes.

    Attributes:
        sources: row of a training clip -> row of the clip whose pool its controls are given; empty without controls.
    """

    def __init__(self, inputs: Inputs, tasks: Iterable[Task], seed: int, *, control: bool = False) -> None:
        self._inputs, self._seed = inputs, seed
        scenes = {row: inputs.clip(row).scene for row in inputs.rows[TRAIN]}
        self.sources = shuffled_sources(scenes, seed) if control else {}
        self._fields = frozenset().union(*(task.fields for task in tasks))
        self._pools: dict[int, PixelPool] = {}

    def load(self, advance: Callable[[], None]) -> None:
        """Read the targets of all training clips; `advance` is called after each."""
        with ThreadPoolExecutor(thread_name_prefix="targets") as pool:
            rows = self._inputs.rows[TRAIN]
            for row, pixels in zip(rows, pool.map(self._read, rows), strict=True):
                self._pools[row] = pixels
                advance()

    def __getitem__(self, row: int) -> PixelPool:
        """The pool of one clip."""
        if row not in self._pools:
            self._pools[row] = self._read(row)
        return self._pools[row]

    def _read(self, row: int) -> PixelPool:
        return PixelPool(self._inputs.labels(row), self._fields, self._seed, self._inputs.clip(row).id)


def shuffled_sources(scenes: Mapping[int, str], seed: int) -> dict[int, int]:
    """Row -> row of another scene whose targets it is given: scenes are put in one random cycle, and each gives to the
    one before.

    Args:
        scenes: row -> its scene. Clips of one scene show the same things, so that none may be given to another.
        seed: of the cycle.

    Raises:
        SplitError: all clips are of one scene.
    """
    rows: dict[str, list[int]] = {}
    for row, scene in scenes.items():
        rows.setdefault(scene, []).append(row)
    if len(rows) < 2:
        raise SplitError("--control: all training clips are of one scene, and no other has targets to give.")
    names = sorted(rows)
    order = [names[index] for index in generator(seed, "labels").permutation(len(names))]
    cycle = zip(order, [*order[1:], order[0]], strict=True)
    return {row: rows[to][k % len(rows[to])] for of, to in cycle for k, row in enumerate(rows[of])}

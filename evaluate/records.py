"""How a run is kept on disk: who was probed by what rules, and the statistics of every probe on every scene.

```
runs/<name>/
  run.json         RunInfo
  records.zarr/    an xarray DataTree, one group per task: every statistic has the axes (probe, scene, its own axes)
  examples.zarr/   a few predictions beside their targets, for the eye
  contents.json    size of every file of both trees: a chunk that is missing would read as zeros, without an error
```

Both trees are Zarr v3 without pickled objects, and every chunk has a checksum:
`xarray.open_datatree("runs/<name>/records.zarr", consolidated=False)`.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from evaluate.errors import InputError, RunExistsError, RunNotFoundError, damaged
from evaluate.examples import example_dataset, read_example
from evaluate.protocols import protocol_of
from evaluate.schema import SCHEMA_VERSION, Example, Kind, ProbeInfo, RunInfo, read_info

if TYPE_CHECKING:
    import xarray as xr
    from xarray import DataTree

__all__ = ["SCHEMA_VERSION", "Example", "Kind", "ProbeInfo", "Run", "RunInfo", "RunWriter"]
# What reading a broken Zarr array may raise: a missing or short file, bad JSON, a codec that gives up.
_UNREADABLE = (OSError, ValueError, KeyError, TypeError, RuntimeError)
CLASS_AXES = ("class", "true_class", "predicted_class")
RUN_FILE, RECORDS, EXAMPLES, CONTENTS = "run.json", "records.zarr", "examples.zarr", "contents.json"


class Run:
    """A finished run, read only. Arrays are read from disk when asked for."""

    def __init__(self, path: Path, info: RunInfo) -> None:
        self.path = path
        self.info = info
        self._records: dict[str, _Records] = {}

    @classmethod
    def open(cls, directory: Path | str) -> Run:
        """Open the run kept in `directory`.

        Raises:
            RunNotFoundError: there is no `run.json`.
            SchemaVersionError: the run was written in another format.
            RunDamagedError: a file is missing or truncated.
        """
        path = Path(directory)
        if not (path / RUN_FILE).is_file():
            raise RunNotFoundError(
                f"{path}: no run here ({RUN_FILE} is missing); name a directory that `probes.train` wrote"
            )
        info = read_info(path / RUN_FILE)
        _check_contents(path)
        return cls(path, info)

    def statistics(self, task: str, probe_id: str, split: str) -> tuple[list[str], dict[str, NDArray[Any]]]:
        """Return the scenes of a split and one probe's statistics there: name -> (scene, the statistic's own axes).

        Raises:
            RunDamagedError: the records lack the task or the probe, or cannot be read.
        """
        if task not in self._records:
            self._records[task] = _read_records(self.path, task, len(self.info.classes.get(task, ())))
        records = self._records[task]
        if probe_id not in records.probes:
            raise damaged(self.path, f"{RECORDS}/{task} has no probe {probe_id!r}, though {RUN_FILE} lists it")
        row = records.probes.index(probe_id)
        chosen = np.flatnonzero(np.array(records.splits) == split)
        return [records.scenes[index] for index in chosen], {
            name: array[row][chosen] for name, array in records.arrays.items()
        }

    def examples(self) -> list[Example]:
        """Return the kept examples, ordered by task, in the order in which they were added."""
        from xarray import open_datatree

        try:
            with open_datatree(self.path / EXAMPLES, engine="zarr", consolidated=False, chunks=None) as tree:
                nodes = [node.load() for node in tree.leaves if node.has_data]
        except _UNREADABLE as error:
            raise damaged(self.path, f"{EXAMPLES} cannot be read: {error}") from error
        return [read_example(node) for node in sorted(nodes, key=lambda node: node.path)]


def _sizes(path: Path) -> dict[str, int]:
    """Return the size of every file of both trees, by its name below `path`."""
    files = [file for tree in (RECORDS, EXAMPLES) for file in (path / tree).rglob("*") if file.is_file()]
    return {file.relative_to(path).as_posix(): file.stat().st_size for file in sorted(files)}


def _check_contents(path: Path) -> None:
    try:
        listed = dict(json.loads((path / CONTENTS).read_bytes()).items())
    except (OSError, ValueError, AttributeError) as error:
        raise damaged(path, f"{CONTENTS} cannot be read: {error}") from error
    found = _sizes(path)
    wrong = [name for name, size in listed.items() if found.get(name) != size]
    if wrong:
        name = wrong[0]
        state = "is missing" if name not in found else f"has {found[name]} bytes instead of {listed[name]}"
        raise damaged(path, f"{name} {state}")


@dataclass(frozen=True)
class _Records:
    probes: list[str]
    scenes: list[str]
    splits: list[str]
    arrays: dict[str, NDArray[Any]]


def _read_records(path: Path, task: str, classes: int) -> _Records:
    from xarray import open_dataset

    try:
        with open_dataset(path / RECORDS, group=task, engine="zarr", consolidated=False, chunks=None) as dataset:
            dataset.load()
            probes, scenes, splits = (
                [str(label) for label in dataset[name].values] for name in ("probe", "scene", "split")
            )
            arrays = {str(name): array.to_numpy() for name, array in dataset.data_vars.items()}
            counts = {int(dataset.sizes[name]) for name in CLASS_AXES if name in dataset.sizes}
    except _UNREADABLE as error:
        raise damaged(path, f"{RECORDS}/{task} cannot be read: {error}") from error
    if counts - {classes}:
        raise damaged(path, f"{RECORDS}/{task} is of {max(counts - {classes})} classes; {RUN_FILE} names {classes}")
    return _Records(probes, scenes, splits, arrays)


def _checked(tree: DataTree) -> dict[str, dict[str, dict[str, Any]]]:
    """Return the encoding in which a flipped bit is an error, and not another number."""
    from zarr.codecs import ZstdCodec

    codec = {"compressors": (ZstdCodec(level=0, checksum=True),)}
    return {node.path: {str(name): codec for name in node.variables} for node in tree.subtree if node.variables}


class RunWriter:
    """Gathers the statistics of a run and writes it in one go: a run directory exists only complete.

    As a context manager it closes on success and leaves nothing behind on an error. Further files (weights, a
    training log) are put into `staging` before `close`; they move together with the rest.

    Args:
        directory: where the run shall lie. Its parent is created.
        info: what was probed; every probe that is added must be listed in it.
        replace: put the new run in the place of a finished older one, which stays until then.

    Raises:
        RunExistsError: `directory` exists, and `replace` is false or it is no run.
    """

    def __init__(self, directory: Path | str, info: RunInfo, *, replace: bool = False) -> None:
        self.directory = Path(directory)
        self.info = info
        if self.directory.exists() and not replace:
            raise RunExistsError(f"{self.directory}: already exists; pass --force to replace it, or another --out")
        if self.directory.exists() and not (self.directory / RUN_FILE).is_file():
            raise RunExistsError(
                f"{self.directory}: is no run, so it is not replaced; remove it, or pass another --out"
            )
        self._protocols = {task: protocol_of(name, info.classes.get(task, ())) for task, name in info.protocols.items()}
        self._tasks = {probe.id: probe.task for probe in info.probes}
        self._rows: dict[str, dict[tuple[str, str], Mapping[str, NDArray[Any]]]] = defaultdict(dict)
        self._splits: dict[str, dict[str, str]] = defaultdict(dict)
        self._examples: list[Example] = []
        self.directory.parent.mkdir(parents=True, exist_ok=True)
        self.staging = Path(tempfile.mkdtemp(prefix=f".{self.directory.name}.", dir=self.directory.parent))

    def __enter__(self) -> RunWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self.close()
        else:
            self.discard()

    def add(self, probe_id: str, scene: str, split: str, statistics: Mapping[str, NDArray[Any] | np.generic]) -> None:
        """Add what `Protocol.score_scene` returned for one probe and scene.

        Raises:
            InputError: the probe is not in `info`, its scene was added before, or the statistics are not those of its
                task's protocol.
        """
        if probe_id not in self._tasks:
            raise InputError(f"probe {probe_id!r} is not listed in RunInfo.probes; got it for scene {scene!r}")
        task = self._tasks[probe_id]
        expected = {name: len(dims) for name, dims in self._protocols[task].dims.items()}
        got = {name: np.ndim(array) for name, array in statistics.items()}
        if got != expected:
            raise InputError(
                f"statistics of {probe_id!r} on {scene!r} have axes {got}; {self.info.protocols[task]} has {expected}"
            )
        if self._splits[task].setdefault(scene, split) != split:
            raise InputError(
                f"scene {scene!r} was added as {self._splits[task][scene]!r} and as {split!r}; a scene has one split"
            )
        if (probe_id, scene) in self._rows[task]:
            raise InputError(f"{probe_id!r} on {scene!r} was added twice; statistics are of a scene as a whole")
        self._rows[task][probe_id, scene] = {name: np.asarray(array) for name, array in statistics.items()}

    def add_example(self, example: Example) -> None:
        """Add an example to be shown in the report."""
        self._examples.append(example)

    def close(self) -> None:
        """Write everything into `staging`, then move it to its place.

        Raises:
            InputError: a probe lacks a scene that others of its task have.
        """
        from xarray import DataTree

        try:
            records = DataTree.from_dict({f"/{task}": self._dataset(task) for task in self.info.protocols})
            records.to_zarr(self.staging / RECORDS, zarr_format=3, consolidated=False, encoding=_checked(records))
            examples = DataTree.from_dict(
                {f"/{item.task}/{index:03d}": example_dataset(item) for index, item in enumerate(self._examples)}
            )
            examples.to_zarr(self.staging / EXAMPLES, zarr_format=3, consolidated=False, encoding=_checked(examples))
            (self.staging / RUN_FILE).write_text(self.info.model_dump_json(indent=2) + "\n", "utf-8")
            (self.staging / CONTENTS).write_text(json.dumps(_sizes(self.staging), indent=1) + "\n", "utf-8")
            self._move()
        except BaseException:
            self.discard()
            raise

    def discard(self) -> None:
        """Remove what was staged; the run directory is not touched."""
        shutil.rmtree(self.staging, ignore_errors=True)

    def _move(self) -> None:
        self.staging.chmod(0o755)
        older = self.staging.with_name(self.staging.name + ".old")
        # A reader finds the old run or the new one, and for an instant none, but never half of one.
        if self.directory.exists():
            self.directory.rename(older)
        self.staging.rename(self.directory)
        shutil.rmtree(older, ignore_errors=True)

    def _dataset(self, task: str) -> xr.Dataset:
        import xarray as xr

        probes = [probe.id for probe in self.info.probes if probe.task == task]
        scenes = list(self._splits[task])
        rows = self._rows[task]
        missing = [(probe, scene) for probe in probes for scene in scenes if (probe, scene) not in rows]
        if missing or not scenes or not probes:
            what = (
                f"probe {missing[0][0]!r} has no scene {missing[0][1]!r}"
                if missing
                else "no scene or no probe was added"
            )
            raise InputError(
                f"{self.directory}: task {task!r} is incomplete: {what}; add every probe of a task on every scene"
            )
        variables = {}
        for name, dims in self._protocols[task].dims.items():
            shapes = {rows[key][name].shape for key in rows}
            if len(shapes) > 1:
                raise InputError(
                    f"statistic {name!r} of {task!r} has several shapes: {sorted(shapes)}; one per task is allowed"
                )
            stacked = np.stack([np.stack([rows[probe, scene][name] for scene in scenes]) for probe in probes])
            variables[name] = (("probe", "scene", *dims), stacked)
        return xr.Dataset(
            variables,
            coords={
                "probe": ("probe", _strings(probes)),
                "scene": ("scene", _strings(scenes)),
                "split": ("scene", _strings([self._splits[task][scene] for scene in scenes])),
            },
            attrs={"protocol": self.info.protocols[task]},
        )


def _strings(values: list[str]) -> NDArray[Any]:
    # Variable-length strings have a Zarr v3 specification; numpy's fixed-length ones do not.
    return np.array(values, dtype=np.dtypes.StringDType())

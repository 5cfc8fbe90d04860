"""Everything about a run that is decided before anything heavy is imported, and whether it was done before."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from probes.config import TapSpec, TrainConfig
from probes.errors import RunExistsError
from probes.inputs import Inputs

if TYPE_CHECKING:
    from evaluate.protocols import Protocol
    from evaluate.records import RunInfo


@dataclass(frozen=True)
class Plan:
    """A run, resolved.

    Attributes:
        inputs: stores and rows.
        config: what may change a number.
        taps: the taps of `config`, in execution order.
        out: the run directory.
        protocols: task name -> protocol.
        embeddings: file of the embeddings of class names, for heads whose queries they are.
    """

    inputs: Inputs
    config: TrainConfig
    taps: Sequence[TapSpec]
    out: Path
    protocols: Mapping[str, Protocol]
    embeddings: Path | None = None

    @property
    def recorded(self) -> dict[str, Any]:
        """The configuration as it stands in `run.json`, with the number of clips of each split."""
        clips = {split: len(self.inputs.rows[split]) for split in self.inputs.rows}
        return self.config.model_dump(mode="json") | {"clips": clips}

    @property
    def identity(self) -> dict[str, Any]:
        """What must agree for an existing run to be this one."""
        return {
            "features": self.inputs.features.fingerprint,
            "targets": self.inputs.targets.fingerprint,
            "protocols": {task: protocol.id for task, protocol in self.protocols.items()},
            **self.recorded,
        }


def default_out(features: str, dataset: str, config: TrainConfig) -> Path:
    """`runs/svd-scannet` for the store `svd/scannet`: flat, so that `runs/*` finds every run.

    What is not the usual way stands in the name: other targets, other heads. A control does not: it lies in the run of
    what it is the control of.
    """
    model, _, extracted = features.rpartition("/")
    parts = [*model.split("/"), extracted] if model else [extracted]
    parts += [dataset] * (dataset != extracted)
    parts += list(config.heads) * (config.heads != ("linear",))
    parts += [f"d{config.depth}"] * (config.depth is not None)
    parts += [config.protocol] * (config.protocol != "standard")
    return Path("runs") / "-".join(parts)


def existing_run(plan: Plan) -> tuple[RunInfo, dict[str, tuple[Any, Any]]] | None:
    """The run that is already at `plan.out`, and where it differs: field -> (there, asked). `None` if nothing is there.

    Raises:
        RunExistsError: what is there is no run.
    """
    if not plan.out.exists():
        return None
    from evaluate.errors import EvaluateError
    from evaluate.records import Run

    try:
        info = Run.open(plan.out).info
    except EvaluateError as error:
        raise RunExistsError(
            f"{plan.out}: exists, but is no run that can be read ({error}). Move it away, or choose another --out."
        ) from error
    there = {
        "features": info.features_fingerprint,
        "targets": info.targets_fingerprint,
        "protocols": info.protocols,
        **info.config,
    }
    asked = plan.identity
    names = sorted(there.keys() | asked.keys())
    return info, {name: (there.get(name), asked.get(name)) for name in names if there.get(name) != asked.get(name)}

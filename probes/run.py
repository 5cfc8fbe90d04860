"""One training run, from two stores to a run directory that exists only complete."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from probes.config import ProbeSpec, TapSpec, TrainConfig, probes_of
from probes.errors import RunExistsError, UnknownNameError
from probes.inputs import SPLITS, TEST, TRAIN, VAL, Inputs

if TYPE_CHECKING:
    import torch
    from rich.progress import Progress, TaskID

    from evaluate.protocols import Protocol
    from evaluate.records import ProbeInfo, RunInfo
    from probes.bank import ProbeBank
    from probes.data import TrainingStream
    from probes.predict import Best
    from probes.standardise import Standardiser

LIBRARIES = ("torch", "lightning", "numpy", "scikit-learn", "safetensors", "zarr")


@dataclass(frozen=True)
class Plan:
    """Everything decided before anything heavy is imported.

    Attributes:
        inputs: stores and rows.
        config: what may change a number.
        taps: the taps of `config`, in execution order.
        out: the run directory.
        protocols: task name -> protocol.
    """

    inputs: Inputs
    config: TrainConfig
    taps: Sequence[TapSpec]
    out: Path
    protocols: Mapping[str, Protocol]

    @property
    def recorded(self) -> dict[str, Any]:
        """The configuration as it stands in `run.json`, with the number of clips of each split."""
        clips = {split: len(self.inputs.rows[split]) for split in SPLITS}
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


def default_out(features: str, *, shuffled: bool = False) -> Path:
    """`runs/svd-scannet` for the store `svd/scannet`: flat, so that `runs/*` finds every run."""
    return Path("runs") / (features.replace("/", "-") + "-shuffled" * shuffled)


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


def execute(plan: Plan, device: str, command: str, *, replace: bool) -> list[Best]:
    """Train, predict, and write the run. Returns the best probe of each task. On any error nothing is left behind."""
    from evaluate.records import RunWriter
    from probes.bank import ProbeBank
    from probes.checkpoint import save
    from probes.data import TrainingStream
    from probes.predict import choose_best, examples, scenes_of, score
    from probes.progress import bars
    from probes.tasks import get_task

    inputs, config = plan.inputs, plan.config
    place = torch_device(device)
    tasks = {name: get_task(name, inputs.space) for name in config.tasks}
    probes = probes_of(config)
    taps = {tap.name: tap for tap in plan.taps}
    stream = TrainingStream(inputs, tasks, config, pin=place.type == "cuda")
    with bars() as progress:
        bar = progress.add_task("targets", total=len(inputs.rows[TRAIN]), note=f"clips of {inputs.targets.name}")
        stream.pools.load(lambda: progress.advance(bar))
        bar = progress.add_task("standardise", total=len(taps), note="taps")
        standardisers = {}
        for tap in taps:
            standardisers[tap] = standardiser_of(inputs, tap, config.views)
            progress.advance(bar)
        bank = ProbeBank(probes, taps, tasks, standardisers, len(stream))
        info = run_info(plan, bank, command)
        writer = RunWriter(plan.out, info, replace=replace)
        try:
            bank.start_at({task: tasks[task].prior(stream.prior(task)) for task in tasks})
            bar = progress.add_task("train", total=len(stream), note="")
            fit(bank, stream, place, writer.staging / "metrics.csv", progress, bar)
            bank.to(place).eval()
            save(bank, writer.staging, inputs.features.name, inputs.features.fingerprint, inputs.space)
            scenes = sum(len(scenes_of(inputs, split)) for split in (VAL, TEST))
            bar = progress.add_task("evaluate", total=scenes, note="scenes")
            scores = score(bank, inputs, plan.protocols, config, writer.add, lambda: progress.advance(bar))
            best = choose_best(bank, scores, plan.protocols)
            for example in examples(bank, inputs, best, config):
                writer.add_example(example)
            writer.close()
        except BaseException:  # also an interrupt must leave nothing behind
            writer.discard()
            raise
    return best


def fit(
    bank: ProbeBank, stream: TrainingStream, device: torch.device, log: Path, progress: Progress, bar: TaskID
) -> None:
    """Run Lightning over the stream: one pass, one optimizer step per batch."""
    import logging
    import warnings

    import lightning.pytorch as L
    from lightning.fabric.plugins.environments.lightning import LightningEnvironment

    from probes.progress import TrainingLog

    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    with warnings.catch_warnings():
        # The stream prefetches by itself and is no DataLoader, so advice on the number of workers is beside the point.
        warnings.filterwarnings("ignore", message=".*does not have many workers.*")
        # Lightning 2.6 calls what torch 2.13 deprecates; nothing a user can act on.
        warnings.filterwarnings("ignore", message=r".*isinstance\(treespec, LeafSpec\).*")
        trainer = L.Trainer(
            accelerator={"cuda": "gpu"}.get(device.type, device.type),
            devices=[device.index or 0] if device.type == "cuda" else 1,
            max_epochs=1,
            logger=False,
            callbacks=[TrainingLog(log, progress, bar)],
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            plugins=[LightningEnvironment()],
        )
        trainer.fit(bank, stream)


def standardiser_of(inputs: Inputs, tap: str, stride: int) -> Standardiser:
    """Channel moments of a tap over training clips: every `stride`-th bank frame, starting elsewhere in each clip."""
    from probes.features import read_features
    from probes.standardise import fit_standardiser

    return fit_standardiser(
        read_features(inputs, tap, row, list(range(row % stride, len(inputs.clip(row).bank), stride)))
        for row in inputs.rows[TRAIN]
    )


def run_info(plan: Plan, bank: ProbeBank, command: str) -> RunInfo:
    """What the run says about itself."""
    from evaluate.records import RunInfo

    features = plan.inputs.features.recipe
    assert features.backbone is not None  # checked when the store was opened
    return RunInfo(
        name=plan.out.name,
        model=features.backbone.model,
        kind=features.backbone.kind,
        untrained=features.backbone.untrained is not None,
        shuffled=plan.config.shuffle_labels,
        dataset=features.dataset.name,
        features_fingerprint=plan.inputs.features.fingerprint,
        targets_fingerprint=plan.inputs.targets.fingerprint,
        config=plan.recorded,
        protocols={task: protocol.id for task, protocol in plan.protocols.items()},
        classes={name: task.classes for name, task in bank.tasks.items() if task.classes},
        probes=[
            _probe_info(probe, bank.taps[probe.tap], sum(p.numel() for p in head.parameters()))
            for probe, head in zip(bank.probes, bank.heads, strict=True)
        ],
        command=command,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        versions={name: version(name) for name in LIBRARIES},
    )


def _probe_info(probe: ProbeSpec, tap: TapSpec, parameters: int) -> ProbeInfo:
    from evaluate.records import ProbeInfo

    return ProbeInfo(
        id=probe.id,
        task=probe.task,
        tap=probe.tap,
        site=tap.site,
        depth=tap.depth,
        noise=tap.noise,
        head=probe.head,
        learning_rate=probe.learning_rate,
        weight_decay=probe.weight_decay,
        seed=probe.seed,
        parameters=parameters,
    )


def torch_device(name: str) -> torch.device:
    """A device by name; `auto` is a GPU if there is one. Raises `UnknownNameError` for what torch does not have."""
    import torch

    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise UnknownNameError(f"device {name!r} cannot be used here ({reason}). Use auto, cpu or cuda.") from error
    return device

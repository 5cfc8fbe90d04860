"""Scenes to look at: where a task's best probe is worst, as usual, and best; predictions beside their targets."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from numpy.typing import NDArray

from probes.bank import ProbeBank
from probes.colours import Colours, colours_of
from probes.config import TrainConfig
from probes.features import read_features
from probes.inputs import TEST, Inputs
from probes.labels import ClipLabels
from probes.sampling import GridMap
from probes.shown import SHOWN
from probes.views import evaluation_windows

if TYPE_CHECKING:
    from evaluate.metrics.base import MetricInfo
    from evaluate.protocols import Protocol
    from evaluate.records import Example
    from probes.predict import Best

ENDS = 1
"""Scenes kept of either end, per task; the median is kept as well. Predictions of all scenes would fill a disk."""

Statistics = Mapping[str, NDArray[Any]]


def values_of(protocol: Protocol, statistics: Mapping[str, Statistics]) -> dict[str, float]:
    """Scene -> the primary metric there alone; NaN where there is nothing to measure."""
    return {
        scene: protocol.reduce({name: array[None] for name, array in arrays.items()})[protocol.primary]
        for scene, arrays in statistics.items()
    }


def choose(values: Mapping[str, float], metric: MetricInfo) -> dict[str, str]:
    """Return scene -> why it is looked at, from worst to best: `ENDS` of either end, and the median.

    No scene is there twice; of few scenes the first of either end go before the median, and that before the second
    ones. Of an even number, the worse of both in the middle is the median. Scenes without a value (NaN) are not among
    those that are counted; equals are in the order of their names.
    """
    from evaluate.scenes import worst_to_best

    order = [scene for scene, _ in worst_to_best(values, metric)]
    last = len(order) - 1
    wanted = [(0, "worst 1"), (last, "best 1"), (last // 2, "median")]
    for place in range(1, ENDS):
        wanted += [(place, f"worst {place + 1}"), (last - place, f"best {place + 1}")]
    chosen: dict[int, str] = {}
    for place, why in wanted:
        if 0 <= place <= last:
            chosen.setdefault(place, f"{why} of {len(order)}" if last else "the only scene")
    return {order[place]: chosen[place] for place in sorted(chosen)}


@torch.inference_mode()
def examples(
    bank: ProbeBank,
    inputs: Inputs,
    protocols: Mapping[str, Protocol],
    config: TrainConfig,
    best: Sequence[Best],
    statistics: Mapping[str, Mapping[str, Statistics]],
) -> Iterator[Example]:
    """Predict again for a few test scenes of each task: a clip's first window, while the value is the whole scene's.

    Args:
        bank: trained probes.
        inputs: the stores.
        protocols: task name -> protocol.
        config: as in training; gives the views of a window.
        best: the probe of each task that is shown.
        statistics: probe id -> test scene -> what `Protocol.score_scene` returned; of the probes in `best`.
    """
    from evaluate.records import Example

    colours: dict[str, Colours] = {}
    rows = {inputs.clip(row).scene: row for row in reversed(inputs.rows[TEST])}
    for choice in best:
        index = [probe.id for probe in bank.probes].index(choice.probe_id)
        protocol = protocols[choice.task]
        values = values_of(protocol, statistics[choice.probe_id])
        for scene, why in choose(values, protocol.metrics[protocol.primary]).items():
            if choice.tap not in colours:
                colours[choice.tap] = colours_of(bank, inputs, choice.tap)
            clip = inputs.clip(rows[scene])
            window = evaluation_windows(config, clip)[:1]
            yield Example(
                task=choice.task,
                scene=scene,
                split=TEST,
                probe_id=choice.probe_id,
                frames=[clip.bank[position] for position in window[0]],
                arrays=_arrays(bank, inputs, index, clip.row, window, colours[choice.tap]),
                why=why,
                value=values[scene],
            )


def _arrays(
    bank: ProbeBank, inputs: Inputs, index: int, row: int, window: NDArray[Any], colours: Colours
) -> dict[str, NDArray[Any]]:
    probe = bank.probes[index]
    task, tap, labels = bank.task(probe), bank.taps[probe.tap], inputs.labels(row)
    features = read_features(inputs, tap.name, row, window[0].tolist()).to(bank.device)
    grid = bank.grid(tap.name, features[None])
    prediction = task.predict_seeing(bank(index, grid), GridMap(*tap.grid_map), labels, window)
    arrays = _views(inputs, labels, window[0])
    return arrays | SHOWN[probe.task](task, prediction, labels, window) | {"features_pca": colours(grid.cells[0])}


def _views(inputs: Inputs, labels: ClipLabels, frames: NDArray[Any]) -> dict[str, NDArray[Any]]:
    """Pictures and cameras, where they are known."""
    arrays: dict[str, NDArray[Any]] = {}
    there = inputs.targets.arrays
    if "rgb" in there:
        arrays["rgb"] = labels.rgb[frames]
    if "intrinsics" in there and labels.calibrated[frames].all():
        arrays["intrinsics"] = labels.intrinsics[frames]
    if "cam_to_world" in there and labels.posed[frames].all():
        arrays["cam_to_world"] = labels.cam_to_world[frames]
    return arrays

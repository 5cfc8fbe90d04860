"""The protocols as `torchmetrics.Metric`: for training loops, distributed or not, with the very numbers of the report.

metric = DepthMetric()
metric.update({"depth": prediction}, {"depth": target})    # one scene: tensors or arrays
metric.compute()["absrel"]
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.utilities import dim_zero_cat

from evaluate.protocols import get_protocol


class SceneMetric(Metric):
    """Keeps the statistics of each scene that it was updated with; `compute` reduces them by the task's protocol.

    States are lists that are concatenated over processes, so every process may see other scenes. A scene must be seen
    once.

    Args:
        classes: class names, for tasks that have classes.
        family: family of the protocol.
    """

    task: ClassVar[str]
    full_state_update = False

    def __init__(self, classes: Sequence[str] = (), family: str = "standard", **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.protocol = get_protocol(self.task, classes, family)
        for name in self.protocol.dims:
            self.add_state(f"stat_{name}", default=[], dist_reduce_fx="cat")

    def update(self, prediction: Mapping[str, ArrayLike | Tensor], target: Mapping[str, ArrayLike | Tensor]) -> None:
        """Add one scene, in the form that the protocol's `score_scene` takes."""
        statistics = self.protocol.score_scene(_arrays(prediction), _arrays(target))
        for name, value in statistics.items():
            getattr(self, f"stat_{name}").append(torch.as_tensor(np.asarray(value), device=self.device)[None])

    def compute(self) -> dict[str, Tensor]:
        """Return every metric of the protocol over the scenes seen so far."""
        statistics = {name: dim_zero_cat(getattr(self, f"stat_{name}")).cpu().numpy() for name in self.protocol.dims}
        return {name: torch.tensor(value) for name, value in self.protocol.reduce(statistics).items()}


def _arrays(values: Mapping[str, ArrayLike | Tensor]) -> dict[str, NDArray[Any]]:
    return {
        name: value.detach().cpu().numpy() if isinstance(value, Tensor) else np.asarray(value)
        for name, value in values.items()
    }


class TaggingMetric(SceneMetric):
    """mAP and its buckets, OF1 and CF1 of view sets."""

    task = "tagging"


class SegmentationMetric(SceneMetric):
    """mIoU and accuracies of pixels."""

    task = "segmentation"


class GroupingMetric(SceneMetric):
    """T-mIoU, T-SR, ARI and PQ of clustered embeddings."""

    task = "grouping"


class DepthMetric(SceneMetric):
    """AbsRel and its kin of metric depth."""

    task = "depth"


class PointsMetric(SceneMetric):
    """Error, accuracy, completeness and F-score of points after the best similarity."""

    task = "points"


class CameraMetric(SceneMetric):
    """AUC, RRA and RTA of relative poses, ATE and RPE of trajectories."""

    task = "camera"


class NormalsMetric(SceneMetric):
    """Angles between surface normals."""

    task = "normals"


class CorrespondenceMetric(SceneMetric):
    """Recall of matches between views."""

    task = "correspondence"

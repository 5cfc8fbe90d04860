"""The probe of arXiv 2605.28132: attention within views and across views in turn, and a read-out for each task.

It is no small reader: about 23 million parameters for tagging, 54 for grouping, 160 for depth. What it finds may lie in
the features or be worked out from them; with depth 0 nothing is exchanged between cells, which tells how much is which.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import torch
from jaxtyping import Float
from torch import Tensor, nn

from probes.alternating.camera import CameraHead
from probes.alternating.dense import CELL, FUSION, STAGE_CHANNELS, DenseHead
from probes.alternating.instance import InstanceHead
from probes.alternating.tagging import TaggingHead
from probes.alternating.trunk import SPECIALS, Trunk, TrunkOutput
from probes.heads.base import Form, Grid, Head, HeadSize, start_bias

if TYPE_CHECKING:
    from probes.tasks.base import Task

USUAL = HeadSize(1024, 4)
SIZES = {"tagging": HeadSize(512, 2), "grouping": HeadSize(1024, 2)}
"""Width and depth of the trunk by task (arXiv 2605.28132, published configurations); `USUAL` for the others."""
DROPOUT, TAGGING_DROPOUT = 0.1, 0.3
HEADS, HEAD_WIDTH = 16, 16
"""Heads of attention, fewer where the width would leave less than so many channels to each."""
_BLOCK, _DENSE = 34, 64
"""About how many numbers per token and channel one block, and per pixel a dense read-out, hold at a time."""


def attention_heads(width: int) -> int:
    """How many heads of attention a width is shared between."""
    return max(1, min(HEADS, width // HEAD_WIDTH))


def make_trunk(task: str, channels: int, size: HeadSize) -> Trunk:
    """The trunk of the probe of a task."""
    dropout = TAGGING_DROPOUT if task == "tagging" else DROPOUT
    return Trunk(channels, size.width, size.depth, attention_heads(size.width), dropout)


class AlternatingHead(Head):
    """A trunk, which several heads may share, and what reads the task's answer from it.

    - `clip`: a decoder with one query per class looks at the cells of all views.
    - `poses`: the camera token of each view is refined to a pose, four times.
    - `cells`: an MLP at each token for embeddings of instances; else a dense prediction head, 14 pixels per cell.

    Args:
        task: what is asked.
        trunk: the trunk.
        size: of the trunk.
    """

    layouts = frozenset({"clip", "poses", "cells"})
    draws = True

    def __init__(self, task: Task, trunk: Trunk, size: HeadSize) -> None:
        super().__init__()
        self.layout, self.size = task.layout, size
        self.trunk, self.dense_size = trunk, task.dense_size
        self.read = self._read_out(task, 2 * size.width)

    @classmethod
    def build(cls, task: Task, channels: int, form: Form) -> AlternatingHead:
        """See `Head.build`."""
        if isinstance(shared := form.trunk, Trunk):
            return cls(task, shared, HeadSize(shared.project.out_features, len(shared.frame_blocks)))
        width, depth = SIZES.get(task.name, USUAL)
        chosen = HeadSize(width if form.width is None else form.width, depth if form.depth is None else form.depth)
        return cls(task, make_trunk(task.name, channels, chosen), chosen)

    @property
    def across(self) -> bool:
        """Not so at depth 0, but for read-outs that look at all views."""
        return self.size.depth > 0 or self.layout != "cells"

    def forward(self, grid: Grid) -> Float[Tensor, "clip *where output"]:
        """(clip, 1, class) for clips, (clip, iteration, view, 9) for poses, (clip, view, y, x, output) for cells.

        The read-out is computed in float32 whatever the trunk is, as in the published code of arXiv 2605.28132: of a
        log depth of 2, bfloat16 rounds 0.8 % of the depth away.
        """
        out: TrunkOutput = grid.through(self.trunk)
        with torch.autocast(out.stages[0].device.type, enabled=False):
            single = {id(stage): stage.float() for stage in out.stages}  # at depth 0 they are one
            return self._said(replace(out, stages=[single[id(stage)] for stage in out.stages]))

    def _said(self, out: TrunkOutput) -> Float[Tensor, "clip *where output"]:
        if self.layout == "clip":
            logits: Tensor = self.read(out.cells)
            return logits[:, None]
        if self.layout == "poses":
            estimates: Tensor = self.read(out.camera)
            return estimates.transpose(0, 1)
        outputs: Tensor = self.read(out, self.dense_size) if isinstance(self.read, DenseHead) else self.read(out.cells)
        return outputs

    def start_at(self, prior: Float[Tensor, " output"]) -> None:
        """Set the last bias of read-outs that have one."""
        if isinstance(self.read, TaggingHead):
            start_bias(self.read.bias, prior)
        elif isinstance(self.read, DenseHead):
            last = self.read.last[-1]
            assert isinstance(last, nn.Conv2d)
            assert last.bias is not None
            start_bias(last.bias, prior)

    def kept_numbers(self, views: int, cells: int) -> int:
        """Inputs of every block, one block at a time, and the views of a dense read-out that are in work at once."""
        tokens, (width, depth) = views * (cells + SPECIALS), self.size
        trunk = tokens * width * (4 * depth + (_BLOCK if depth else 2))
        rows, columns = self.dense_size or (CELL, CELL * cells)
        dense = views * rows * columns * _DENSE if isinstance(self.read, DenseHead) else 0
        return trunk + dense

    def _read_out(self, task: Task, channels: int) -> nn.Module:
        if self.layout == "clip":
            return TaggingHead(channels, task.outputs, task.embeddings)
        if self.layout == "poses":
            return CameraHead(channels, attention_heads(channels))
        if task.name == "grouping":
            return InstanceHead(channels, outputs=task.outputs)
        return dense_head(self.size, task.outputs)


def dense_head(size: HeadSize, outputs: int) -> DenseHead:
    """A dense prediction head for a trunk of this size; narrower for one that is narrower than the paper's."""
    share = min(1.0, size.width / USUAL.width)
    finest, finer, coarser, coarsest = (max(8, 8 * round(channels * share / 8)) for channels in STAGE_CHANNELS)
    fusion = max(8, 8 * round(FUSION * share / 8))
    return DenseHead(2 * size.width, size.depth, outputs, (finest, finer, coarser, coarsest), fusion)


class DptHead(AlternatingHead):
    """The same with a trunk that exchanges nothing, so that the dense read-out alone looks around."""

    layouts = frozenset({"cells"})
    draws = False

    @classmethod
    def build(cls, task: Task, channels: int, form: Form) -> DptHead:
        """See `Head.build`; the depth is 0."""
        flat = HeadSize(form.width or USUAL.width, 0)
        return cls(task, Trunk(channels, flat.width, 0, attention_heads(flat.width)), flat)

    def _read_out(self, task: Task, channels: int) -> nn.Module:
        return dense_head(self.size, task.outputs)

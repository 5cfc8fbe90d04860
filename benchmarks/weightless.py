"""How many floating-point operations a clip takes in a published network: a forward at full size, without numbers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch

import torch
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode, unset_fake_temporarily
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten
from torch.utils.flop_counter import FlopCounterMode, flop_registry
from transformers.initialization import TORCH_INIT_FUNCTIONS

from extract.backbones.base import Backbone, Family
from extract.checkpoints.loading import build, cast
from extract.checkpoints.model_family import MODEL
from extract.diffusion.backbone import LatentVideoBackbone
from extract.diffusion.latent_video import LatentVideoFamily
from extract.diffusion.prompt import drawn_prompt
from extract.plan import Tap
from extract.taps import listen
from extract.vision_language.backbone import VisionLanguageBackbone
from extract.vision_language.family import VisionLanguageFamily

CPU, DTYPE = torch.device("cpu"), torch.bfloat16
_PICTURE = (60, 80, 3)
"""Frames are resized anyway."""


class RealNumbersFirst(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Compute for real what is made of real tensors alone: ids, grids, positions, schedules, which decide on shapes.

    Weights are fake, and so is whatever is computed from them. A real mask that picks from a fake tensor is turned to
    indices, since a fake tensor cannot say how many it picks.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        flat, _ = tree_flatten((args, kwargs))
        if not any(isinstance(each, FakeTensor) for each in flat):
            with unset_fake_temporarily():
                return func(*args, **kwargs)
        if func in (torch.ops.aten.index.Tensor, torch.ops.aten.index_put.default, torch.ops.aten.index_put_.default):
            values, indices, *rest = args
            with unset_fake_temporarily():
                indices = [each for index in indices for each in _picked(index)]
            args = (values, indices, *rest)
        return func(*args, **kwargs)


def _picked(index: Any) -> list[Any]:
    if index is None or index.dtype != torch.bool or isinstance(index, FakeTensor):
        return [index]
    return list(index.nonzero(as_tuple=True))


def operations(family: Family, taps: Sequence[Tap], n_frames: int, bank: Sequence[int]) -> Counter[str]:
    """Floating-point operations of one clip, a multiplication and an addition being two; torch's counter counts them.

    Matrix products, convolutions and attention count; norms, activations and pooling do not. Attention counts in full
    where it is causal too.

    Args:
        family: of video generators or vision-language models, with `options.untrained` set.
        taps: each forward ends after the deepest.
        n_frames: of the clip.
        bank: its frames that features are kept for.

    Returns:
        Type of the computation -> operations; weights are bfloat16 but where the family wants them in float32.
    """
    numbers, positions = family.window(n_frames, bank)
    frames = torch.zeros(len(numbers), *_PICTURE, dtype=torch.uint8)
    levels = {tap.level.name if tap.level else "": tap.level for tap in taps}
    sites = list({tap.site.name: tap.site for tap in taps if tap.site.stage == "forward"}.values())
    counted: Counter[str] = Counter()
    # transformers looks at the values that it has drawn, which fake tensors do not have.
    drawn: Mapping[str, Any] = {"trunc_normal_": lambda tensor, **how: tensor}
    with patch.dict(TORCH_INIT_FUNCTIONS, drawn), FakeTensorMode(allow_non_fake_inputs=True):
        backbone = _backbone(family)
        with _counting(counted):
            state = backbone.encode(frames, positions, torch.Generator())
        for level in levels.values():
            for part in backbone.parts(state):
                with _counting(counted), listen(backbone.module, sites, stop=True):
                    backbone.forward(part, level)
    return counted


def _backbone(family: Family) -> Backbone:
    """With fake weights, if called among fake tensors."""
    if isinstance(family, LatentVideoFamily):
        networks = {
            part.name: cast(build(part, family.configs[part.name]), family.dtype_of(part, DTYPE))
            for part in family.networks
        }
        return LatentVideoBackbone(networks, family, drawn_prompt(family, 0, DTYPE), CPU, DTYPE)
    if isinstance(family, VisionLanguageFamily):
        (part,) = family.networks
        network = cast(build(part, family.configs[MODEL]), DTYPE)
        return VisionLanguageBackbone(network, family, lambda text: list(text.encode()), CPU, DTYPE)
    raise ValueError(f"{family.model}: operations are counted of video generators and vision-language models only")


@contextmanager
def _counting(counted: Counter[str]) -> Iterator[None]:
    """Add what is computed meanwhile to what was counted."""

    def by_type(formula: Callable[..., int]) -> Callable[..., int]:
        def count(*args: Any, **kwargs: Any) -> int:
            found = formula(*args, **kwargs)
            tensor = next(each for each in args if isinstance(each, torch.Tensor))
            counted[str(tensor.dtype).removeprefix("torch.")] += found
            return found

        count._get_raw = True  # type: ignore[attr-defined]  # the counter then gives it tensors, not shapes
        return count

    ours = {operation: by_type(formula) for operation, formula in flop_registry.items()}
    aten = torch.ops.aten
    # Attention on a CPU is the one that torch's table lacks.
    ours[aten._scaled_dot_product_flash_attention_for_cpu] = ours[aten._scaled_dot_product_flash_attention]
    with FlopCounterMode(display=False, custom_mapping=ours), RealNumbersFirst():
        yield

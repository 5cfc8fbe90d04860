"""The embedding of the prompt: computed once and kept on disk, so that the text encoder is not loaded again."""

from __future__ import annotations

import gc
import inspect
import json
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import diffusers
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor
from transformers import AutoTokenizer

from extract.diffusion.digests import digest_weights
from extract.diffusion.family import text_files
from extract.diffusion.folder import Component, weight_files
from extract.diffusion.loading import load_trained
from extract.errors import WeightsError
from store.caches import user_cache
from store.digest import digest_text
from store.errors import StoreError
from store.files import write_atomic

if TYPE_CHECKING:
    from extract.diffusion.latent_video import LatentVideoFamily

log = logging.getLogger(__name__)

PROMPT = ""
Embedding = dict[str, Tensor]


def prompt_embedding(family: LatentVideoFamily, device: torch.device, dtype: torch.dtype) -> Embedding:
    """What the denoiser is told instead of a text: name -> tensor on the CPU.

    From the cache if the same text encoder has embedded the same prompt in the same type before, else computed on
    `device` and kept. With `untrained`, numbers from a standard normal that depend on that seed alone.
    """
    if family.options.untrained is not None:
        generator = torch.Generator().manual_seed(family.options.untrained)
        drawn = family.prompt_shapes()
        return {
            name: torch.ones(shape, dtype=torch.bool)  # all tokens count
            if name.endswith("_mask")
            else torch.randn(shape, generator=generator).to(dtype)
            for name, shape in sorted(drawn.items())
        }
    path = user_cache("prompts") / f"{_identity(family, dtype)}.safetensors"
    if path.is_file():
        try:
            return dict(load_file(path))
        except (SafetensorError, OSError) as error:
            log.warning("%s: cannot be read (%s); the prompt is embedded again", path, error)
    log.info("embedding the prompt with the text encoder of %s, once", family.model)
    embedding = _compute(family, device, dtype)
    _keep(path, embedding)
    return embedding


def _identity(family: LatentVideoFamily, dtype: torch.dtype) -> str:
    root = family.weights_root
    _, files = weight_files(root, _text(family))
    files += text_files(root, family.parts)
    told = [family.name, family.version, PROMPT, str(dtype), digest_weights(root, files)]
    return digest_text(json.dumps(told))


def _text(family: LatentVideoFamily) -> list[Component]:
    return [part for part in family.parts if part.role == "text"]


@torch.inference_mode()
def _compute(family: LatentVideoFamily, device: torch.device, dtype: torch.dtype) -> Embedding:
    root = family.weights_root
    variant, _ = weight_files(root, _text(family))
    loaded: dict[str, Any] = dict(load_trained(root, variant, _text(family), lambda _: dtype))
    for encoder in loaded.values():
        encoder.eval().to(device)
    for part in family.parts:
        if part.role == "tokenizer":
            loaded[part.name] = _tokenizer(root / part.place)
    pipeline = loaded if family.pipeline is None else text_pipeline(family.pipeline, loaded)
    embedding = family.embed(pipeline, PROMPT, device)
    embedding = {name: tensor.detach().cpu().contiguous() for name, tensor in embedding.items()}
    loaded.clear()
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()
    return embedding


def text_pipeline(name: str, parts: Mapping[str, Any]) -> Any:
    """The library's pipeline `name` with nothing in it but what embeds text; everything else is `None`."""
    pipeline = getattr(diffusers, name)
    wanted = inspect.signature(pipeline.__init__).parameters.values()
    absent = {
        each.name: None for each in wanted if each.default is inspect.Parameter.empty and each.name not in ("self",)
    }
    return pipeline(**(absent | dict(parts)))


def _tokenizer(folder: Path) -> Any:
    try:
        return AutoTokenizer.from_pretrained(folder, local_files_only=True)
    except Exception as error:  # the tokenizer libraries share no base class of errors
        raise WeightsError(
            f"{folder}: no tokenizer that transformers can load ({error}). Fetch the folder again, all files of it."
        ) from error


def _keep(path: Path, embedding: Embedding) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(path, [save(embedding)])
    except (OSError, StoreError) as error:
        log.warning("the embedding of the prompt cannot be kept, so the next run computes it again: %s", error)

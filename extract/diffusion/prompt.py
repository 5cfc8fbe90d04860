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
import transformers
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save
from torch import Tensor
from transformers import AutoTokenizer

from extract.checkpoints.digests import digest_weights
from extract.checkpoints.family import text_files
from extract.checkpoints.folder import Component
from extract.checkpoints.loading import load_trained
from extract.errors import WeightsError
from store.caches import user_cache
from store.digest import digest_bytes, digest_text
from store.errors import StoreError
from store.files import write_atomic

if TYPE_CHECKING:
    from extract.diffusion.latent_video import LatentVideoFamily

log = logging.getLogger(__name__)

PROMPT = ""
_SEAL = "xxh3_128"
Embedding = dict[str, Tensor]


def prompt_embedding(family: LatentVideoFamily, device: torch.device, dtype: torch.dtype) -> Embedding:
    """What the denoiser is told instead of a text: name -> tensor on the CPU.

    From the cache if the same text encoder has embedded the same prompt in the same type before, else computed on
    `device` and kept. With `untrained`, numbers from a standard normal that depend on that seed alone.
    """
    if family.options.untrained is not None:
        return drawn_prompt(family, family.options.untrained, dtype)
    path = user_cache("prompts") / f"{_identity(family, dtype)}.safetensors"
    if (kept := _recall(path, family)) is not None:
        return kept
    log.info("embedding the prompt with the text encoder of %s, once", family.model)
    embedding = _compute(family, device, dtype)
    _check(embedding, family)
    _keep(path, embedding)
    return embedding


def drawn_prompt(family: LatentVideoFamily, seed: int, dtype: torch.dtype) -> Embedding:
    """An embedding from a standard normal that depends on the seed alone; all tokens count."""
    generator = torch.Generator().manual_seed(seed)
    return {
        name: torch.ones(shape, dtype=torch.bool)
        if name.endswith("_mask")
        else torch.randn(shape, generator=generator).to(dtype)
        for name, shape in sorted(family.prompt_shapes().items())
    }


def _recall(path: Path, family: LatentVideoFamily) -> Embedding | None:
    """What is kept, if it is whole and fits the network."""
    if not path.is_file():
        return None
    try:
        with safe_open(path, "pt") as file:
            said = (file.metadata() or {}).get(_SEAL)
        embedding = dict(load_file(path))
        if said != _digest(embedding):
            raise WeightsError("its content is not what was kept")
        _check(embedding, family)
    except (SafetensorError, OSError, WeightsError) as error:
        log.warning("%s: cannot be read (%s); the prompt is embedded again", path, error)
        return None
    return embedding


def _check(embedding: Embedding, family: LatentVideoFamily) -> None:
    found = {name: tuple(tensor.shape) for name, tensor in embedding.items()}
    wanted = {name: tuple(shape) for name, shape in family.prompt_shapes().items()}
    if found != wanted:
        raise WeightsError(f"the embedded prompt has shapes {found}, the network of {family.model} wants {wanted}.")
    if not all(torch.isfinite(tensor).all() for tensor in embedding.values()):
        raise WeightsError(
            f"the embedded prompt of {family.model} is not finite: the text encoder's weights are damaged, or overflow "
            "in this type. Fetch them again, or compute in a wider type: --dtype bfloat16 or float32."
        )


def _digest(embedding: Embedding) -> str:
    return digest_bytes(save(dict(sorted(embedding.items()))))


def _identity(family: LatentVideoFamily, dtype: torch.dtype) -> str:
    root = family.weights_root
    folders = {root / part.place for part in _text(family)}
    files = [file for file in family.weight_files[1] if file.parent in folders]
    files += text_files(root, family.parts)
    versions = [diffusers.__version__, transformers.__version__]
    shapes = sorted(family.prompt_shapes().items())
    told = [family.name, family.version, PROMPT, str(dtype), versions, shapes, digest_weights(root, files)]
    return digest_text(json.dumps(told))


def _text(family: LatentVideoFamily) -> list[Component]:
    return [part for part in family.parts if part.role == "text"]


@torch.inference_mode()
def _compute(family: LatentVideoFamily, device: torch.device, dtype: torch.dtype) -> Embedding:
    root = family.weights_root
    variant, _ = family.weight_files
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
    wanted = inspect.signature(pipeline).parameters.values()
    absent = {each.name: None for each in wanted if each.default is inspect.Parameter.empty}
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
        write_atomic(path, [save(embedding, metadata={_SEAL: _digest(embedding)})])
    except (OSError, StoreError) as error:
        log.warning("the embedding of the prompt cannot be kept, so the next run computes it again: %s", error)

"""The networks of a checkpoint folder, trained or drawn, each in its type, and where they live."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import diffusers
import torch
import transformers
from diffusers.utils.constants import DIFFUSERS_ATTN_BACKEND
from safetensors.torch import load_file
from torch import nn
from transformers.utils.import_utils import is_flash_attn_2_available

from extract.checkpoints.family import FolderFamily
from extract.checkpoints.folder import Component, tensors_in
from extract.errors import WeightsError

Configs = Mapping[str, Mapping[str, Any]]
DtypeOf = Callable[[Component], torch.dtype]
FLOATS = ("BF16", "F16", "F32")
SDPA, FLASH = "sdpa", "flash_attention_2"
"""As `Family.attention` says in the recipe: torch's scaled dot-product attention, or the package flash-attn."""
_REMEDY = "Weights and config.json belong to different models; fetch both again."


def load_networks(family: FolderFamily, dtype: torch.dtype) -> dict[str, nn.Module]:
    """All networks that run for every clip, trained or drawn, on the CPU, each in its type."""
    attention = family.attention or SDPA
    check_installed(attention, dtype)

    def dtype_of(part: Component) -> torch.dtype:
        return family.dtype_of(part, dtype)

    if family.options.untrained is not None:
        networks = draw(family.drawn_configs(), family.networks, family.options.untrained, dtype_of, attention)
    else:
        variant, _ = family.weight_files
        networks = load_trained(family.weights_root, variant, family.networks, dtype_of, family.configs, attention)
    check_attention(networks, attention)
    return networks


def load_trained(
    root: Path,
    variant: str | None,
    parts: Sequence[Component],
    dtype_of: DtypeOf,
    configs: Configs | None = None,
    attention: str = SDPA,
) -> dict[str, nn.Module]:
    """Networks with the weights of a checkpoint. Raises `WeightsError` if a file does not fill its network exactly.

    `configs` are for networks whose weights are one file, without a folder that tells what they are.
    """
    return {
        part.name: _load(root, variant, part, dtype_of(part), attention)
        if part.file is None
        else _fill(root / part.file, part, (configs or {})[part.name], dtype_of(part))
        for part in parts
    }


def _load(root: Path, variant: str | None, part: Component, dtype: torch.dtype, attention: str) -> nn.Module:
    options: dict[str, Any] = {"variant": variant, "use_safetensors": True, "local_files_only": True}
    if part.library == "diffusers":
        options |= {"dtype": dtype}
    else:
        # Text encoders have no other attention than the plain one in all versions of the library.
        options |= {"dtype": dtype, "attn_implementation": "eager" if part.role == "text" else attention}
    if part.pickled:
        options |= {"use_safetensors": None}  # where there are none, `torch.load` with `weights_only`
    try:
        with _quiet():
            network, info = network_class(part).from_pretrained(root / part.place, output_loading_info=True, **options)
    except (OSError, ValueError, RuntimeError, EOFError, UnpicklingError) as error:
        raise WeightsError(
            f"checkpoint {root}: the weights of {part.name} do not fill its network: {error}\n{_REMEDY}"
        ) from error
    wrong = sorted(map(str, [*info["missing_keys"], *info["mismatched_keys"]]))
    if part.library == "diffusers":  # transformers' files may hold heads that are not wanted
        wrong += [f"{name} has no place in it" for name in sorted(info["unexpected_keys"])]
    if wrong:
        raise WeightsError(
            f"checkpoint {root}: the weights of {part.name} do not fill its network: {wrong[0]}\n{_REMEDY}"
        )
    loaded: nn.Module = network
    return loaded


@contextmanager
def _quiet() -> Iterator[None]:
    """No progress bars, and no tables of tensors that a part of a model leaves over: what is wrong is checked here."""
    libraries: list[Any] = [transformers.utils.logging, diffusers.utils.logging]
    before = [(each, each.get_verbosity(), each.is_progress_bar_enabled()) for each in libraries]
    for each in libraries:
        each.set_verbosity_error()
        each.disable_progress_bar()
    try:
        yield
    finally:
        for each, verbosity, bars in before:
            each.set_verbosity(verbosity)
            if bars:
                each.enable_progress_bar()


def _fill(path: Path, part: Component, config: Mapping[str, Any], dtype: torch.dtype) -> nn.Module:
    """A network with the tensors of one file, which must be its own: all of them, and of their shapes."""
    with torch.device("meta"):
        network = build(part, config)
    check_tensors(path, part.name, {name: tuple(tensor.shape) for name, tensor in network.state_dict().items()})
    network.load_state_dict(load_file(path), strict=True, assign=True)
    if lost := [name for name, buffer in network.named_buffers() if buffer.is_meta]:
        raise WeightsError(f"{part.name}: {lost[0]} is computed when the network is built, and no file holds it.")
    return cast(network, dtype)


def check_tensors(path: Path, name: str, shapes: Mapping[str, tuple[int, ...]]) -> None:
    """Raise `WeightsError` unless the file holds floating-point tensors of these names and shapes, and no others."""
    found = tensors_in(path)
    wrong = [f"{key} is missing" for key in shapes if key not in found]
    wrong += [f"{key} is unknown" for key in found if key not in shapes]
    for key in (key for key in shapes if key in found):
        kind, shape = found[key]
        if shape != shapes[key]:
            wrong.append(f"{key} is {'x'.join(map(str, shape))} and not {'x'.join(map(str, shapes[key]))}")
        elif kind not in FLOATS:
            wrong.append(f"{key} is of type {kind}, and not of {', '.join(FLOATS)}")
    if wrong:
        raise WeightsError(
            f"weights {path}: not those of the {name}. {len(wrong)} of {len(shapes)} tensors differ: "
            f"{'; '.join(wrong[:3])}. Fetch the published file, or put a config.json that describes this one into "
            f"{name}/ beside it."
        )


def draw(
    configs: Configs, parts: Sequence[Component], seed: int, dtype_of: DtypeOf, attention: str = SDPA
) -> dict[str, nn.Module]:
    """Networks with their libraries' random initialisation, drawn on the CPU in float32 from `seed`, part by part."""
    networks = {}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        for part in parts:
            networks[part.name] = cast(build(part, configs[part.name], attention), dtype_of(part))
    return networks


def build(part: Component, config: Mapping[str, Any], attention: str = SDPA) -> nn.Module:
    """A network without its weights: as its library initialises it."""
    network = network_class(part)
    if part.library == "diffusers":
        built: nn.Module = network.from_config(dict(config))
        return built
    facts = network.config_class.from_dict({**_untyped(config), "attn_implementation": attention})
    made: nn.Module = network(facts)
    return made


def _untyped(config: Mapping[str, Any]) -> dict[str, Any]:
    """Without types of weights, at any depth: transformers would draw each part of a model in its own."""
    return {
        key: _untyped(value) if isinstance(value, Mapping) else value
        for key, value in config.items()
        if key not in ("dtype", "torch_dtype")
    }


def network_class(part: Component) -> Any:
    """The library's class, or one of this project's that is built like the library's."""
    assert part.network is not None
    module, _, name = part.network.rpartition(":")
    if module:
        return getattr(import_module(module), name)
    return getattr(diffusers if part.library == "diffusers" else transformers, part.network)


def cast(network: nn.Module, dtype: torch.dtype) -> nn.Module:
    """Change the type of the weights as `from_pretrained` does: what the class wants in float32 stays there.

    So do buffers of transformers that are in no file, such as the frequencies of rotary positions.
    """
    kept = set(getattr(network, "_keep_in_fp32_modules", None) or ())
    filed = isinstance(network, transformers.PreTrainedModel)
    for module_name, module in network.named_modules():
        exact = bool(kept.intersection(module_name.split(".")))
        for name, tensor in [*module.named_parameters(recurse=False), *module.named_buffers(recurse=False)]:
            computed = filed and name in module._non_persistent_buffers_set
            if tensor.is_floating_point() and not computed:
                tensor.data = tensor.data.to(torch.float32 if exact or name in kept else dtype)
    return network


def check_installed(attention: str, dtype: torch.dtype) -> None:
    """Raise `WeightsError` unless attention can be computed so here, in this type."""
    if attention != FLASH:
        return
    if not is_flash_attn_2_available():
        raise WeightsError(
            f"--attention {FLASH}: the package flash-attn is not installed, or there is no CUDA device for it. "
            f"Install it (pip install flash-attn --no-build-isolation), or use --attention {SDPA}."
        )
    if dtype == torch.float32:
        raise WeightsError(f"--attention {FLASH}: computes in 16 bits only. Add --dtype bfloat16 (or float16).")


def check_attention(networks: Mapping[str, nn.Module], attention: str = SDPA) -> None:
    """Raise `WeightsError` unless every attention layer uses the backend that the recipe names."""
    modules = [module for network in networks.values() for module in network.modules()]
    used = {type(module.processor).__name__ for module in modules if hasattr(module, "processor")}
    old = sorted(name for name in used if name == "AttnProcessor")
    chosen = {str(getattr(getattr(module, "config", None), "_attn_implementation", None)) for module in modules}
    other = sorted(chosen - {attention, "None"})
    forced = [] if DIFFUSERS_ATTN_BACKEND == "native" else [f"DIFFUSERS_ATTN_BACKEND={DIFFUSERS_ATTN_BACKEND}"]
    if old or other or forced:
        raise WeightsError(
            f"attention runs as {', '.join([*old, *other, *forced])}, but the recipe says {attention}. Unset "
            f"DIFFUSERS_ATTN_BACKEND, and use a version of the libraries that has {attention} for this network."
        )

"""A checkpoint in the folder layout of diffusers: what it is made of, where it is, and whether it is whole."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from extract.errors import WeightsError

HALF = "fp16"
INDEX = ".safetensors.index.json"
LAYOUT = "Give the folder that holds model_index.json and one folder per component, as diffusers saves it."


@dataclass(frozen=True)
class Component:
    """One folder of a checkpoint.

    Attributes:
        name: of the folder.
        network: its class: of diffusers if `library` says so, else of transformers. `None` if it has no weights.
        library: that knows the class.
        needs: entries that its configuration must have.
        config: file of its configuration.
        role: a `network` is hooked and run for every clip; `text` is what embeds the prompt, once; `facts` have no
            weights, only a configuration; files of a `tokenizer` are part of the text encoder's identity.
    """

    name: str
    network: str | None = None
    library: Literal["diffusers", "transformers"] = "diffusers"
    needs: tuple[str, ...] = ()
    config: str = "config.json"
    role: Literal["network", "text", "facts", "tokenizer"] = "network"

    @property
    def stem(self) -> str:
        """Name of the weight file without variant and suffix."""
        return "diffusion_pytorch_model" if self.library == "diffusers" else "model"


def read_config(root: Path, name: str) -> dict[str, Any]:
    """The JSON object in `root/name`. Raises `WeightsError` if it is missing or no JSON object."""
    path = root / name
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise WeightsError(f"checkpoint {root}: {name} is missing. {LAYOUT}") from error
    except (OSError, ValueError) as error:
        raise WeightsError(f"checkpoint {root}: {name} cannot be read as JSON ({error}). Fetch it again.") from error
    if not isinstance(config, dict):
        raise WeightsError(f"checkpoint {root}: {name} holds a {type(config).__name__}, not an object. Fetch it again.")
    return config


def check_pipeline(root: Path, expected: str) -> None:
    """Raise `WeightsError` unless `root/model_index.json` names the pipeline class `expected`."""
    got = read_config(root, "model_index.json").get("_class_name")
    if got != expected:
        raise WeightsError(
            f"checkpoint {root}: model_index.json names the pipeline {got!r}, but this model is a {expected!r}. "
            "Give the folder of the right checkpoint, or the model name that fits this one."
        )


def weight_files(root: Path, components: Sequence[Component]) -> tuple[str | None, list[Path]]:
    """The weight files of all components: full precision if all are there, else the `fp16` variant.

    Args:
        root: folder of the checkpoint.
        components: those with weights.

    Returns:
        (variant, files): the variant as `from_pretrained` wants it, and whole files, one or several per component.

    Raises:
        WeightsError: neither set is complete, or a file is truncated.
    """
    lacking: list[str] = []
    for variant in (None, HALF):
        files = [file for component in components for file in _files(root, component, variant)]
        missing = [path.relative_to(root).as_posix() for path in files if not path.is_file()]
        if not missing:
            for path in files:
                check_safetensors(path)
            return variant, files
        lacking = lacking or missing
    raise WeightsError(
        f"checkpoint {root}: {', '.join(lacking)} is missing (and the {HALF} variant is not complete either). "
        "Put the missing files there, or give another folder with --checkpoint DIR."
    )


def _files(root: Path, component: Component, variant: str | None) -> list[Path]:
    """Where the weights of a component must be: one file, or the shards that an index lists."""
    suffix = "" if variant is None else f".{variant}"
    whole = root / component.name / f"{component.stem}{suffix}.safetensors"
    index = f"{component.name}/{component.stem}{INDEX.removesuffix('.json')}{suffix}.json"
    if whole.is_file() or not (root / index).is_file():
        return [whole]
    shards = read_config(root, index).get("weight_map")
    if not isinstance(shards, dict) or not shards or not all(_is_name(name) for name in shards.values()):
        raise WeightsError(f"checkpoint {root}: {index} lists no shards. Fetch it again.")
    return [root / component.name / name for name in sorted(set(shards.values()))]


def _is_name(name: object) -> bool:
    return isinstance(name, str) and Path(name).name == name


def check_safetensors(path: Path) -> None:
    """Raise `WeightsError` unless the file is as long as its header says.

    A safetensors file is an 8-byte little-endian header length, a JSON header with `data_offsets` (begin, end) of
    every tensor, and the tensors.
    """
    size = path.stat().st_size
    try:
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            if length > size:
                raise ValueError(f"header of {length} bytes")
            header = json.loads(file.read(length))
        end = max(entry["data_offsets"][1] for name, entry in header.items() if name != "__metadata__")
    except (ValueError, KeyError, TypeError, AttributeError, IndexError) as error:
        raise WeightsError(
            f"weights {path}: no safetensors header in {size} bytes ({error}). Fetch it again."
        ) from error
    if size != 8 + length + end:
        raise WeightsError(
            f"weights {path}: {size} bytes, but its header asks for {8 + length + end}: "
            "the download or copy was cut short. Fetch it again."
        )


def check_reference(text: str) -> None:
    """Raise `WeightsError` unless `text` is a directory that exists, or can be a hub id (owner/name)."""
    path = Path(text).expanduser()
    if not path.is_dir() and (path.is_absolute() or text.startswith((".", "~")) or text.count("/") != 1):
        raise WeightsError(f"checkpoint {text!r}: no such directory, and no hub id (owner/name). {LAYOUT}")


def download(repository: str, revision: str | None, names: Sequence[str], components: Sequence[Component]) -> Path:
    """Folder of a hub snapshot that holds `names` and the weights of `components`, from the cache or the network.

    Raises:
        WeightsError: it is neither cached nor can be fetched; says what to get and where to put it.
    """
    from huggingface_hub import snapshot_download

    indices = [f"{part.name}/{part.stem}{INDEX}" for part in components]
    wanted = [f"{part.name}/{part.stem}.safetensors" for part in components]
    try:
        root = Path(snapshot_download(repository, revision=revision, allow_patterns=[*names, *indices]))
        wanted = [file.relative_to(root).as_posix() for part in components for file in _files(root, part, None)]
        # The folder is named by its commit: what is fetched now is of the same one, whatever `main` is by now.
        return Path(snapshot_download(repository, revision=root.name, allow_patterns=[*names, *indices, *wanted]))
    except WeightsError:
        raise
    except Exception as error:  # hub client, HTTP client and transfer library share no narrower base class
        raise WeightsError(
            f"weights of {repository} (revision {revision or 'main'}) are not in the hub cache and cannot be fetched: "
            f"{type(error).__name__}: {str(error).strip().splitlines()[0]}\n"
            f"Accept the licence at https://huggingface.co/{repository} if asked to, and log in with `hf auth login`; "
            f"or, where there is a network, run `hf download {repository} {' '.join([*names, *wanted])} "
            "--local-dir DIR`, copy DIR here and pass --checkpoint DIR; or point HF_HOME at a cache that holds it."
        ) from error
